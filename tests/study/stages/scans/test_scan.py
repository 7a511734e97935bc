"""Which exams are scanned for before packing, and which are searched for in text that is already packed."""

from __future__ import annotations

import json

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.records import ExamItem
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.scans.scan import SCAN, early_name, late_name, scanned_before, scanned_late
from tests.study.planned import BareSession, graph_of


@pytest.mark.parametrize(
    ("overrides", "before", "late"),
    [
        ((), {"tiny_exam"}, set()),
        (("evaluate.harness_tasks=[piqa]",), {"tiny_exam", "piqa"}, set()),
        (("evaluate.harness_tasks=[piqa]", "prepare.decontaminate.tasks=[tiny_exam]"), {"tiny_exam"}, {"piqa"}),
        (("evaluate.harness_tasks=[piqa]", "prepare.decontaminate.tasks=[piqa]"), {"piqa"}, {"tiny_exam"}),
        (("prepare.decontaminate.tasks=[sciq]",), {"sciq"}, {"tiny_exam"}),  # an unscored task may be scanned for
        (("prepare.decontaminate.tasks=[]",), set(), {"tiny_exam"}),
        (("evaluate.harness_tasks=[piqa]", "prepare.decontaminate.enabled=false"), set(), set()),
    ],
)
def test_everything_scored_is_scanned_for_once_unless_scanning_is_off(tiny, overrides, before, late):
    config = load_study(tiny.config, overrides)
    found = [
        {*(exam.name for exam in scanned.exams), *scanned.tasks} for scanned in (scanned_before(config), scanned_late(config))
    ]
    assert found == [before, late]
    graph = graph_of(tiny, *overrides)
    names = {name for name, wanted in ((early_name(graph), before), (late_name(graph), late)) if wanted}
    assert {node.name for node in graph.of(SCAN)} == names


def test_the_items_are_those_of_the_exam_and_an_artifact_apart_from_it(tiny):
    graph = graph_of(tiny)
    session = BareSession(graph.root)
    for stage in (EXAMS, SCAN):
        stage.build(graph.of(stage), session)
    exam, scan = (
        [json.loads(line) for line in (graph.one(stage).folder / ExamItem.FILE).read_text().splitlines()]
        for stage in (EXAMS, SCAN)
    )
    assert exam == scan
    assert len(exam) == 8
    assert graph.one(EXAMS).fingerprint != graph.one(SCAN).fingerprint


def test_the_tasks_of_a_local_harness_folder_are_part_of_the_address_only_where_they_are_scanned_for(tiny, tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "mine.yaml").write_text("task: mine")
    overrides = (f"evaluate.harness_path={folder}", "evaluate.harness_tasks=[mine]")
    before = graph_of(tiny, *overrides).one(SCAN)
    only_exams = graph_of(tiny, *overrides, "prepare.decontaminate.tasks=[tiny_exam]").one(SCAN, "tiny")
    assert "harness_path" in before.inputs
    assert "harness_path" not in only_exams.inputs
    (folder / "mine.yaml").write_text("task: mine\nmetric: acc")
    assert graph_of(tiny, *overrides).one(SCAN).fingerprint != before.fingerprint
