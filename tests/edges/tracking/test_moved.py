"""A database of MLflow that was moved with its files, read with MLflow's own client."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cpt_ray.edges.tracking.mirrored import default_uri
from cpt_ray.edges.tracking.moved import copy_database, lead_here
from cpt_ray.edges.tracking.store import Tracking
from cpt_ray.errors import ArtifactError


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A study's root with a run that has an artifact, whose own path names the folder of artifacts too."""
    root = tmp_path_factory.mktemp("written") / "mlartifacts" / "study"
    tracking = Tracking(default_uri(root), "studies")
    client = MlflowClient(default_uri(root))
    client.log_text(client.create_run(tracking.experiment).info.run_id, "said", "notes/a.txt")
    client.create_experiment("elsewhere", artifact_location="s3://bucket/mlartifacts")
    return root


def text_of(folder: Path, *, name: str = "studies") -> str:
    """An artifact as the client reads it."""
    client = MlflowClient(default_uri(folder))
    (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return Path(client.download_artifacts(run.info.run_id, "notes/a.txt")).read_text()


def test_artifacts_are_read_where_the_database_was_moved_to(written, tmp_path):
    moved = tmp_path / "a laptop"
    moved.mkdir()
    copy_database(written / "mlflow.db", moved / "mlflow.db")
    shutil.copytree(written / "mlartifacts", moved / "mlartifacts")
    aside = written.rename(written.with_name("gone"))
    try:
        with pytest.raises(Exception, match="Failed to download artifacts"):
            text_of(moved)
        lead_here(moved)
        assert text_of(moved) == "said"
        client = MlflowClient(default_uri(moved))
        location = client.get_experiment_by_name("studies").artifact_location
        assert location == (moved / "mlartifacts").as_uri()
        assert client.get_experiment_by_name("elsewhere").artifact_location == "s3://bucket/mlartifacts"
        # What is logged from now on lies here too.
        run = client.create_run(client.get_experiment_by_name("studies").experiment_id)
        client.log_text(run.info.run_id, "more", "b.txt")
        assert len(list((moved / "mlartifacts").rglob("b.txt"))) == 1
    finally:
        aside.rename(written)
    assert text_of(written) == "said"


def test_a_database_that_leads_here_is_not_written(written):
    before = (written / "mlflow.db").stat()
    lead_here(written)
    assert (written / "mlflow.db").stat().st_mtime_ns == before.st_mtime_ns


def test_a_folder_without_a_database_is_left_alone_and_one_that_is_none_is_named(tmp_path):
    lead_here(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 100)
    for move in (lambda: lead_here(tmp_path), lambda: copy_database(tmp_path / "mlflow.db", tmp_path / "to" / "mlflow.db")):
        with pytest.raises(ArtifactError, match=r"mlflow\.db: not a database of MLflow .*: file is not a database"):
            move()
