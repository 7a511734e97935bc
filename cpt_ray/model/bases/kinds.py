"""What kind of thing a folder holds: a causal language model whose weights can be trained, or something else.

In: a `BaseFiles`. Out: nothing, or an error that names what the folder is and what to give instead.
"""

from __future__ import annotations

from pathlib import Path

from cpt_ray.model.bases.files import INDEX, SINGLE, BaseFiles

_CHECKPOINTS = (
    "zero_to_fp32.py",
    "latest",
    "global_step*",
    "mp_rank_*",
    "*.distcp",
    "optimizer.pt",
    "trainer_state.json",
    "checkpoints",
    "engine",
)
"""What training leaves next to, or instead of, a model."""
_OTHER_TASKS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForMaskedLM",
    "ForPreTraining",
    "ForRewardModel",
    "RewardModel",
    "ValueModel",
    "ForSeq2SeqLM",
)
_ENCODERS = frozenset(
    {"albert", "bart", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "longformer", "marian", "mbart"}
    | {"modernbert", "mpnet", "mt5", "pegasus", "roberta", "t5", "umt5", "xlm-roberta"}
)
_QUANTIZED_TYPES = ("F8_", "F6_", "F4", "I8", "U8")
_QUANTIZED_NAMES = (
    ".qweight",
    ".qzeros",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
)
_HEADS = ("score.", "v_head.", "value_head.", "reward_head.", "classifier.", "qa_outputs.")
_FULL = "give the full-precision base: quantized weights cannot be trained; train.lora saves memory without them"


def require_folder_of_model(files: BaseFiles) -> None:
    """Refuse a folder that is not one of a model: an adapter, a training checkpoint, a cache, or empty.

    Raises:
        ConfigError: Naming what the folder is.
    """
    folder = files.folder
    if files.has("adapter_config.json"):
        adapter = files.json("adapter_config.json")
        raise files.refused(
            f"{folder} is an adapter of {adapter.get('base_model_name_or_path') or 'some base'}, not a whole model",
            fix='merge it first: python -c "from peft import AutoPeftModelForCausalLM as M; '
            f"M.from_pretrained({str(folder)!r}).merge_and_unload().save_pretrained('MERGED')\"; copy the tokenizer's files "
            "into MERGED and give that",
        )
    if files.has("config.json") and (files.has(SINGLE) or files.has(INDEX)):
        return
    if snapshots := sorted(folder.glob("snapshots/*/config.json")):
        raise files.refused(f"{folder} is a folder of the hub's cache", fix=f"give the snapshot itself: {snapshots[-1].parent}")
    if left := next((path for pattern in _CHECKPOINTS for path in folder.glob(pattern)), None):
        export = next((path.parent for path in sorted(folder.glob("export/config.json"))), None)
        raise files.refused(
            f"{folder} is a checkpoint of a training run (it has {left.name}), not a model",
            fix=f"give {export}" if export else "give the exported model, for DeepSpeed the output of zero_to_fp32.py",
        )
    if not any(folder.iterdir()):
        raise files.refused(f"{folder} is empty", fix="give a folder with config.json and safetensors")
    if inside := sorted(folder.glob("*/config.json")):
        raise files.refused(
            f"{folder} has no config.json, but {inside[0].parent.name} in it does", fix=f"give {inside[0].parent}"
        )
    if not files.has("config.json"):
        raise files.refused(
            f"{folder} has no config.json", fix="use a folder with config.json and safetensors, or a .gguf file"
        )


def require_trainable(files: BaseFiles) -> None:
    """Refuse a model that is no causal language model, or whose weights are quantized.

    Raises:
        ConfigError: Naming the kind.
    """
    config = files.config
    if quantization := config.get("quantization_config") or config.get("compression_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise files.refused(f"{files.folder} is quantized ({method or 'quantization_config in config.json'})", fix=_FULL)
    named = config.get("architectures") or []
    for name in named if isinstance(named, list) else [named]:
        if str(name).endswith(_OTHER_TASKS):
            raise files.refused(
                f"{files.folder} is a {name}, not a causal language model", fix="use a base that ends in ForCausalLM"
            )
    if config.get("is_encoder_decoder") or config.get("model_type") in _ENCODERS:
        raise files.refused(
            f"{files.folder} is a model with an encoder ({config.get('model_type')}), not a causal language model",
            fix="use a decoder-only base, such as Llama, Qwen, Gemma, GPT-2 or SmolLM",
        )
    for name, tensor in files.tensors.items():
        if tensor.dtype.startswith(_QUANTIZED_TYPES) or name.endswith(_QUANTIZED_NAMES):
            raise files.refused(f"{files.folder} is quantized: tensor {name} has type {tensor.dtype}", fix=_FULL)
        if name.startswith(_HEADS):
            raise files.refused(
                f"{files.folder} has another head than a language model's: tensor {name}",
                fix="use the causal language model that it was made from",
            )


def looks_like_path(base: str) -> bool:
    """Whether a base is meant as a path rather than as a name on the hub, which has at most one slash."""
    return base.startswith((".", "/", "~")) or base.count("/") > 1 or Path(base).exists()
