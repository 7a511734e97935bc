"""An export as a model of MLflow: found and loaded by its address, nothing copied, logged once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import torch

from cpt_ray.edges.tracking.client import connect
from cpt_ray.edges.tracking.models import MODEL, describe_export
from cpt_ray.edges.tracking.store import Tracking
from cpt_ray.records import RunRecord
from tests.edges.points import CONTROL
from tests.edges.tracking.test_store import SPEC, record
from tests.evaluate.tiny import build_model, build_tokenizer


def make_export(folder: Path, seed: int = 0) -> Path:
    tokenizer = build_tokenizer()
    build_model(len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def exported(export: Path) -> RunRecord:
    return record().model_copy(update={"export_path": str(export)})


def mirror(server: str, name: str, run: RunRecord) -> tuple[Tracking, str]:
    tracking = Tracking(server, name)
    parent = tracking.mirror_study("s", name, config={}, points=(), control_arms=CONTROL)
    return tracking, tracking.mirror_run(parent, run)


def models_of(server: str, experiment: str):
    return list(connect(server).search_logged_models([experiment]))


def test_an_export_is_a_model_that_loads_by_its_runs_address_and_is_logged_once(server, tmp_path):
    export = make_export(tmp_path / "export")
    tracking, run = mirror(server, "models", exported(export))
    (model,) = models_of(server, tracking.experiment)
    assert (model.name, model.source_run_id, model.status) == (MODEL, run, "READY")
    assert mirror(server, "models", exported(export))[1] == run
    assert [one.model_id for one in models_of(server, tracking.experiment)] == [model.model_id]
    mlflow.set_tracking_uri(server)
    loaded = mlflow.pyfunc.load_model(f"runs:/{run}/{MODEL}")
    tokenizer = build_tokenizer()
    ids = tokenizer("The licensee", return_tensors="pt").input_ids
    plain = build_model(len(tokenizer)).generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False, pad_token_id=0
    )
    assert loaded.predict(["The licensee"]) == [tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)]


def test_nothing_of_the_export_is_copied(server, tmp_path):
    export = make_export(tmp_path / "export")
    mirror(server, "by reference", exported(export))
    tracking = Tracking(server, "by reference")
    (model,) = models_of(server, tracking.experiment)
    files = connect(server).list_logged_model_artifacts(model.model_id)
    assert sorted(file.path for file in files) == ["MLmodel", "export.json"]
    assert sum(file.file_size for file in files) < 5_000 < (export / "model.safetensors").stat().st_size


def test_another_export_of_the_same_record_replaces_the_model(server, tmp_path):
    export = make_export(tmp_path / "export")
    tracking, run = mirror(server, "replaced", exported(export))
    (first,) = models_of(server, tracking.experiment)
    (export / "README.md").write_text("a card", encoding="utf-8")
    assert mirror(server, "replaced", exported(export))[1] == run
    (second,) = models_of(server, tracking.experiment)
    assert second.model_id != first.model_id


def test_bases_and_exports_that_are_gone_are_no_models(server, tmp_path):
    tracking = Tracking(server, "none")
    parent = tracking.mirror_study("s", "none", config={}, points=(), control_arms=CONTROL)
    tracking.mirror_run(parent, record("base", "m-base"))
    tracking.mirror_run(parent, exported(tmp_path / "gone"))
    assert models_of(server, tracking.experiment) == []


def test_what_is_referred_to_is_named_with_its_sizes(tmp_path):
    export = make_export(tmp_path / "export")
    found = describe_export(SPEC.name, export)
    assert (found["run"], found["export"]) == (SPEC.name, str(export))
    assert found["files"]["config.json"] == (export / "config.json").stat().st_size


@pytest.mark.slow
def test_the_command_line_of_mlflow_models_answers(server, tmp_path):
    _, run = mirror(server, "command line", exported(make_export(tmp_path / "export")))
    asked, answer = tmp_path / "in.json", tmp_path / "out.json"
    asked.write_text(json.dumps({"inputs": ["The licensee", "A spokesman"]}), encoding="utf-8")
    command = [sys.executable, "-m", "mlflow", "models", "predict", "--model-uri", f"runs:/{run}/{MODEL}"]
    command += ["--env-manager", "local", "--input-path", str(asked), "--output-path", str(answer)]
    environment = {"MLFLOW_TRACKING_URI": server, "PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path)}
    ran = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    texts = json.loads(answer.read_text(encoding="utf-8"))["predictions"]
    assert len(texts) == 2
    assert all(isinstance(text, str) and text for text in texts)
    shutil.rmtree(tmp_path / "export")
    gone = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(Path(__file__).parents[3])}, capture_output=True, text=True
    )
    assert gone.returncode != 0
    assert "is not there" in gone.stdout + gone.stderr
