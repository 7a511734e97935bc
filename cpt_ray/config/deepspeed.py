"""The rules of a DeepSpeed JSON: the keys it may set, the owner of each key it may not, and how `"auto"` is resolved.

Each setting has one owner. Batch size, learning rate, precision and clipping belong to the study file, so a JSON that sets
them is refused. `"auto"` is accepted for each of these, because users reuse files written for HF Trainer.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpt_ray.config.plain_text import read_json_file, shorten
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import Record

PACKAGED = Path(__file__).with_name("reference")
"""Holds `ds_configs/`, for studies outside a checkout."""

OWNED_BY_STUDY = {
    "train_batch_size": "train.global_batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.global_batch_size, train.micro_batch_size and runtime.workers",
    "gradient_clipping": "train.gradient_clipping",
    "optimizer": "train.learning_rate, train.weight_decay, train.beta1, train.beta2 and train.epsilon",
    "scheduler": "train.schedule",
    "fp16": "train.precision",
    "activation_checkpointing": "train.gradient_checkpointing",
    "bfloat16": "train.precision",
    "torch_autocast": "train.precision",
    "compile": "train.compile",
}
"""Top-level keys that the study file owns. `bf16` is shared: its `enabled` belongs to train.precision."""

REMOVED_BY_DEEPSPEED = frozenset(
    {
        "elasticity",
        "amp",
        "nebula",
        "compression_training",
        "quantize_training",
        "eigenvalue",
        "sparse_gradients",
        "sparse_attention",
        "graph_harvesting",
        "curriculum_learning",
        "progressive_layer_drop",
    }
)
"""Top-level keys that DeepSpeed 0.19 refuses (its issue 8489)."""

REMOVED_FROM_ZERO = frozenset(
    {"elastic_checkpoint", "legacy_stage1", "zeropp_loco_param", "mics_shard_size", "mics_hierarchical_params_gather"}
)
"""Keys of `zero_optimization` that DeepSpeed 0.19 refuses, or accepts and ignores."""

RENAMED_IN_ZERO = {
    "cpu_offload": "offload_optimizer",
    "cpu_offload_param": "offload_param",
    "cpu_offload_use_pin_memory": "offload_optimizer.pin_memory",
    "stage3_gather_fp16_weights_on_model_save": "stage3_gather_16bit_weights_on_model_save",
}
"""Old names that DeepSpeed still accepts. Plan and optimizer read only the new names and would miss these."""

NOT_FOR_US = frozenset({"tensorboard", "wandb", "csv_monitor", "comet"})

OTHER_PARALLELISM = frozenset(
    {"tensor_parallel", "autotp_size", "sequence_parallel_size", "expert_parallel", "pipeline", "hybrid_engine"}
)
"""Parallelism that the training loop does not support: here every worker processes separate rows."""

HIDDEN_SIZE_RULES: dict[str, Callable[[int], int]] = {
    "reduce_bucket_size": lambda hidden: hidden * hidden,
    "stage3_prefetch_bucket_size": lambda hidden: int(0.9 * hidden * hidden),
    "stage3_param_persistence_threshold": lambda hidden: 10 * hidden,
}
"""What HF Trainer computes for `"auto"` (transformers.integrations.deepspeed)."""


_SECTIONS = ("bf16", "data_types", "aio", "flops_profiler", "comms_logger", "activation_checkpointing", "fp16")
_NUMBERS = frozenset(
    {
        "allgather_bucket_size",
        "buffer_count",
        "buffer_size",
        "cpuadam_cores_perc",
        "max_in_cpu",
        "ratio",
        "reduce_bucket_size",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "stage3_model_persistence_threshold",
        "stage3_module_granularity_threshold",
        "stage3_param_persistence_threshold",
        "stage3_prefetch_bucket_size",
        "steps_per_print",
        "sub_group_size",
        "zero_hpz_partition_size",
    }
)
_FLAGS = frozenset(
    {
        "allgather_partitions",
        "check_grad_overflow",
        "compute_grad_norm",
        "contiguous_gradients",
        "enable_sanity_checks",
        "fast_init",
        "ignore_unused_parameters",
        "load_from_fp32_weights",
        "log_trace_cache_warnings",
        "memory_efficient_linear",
        "overlap_comm",
        "override_module_apply",
        "pin_memory",
        "pipeline_loading_checkpoint",
        "pipeline_read",
        "pipeline_write",
        "reduce_scatter",
        "round_robin_gradients",
        "save_muon_momentum_buffer_in_memory",
        "stage3_allgather_sequential",
        "stage3_gather_16bit_weights_on_model_save",
        "stage3_use_all_reduce_for_fetch_params",
        "super_offload",
        "use_multi_rank_bucket_allreduce",
        "zero_quantized_gradients",
        "zero_quantized_nontrainable_weights",
        "zero_quantized_weights",
    }
)
_TEXTS = frozenset({"communication_data_type", "grad_accum_dtype", "nvme_path"})
_DEVICES = ("none", "cpu", "nvme")
_OBJECTS = frozenset({"leaf_module", "offload_optimizer", "offload_param", "zenflow"})


class DeepSpeedConfig(Record):
    """A DeepSpeed JSON that has been checked, not resolved."""

    tree: dict[str, Any]
    zero_stage: int


def load_deepspeed(path: str | Path) -> DeepSpeedConfig:
    """Read and check a DeepSpeed JSON.

    Raises:
        ConfigError: If the file is missing, cannot be read or is not JSON; see `check_deepspeed`.
    """
    tree = read_json_file(Path(path), kind="DeepSpeed file", fix="set train.deepspeed to a file in ds_configs/")
    return check_deepspeed(tree, path)


def check_deepspeed(tree: Any, path: str | Path) -> DeepSpeedConfig:
    """Check the contents of a DeepSpeed JSON.

    Args:
        tree: The parsed JSON.
        path: The file's name, for messages.

    Raises:
        ConfigError: If it sets a key that the study file owns or that DeepSpeed has removed, or one to a value of the
            wrong type, `"auto"` included where nothing resolves it.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a JSON object", fix="start from ds_configs/zero2_bf16.json")
    for key, value in tree.items():
        if key in REMOVED_BY_DEEPSPEED:
            raise ConfigError(f"{path}: key {key!r} was removed by DeepSpeed 0.19", fix=f"delete {key} from {path}")
        if key in NOT_FOR_US:
            raise ConfigError(f"{path}: key {key!r}: cpt-ray logs to MLflow itself", fix=f"delete {key}; see tracking.uri")
        if key in OTHER_PARALLELISM:
            raise ConfigError(f"{path}: key {key!r}: cpt-ray shards a model with ZeRO only", fix=f"delete {key} from {path}")
        if key in OWNED_BY_STUDY and not _is_auto(value) and not _leaves_fp16_open(key, value):
            raise ConfigError(
                f"{path}: key {key!r} belongs to the study file ({OWNED_BY_STUDY[key]})",
                fix=f"delete {key} from {path} and set {OWNED_BY_STUDY[key]} in the study file",
            )
    for section in ("bf16", "zero_optimization"):
        if not isinstance(tree.get(section, {}), dict):
            raise ConfigError(
                f"{path}: key {section!r} must be an object, saw {shorten(tree[section])}",
                fix="start from ds_configs/zero2_bf16.json",
            )
    if "enabled" in tree.get("bf16", {}) and not _is_auto(tree["bf16"]["enabled"]):
        raise ConfigError(
            f"{path}: key 'bf16.enabled' belongs to the study file (train.precision)",
            fix=f'delete it from {path}, or set it to "auto", and set train.precision in the study file',
        )
    zero = tree.get("zero_optimization", {})
    for key in zero:
        if key in REMOVED_FROM_ZERO:
            raise ConfigError(
                f"{path}: key 'zero_optimization.{key}' was removed by DeepSpeed 0.19", fix=f"delete it from {path}"
            )
        if key in RENAMED_IN_ZERO:
            raise ConfigError(
                f"{path}: key 'zero_optimization.{key}' is an old name", fix=f"use zero_optimization.{RENAMED_IN_ZERO[key]}"
            )
    stage = zero.get("stage", 0)
    if type(stage) is not int or stage not in (0, 1, 2, 3):  # 1.0 and true equal 1
        raise ConfigError(f"{path}: zero_optimization.stage is {shorten(stage)}", fix="use 0, 1, 2 or 3")
    _check_types(zero, "zero_optimization.", path)
    _check_types(
        {key: tree[key] for key in ("steps_per_print", "communication_data_type", *_SECTIONS) if key in tree}, "", path
    )
    return DeepSpeedConfig(tree=tree, zero_stage=stage)


