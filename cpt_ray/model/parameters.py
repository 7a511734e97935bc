"""Parameter and FLOP arithmetic of a causal LM, read from its config without loading weights."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cpt_ray.config.sections.adapter import LoraSection
from cpt_ray.model.adapter import add_adapters
from cpt_ray.records import Record

FLOPS_BASIS = (
    "6 x matrix parameters (output head counted, embedding look-ups not) + 12 x layers x heads x head size x keys per token, "
    "forward and backward; keys are those that a token attends: causal, within its own document; recomputation is not "
    "counted, padding is (PaLM, appendix B)"
)
"""How `flops_per_token` counts, in words that stand beside every MFU."""


class ModelShape(Record):
    """The sizes that memory and FLOPs follow from."""

    parameters: int
    """All parameters, tied ones once."""
    body_parameters: int
    """Without input and output embeddings."""
    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    vocabulary_size: int
    tied: bool
    adapter_parameters: int | None = None
    """Parameters of LoRA adapters, the only ones that train; None where all do. They are not counted in `parameters`."""

    @property
    def trained_parameters(self) -> int:
        """Parameters that have gradients and optimizer states."""
        return self.parameters if self.adapter_parameters is None else self.adapter_parameters


def model_shape(path: str | Path, *, lora: LoraSection | None = None, trust_remote_code: bool = False) -> ModelShape:
    """Read the shape of the model in a Hugging Face folder, a hub model or a GGUF file; builds it on the meta device."""
    if str(path).endswith(".gguf"):
        config = AutoConfig.from_pretrained(Path(path).parent, gguf_file=Path(path).name)
    else:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    embeddings = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    tied = bool(config.tie_word_embeddings)
    parameters = sum(p.numel() for p in model.parameters())
    adapters = None
    if lora is not None:
        add_adapters(model, lora)
        adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return ModelShape(
        parameters=parameters,
        body_parameters=parameters - sum(embeddings.values()),
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        vocabulary_size=config.vocab_size,
        tied=tied,
        adapter_parameters=adapters,
    )


def flops_per_token(shape: ModelShape, mean_keys: float) -> float:
    """Training FLOPs per token, forward and backward.

    6 * (body + vocabulary * hidden) + 12 * layers * heads * head_dim * mean_keys (PaLM, appendix B,
    with the keys really attended). Under LoRA frozen matrices have no gradient of their own, a third of the 6; adapters do.

    Args:
        shape: The model.
        mean_keys: Mean keys a token attends: T/2 for a causal row of T; sum(l^2) / (2 * sum(l)) for segments of length l.
    """
    matrices = shape.body_parameters + shape.vocabulary_size * shape.hidden_size
    weights = 6.0 * matrices if shape.adapter_parameters is None else 4.0 * matrices + 6.0 * shape.adapter_parameters
    return weights + 12.0 * shape.num_layers * shape.num_heads * shape.head_dim * mean_keys
