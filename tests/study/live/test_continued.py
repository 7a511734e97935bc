"""A study with more budgets goes on from what smaller ones left, and ends where it would have ended from the start."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cpt_ray import Study
from cpt_ray.edges.storage import hash_file
from cpt_ray.edges.store import fetched, here
from cpt_ray.edges.store.addresses import CACHE
from cpt_ray.errors import ConfigError
from cpt_ray.records import RunRecord
from cpt_ray.study import store
from cpt_ray.study.live import continued
from cpt_ray.study.live.continued import find_continued
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.checkpoint import committed
from tests.integration.tiny_study import TinyStudy, study_tree, write_tiny_study
from tests.object_store import ObjectStore

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


def _load(study: TinyStudy, budgets: list[int] | None = None, *, root: str | None = None) -> Study:
    overrides = {**SMALL, "study.root": root or str(study.root)}
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


def _weights(export: str) -> Path:
    return fetched(here(export) / "model.safetensors")


@pytest.mark.slow
def test_in_a_bucket_too_also_after_a_kill_among_the_copies(trained, bucket: ObjectStore, tmp_path, monkeypatch):
    small, fresh = trained
    root = "s3://studies/extended"
    monkeypatch.setenv(CACHE, str(tmp_path / "first"))
    _load(small, root=root).prepare()
    _load(small, root=root).train()

    def killed(path: Path, text: str) -> None:
        if path.name == committed.MANIFEST and len(written := list(path.parents[1].glob(f"*/{committed.MANIFEST}"))) == 1:
            raise KeyboardInterrupt(written)
        write_atomic(path, text)

    write_atomic = continued.write_atomic
    monkeypatch.setenv(CACHE, str(tmp_path / "second"))
    monkeypatch.setattr(continued, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        _load(small, ALL, root=root).train()
    monkeypatch.setattr(continued, "write_atomic", write_atomic)
    bucket.seen.clear()
    monkeypatch.setenv(CACHE, str(tmp_path / "third"))
    _load(small, ALL, root=root).train()
    ours, theirs = _runs(_load(small, ALL, root=root)), _runs(_load(fresh, ALL))
    assert [one.resumed for one in ours["trunk"].training.attempts] == [False, True]
    assert ours["trunk"].training.attempts[1].first_tokens > 0
    exports = [(one.export_path, theirs[name].export_path) for name, one in ours.items() if one.export_path]
    assert len(exports) == 3
    assert all(hash_file(_weights(mine)) == hash_file(_weights(other)) for mine, other in exports)
    # A larger study once more: now nothing is interrupted, and finished branches are taken over as they are.
    found = {
        str(one.node.work.spec.budget_tokens): one for one in find_continued(_load(small, [*ALL, 4000], root=root).graph())
    }
    assert {name: one.is_whole for name, one in found.items()} == {"None": False, "1000": True, "2000": True, "3000": True}
    assert found["None"].tokens >= 2250


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
    assert re.search(r"^to train: 1\.\d+k tokens$", text, re.MULTILINE)
    assert "dry run: nothing was changed; the study would have train.budgets=[1k,2k,3k,4k]" in text
    assert study.files() == before


@pytest.mark.slow
@pytest.mark.parametrize("dry_run", [True, False])
def test_extend_refuses_more_than_the_text_gives_before_it_changes_the_study_file(trained, dry_run):
    study, _ = trained
    before = study.files()
    with pytest.raises(
        ConfigError, match=r"arms\.legal at budget .* needs .* tokens of source .* epochs, and .*max_epochs.* is"
    ):
        _load(study, ALL).extend("+40M", dry_run=dry_run)
    assert study.files() == before
