"""Everything is hashed again, and problems are named with their location; the stages' checks follow the hashes."""

from __future__ import annotations

import os

import pytest

from cpt_ray.study import store
from cpt_ray.study.inspect.verify import verify_study
from cpt_ray.study.stages.shards import SHARDS
from tests.study.planned import graph_of

pytestmark = pytest.mark.ray


@pytest.fixture
def graph(prepared_study, tmp_path):
    return graph_of(prepared_study.copy(tmp_path / "study"))


def problems(checked):
    return {found.name: [error.problem for error in found.problems] for found in checked if found.problems}


def test_all_that_was_built_is_checked_in_order_and_told_as_it_is_done(graph):
    told = []
    checked = verify_study(graph, told.append)
    assert told == checked
    built = [node.label for node in graph.all() if store.exists(node)]
    assert [found.name for found in checked if not found.is_input] == built
    assert {found.name for found in checked if found.is_input} == {"base of tiny", "raw files of law", "raw files of news"}
    assert problems(checked) == {}
    assert built
    assert not any(label.startswith("train/") for label in built)


def test_each_wrong_file_is_named_and_its_stage_is_not_asked_on_top(graph):
    node = graph.one(SHARDS)
    wrong = sorted(node.folder.rglob("*.arrow"))[:2]
    for path in wrong:
        stat = path.stat()
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = problems(verify_study(graph, lambda _: None))
    assert set(found) == {node.label}
    assert len(found[node.label]) == 2
    assert all(any(str(path) in text for text in found[node.label]) for path in wrong)


def test_a_record_that_cannot_be_read_is_a_finding(graph):
    node = graph.one(SHARDS)
    (node.folder / "artifact.json").write_text("{")
    (text,) = problems(verify_study(graph, lambda _: None))[node.label]
    assert "not an artifact record" in text
