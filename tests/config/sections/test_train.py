"""The `models` and `train` sections: names used in folder names, and bounds of the training settings."""

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "-x"])
def test_a_model_name_that_cannot_be_a_folder_is_refused(tree, name):
    assert "study.yaml: models.0.name: a name has only the letters" in refusal(spoil(tree, "models.0.name", name))


def test_no_code_of_a_model_is_run_and_no_adapter_trained_unless_asked(tree):
    study = parse_study(tree, place="study.yaml")
    assert not study.models[0].trust_remote_code
    assert study.train.lora is None
    assert study.train.isolation == "document"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("global_batch_size", 0, "Input should be greater than or equal to 1, saw 0"),
        ("micro_batch_size", 0, "expected a number of rows of at least 1, or auto, saw 0"),
        ("micro_batch_size", "big", "expected a number of rows of at least 1, or auto, saw 'big'"),
        ("micro_batch_size", True, "expected a number of rows of at least 1, or auto, saw True"),
        ("shuffle_window", 0, "Input should be greater than or equal to 1, saw 0"),
        ("trajectory_points", 33, "Input should be less than or equal to 32, saw 33"),
        ("beta2", 1, "Input should be less than 1, saw 1"),
        ("gradient_clipping", -1, "Input should be greater than or equal to 0, saw -1"),
        ("checkpoint_every", 0, "Input should be greater than or equal to 1, saw 0"),
        ("isolation", "some", "Input should be 'document' or 'none', saw 'some'"),
        ("fuse_projections", "maybe", "Input should be 'auto', True or False, saw 'maybe'"),
        ("compile", "maybe", "Input should be 'auto', True or False, saw 'maybe'"),
        ("budget_mode", "tree", "Input should be 'branch', 'chain' or 'independent', saw 'tree'"),
    ],
)
def test_a_wrong_setting_is_refused_by_key(tree, key, value, message):
    assert f"study.yaml: train.{key}: {message}" in refusal(spoil(tree, f"train.{key}", value))
