"""Artifacts: named by their inputs, complete once their record exists, refused if they contradict it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.edges.storage import listed_sizes
from cpt_ray.edges.store import mirror_of, push_folder
from cpt_ray.errors import ArtifactError, ConfigError
from cpt_ray.records import Artifact, Record
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.stage import Node, Planned, Stage
from tests.object_store import node as node_of

NOTES = Stage[None, Record](
    name="notes", version=1, verb="prepare", plan=lambda _: (), build=lambda *_: None, record=None, files=("**/*.txt", "a.*")
)


def make(
    root: Path, settings: dict[str, object] | None = None, inputs: dict[str, str] | None = None, stage: Stage = NOTES
) -> Node:
    planned = Planned("tiny", inputs=inputs or {"model": "m1"}, settings=settings or {"length": 64}, work=None)
    return store.locate(root, stage, planned)


def committed(root: Path) -> Node:
    node = make(root)
    (node.folder / "deep").mkdir(parents=True)
    (node.folder / "a.txt").write_text("hello")
    (node.folder / "deep" / "b.txt").write_text("world")
    (node.folder / "scratch.tmp").write_text("not of the artifact")
    store.commit(node, started=time.perf_counter())
    return node


def test_a_fingerprint_is_the_hash_of_canonical_json():
    assert store.fingerprint({"b": (1, 2), "a": None}) == store.fingerprint({"a": None, "b": [1, 2]})
    # Hard-coded: a change of this value orphans every existing artifact.
    assert store.fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_an_artifact_is_named_by_stage_name_and_fingerprint(tmp_path):
    node = make(tmp_path)
    assert node.folder == tmp_path / "notes" / f"tiny-{node.fingerprint[:8]}"
    assert node.label == f"notes/tiny-{node.fingerprint[:8]}"
    assert make(tmp_path / "elsewhere").fingerprint == node.fingerprint


def test_settings_and_inputs_change_the_fingerprint_and_their_order_does_not(tmp_path):
    plain = make(tmp_path, {"a": 1, "b": 2}, {"x": "1", "y": "2"}).fingerprint
    assert make(tmp_path, {"b": 2, "a": 1}, {"y": "2", "x": "1"}).fingerprint == plain
    assert make(tmp_path, {"a": 1, "b": 3}, {"x": "1", "y": "2"}).fingerprint != plain
    assert make(tmp_path, {"a": 1, "b": 2}, {"x": "1", "y": "3"}).fingerprint != plain


def test_another_version_of_the_format_is_another_artifact(tmp_path):
    newer = dataclasses.replace(NOTES, version=2)
    assert make(tmp_path).fingerprint != make(tmp_path, stage=newer).fingerprint


def test_an_input_that_is_an_artifact_counts_by_its_fingerprint(tmp_path):
    model = make(tmp_path)
    assert (
        make(tmp_path, inputs={"model": model}).fingerprint == make(tmp_path, inputs={"model": model.fingerprint}).fingerprint
    )
    assert make(tmp_path, inputs={"model": model}).input("model") is model
    with pytest.raises(TypeError, match=r"input 'model' of notes/tiny-.* is read from outside the study"):
        make(tmp_path).input("model")


def test_what_is_required_and_not_built_names_the_verb_that_builds_it(tmp_path):
    with pytest.raises(ConfigError, match=r"notes/tiny-\w+ has not been built yet under") as error:
        store.require(make(tmp_path))
    assert error.value.fix == "run cpt-ray prepare first, with the same study file and overrides"
    assert store.require(committed(tmp_path)) == make(tmp_path).folder


def test_a_stage_without_a_record_has_none_to_load(tmp_path):
    with pytest.raises(TypeError, match="stage notes has no record"):
        store.load(committed(tmp_path))


def test_what_was_committed_is_found_with_its_files_each_once(tmp_path):
    node = committed(tmp_path)
    artifact = store.find(node)
    assert [entry.path for entry in artifact.files] == ["a.txt", "deep/b.txt"]
    assert artifact.inputs == {"model": "m1"}
    assert artifact.settings == {"length": 64}
    assert artifact.versions["ray"].startswith("2.")


def test_a_command_looks_at_an_artifact_once_and_the_next_command_again(tmp_path, monkeypatch):
    committed(tmp_path)
    listed = []
    monkeypatch.setattr(store, "listed_sizes", lambda folder: listed.append(folder) or listed_sizes(folder))
    found: dict[Path, Artifact] = {}
    nodes = [dataclasses.replace(make(tmp_path), found=found) for _ in range(2)]
    assert store.find(nodes[0]) is store.find(nodes[0]) is store.find(nodes[1])
    assert (store.exists(nodes[1]), store.require(nodes[1])) == (True, nodes[1].folder)
    assert listed == [nodes[0].folder]
    (nodes[0].folder / "a.txt").unlink()
    refused(dataclasses.replace(nodes[0], found={}), r"a\.txt: missing")
    assert len(listed) == 2


def test_what_a_command_made_or_did_not_find_is_no_reason_to_miss_it_later(tmp_path):
    node = dataclasses.replace(make(tmp_path), found={})
    assert (store.find(node), store.exists(node)) == (None, False)
    artifact = store.find(committed(tmp_path))
    assert store.find(node) == artifact
    assert store.commit(node, started=time.perf_counter()) is store.find(node)


@pytest.mark.usefixtures("bucket")
def test_a_driver_fetches_what_another_node_wrote_of_an_artifact_that_it_committed(tmp_path):
    """As scores: a task on another host writes them, and the driver commits."""
    read_here = dataclasses.replace(NOTES, driver_files=("**/*.txt",))
    with node_of(tmp_path / "worker"):
        text = make(mirror_of("s3://studies/made"), stage=read_here).folder / "deep" / "b.txt"
        text.parent.mkdir(parents=True)
        text.write_text("world")
        push_folder(text.parents[1])
    with node_of(tmp_path / "driver"):
        node = dataclasses.replace(make(mirror_of("s3://studies/made"), stage=read_here), found={})
        artifact = store.commit(node, started=time.perf_counter())
        assert store.find(node) == artifact
        assert (node.folder / "deep" / "b.txt").read_text() == "world"


def test_the_nodes_of_a_study_share_what_is_found(tiny):
    graph = StudyGraph(load_study(tiny.config), tiny.config)
    assert all(node.found is graph.found for node in graph.all())


def test_files_of_a_folder_are_listed_with_their_sizes(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("12")
    (tmp_path / "b").symlink_to(tmp_path / "deep" / "a")
    (tmp_path / "lost").symlink_to(tmp_path / "nothing")
    assert listed_sizes(tmp_path) == {"deep/a": 2, "b": 2}
    assert listed_sizes(tmp_path / "nothing") == {}


def test_a_folder_without_a_record_is_not_an_artifact(tmp_path):
    node = committed(tmp_path)
    (node.folder / Artifact.FILE).unlink()
    assert (node.folder / "a.txt").exists()
    assert store.find(node) is None


def refused(node: Node, match: str) -> str:
    with pytest.raises(ArtifactError, match=match) as error:
        store.find(node)
    assert str(node.folder) in error.value.fix
    return str(error.value)


def test_a_record_with_another_fingerprint_is_refused(tmp_path):
    node = committed(tmp_path)
    path = node.folder / Artifact.FILE
    path.write_text(path.read_text().replace(node.fingerprint, "f" * 64))
    message = refused(node, "holds fingerprint ffffffffffff, its name and inputs say")
    assert node.fingerprint[:12] in message


def test_a_missing_file_is_refused(tmp_path):
    node = committed(tmp_path)
    (node.folder / "deep" / "b.txt").unlink()
    refused(node, r"deep/b\.txt: missing, but its manifest names it")


def test_a_file_of_another_size_is_refused(tmp_path):
    node = committed(tmp_path)
    (node.folder / "a.txt").write_text("hello!")
    refused(node, r"a\.txt: 6 bytes, but its manifest says 5")


def test_a_record_that_is_cut_is_refused(tmp_path):
    node = committed(tmp_path)
    path = node.folder / Artifact.FILE
    path.write_text(path.read_text()[:100])
    refused(node, "not an artifact record")


def test_a_record_of_the_stage_that_was_edited_is_refused(tmp_path):
    class Count(Record):
        FILE = "count.json"
        amount: int

    stage = dataclasses.replace(NOTES, record=Count, files=("count.json",))
    node = make(tmp_path, stage=stage)
    node.folder.mkdir(parents=True)
    (node.folder / "count.json").write_text('{"amount": 17}')
    store.commit(node, started=time.perf_counter())
    assert store.load(node).amount == 17
    (node.folder / "count.json").write_text('{"amount": xx}')
    with pytest.raises(ArtifactError, match=r"count\.json: not what the stage notes writes: ") as caught:
        store.load(node)
    assert caught.value.fix == f"delete {node.folder} and re-run the same command"


def test_a_root_that_can_be_written_is_made_and_left_empty(tmp_path):
    store.require_writable(tmp_path / "new" / "root")
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_a_root_that_cannot_be_written_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="file/root: cannot be written: Not a directory") as error:
        store.require_writable(tmp_path / "file" / "root")
    assert "set study.root to a folder that this user can write to" in error.value.fix


@pytest.mark.parametrize("root", ["runs/x", ".", "../other/runs"])
def test_a_root_in_rays_copy_of_a_jobs_folder_is_refused(tmp_path, monkeypatch, root):
    unpacked = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_12ab" / "deep"
    unpacked.mkdir(parents=True)
    monkeypatch.chdir(unpacked)
    with pytest.raises(ConfigError, match=r"Ray's copy of the job's working directory.*\n  fix: set study.root"):
        store.resolve_root(root)
    assert store.resolve_root(str(tmp_path / "runs")) == tmp_path / "runs"


def test_a_relative_root_elsewhere_starts_at_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "working_dir_files").mkdir()
    monkeypatch.chdir(tmp_path / "working_dir_files")
    assert store.resolve_root("runs") == tmp_path / "working_dir_files" / "runs"
