"""What a study needs of a machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import datasets
import pytest
import yaml
from datasets.arrow_writer import ArrowWriter
from huggingface_hub import constants

from cpt_ray.config.load import load_study
from cpt_ray.edges.source_files import stores
from cpt_ray.edges.store import opening
from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor.needs import check_study

COMMIT = "a" * 40


def found(study, *overrides) -> dict[str, Finding]:
    return {one.what: one for one in check_study(load_study(study.config, overrides), study.config)}


def test_a_package_that_a_study_needs_and_lacks_is_named(tiny, monkeypatch):
    from cpt_ray.study.preflight import packages

    monkeypatch.setattr(packages, "is_installed", lambda module: module != "wandb")
    one = found(tiny, "tracking.wandb=true")["packages of the study"]
    assert one.level == "fail"
    assert "tracking.wandb needs the Python package wandb" in one.found
    assert "pip install 'wandb" in one.fix


def test_a_root_at_google_without_credentials_is_said_with_the_command_that_gives_them(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CPT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(stores, "_RETRY_S", 1)
    monkeypatch.setattr(opening, "FIRST_PATIENCE_S", 0.0)
    one = found(tiny, "study.root=gs://nowhere/study")["study.root"]
    assert one.level == "fail"
    assert "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS" in one.fix


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """The folder of Hugging Face's caches, which are empty; what `HF_HUB_OFFLINE=1` and `HF_HOME` set at import."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf" / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    return tmp_path / "hf"


@pytest.fixture
def of_the_hub(tiny):
    """The tiny study with base, domain text and a task of the hub."""
    tasks = tiny.config.parent / "tasks"
    tasks.mkdir()
    task = {
        "task": "hub_exam", "dataset_path": "Team/SomeExam", "test_split": "test", "output_type": "multiple_choice",
        "doc_to_text": "{{q}}", "doc_to_choice": "{{options}}", "doc_to_target": "right",
    }  # fmt: skip
    (tasks / "hub_exam.yaml").write_text(yaml.safe_dump(task))
    tree = yaml.safe_load(tiny.config.read_text())
    tree["models"][0] |= {"base": "Team/Base", "revision": COMMIT}
    text = {"name": "Team/SomeTexts", "revision": COMMIT}
    tree["sources"][0] = {"name": "law", "role": "domain", "dataset": text}
    tree["evaluate"] = {**tree.get("evaluate", {}), "harness_tasks": ["hub_exam"], "harness_path": str(tasks)}
    tiny.config.write_text(yaml.safe_dump(tree))
    return tiny


def fill(cache: Path, model: Path) -> None:
    """As `hf download` and `load_dataset` leave base, text and exam there."""
    shutil.copytree(model, cache / "hub" / "models--Team--Base" / "snapshots" / COMMIT)
    texts = cache / "hub" / "datasets--Team--SomeTexts" / "snapshots" / COMMIT
    texts.mkdir(parents=True)
    (texts / "train.jsonl").write_text(json.dumps({"text": "some law"}) + "\n")
    prepared = cache / "datasets" / "Team___some_exam" / "default" / "0.0.0" / COMMIT
    prepared.mkdir(parents=True)
    rows = [{"q": "What?", "options": ["this", "that"], "right": 1}] * 3
    features = datasets.Dataset.from_list(rows).features
    with ArrowWriter(path=str(prepared / "some_exam-test.arrow"), features=features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    split = {"name": "test", "num_bytes": 1, "num_examples": 3, "dataset_name": "some_exam"}
    datasets.DatasetInfo(
        features=features, builder_name="json", dataset_name="some_exam", config_name="default", version="0.0.0",
        splits={"test": split},
    ).write_to_directory(str(prepared))  # fmt: skip


def test_offline_what_the_caches_hold_is_proven(of_the_hub, offline):
    fill(offline, of_the_hub.model)
    said = found(of_the_hub)
    assert {name: said[name].level for name in ("bases", "source law", "lm-eval tasks")} == dict.fromkeys(
        ("bases", "source law", "lm-eval tasks"), "ok"
    )
    assert "tensors in 1 files" in said["bases"].found  # read, and not only looked up by its name
    assert "1 files (from the download cache, " in said["source law"].found
    assert said["lm-eval tasks"].found == "built: hub_exam"


def test_offline_what_the_caches_lack_fails_with_the_command_that_fetches_it(of_the_hub, offline):
    said = found(of_the_hub)
    for name, problem, fix in (
        ("bases", rf"Team/Base: offline mode is on .* {offline}/hub", f"hf download Team/Base --revision {COMMIT}"),
        ("source law", "Team/SomeTexts .* it is not cached", "hf download Team/SomeTexts --repo-type dataset --revision"),
        ("lm-eval tasks", "hub_exam: lm-eval could not load it", "run `cpt-ray fetch-tasks` once where the Hub can be reached"),
    ):  # fmt: skip
        assert said[name].level == "fail"
        assert re.search(problem, said[name].found), said[name].found
        assert fix in said[name].fix


def test_with_a_network_a_base_of_the_hub_is_left_to_its_import(of_the_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    tree = yaml.safe_load(of_the_hub.config.read_text())
    del tree["sources"][0]["dataset"], tree["evaluate"]["harness_tasks"]
    tree["sources"][0] |= {"path": str(of_the_hub.inputs / "law.jsonl"), "format": "jsonl"}
    of_the_hub.config.write_text(yaml.safe_dump(tree))
    assert "NOT LOOKED UP" in found(of_the_hub)["bases"].found
