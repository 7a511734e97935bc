"""What a pass is said to keep, against what autograd keeps of real models."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.attention.isolation import hidden_states, use_document_attention
from cpt_ray.model.shape import describe_model
from cpt_ray.records import ModelShape
from cpt_ray.train.engine.activation_bytes import activation_bytes, is_gated, layer_bytes, loss_bytes

TOKENS = 256
GPT3 = ModelShape(
    parameters=175_000_000_000, body_parameters=174_000_000_000, hidden_size=12288, num_layers=96, num_heads=96, head_dim=128,
    vocabulary_size=51200, tied=True, feedforward_size=4 * 12288,
)  # fmt: skip


def settings(**train: object) -> TrainConfig:
    tree = {"budgets": [10], "learning_rate": 1e-4, "global_batch_size": 1, "deepspeed": "ds.json", **train}
    return TrainConfig.model_validate(tree)


def llama(layers: int = 3) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=192, num_hidden_layers=layers, num_attention_heads=6, num_key_value_heads=2, intermediate_size=512,
        vocab_size=300,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def kept(model: torch.nn.Module, dtype: torch.dtype, *, recompute: bool = False) -> int:
    """Bytes that autograd keeps of the body's pass, weights and equal storages not counted twice."""
    model = model.to(dtype).train()
    use_document_attention(model)
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(300, (TOKENS,), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden_states(model, ids, (100, TOKENS - 100))
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_pass_keeps_what_autograd_keeps(precision):
    model = llama()
    shape = describe_model(model, None).shape
    assert (shape.num_key_heads, shape.feedforward_size, is_gated(shape)) == (2, 512, True)
    real = kept(model, {"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    assert activation_bytes(shape, settings(precision=precision), tokens=TOKENS) == pytest.approx(real, rel=0.05)


def test_a_layer_of_gpt_2_keeps_what_autograd_keeps():
    common = {"n_embd": 192, "n_head": 6, "vocab_size": 300, "resid_pdrop": 0, "embd_pdrop": 0, "bos_token_id": 0}
    common["activation_function"] = "gelu"  # one kernel; gelu_new, which transformers writes out, keeps three widths more
    models = [GPT2LMHeadModel(GPT2Config(n_layer=layers, eos_token_id=0, **common)) for layers in (1, 3)]
    shape = describe_model(models[1], None).shape
    assert not is_gated(shape)
    one, three = (kept(model, torch.bfloat16) for model in models)
    assert layer_bytes(shape, 2) * TOKENS * 2 == pytest.approx(three - one, rel=0.05)


def test_recomputation_keeps_the_input_of_each_layer_and_all_of_one():
    shape = describe_model(llama(), None).shape
    whole, less = (activation_bytes(shape, settings(gradient_checkpointing=on), tokens=TOKENS) for on in (False, True))
    layer = layer_bytes(shape, 2) * TOKENS
    inputs = 3 * 2 * 192 * TOKENS
    assert whole - less == 3 * layer - (inputs + layer)
    assert kept(llama(), torch.bfloat16, recompute=True) < less  # within the pass; the one layer comes in the backward pass


def test_a_layer_of_gpt_3_is_as_korthikanti_et_al_count_it_without_dropout_and_scores():
    # Section 4.1, per token and hidden unit in 16 bits: attention 11, MLP 19, norms 4. Without masks of dropout (1 + 1), with
    # one input of each product, and a GELU that keeps its input only: q, k, v, output 8; MLP 8 + 8; norms 2 x (2 + 2) = 8,
    # each with the product's input. Ours: 8 + 16 + 8 = 32 of their 34, and 4 bytes per head for the softmax's sums.
    assert not is_gated(GPT3)
    assert layer_bytes(GPT3, 2) == 32 * 12288 + 4 * 96


def test_compiled_layers_keep_less():
    shape = describe_model(llama(), None).shape
    assert layer_bytes(shape, 2, compiled=True) < 0.75 * layer_bytes(shape, 2)


def test_the_loss_holds_a_chunk_of_logits_and_the_gradient_of_the_head_which_lora_has_not():
    shape = GPT3.model_copy(update={"hidden_size": 100, "vocabulary_size": 1000})
    # One chunk of 256 rows: logits 2 x 256 x 1,000, gradient 2 x 1,000 x 100; hidden states' gradient twice.
    hidden = 2 * 256 * 100 * 2
    assert loss_bytes(shape, settings(), tokens=256, on_gpu=False) == 512_000 + 200_000 + hidden
    # Two chunks of at most 2,048 rows: the sum in fp32, and its copy in 16 bits.
    hidden = 2 * 4096 * 100 * 2
    assert loss_bytes(shape, settings(), tokens=4096, on_gpu=False) == 4_096_000 + 6 * 100_000 + hidden
    adapted = shape.model_copy(update={"adapter_parameters": 10})
    assert loss_bytes(adapted, settings(), tokens=4096, on_gpu=False) == 4_096_000 + hidden
