"""A study with more budgets goes on from what smaller ones left, and ends where it would have ended from the start."""

from __future__ import annotations

import os

import pytest

from cpt_ray import Study
from cpt_ray.config.load import load_study
from cpt_ray.edges.storage import hash_file
from cpt_ray.errors import ConfigError
from cpt_ray.records import RunRecord
from cpt_ray.study import store
from cpt_ray.study.continued import find_continued
from cpt_ray.study.extend import exact_count, more_budgets, write_budgets
from cpt_ray.study.stages.train import TRAIN
from tests.integration.tiny_study import TinyStudy, study_tree, write_tiny_study

SMALL = {
    "study.root": "",
    "train.budgets": [1000, 2000],
    "train.checkpoint_every": 500,
    "train.schedule.warmup": 100,
    "evaluate.exams": [],
    "prepare.decontaminate.enabled": False,
    "tracking.enabled": False,
}
ALL = [1000, 2000, 3000]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[TinyStudy, TinyStudy]:
    """A study trained for two budgets and then for a third, and one with all three from the start."""
    study = write_tiny_study(tmp_path_factory.mktemp("extend") / "study", kind="local")
    _change(study)
    _load(study).prepare()
    fresh = study.copy(study.config.parent.parent / "fresh")
    _load(study).train()
    _load(study, ALL).train()
    _load(fresh, ALL).train()
    return study, fresh


def _change(study: TinyStudy) -> None:
    tree = study_tree(study.config.parent, "local")
    study.change(arms={"legal": tree["arms"]["legal"]})


def _load(study: TinyStudy, budgets: list[int] | None = None) -> Study:
    overrides = {**SMALL, "study.root": str(study.root)}
    return Study.load(study.config, overrides if budgets is None else {**overrides, "train.budgets": budgets})


def _runs(study: Study) -> dict[str, RunRecord]:
    return {node.work.spec.kind + str(node.work.spec.budget_tokens or ""): store.load(node) for node in study.graph().of(TRAIN)}


@pytest.mark.slow
def test_the_trunk_goes_on_and_every_export_equals_that_of_a_study_with_all_budgets_from_the_start(trained):
    study, fresh = trained
    extended, whole = _runs(_load(study, ALL)), _runs(_load(fresh, ALL))
    assert extended.keys() == whole.keys() == {"trunk", "cooldown1000", "cooldown2000", "cooldown3000"}
    attempts = extended["trunk"].training.attempts
    assert [one.resumed for one in attempts] == [False, True]
    assert attempts[1].first_tokens >= 1500  # where the shorter trunk ended
    assert len(whole["trunk"].training.attempts) == 1
    # Not trained again, and without a checkpoint of their own to go on from.
    assert all(len(extended[name].training.attempts) == 1 for name in ("cooldown1000", "cooldown2000"))
    exports = {name: (one.export_path, whole[name].export_path) for name, one in extended.items() if one.export_path}
    assert len(exports) == 3
    for ours, theirs in exports.values():
        assert ours != theirs
        assert hash_file(_weights(ours)) == hash_file(_weights(theirs))
    steps = [_load(one, ALL).losses("tiny-legal-trunk-seed0").to_pydict() for one in trained]
    assert steps[0]["loss"] == steps[1]["loss"]
    assert steps[0]["step"] == list(range(1, len(steps[0]["step"]) + 1))


def _weights(export):
    from pathlib import Path

    return Path(export) / "model.safetensors"


@pytest.mark.slow
def test_the_smaller_study_is_as_it_was_and_shares_the_weights_on_disk(trained):
    study, _ = trained
    small, large = _runs(_load(study)), _runs(_load(study, ALL))
    ours, theirs = _weights(small["cooldown1000"].export_path), _weights(large["cooldown1000"].export_path)
    assert ours != theirs
    assert os.path.samefile(ours, theirs)
    assert find_continued(_load(study).graph()) == []


@pytest.mark.slow
def test_what_is_not_the_same_path_is_not_taken_over(trained):
    study, _ = trained
    changed = Study.load(
        study.config, {**SMALL, "study.root": str(study.root), "train.learning_rate": 1e-3, "train.budgets": ALL}
    )
    assert find_continued(changed.graph()) == []
    between = _load(study, [1000, 1500, 2000])
    found = {
        one.node.work.spec.kind + str(one.node.work.spec.budget_tokens or ""): one for one in find_continued(between.graph())
    }
    # The old trunk kept nothing at 1125, where the budget of 1500 branches: it goes on from the branch point before.
    assert 750 <= found["trunk"].tokens < 1125
    assert found["cooldown1000"].is_whole
    assert "cooldown1500" not in found


