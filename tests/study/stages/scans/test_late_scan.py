"""Exams added later are searched for in packed text, without repacking."""

from __future__ import annotations

from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.scans.late_scan import LATE_SCAN
from cpt_ray.study.stages.scans.scan import SCAN, late_name
from cpt_ray.study.stages.shards import SHARDS
from tests.study.planned import graph_of

LATER = ("evaluate.harness_tasks=[piqa]", "prepare.decontaminate.tasks=[tiny_exam]")


def test_there_is_none_where_everything_was_scanned_for(tiny):
    assert graph_of(tiny).of(LATE_SCAN) == []


def test_every_models_shards_are_looked_through_for_the_late_items(tiny):
    tiny.change(models=[{"name": name, "base": str(tiny.model)} for name in ("one", "two")])
    before, after = graph_of(tiny, "prepare.decontaminate.tasks=[tiny_exam]"), graph_of(tiny, *LATER)
    assert [node.name for node in after.of(LATE_SCAN)] == ["one", "two"]
    for node in after.of(LATE_SCAN):
        assert node.input("shards") is after.one(SHARDS, node.name)
        assert node.input("documents") is after.one(DOCUMENTS)
        assert node.input("exams") is after.one(SCAN, late_name(after))
    assert [node.fingerprint for node in before.of(SHARDS)] == [node.fingerprint for node in after.of(SHARDS)]
