"""Questions are read once, and only settings that shape them are in their address."""

from __future__ import annotations

import json
import shutil

import pytest

from cpt_ray.records import ExamItem
from cpt_ray.study.stages.exams import EXAMS
from tests.integration.tiny_study import exam_items
from tests.study.planned import BareSession, graph_of


def exam(tiny, **changes):
    return {"name": "tiny_exam", "path": str(tiny.inputs / "exam.jsonl"), "label": "made-up questions", **changes}


def address(tiny, **changes):
    tiny.change(evaluate={"exams": [exam(tiny, **changes)]})
    return graph_of(tiny).one(EXAMS).fingerprint


def test_every_question_is_written_with_its_answer(tiny):
    graph = graph_of(tiny)
    node = graph.one(EXAMS)
    EXAMS.build([node], BareSession(graph.root))
    items = [json.loads(line) for line in (node.folder / ExamItem.FILE).read_text().splitlines()]
    expected = {(item["question"], item["answer"]) for item in exam_items()}
    assert {(item["question"], item["answer"]) for item in items} == expected
    assert {item["task"] for item in items} == {"tiny_exam"}


def test_a_study_without_exams_has_no_such_artifact(tiny):
    tiny.change(evaluate={})
    assert graph_of(tiny).of(EXAMS) == []


def test_neither_label_nor_folder_moves_the_items(tiny):
    before = address(tiny)
    assert address(tiny, label="another label") == before
    elsewhere = shutil.copytree(tiny.inputs, tiny.inputs.parent / "elsewhere") / "exam.jsonl"
    assert address(tiny, path=str(elsewhere)) == before


@pytest.mark.parametrize("changes", [{"limit": 4}, {"name": "renamed"}])
def test_what_shapes_the_items_moves_them(tiny, changes):
    assert address(tiny, **changes) != address(tiny)
