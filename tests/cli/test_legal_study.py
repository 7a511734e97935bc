"""The legal paper's study passes `check` and `plan` where hubs and data are replaced by local folders."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from tests.integration.tiny_study import REPOSITORY, exam_items, law_documents, news_documents, write_lines, write_model

STUDY = str(REPOSITORY / "configs" / "legal_scaling.yaml")
TWIN = str(REPOSITORY / "configs" / "legal_scaling_local.yaml")
MODELS = ("qwen-1.5b", "qwen-3b", "qwen-7b", "qwen-14b")


@pytest.fixture
def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Overrides that put local folders in the place of hub names and of `data/`."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(REPOSITORY)
    write_model(tmp_path / "inputs" / "model")
    for name in ("legal", "legal_seed", "background", "edited", "essays"):
        rows = law_documents() if name.startswith("legal") else news_documents()
        write_lines(tmp_path / f"{name}.jsonl", rows)
    write_lines(tmp_path / "exam.jsonl", exam_items())
    model = tmp_path / "inputs" / "model"
    bases = [f"models.{name}.{key}" for name in MODELS for key in (f"base={model}", "revision=null", "separator=null")]
    texts = [f"sources.{s}.path={tmp_path / s}.jsonl" for s in ("legal", "legal_seed", "background", "edited", "essays")]
    exam = f"evaluate.exams.legal_exam.path={tmp_path / 'exam.jsonl'}"
    # Small bases have a small context, and this machine has no GPU.
    small = ("prepare.pack.sequence_length=64", "evaluate.context=64", "evaluate.exam_context=64", "runtime.gpu_memory=80GB")
    return (f"study.root={tmp_path / 'root'}", *bases, *texts, exam, *small)


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_it_passes_with_hubs_replaced_by_local_folders(replaced, capsys, verb):
    assert main([verb, STUDY, *replaced]) == 0
    said = capsys.readouterr().out
    assert ("check passed" if verb == "check" else "1B by the model that sees the most") in said


def test_it_is_the_papers_sizes_on_pinned_bases_and_a_pinned_web():
    study = load_study(STUDY)
    assert [model.name for model in study.models] == list(MODELS)
    assert all(len(model.revision or "") == 40 for model in study.models)
    assert study.sources[0].dataset is not None
    assert len(study.sources[0].dataset.revision or "") == 40
    assert study.train.trajectory_points > 0


def test_the_local_twin_has_the_same_arms_and_derived_sources():
    whole, twin = load_study(STUDY), load_study(TWIN)
    assert whole.arms == twin.arms
    mine, other = ({s.name: (s.parent, s.like, s.scored_by) for s in study.derived_sources} for study in (whole, twin))
    assert mine == other
    assert len(twin.models) * len(twin.arms) * len(twin.train.budgets or ()) * len(twin.study.seeds) == 54
    assert {s.role for s in whole.sources} == {s.role for s in twin.sources}
    assert (whole.train.control_budgets, twin.train.control_budgets) == ("all", "all")