def _check_types(section: dict[str, Any], prefix: str, path: str | Path) -> None:
    """Refuse a value that DeepSpeed could not read, which it says only when the engine is built."""
    for key, value in section.items():
        place = f"{prefix}{key}"
        if value == "auto" and prefix and key != "enabled" and key not in HIDDEN_SIZE_RULES:
            raise ConfigError(f'{path}: {place} is "auto", and there is no rule for it', fix="set it to a value")
        if value is None or value == "auto":
            continue
        if key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise _wrong_type(path, place, value, "a number of at least 0")
        if key in _FLAGS and not isinstance(value, bool):
            raise _wrong_type(path, place, value, "true or false")
        if key in _TEXTS and not isinstance(value, str):
            raise _wrong_type(path, place, value, "a string")
        if key == "device" and value not in _DEVICES:
            raise _wrong_type(path, place, value, f"one of {', '.join(_DEVICES)}")
        if key in _OBJECTS or key in _SECTIONS:
            if not isinstance(value, dict):
                raise _wrong_type(path, place, value, "an object")
            _check_types(value, f"{place}.", path)


def _wrong_type(path: str | Path, place: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{path}: {place} must be {expected}, saw {shorten(value)}", fix=f"change {place}, or leave it out")


def resolve_deepspeed(
    config: DeepSpeedConfig, *, train: TrainConfig, accumulation_steps: int, hidden_size: int
) -> dict[str, Any]:
    """The config for `deepspeed.initialize`: the checked JSON plus the values that the study file owns.

    Args:
        config: The checked JSON.
        train: The study's train section.
        accumulation_steps: Forward passes per optimizer step on each worker.
        hidden_size: The model's hidden size, for HF's `"auto"` bucket sizes.

    Returns:
        The config. From stage 1 up, gradients are summed over micro-batches and workers in fp32 unless the JSON says otherwise;
        stage 0 does not support this combination.
    """
    tree = config.tree
    resolved = {k: v for k, v in json.loads(json.dumps(tree)).items() if k not in OWNED_BY_STUDY}
    resolved["train_micro_batch_size_per_gpu"] = train.micro_batch_size
    resolved["gradient_accumulation_steps"] = accumulation_steps
    # Set even when it is 0: without this key DeepSpeed 0.19 clips at 1.0.
    resolved["gradient_clipping"] = train.gradient_clipping
    resolved["bf16"] = {**resolved.get("bf16", {}), "enabled": train.precision == "bf16"}
    if train.precision == "fp16":
        resolved["fp16"] = {**tree.get("fp16", {}), "enabled": True}
    resolved.setdefault("steps_per_print", 10**9)
    # It waits for the device before and after every micro-batch, to compute a rate that is never printed.
    resolved.setdefault("timers", {"throughput": {"enabled": False}})
    if train.optimizer != "adamw":
        resolved["zero_allow_untested_optimizer"] = True  # by DeepSpeed; tests/train/engine/test_other_optimizers.py tests it
    if config.zero_stage > 0:
        # In bf16 a sum depends on its order, so another number of workers would train a different model (1.3e-3 to 1.9e-3 apart
        # in loss on a tiny model; the same bits with fp32 sums). Costs 2 bytes per parameter and twice the gradient traffic.
        resolved["data_types"] = {"grad_accum_dtype": "fp32", **resolved.get("data_types", {})}
        resolved.setdefault("communication_data_type", "fp32")
    zero = resolved.get("zero_optimization", {})
    for key, value in zero.items():
        if _is_auto(value):
            zero[key] = HIDDEN_SIZE_RULES[key](hidden_size)
    return resolved


def _leaves_fp16_open(key: str, value: Any) -> bool:
    # The file in HF's documentation has loss-scale settings next to `"enabled": "auto"`; those are DeepSpeed's to read.
    return key == "fp16" and isinstance(value, dict) and value.get("enabled") in ("auto", False)


def _is_auto(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(_is_auto(v) or k == "type" for k, v in value.items())
    return bool(value == "auto")
