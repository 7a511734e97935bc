"""What is fetched from a root on a disk, and what is refused; from a bucket: `integration/test_study_in_a_bucket.py`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cpt_ray.cli.main import main
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.store import mirror_of
from cpt_ray.edges.tracking.mirrored import default_uri
from cpt_ray.edges.tracking.store import Tracking
from cpt_ray.errors import ConfigError
from cpt_ray.study.findings.fetch import fetch
from cpt_ray.study.live.session import Session
from tests.object_store import node
from tests.study.planned import Lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the files of a study, as far as they are fetched."""
    root = tmp_path / "study"
    names = ("study.yaml", "report.html", "report.md", "evaluate/a-12/evaluation.json", "train/r-34/export/model.safetensors")
    for name in (*names, "train/r-34/run.json", "train/r-34/metrics/attempt-0001.jsonl", "shards/s-56/shards/x.arrow"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "exports").mkdir()
    (root / "exports" / "r").symlink_to("../train/r-34/export", target_is_directory=True)
    return root


def session_at(place: Path) -> Session:
    """A command at work on a root."""
    return Session(place, RuntimeConfig(kind="local"), Lines(), lambda _: None)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("report", ["report.html", "report.md", "study.yaml"]),
        ("scores", ["evaluate/a-12/evaluation.json"]),
        ("runs", ["train/r-34/metrics/attempt-0001.jsonl", "train/r-34/run.json"]),
        ("exports", ["exports/r/model.safetensors"]),
        ("exports/r", ["exports/r/model.safetensors"]),
    ],
)
def test_what_is_asked_for_is_copied(root, tmp_path, what, found):
    told = fetch(str(root), what, tmp_path / "to")
    assert files(tmp_path / "to") == found
    assert all(path.exists() for path in told)
    fetch(str(root), what, tmp_path / "to")  # once more is no error
    assert files(tmp_path / "to") == found


def test_a_copy_is_no_link_to_a_study_that_goes_on_writing(root, tmp_path):
    fetch(str(root), "report", tmp_path / "to")
    (root / "report.html").write_text("changed")
    assert (tmp_path / "to" / "report.html").read_text() == "report.html"


@pytest.mark.parametrize(
    ("what", "problem", "fix"),
    [
        ("shards", "'shards' is nothing that can be fetched", "ask for report, scores, runs, mlflow, exports, or exports/RUN"),
        ("exports/x", "has no export of 'x'", "name one of r"),
    ],
)
def test_what_is_not_there_is_named(root, tmp_path, what, problem, fix):
    with pytest.raises(ConfigError, match=problem) as error:
        fetch(str(root), what, tmp_path / "to")
    assert error.value.fix == fix


def test_the_database_of_mlflow_is_fetched_with_its_files_and_can_be_opened(root, tmp_path, capsys):
    with pytest.raises(ConfigError, match="has no mlflow yet") as error:
        fetch(str(root), "mlflow", tmp_path / "to")
    assert "a study with tracking.uri has its numbers there" in error.value.fix
    experiment = Tracking(default_uri(root), "studies").experiment
    client = MlflowClient(default_uri(root))
    client.log_text(client.create_run(experiment).info.run_id, "said", "a.txt")
    assert main(["fetch", str(root), "mlflow", str(tmp_path / "to")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [f"fetched: {tmp_path / 'to' / name}" for name in ("mlartifacts", "mlflow.db")]
    uri = shlex.split(told[2].removeprefix("look at it: "))[-1]
    shutil.rmtree(root / "mlartifacts")
    fetched = MlflowClient(uri)
    (run,) = fetched.search_runs([experiment])
    assert Path(fetched.download_artifacts(run.info.run_id, "a.txt")).read_text() == "said"


def test_the_records_of_mlflow_lead_from_a_bucket_to_whichever_machine_has_them(bucket, tmp_path):
    bucket.put("mirrored/study.yaml", b"study: {name: tiny}")
    address = "s3://studies/mirrored"
    with node(tmp_path / "cluster"):
        place = mirror_of(address)
        with session_at(place):
            experiment = Tracking(default_uri(place), "studies").experiment
            client = MlflowClient(default_uri(place))
            run = client.create_run(experiment).info.run_id
            client.log_text(run, "said", "a.txt")
    shutil.rmtree(tmp_path / "cluster")
    with node(tmp_path / "another driver"), session_at(mirror_of(address)):
        client = MlflowClient(default_uri(mirror_of(address)))
        assert Path(client.download_artifacts(run, "a.txt")).read_text() == "said"
        assert client.get_run(run).info.artifact_uri.startswith((tmp_path / "another driver").as_uri())
    with node(tmp_path / "laptop"):
        fetch(address, "mlflow", tmp_path / "to")
    shutil.rmtree(tmp_path / "laptop")
    shutil.rmtree(tmp_path / "another driver")
    client = MlflowClient(default_uri(tmp_path / "to"))
    assert Path(client.download_artifacts(run, "a.txt")).read_text() == "said"


def test_a_root_without_a_study_or_results_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no study: there is no study\.yaml"):
        fetch(str(tmp_path), "report", tmp_path / "to")
    (tmp_path / "study.yaml").write_text("")
    with pytest.raises(ConfigError, match="has no scores yet"):
        fetch(str(tmp_path), "scores", tmp_path / "to")
    with pytest.raises(ConfigError, match="expected the path of a folder"):
        fetch(" ", "scores", tmp_path / "to")
