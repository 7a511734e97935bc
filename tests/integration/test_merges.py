"""Merges of a finished tiny study, by the command line in one process: nothing is trained again, all are scored and shown."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpt_ray.cli.main import main
from cpt_ray.records import Comparison, Delta, EvalRecord, RunRecord
from tests.integration.tiny_study import TinyStudy, write_model, write_tiny_study

pytestmark = [pytest.mark.slow]

BASE, LARGE = "tiny-base", "tiny-legal-4000-seed0"
FRONTIER = [f"tiny-legal-4000-frontier-{weight}-seed0" for weight in ("0", "0.5", "1")]
CHAT, AVERAGED = "tiny-legal-4000-chat-seed0", "tiny-legal-4000-averaged-seed0"


class Done(NamedTuple):
    """What a command said, and what the study then found."""

    out: str
    err: str
    comparison: Comparison
    page: str

    def made(self) -> set[str]:
        return set(re.findall(r"^  made    (\S+)-[0-9a-f]{8} ", self.out, re.MULTILINE))


def command(study: TinyStudy, verb: str = "run", code: int = 0) -> tuple[str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert main([verb, str(study.config)]) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def run(study: TinyStudy) -> Done:
    out, err = command(study)
    return Done(out, err, Comparison.load(study.root / "comparison.json"), (study.root / "report.html").read_text())


def folder(study: TinyStudy, stage: str, name: str) -> Path:
    (found,) = (path for path in (study.root / stage).iterdir() if path.name[:-9] == name)
    return found


def scores(study: TinyStudy, name: str) -> list[float]:
    record = EvalRecord.of(folder(study, "evaluate", name))
    return [*(score.nats for score in record.held_out), *(exam.accuracy for exam in record.exams)]


def merges(study: TinyStudy) -> list[dict[str, Any]]:
    return [
        {"name": "frontier", "interpolate": {"weights": [0, 0.5, 1]}},
        {"name": "chat", "instruction_residual": {"instruct": str(study.inputs / "instruct"), "scale": 0.5}},
    ]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyStudy, Done, Done]:
    """A finished study, and the same with two entries of merges added to it."""
    study = write_tiny_study(tmp_path_factory.mktemp("merges") / "study", kind="local")
    before = run(study)
    instruct = study.inputs / "instruct"
    write_model(instruct)
    tensors = load_file(instruct / "model.safetensors")
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, instruct / "model.safetensors", metadata={"format": "pt"})
    (instruct / "chat_template.jinja").write_text("{{ messages }}")
    study.change(merges=merges(study))
    return study, before, run(study)


@pytest.mark.accept(grid=5)
def test_merges_added_to_a_finished_study_train_nothing_and_a_second_run_makes_nothing(stages, record_property):
    study, before, after = stages
    names = {*FRONTIER, CHAT}
    assert len(before.made()) > 10
    assert after.made() == {
        "instruct/chat-instruct",
        *(f"{stage}/{name}" for stage in ("merges", "evaluate") for name in names),
    }
    assert run(study).made() == set()
    assert (after.comparison.tokens_paid, after.comparison.tokens_seen) == (
        before.comparison.tokens_paid,
        before.comparison.tokens_seen,
    )
    record_property("added to a finished study", f"{len(after.made())} artifacts made, none of them trained")


@pytest.mark.accept(grid=5)
def test_the_ends_of_a_frontier_score_as_base_and_export_do(stages):
    study, _, _ = stages
    assert scores(study, FRONTIER[0]) == scores(study, BASE)
    assert scores(study, FRONTIER[2]) == scores(study, LARGE)
    assert scores(study, FRONTIER[1]) not in (scores(study, BASE), scores(study, LARGE))


def test_each_merge_has_a_record_with_the_budget_of_its_run_and_pays_nothing(stages):
    study, _, _ = stages
    parent = RunRecord.of(folder(study, "train", LARGE))
    for name in (*FRONTIER, CHAT):
        record = RunRecord.of(folder(study, "merges", name))
        assert (record.run, record.kind, record.parent, record.training) == (name, "merge", LARGE, None)
        assert (record.budget_tokens, record.tokens_seen, record.tokens_paid) == (4000, parent.tokens_seen, 0)
        assert (study.root / "exports" / name).resolve() == Path(str(record.export_path))
    card = (folder(study, "merges", FRONTIER[1]) / "export" / "README.md").read_text()
    assert f"0.5 of {LARGE}, 0.5 of the base" in card
    assert f"# {LARGE}" in card  # what is said of its text and licenses holds for the merge as well


def test_a_residual_is_the_export_plus_the_difference_with_the_chat_template(stages):
    study, _, _ = stages
    own, chat = (folder(study, stage, name) / "export" for stage, name in (("train", LARGE), ("merges", CHAT)))
    ours, theirs = load_file(own / "model.safetensors"), load_file(chat / "model.safetensors")
    different = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert different == {"model.norm.weight"}
    moved = (theirs["model.norm.weight"] - ours["model.norm.weight"]).float()
    assert torch.allclose(moved, torch.full_like(moved, 0.25), atol=0.01)
    assert (chat / "chat_template.jinja").is_file()
    assert not (own / "chat_template.jinja").exists()


def test_they_are_compared_with_base_and_budget_and_change_no_verdict_and_no_curve(stages):
    _, before, after = stages
    for field in ("headline", "verdict", "notes"):
        assert getattr(after.comparison, field) == getattr(before.comparison, field)

    def without(deltas: tuple[Delta, ...]) -> list[Delta]:
        return [delta for delta in deltas if delta.subject not in (*FRONTIER, CHAT)]

    assert without(after.comparison.deltas) == list(before.comparison.deltas)
    pairs = {(delta.subject, delta.reference) for delta in after.comparison.deltas} - {
        (delta.subject, delta.reference) for delta in before.comparison.deltas
    }
    assert pairs == {(name, other) for name in (*FRONTIER, CHAT) for other in (BASE, LARGE)}
    assert {point.run for point in after.comparison.points if point.merged} == {*FRONTIER, CHAT}

    def figure(page: str, name: str) -> str:
        return re.sub(r'id="[^"]*"|#[a-z]+[0-9a-f]{6,}', "", page.partition(f'id="figure-{name}"')[2].partition("</figure>")[0])

    assert figure(after.page, "scaling") == figure(before.page, "scaling")
    assert figure(after.page, "forgetting") != figure(before.page, "forgetting")
    assert "Stars were made without training" in figure(after.page, "forgetting")
    assert re.search(rf">{re.escape(CHAT)}</th>\s*<td[^>]*>instruction_residual</td>", after.page)


def test_they_are_listed_by_plan_and_marked_in_the_summary(stages):
    study, _, after = stages
    planned, warned = command(study, "plan")
    assert "Made without training, no tokens paid" in planned
    assert f"{CHAT}" in planned
    assert "trained again" not in warned
    assert f"{FRONTIER[1]} +" in after.out
    assert "+ made without training: no tokens were paid for it, and it is not a budget" in after.out


def test_they_are_mirrored_as_runs_of_their_kind(stages):
    mlflow = pytest.importorskip("mlflow")
    study, _, _ = stages
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{study.root / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.`cpt_ray.run` = '{FRONTIER[1]}'")
    assert (found.data.params["kind"], found.data.params["parent"]) == ("merge", LARGE)
    assert (found.data.params["merge.rule"], found.data.params["merge.weight"]) == ("interpolate", "0.5")
    assert found.data.metrics["final.tokens_seen"] > 0


def test_an_average_trains_its_cooldown_again_says_so_before_and_ends_at_the_same_export(stages, tmp_path):
    finished, _, _ = stages
    study = finished.copy(tmp_path / "study")
    study.change(merges=[{"name": "averaged", "average": {"last": 3, "every": 300}}])
    old = folder(study, "train", LARGE)
    for verb in ("check", "plan"):
        warned = command(study, verb)[1]
        assert f"run {LARGE} is trained, but kept none of the 2 models of its cooldown" in warned
        assert "it will be trained again, 1k tokens, to the same export" in warned
    done = run(study)
    assert done.made() == {f"train/{LARGE}", f"merges/{AVERAGED}", f"evaluate/{LARGE}", f"evaluate/{AVERAGED}"}
    (new,) = (path for path in study.root.glob(f"train/{LARGE}-*") if path != old)
    kept = [path.name for path in sorted((new / "average").iterdir())]
    assert kept == ["3400", "3700"]
    exports = [load_file(path / "model.safetensors") for path in (old / "export", new / "export")]
    assert all(torch.equal(tensor, exports[1][name]) for name, tensor in exports[0].items())
    three = [exports[1], *(load_file(new / "average" / mark / "model.safetensors") for mark in kept)]
    averaged = load_file(folder(study, "merges", AVERAGED) / "export" / "model.safetensors")
    for name, tensor in averaged.items():
        mean = sum(one[name].double() for one in three) / 3
        torch.testing.assert_close(tensor.double(), mean, rtol=2**-8, atol=1e-6)
    assert any(not torch.equal(three[0][name], three[1][name]) for name in averaged)
    settings = json.loads((old / "artifact.json").read_text())["settings"]["spec"]
    assert "average_tokens" not in settings  # a run without marks has the address that it had before there were any


def test_an_instruct_model_of_another_size_is_refused_by_check_and_before_training(stages, tmp_path):
    study = stages[0].copy(tmp_path / "study")
    instruct = study.inputs / "instruct"
    tensors = load_file(instruct / "model.safetensors")
    tensors["model.norm.weight"] = torch.cat([tensors["model.norm.weight"], torch.ones(1, dtype=torch.bfloat16)])
    save_file(tensors, instruct / "model.safetensors", metadata={"format": "pt"})
    text = command(study, "check", code=2)[1]
    assert re.search(
        r"merges\.chat\.instruction_residual\.instruct: model\.norm\.weight is \d+ in .*instruct, but \d+ in", text
    )
    assert "fix: only models of one family and size can be merged" in text
