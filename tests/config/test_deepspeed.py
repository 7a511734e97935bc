"""What a DeepSpeed JSON may set, which keys the study owns, and how `"auto"` is resolved."""

import json
import re

import pytest

from cpt_ray.config.deepspeed import (
    NOT_FOR_US,
    OTHER_PARALLELISM,
    OWNED_BY_STUDY,
    REMOVED_BY_DEEPSPEED,
    REMOVED_FROM_ZERO,
    RENAMED_IN_ZERO,
    check_deepspeed,
    load_deepspeed,
    resolve_deepspeed,
)
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.errors import ConfigError

# The stage-3 file of the transformers documentation, which people reuse.
HUGGING_FACE = {
    "fp16": {
        "enabled": "auto",
        "loss_scale": 0,
        "loss_scale_window": 1000,
        "initial_scale_power": 16,
        "hysteresis": 2,
        "min_loss_scale": 1,
    },
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"}},
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True,
        "contiguous_gradients": True,
        "sub_group_size": 1000000000,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1000000000,
        "stage3_max_reuse_distance": 1000000000,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": 2000,
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "wall_clock_breakdown": False,
}


# The ZeRO sections that the same documentation prints alone.
HUGGING_FACE_ZERO = {
    "stage 1": {"stage": 1},
    "stage 2 with offload": {
        "stage": 2,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "allgather_partitions": True,
        "allgather_bucket_size": 5e8,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 5e8,
        "contiguous_gradients": True,
        "round_robin_gradients": True,
    },
    "stage 3 with offload": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True,
        "contiguous_gradients": True,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
        "stage3_max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}


@pytest.fixture
def write(tmp_path):
    def _write(tree):
        path = tmp_path / "ds.json"
        path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
        return path

    return _write


def train(**changes):
    return TrainConfig(budgets=(1000,), learning_rate=1e-4, global_batch_size=8, micro_batch_size=2, deepspeed="x", **changes)


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        load_deepspeed(path)
    assert str(path) in caught.value.problem
    return str(caught.value)


def test_a_file_written_for_hugging_face_is_accepted_and_every_auto_is_resolved(write):
    config = load_deepspeed(write(HUGGING_FACE))
    resolved = resolve_deepspeed(config, train=train(), accumulation_steps=4, hidden_size=100)
    assert "auto" not in json.dumps(resolved)
    assert resolved["train_micro_batch_size_per_gpu"] == 2
    assert resolved["gradient_accumulation_steps"] == 4
    assert resolved["gradient_clipping"] == 1.0
    assert resolved["bf16"] == {"enabled": True}
    assert not {"optimizer", "scheduler", "fp16", "train_batch_size"} & set(resolved)
    zero = resolved["zero_optimization"]
    assert (zero["reduce_bucket_size"], zero["stage3_prefetch_bucket_size"]) == (10_000, 9_000)
    assert zero["stage3_param_persistence_threshold"] == 1000
    assert resolved["steps_per_print"] == 2000


@pytest.mark.parametrize("zero", HUGGING_FACE_ZERO.values(), ids=HUGGING_FACE_ZERO)
def test_the_zero_sections_of_hugging_faces_documentation_pass_unchanged(write, zero):
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = load_deepspeed(write({**HUGGING_FACE, "zero_optimization": zero}))
    resolved = resolve_deepspeed(config, train=train(), accumulation_steps=4, hidden_size=100)["zero_optimization"]
    assert {key: resolved[key] for key in zero if zero[key] != "auto"} == {k: v for k, v in zero.items() if v != "auto"}
    assert DeepSpeedZeroConfig(**resolved).stage == zero["stage"]  # DeepSpeed refuses unknown keys and types


def test_the_lists_are_those_of_the_installed_deepspeed():
    from deepspeed.runtime import config as theirs
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    assert set(theirs._REMOVED_TOP_LEVEL_CONFIG_KEYS) == REMOVED_BY_DEEPSPEED
    assert set(theirs._REMOVED_ZERO_CONFIG_KEYS) <= REMOVED_FROM_ZERO
    extra = {name: field.json_schema_extra or {} for name, field in DeepSpeedZeroConfig.model_fields.items()}
    assert {name for name, marks in extra.items() if marks.get("deprecated")} == set(RENAMED_IN_ZERO)
    assert DeepSpeedZeroConfig.model_config["extra"] == "forbid"


@pytest.mark.parametrize("key", sorted(RENAMED_IN_ZERO))
def test_an_old_name_is_refused_with_the_new_one(write, key):
    message = refusal(write({"zero_optimization": {"stage": 2, key: True}}))
    assert f"key 'zero_optimization.{key}' is an old name\n  fix: use zero_optimization.{RENAMED_IN_ZERO[key]}" in message


@pytest.mark.parametrize("key", sorted(OTHER_PARALLELISM))
def test_another_kind_of_parallelism_is_refused(write, key):
    assert f"key {key!r}: cpt-ray shards a model with ZeRO only\n  fix: delete {key}" in refusal(write({key: {}}))


def test_fp16_keeps_the_files_loss_scaling(write):
    config = load_deepspeed(write(HUGGING_FACE))
    resolved = resolve_deepspeed(config, train=train(precision="fp16"), accumulation_steps=1, hidden_size=8)
    assert resolved["fp16"] == {**HUGGING_FACE["fp16"], "enabled": True}
    assert resolved["bf16"]["enabled"] is False


def test_resolving_leaves_the_tree_alone(write):
    config = load_deepspeed(write(HUGGING_FACE))
    resolve_deepspeed(config, train=train(), accumulation_steps=4, hidden_size=100)
    assert config.tree == HUGGING_FACE


def test_the_study_decides_precision_and_clipping(write):
    config = load_deepspeed(write({"bf16": {"enabled": "auto", "check_grad_overflow": False}}))
    resolved = resolve_deepspeed(
        config, train=train(precision="fp32", gradient_clipping=0), accumulation_steps=1, hidden_size=8
    )
    assert resolved["bf16"] == {"enabled": False, "check_grad_overflow": False}
    assert resolved["gradient_clipping"] == 0  # explicit, because DeepSpeed's default is 1.0


@pytest.mark.parametrize("key", sorted(OWNED_BY_STUDY))
def test_a_value_that_the_study_owns_is_refused_with_its_owner(write, key):
    value = {"enabled": True} if key == "fp16" else 4
    message = refusal(write({key: value}))
    assert f"key {key!r} belongs to the study file ({OWNED_BY_STUDY[key]})" in message
    assert f"and set {OWNED_BY_STUDY[key]} in the study file" in message
    load_deepspeed(write({key: "auto"}))


def test_every_owner_is_a_key_of_the_schema():
    for owners in OWNED_BY_STUDY.values():
        for key in re.findall(r"train\.(\w+)", owners):
            assert key in TrainConfig.model_fields


def test_bf16_enabled_belongs_to_the_study(write):
    message = refusal(write({"bf16": {"enabled": True}}))
    assert "key 'bf16.enabled' belongs to the study file (train.precision)" in message


@pytest.mark.parametrize("key", sorted(REMOVED_BY_DEEPSPEED))
def test_a_key_that_deepspeed_removed_is_refused(write, key):
    assert f"key {key!r} was removed by DeepSpeed 0.19\n  fix: delete {key}" in refusal(write({key: {"enabled": True}}))


@pytest.mark.parametrize("key", sorted(REMOVED_FROM_ZERO))
def test_a_zero_key_that_deepspeed_removed_is_refused(write, key):
    assert f"key 'zero_optimization.{key}' was removed" in refusal(write({"zero_optimization": {"stage": 1, key: 1}}))


@pytest.mark.parametrize("key", sorted(NOT_FOR_US))
def test_another_logger_is_refused(write, key):
    assert f"key {key!r}: cpt-ray logs to MLflow itself\n  fix: delete {key}; see tracking.uri" in refusal(write({key: {}}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1,\n}', "line 2: not valid JSON"),
        ("[1]", "expected a JSON object"),
        ({"zero_optimization": 2}, "key 'zero_optimization' must be an object, saw 2"),
        ({"bf16": True}, "key 'bf16' must be an object, saw True"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage is 4\n  fix: use 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": "auto"}}, "zero_optimization.stage is 'auto'"),
        ({"zero_optimization": {"stage": True}}, "zero_optimization.stage is True"),
    ],
)
def test_a_broken_file_is_refused(write, content, message):
    assert message in refusal(write(content))


def test_a_missing_file_is_refused(tmp_path):
    assert "no such DeepSpeed file\n  fix: set train.deepspeed to a file in ds_configs/" in refusal(tmp_path / "none.json")


def test_an_auto_without_a_rule_is_refused(write):
    message = refusal(write({"zero_optimization": {"stage": 3, "sub_group_size": "auto"}}))
    assert 'zero_optimization.sub_group_size is "auto", and there is no rule for it' in message
    nested = {"zero_optimization": {"offload_optimizer": {"device": "cpu", "pin_memory": "auto"}}}
    assert 'zero_optimization.offload_optimizer.pin_memory is "auto"' in refusal(write(nested))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"zero_optimization": {"stage": 1.0}}, "zero_optimization.stage is 1.0"),
        ({"zero_optimization": {"stage": [1]}}, "zero_optimization.stage is [1]"),
        ({"zero_optimization": {"offload_optimizer": 5}}, "zero_optimization.offload_optimizer must be an object, saw 5"),
        ({"zero_optimization": {"offload_param": {"device": "gpu"}}}, "offload_param.device must be one of none, cpu, nvme"),
        ({"zero_optimization": {"offload_param": {"device": ["cpu"]}}}, "saw ['cpu']"),
        ({"zero_optimization": {"reduce_bucket_size": "5e8"}}, "reduce_bucket_size must be a number of at least 0, saw '5e8'"),
        ({"zero_optimization": {"sub_group_size": True}}, "sub_group_size must be a number of at least 0, saw True"),
        ({"zero_optimization": {"overlap_comm": "yes"}}, "zero_optimization.overlap_comm must be true or false, saw 'yes'"),
        ({"communication_data_type": 16}, "communication_data_type must be a string, saw 16"),
        ({"data_types": {"grad_accum_dtype": ["fp32"]}}, "data_types.grad_accum_dtype must be a string"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_where_it_stands(write, tree, message):
    assert message in refusal(write(tree))


@pytest.mark.parametrize(
    "tree", [{"zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "overlap_comm": None}}, {"aio": {}}]
)
def test_values_of_the_right_type_are_read(write, tree):
    assert load_deepspeed(write(tree)).tree == tree


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"zero_optimization": {"stage": NaN}}', "line 1: NaN is not JSON"),
        (b'{"steps_per_print":\n 1e999}', "line 2: 1e999 is beyond what a number can hold"),
        (b'{"steps_per_print": ' + b"9" * 5000 + b"}", "does not fit 64 bits"),
        (b'{"a": 1,\n\n"a": 2}', "key 'a' is given twice in one object; it stands in lines 1, 3"),
        (b'{"a": "\\u0000"}', "holds the character U+0000"),
        (b'{"a": ' + b"[" * 100_000, "nested deeper than 64 levels"),
        ('{"a": 1}'.encode("utf-16"), "it is UTF-16"),
        (b'{"a": "\xe9"}', "not UTF-8 text"),
    ],
)
def test_a_json_that_is_none_is_refused_by_line(tmp_path, content, message):
    path = tmp_path / "ds.json"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_folder_in_its_place_is_refused(tmp_path):
    assert "is a folder, not a DeepSpeed file" in refusal(tmp_path)


@pytest.mark.parametrize(("tree", "stage"), [({}, 0), ({"zero_optimization": {}}, 0), ({"zero_optimization": {"stage": 2}}, 2)])
def test_the_stage_is_0_where_the_file_names_none(tree, stage):
    assert check_deepspeed(tree, "ds.json").zero_stage == stage
