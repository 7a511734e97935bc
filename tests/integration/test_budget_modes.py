"""A tiny study with a chain, with trajectory points and with budgets in FLOPs, through the command line in one process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cpt_ray.cli.main import main
from cpt_ray.records import Comparison, RunRecord
from tests.integration.tiny_study import TinyStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CHAIN = "train.chain={rewarm: 400, rewarm_from: previous_final, peak_share: 0.5, optimizer: fresh}"
SHORT = ("train.precision=fp32", "evaluate.exams=[]", "prepare.decontaminate.enabled=false")


@pytest.fixture
def study(prepared_study: TinyStudy, tmp_path: Path) -> TinyStudy:
    """The prepared study with only its domain arm."""
    copy = prepared_study.copy(tmp_path / "study")
    copy.change(arms={"legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}}})
    return copy


def concluded(study: TinyStudy, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[str, str, Comparison]:
    """Run the study; return its output, its report and its comparison."""
    assert main(["run", str(study.config), *SHORT, *overrides]) == 0
    page = (study.root / "report.html").read_text()
    return capsys.readouterr().out, page, Comparison.load(study.root / "comparison.json")


def test_a_chain_is_trained_scored_and_shown_with_its_parents(study, capsys):
    said, page, comparison = concluded(study, capsys, "train.budget_mode=chain", CHAIN, "train.schedule.final_share=0.1")
    first, second = (
        RunRecord.load(next(study.root.glob(f"train/tiny-legal-{budget}-seed0-*")) / "run.json") for budget in (2000, 4000)
    )
    assert (second.parent, second.training.start_tokens) == (first.run, first.tokens_seen)
    assert second.training.first_steps == (first.training.progress.step,)
    assert all(point.annealed for point in comparison.points)
    assert comparison.tokens_paid == comparison.tokens_seen == second.tokens_seen
    assert "tokens seen: 4." in said
    assert re.search(rf"chain, from {first.run} at [\d,]+ tokens, optimizer fresh", page)


def test_trajectory_points_are_scored_drawn_hollow_and_enter_no_verdict(study, capsys):
    said, page, comparison = concluded(study, capsys, "train.trajectory_tokens=[1000, 3000]")
    points = {point.run for point in comparison.points if not point.annealed}
    assert points == {"tiny-legal-trajectory-1000-seed0", "tiny-legal-trajectory-3000-seed0"}
    assert not points & {name for delta in comparison.deltas for name in (delta.subject, delta.reference)}
    assert "tiny-legal-trajectory-1000-seed0 *" in said
    assert "* not annealed: its learning rate has not decayed, so it is not a budget" in said
    assert "hollow: not annealed, never a budget" in page
    assert "<small>not annealed, never a budget</small>" in page
    # Tokens paid are tokens trained: the trunk once, each branch from its branch point.
    runs = [RunRecord.load(path) for path in study.root.glob("train/*/run.json")]
    assert comparison.tokens_paid == sum(run.tokens_paid for run in runs) > comparison.tokens_seen


def test_budgets_in_flops_are_planned_in_tokens_of_the_model(study, capsys):
    assert main(["plan", str(study.config), "train.budgets=null", "train.budgets_flops=[2e9, 8e9]"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.partition("Budgets, in tokens")[2].splitlines() if line.startswith("tiny ")][:2]
    for row, flops in zip(rows, (2e9, 8e9), strict=True):
        assert float(row[3]) == pytest.approx(flops, rel=1e-3)
        assert float(row[1]) > 0
    assert "tiny-legal-trunk-seed0" in text


def test_a_base_whose_shape_cannot_be_read_is_named(study, capsys):
    flops = ("train.budgets=null", "train.budgets_flops=[2e9]")
    empty = study.root.parent / "empty"
    empty.mkdir()
    assert main(["plan", str(study.config), *flops, f"models.0.base={empty}"]) == 2
    said = capsys.readouterr().err
    assert f"models.tiny.base: the shape of '{empty}' cannot be read: " in said
    assert "fix: use a folder with config.json, a hub name that this machine can reach, or a .gguf file" in said


def test_a_warm_up_too_long_for_budgets_in_flops_is_refused_with_the_model_s_name(study, capsys):
    budgets = ("train.budgets=null", "train.budgets_flops=[2e9]", "train.schedule.warmup=1M")
    assert main(["plan", str(study.config), *budgets]) == 2
    said = capsys.readouterr().err
    assert "train.schedule.warmup is 1000000 tokens, but the cooldown of the smallest budget of tiny, " in said
