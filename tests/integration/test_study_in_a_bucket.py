"""One tiny study on a disk and in a bucket: the same shards, rows, losses and scores, whatever process has whatever mirror."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from cpt_ray.cli.main import main
from cpt_ray.edges.store import opening
from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.edges.tracking.mirrored import default_uri
from tests.data.filter.planted import write_planted_study
from tests.integration.tiny_study import REPOSITORY, TinyStudy, write_model, write_tiny_study
from tests.object_store import ObjectStore, node

pytestmark = pytest.mark.slow
ROOT = "s3://studies/tiny"
OVERRIDES = ("train.budgets=[2000]",)
MIRROR_PER_PROCESS = """
import os
os.environ["CPT_RAY_CACHE"] = os.path.join(os.environ["MIRRORS"], str(os.getpid()))
"""
"""What Python runs first in every process: each is a node of its own, so that no file is seen by accident."""
ONE_IMPATIENT_NODE = """
import os
os.environ["CPT_RAY_CACHE"] = os.environ["MIRRORS"]
from cpt_ray.edges.store import cache
cache.GRACE_S, cache._LOOK_BYTES = 3.0, 1
"""
"""The same for one node, which counts its files whenever one is added and deletes what was not used for three seconds."""


@dataclass(frozen=True)
class Place:
    """A study, where it is, and a machine to run commands on."""

    study: TinyStudy
    root: str
    mirrors: Path
    first: str = MIRROR_PER_PROCESS

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb of the study."""
        verb, *more = arguments
        return self.command(verb, str(self.study.config), f"study.root={self.root}", *OVERRIDES, *more, code=code)

    def command(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run any command line."""
        site = self.mirrors / "site"
        site.mkdir(parents=True, exist_ok=True)
        (site / "sitecustomize.py").write_text(self.first)
        path = os.pathsep.join([str(site), str(REPOSITORY)])
        done = subprocess.run(
            [sys.executable, "-m", "cpt_ray.cli.main", *arguments],
            env={**os.environ, "MIRRORS": str(self.mirrors), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    return write_tiny_study(tmp_path_factory.mktemp("bucket") / "study", kind="local")


@pytest.fixture(scope="module")
def disk(study: TinyStudy) -> Place:
    place = Place(study, str(study.root), study.config.parent / "disk")
    place.run("run")
    return place


@pytest.fixture(scope="module")
def stored(study: TinyStudy, bucket: ObjectStore) -> Place:
    place = Place(study, ROOT, study.config.parent / "mirrors")
    place.run("run")
    return place


@pytest.fixture
def laptop(stored: Place, tmp_path: Path) -> Place:
    """A machine that has nothing of the study but its file."""
    return Place(stored.study, stored.root, tmp_path / "laptop")


def content_of(place: Place, bucket: ObjectStore) -> dict[str, bytes]:
    """Every file of a root by relative name, without indices and the segments of files that grew."""
    if place.root == ROOT:
        return relative(bucket, "tiny")
    root = Path(place.root)
    files = (path for path in root.rglob("*") if path.is_file() and path.name != INDEX)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def steps(files: dict[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    """What was computed in each step of each run: neither times nor memory."""
    kept = ("step", "loss", "gradient_norm", "sample_ids", "tokens_seen", "learning_rate")
    lines = {name: data.decode().splitlines() for name, data in files.items() if "/metrics/attempt-" in name}
    return {name: [{key: json.loads(line)[key] for key in kept} for line in of_run] for name, of_run in lines.items()}


def scores(files: dict[str, bytes]) -> dict[str, Any]:
    found = {name: json.loads(data) for name, data in files.items() if name.endswith("evaluation.json")}
    return {name: {key: one[key] for key in ("held_out", "exams", "tokens_seen")} for name, one in found.items()}


def assert_same_study(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    kept = (name for name in one if name.startswith("shards/") and "/units/" not in name)  # which list files as they came
    shards = [name for name in kept if name.endswith((".arrow", ".index.parquet"))]
    assert len(shards) > 10
    assert all(one[name] == other[name] for name in shards)
    assert steps(one) == steps(other)
    assert sum(len(of_run) for of_run in steps(one).values()) > 10
    assert scores(one) == scores(other)
    assert len(scores(one)) >= 3


def test_a_study_in_a_bucket_is_the_study_on_a_disk(disk, stored, bucket):
    one, other = content_of(disk, bucket), content_of(stored, bucket)
    assert_same_study(one, other)
    logs = {name for name in one if "/logs/" in name}  # in segments in the bucket
    apart = ("mlartifacts/", "known_files.json", "heartbeats/")
    assert {name for name in one if not name.startswith(apart)} - logs - other.keys() == set()
    # Weights and all files of artifacts, by the hashes that their records hold.
    for name in (name for name in one if name.endswith("artifact.json")):
        records = [json.loads(files[name]) for files in (one, other)]
        assert records[0]["fingerprint"] == records[1]["fingerprint"]
        names, stored_names = ({entry["path"] for entry in record["files"]} for record in records)
        assert names == stored_names, name
        hashes = [{e["path"]: e["sha256"] for e in r["files"] if e["path"].endswith((".safetensors", ".npy"))} for r in records]
        assert hashes[0] == hashes[1]


def test_processes_had_mirrors_of_their_own(stored):
    folders = [path for path in stored.mirrors.iterdir() if path.name.isdigit()]
    assert len(folders) >= 3  # the driver and two processes that prepared


@pytest.mark.full
def test_every_artifact_in_the_bucket_has_the_hashes_of_its_record(laptop):
    said = laptop.run("verify").stdout
    assert "FAILED" not in said.upper().replace("0 FAILED", "")


@pytest.mark.full
def test_a_second_command_finds_everything_there(laptop):
    said = laptop.run("run").stdout
    assert "reused" in said
    assert "  made  " not in said


def test_another_machine_knows_how_far_it_is_and_what_was_logged(laptop):
    said = laptop.command("status", laptop.root).stdout
    assert "state: finished" in said
    assert said.splitlines()[-1] == f"next: cpt-ray fetch {laptop.root} report ."
    said = laptop.command("logs", laptop.root, "--lines", "1000").stdout
    assert "[driver] " in said
    assert "rank 0] " in said


def test_the_report_is_written_from_another_machine(laptop):
    said = laptop.run("report").stdout
    assert f"report:  {ROOT}/report.html, here {laptop.mirrors}" in said
    assert f"models:  cpt-ray fetch {ROOT} exports" in said


@pytest.fixture
def nothing_else(study: TinyStudy) -> Iterator[None]:
    """While it lasts, neither the study file nor a source, exam or base is there."""
    away = [path.rename(path.with_name(f"{path.name}-away")) for path in (study.config, study.inputs, study.model)]
    yield
    for path in away:
        path.rename(path.with_name(path.name.removesuffix("-away")))


@pytest.mark.usefixtures("nothing_else")
def test_a_machine_that_has_only_the_root_compares_and_gets_the_report(laptop, bucket):
    kept = ("tiny/comparison.json", "tiny/study.yaml", "tiny/inputs.json")
    before = {name: bucket.get(name) for name in kept}
    said = laptop.command("report", ROOT).stdout
    assert f"report:  {ROOT}/report.html, here {laptop.mirrors}" in said
    assert f"mlflow:  cpt-ray fetch {ROOT} mlflow" in said
    assert laptop.command("compare", ROOT).stdout.splitlines()[-1] == f"next: cpt-ray report {ROOT}"
    assert {name: bucket.get(name) for name in kept} == before


@pytest.mark.usefixtures("nothing_else")
def test_the_records_of_mlflow_are_fetched_and_their_artifacts_can_be_read(laptop, tmp_path):
    laptop.command("fetch", ROOT, "mlflow", str(tmp_path / "to"))
    client = MlflowClient(default_uri(tmp_path / "to"))
    (experiment,) = client.search_experiments(filter_string="name = 'cpt-ray'")
    assert experiment.artifact_location == (tmp_path / "to" / "mlartifacts").as_uri()
    parents = [one for one in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" not in one.data.tags]
    assert parents[0].info.artifact_uri.startswith(experiment.artifact_location)
    page = Path(client.download_artifacts(parents[0].info.run_id, "report.html"))
    assert page.read_bytes().startswith(b"<!doctype html>")


def test_report_scores_and_exports_are_fetched_to_a_machine_that_has_only_the_root(laptop, disk, bucket, tmp_path):
    for root, to in ((ROOT, tmp_path / "stored"), (disk.root, tmp_path / "disk")):
        said = laptop.command("fetch", root, "report", str(to)).stdout
        assert f"fetched: {to / 'report.html'}" in said.splitlines()
        laptop.command("fetch", root, "scores", str(to))
        said = laptop.command("fetch", root, "exports/tiny-legal-2000-seed0", str(to)).stdout
        assert said == f"fetched: {to / 'exports' / 'tiny-legal-2000-seed0'}\n"
    one, other = ({p.relative_to(to).as_posix(): p for p in to.rglob("*") if p.is_file()} for to in tmp_path.glob("[sd]*"))
    assert one.keys() == other.keys()
    weights = "exports/tiny-legal-2000-seed0/model.safetensors"
    assert one[weights].read_bytes() == other[weights].read_bytes()
    assert (tmp_path / "stored" / "report.html").read_bytes() == bucket.get("tiny/report.html")


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Run a command line in this process, on a node of its own, and return what it is refused with."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        said = capsys.readouterr()
        assert "fix:" in said.err
        assert "secret" not in said.err + said.out
        return said.err

    with node(tmp_path / "node"):
        yield run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((ROOT, "weights"), r"'weights' is nothing that can be fetched"),
        ((ROOT, "exports/none"), f"{ROOT} has no export of 'none'"),
        (("s3://studies/elsewhere", "report"), "s3://studies/elsewhere holds no study: there is no study.yaml"),
        (("s3://key:secret@studies/tiny", "report"), "a root holds no credentials"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_what_cannot_be_fetched_is_named(refused, arguments, said, tmp_path):
    assert said in refused("fetch", *arguments, str(tmp_path))


def test_a_root_of_another_study_is_refused(stored, refused, bucket):
    said = refused("run", str(stored.study.config), f"study.root={ROOT}", *OVERRIDES, "study.name=other")
    assert f"study.root {ROOT} holds the study 'tiny', and this is 'other'" in said
    assert b"name: tiny" in bucket.get("tiny/study.yaml")
    assert json.loads(bucket.get("tiny/lease.json"))["released"]


@pytest.mark.parametrize(
    ("root", "said", "fix"),
    [
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x/.writable: cannot be written: ", "check the name of the bucket"),
        ("s3://AKIA:top-secret@studies/x", "a root holds no credentials", "AWS_PROFILE"),
        ("s3://studies", "expected a bucket and a prefix in it that is the study's own", ""),
        ("https://host/x", "artifacts are written to a folder, or to a bucket", ""),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_root_that_is_none_is_refused_before_any_work(study, refused, root, said, fix):
    error = refused("run", str(study.config), f"study.root={root}")
    assert said in error
    assert fix in error


def test_a_bucket_that_is_read_only_or_refuses_the_keys_is_named_before_any_work(study, refused, bucket):
    for kind, fix in (("denied", "check the credentials and their rights"), ("wrong key", "the keys are wrong")):
        bucket.fail(kind, method="PUT")
        try:
            said = refused("run", str(study.config), "study.root=s3://studies/new")
        finally:
            bucket.recover()
        assert "s3://studies/new/.writable: cannot be written" in said
        assert fix in said
    assert bucket.keys("new/") == []


def test_a_bucket_that_does_not_answer_is_named_within_seconds(study, refused, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    opening.forget()
    said = refused("run", str(study.config), "study.root=s3://studies/new")
    monkeypatch.undo()
    opening.forget()
    assert "check the host and the port, and that the server runs" in said


@pytest.mark.full
def test_a_node_that_may_keep_little_makes_the_same_study_and_fetches_again_what_it_wrote(study, disk, bucket, tmp_path):
    bucket.seen.clear()
    node = Place(study, "s3://studies/little", tmp_path / "node", ONE_IMPATIENT_NODE)
    for verb in ("prepare", "train", "evaluate", "report"):
        node.run(verb, "runtime.cache=100000")
    assert_same_study(content_of(disk, bucket), relative(bucket, "little"))
    large = (".arrow", ".parquet", ".pt", ".safetensors")
    kept = {path.name for path in node.mirrors.rglob("*") if path.suffix in large}
    stored = [key for key in bucket.keys("little/") if key.endswith(large)]
    assert len(kept) < len(stored) / 2
    fetched = {path.partition("?")[0] for method, path in bucket.seen if method == "GET"}
    assert {Path(path).suffix for path in fetched if path.endswith(large)} >= {".arrow", ".safetensors"}


@pytest.mark.ray
@pytest.mark.full
def test_two_ray_workers_that_share_no_file_make_the_same_study(bucket, tmp_path):
    study = write_tiny_study(tmp_path / "study", kind="ray")
    disk = Place(study, str(study.root), tmp_path / "disk")
    disk.run("run")
    bucket.seen.clear()
    stored = Place(study, "s3://studies/rays", tmp_path / "mirrors")
    stored.run("run")
    one = content_of(disk, bucket)
    assert_same_study(one, relative(bucket, "rays"))
    with_checkpoints = [path for path in stored.mirrors.glob("*") if list(path.rglob("*optim_states.pt"))]
    assert len(with_checkpoints) == 2  # each rank has its own, and the driver none


@pytest.mark.full
def test_branches_and_merges_follow_their_parents_through_a_bucket(bucket, tmp_path):
    study = write_tiny_study(tmp_path / "study", kind="local")
    write_model(study.inputs / "instruct")
    rules = {
        "frontier": {"interpolate": {"weights": [0.5]}},
        "chat": {"instruction_residual": {"instruct": str(study.inputs / "instruct"), "scale": 0.5}},
        "averaged": {"average": {"last": 2, "every": 300}},
    }
    study.change(merges=[{"name": name, **rule} for name, rule in rules.items()])
    budgets = "train.budgets=[2000,4000]"
    disk = Place(study, str(study.root), tmp_path / "disk")
    disk.run("run", budgets)
    stored = Place(study, "s3://studies/merged", tmp_path / "mirrors")
    for verb in ("prepare", "train", "evaluate", "report"):  # each by a driver that has nothing but the bucket
        stored.run(verb, budgets)
    one, other = content_of(disk, bucket), relative(bucket, "merged")
    assert_same_study(one, other)
    assert sum("/merges/" in f"/{name}" and name.endswith("export/model.safetensors") for name in one) == 3
    for name in (name for name in one if name.endswith("export/model.safetensors")):
        assert one[name] == other[name], name
    laptop = Place(study, stored.root, tmp_path / "laptop")
    document = json.loads((study.inputs / "law.jsonl").read_text().splitlines()[0])["id"]
    for verb in (("inspect",), ("trace", "--run", "tiny-legal-4000-seed0", "--row", "20"), ("trace", "--document", document)):
        said = [place.run(verb[0], budgets, *verb[1:]).stdout.replace(place.root, "ROOT") for place in (disk, laptop)]
        assert said[0].splitlines()[:-1] == said[1].splitlines()[:-1]
        assert len(said[0]) > 100
    run = "tiny-legal-2000-seed0"
    said = laptop.command("compare", f"{stored.root}:{run}", f"{disk.root}:{run}").stdout
    assert "law" in said


@pytest.mark.full
def test_classifiers_and_derived_sources_are_the_same_in_a_bucket(bucket, tmp_path):
    study = write_planted_study(tmp_path / "study")
    places = Place(study, str(study.root), tmp_path / "disk"), Place(study, "s3://studies/derived", tmp_path / "mirrors")
    for place in places:
        place.run("prepare")
    one, other = content_of(places[0], bucket), relative(bucket, "derived")
    made = [name for name in one if name.startswith(("derived/", "scores/", "classifier/", "yield/", "arms/"))]
    data = [name for name in made if name.endswith((".arrow", ".parquet", ".npz", ".npy"))]
    assert len(data) > 30
    assert [name for name in data if one[name] != other.get(name)] == []
    assert {name for name in made if name not in other} == set()
    places[1].run("verify")


def relative(bucket: ObjectStore, prefix: str) -> dict[str, bytes]:
    """The files of a root in the bucket by relative name, without segments and indices."""
    names = [key.removeprefix(f"{prefix}/") for key in bucket.keys(f"{prefix}/")]
    return {name: bucket.get(f"{prefix}/{name}") for name in names if "@" not in name and not name.endswith(INDEX)}