@pytest.mark.slow
def test_extend_says_what_is_new_before_it_starts(trained, capsys):
    study, _ = trained
    before = study.files()
    _load(study, ALL).extend("+1k", dry_run=True)
    text = capsys.readouterr().out
    assert "  reused  tiny-legal-1000-seed0" in text
    assert "  extended  tiny-legal-trunk-seed0: 2." in text
    assert "  new  tiny-legal-4000-seed0: 1k tokens, from tiny-legal-trunk-seed0 at 3k" in text
    assert "dry run: nothing was changed; the study would have train.budgets=[1k,2k,3k,4k]" in text
    assert study.files() == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("1k", "--budgets 1k is 1k tokens, below the largest budget, 4k\n  fix: give more than that, e.g. --budgets \\+4k"),
        ("4000", "--budgets 4000: the study has the budget 4k\n  fix: give more than 4k"),
        ("2k", "--budgets 2k: the study has the budget 2k"),
        ("lots", "--budgets lots: expected a quantity such as 400M, saw 'lots'\n  fix: e.g. --budgets \\+400M"),
        ("+0", "--budgets \\+0: the study has the budget 4k"),
    ],
)
def test_a_budget_that_is_no_larger_is_refused_with_one_that_is(tiny, asked, said):
    with pytest.raises(ConfigError, match=said):
        more_budgets(load_study(tiny.config), asked)


def test_budgets_in_flops_and_budgets_of_axes_are_changed_where_they_are(tiny):
    flops = load_study(tiny.config, ("train.budgets=null", "train.budgets_flops=[1e9,2e9]"))
    with pytest.raises(ConfigError, match=r"in FLOPs .*\n  fix: add the larger one to train.budgets_flops"):
        more_budgets(flops, "+1k")
    swept = load_study(tiny.config, ("axes={size: {key: train.budgets, values: {a: [2000], b: [4000]}}}",))
    with pytest.raises(ConfigError, match=r"axes\.size sets the budgets"):
        more_budgets(swept, "+1k")


def test_more_budgets_are_read_in_either_form(tiny):
    config = load_study(tiny.config)
    assert more_budgets(config, "+4k") == (2000, 4000, 8000)
    assert more_budgets(config, "8k, +1k") == (2000, 4000, 8000, 9000)
    assert [exact_count(one) for one in (400_000_000, 2001, 24_000, 10**9)] == ["400M", "2001", "24k", "1B"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("budgets: [2k, 4k]  # small", "budgets: [2k, 4k, 8k]  # small"),
        ("budgets:\n    - 2000  # first\n    - 4000  # last", "budgets:\n    - 2000  # first\n    - 4000  # last\n    - 8k"),
    ],
)
def test_one_line_of_the_study_file_changes_and_its_comments_stay(tiny, before, after):
    text = "# mine\n" + tiny.config.read_text().replace("budgets:\n  - 2000\n  - 4000", before)
    tiny.config.write_text(text)
    assert write_budgets(tiny.config, (2000, 4000, 8000), ())
    assert tiny.config.read_text() == text.replace(before, after)
    assert load_study(tiny.config).train.budgets == (2000, 4000, 8000)
    assert [path.name for path in tiny.config.parent.glob(".*")] == []


@pytest.mark.parametrize("shape", ["override", "alias", "other budgets"])
def test_a_file_that_cannot_be_changed_safely_is_left_alone(tiny, shape):
    text = tiny.config.read_text()
    if shape == "alias":
        text = text.replace("budgets:\n  - 2000\n  - 4000", "budgets: &tokens [2000, 4000]\n  trajectory_tokens: *tokens")
        tiny.config.write_text(text)
    overrides = ("train.budgets=[2000,4000]",) if shape == "override" else ()
    wanted = (3000, 4000, 8000) if shape == "other budgets" else (2000, 4000, 8000)
    assert not write_budgets(tiny.config, wanted, overrides)
    assert tiny.config.read_text() == text
