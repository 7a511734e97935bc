"""What is scored: each base, each budget and each trajectory point, by name, with the record of the scored run."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.evaluate import harness, suite
from cpt_ray.records import HeldOutRecord, HeldOutSet
from cpt_ray.study import store
from cpt_ray.study.findings.outcome import require_all_scored
from cpt_ray.study.stages.evaluate import EVALUATE, base_run, scored_run
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.train import TRAIN
from tests.evaluate.own_tasks import write_own_tasks, write_task
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK
from tests.integration.tiny_study import document, write_lines
from tests.study.planned import BareSession, graph_of


def test_bases_come_first_then_budgets_then_points_and_a_trunk_is_none_of_them(tiny):
    graph = graph_of(tiny, "train.trajectory_tokens=[1000, 2000]")
    names = [node.name for node in graph.of(EVALUATE)]
    assert names[:4] == [base_run("tiny"), SMALL, LARGE, CONTROL]
    points = [node for node in graph.of(EVALUATE) if node.work.mark is not None]
    assert [node.name for node in points] == names[4:]
    assert {(node.input("subject").name, node.work.mark) for node in points} == {
        (run, mark) for run in (TRUNK, CONTROL) for mark in (1000, 2000)
    }
    assert TRUNK not in names


def test_every_model_is_scored_on_the_same_sets_and_exams(tiny):
    graph = graph_of(tiny)
    for node in graph.of(EVALUATE):
        assert (node.input("held_out"), node.input("exams")) == (graph.one(HELD_OUT), graph.one(EXAMS))
        assert node.work.evaluate == graph.config.evaluate


def test_a_base_is_scored_as_a_run_that_nobody_trained(tiny):
    graph = graph_of(tiny)
    record = scored_run(graph.one(EVALUATE, base_run("tiny")))
    assert (record.run, record.kind, record.tokens_seen, record.training) == ("tiny-base", "base", 0, None)
    assert record.export_path == str(graph.one(MODELS).folder)


def test_a_run_that_is_not_trained_names_the_verb_that_trains_it(tiny):
    with pytest.raises(ConfigError, match=f"train/{SMALL}-.* has not been built yet") as error:
        scored_run(graph_of(tiny).one(EVALUATE, SMALL))
    assert "run cpt-ray train first" in error.value.fix


@pytest.mark.ray
@pytest.mark.slow
def test_a_trained_run_is_scored_by_its_own_record(finished_study):
    graph = graph_of(finished_study.study)
    record = scored_run(graph.one(EVALUATE, LARGE))
    assert record == finished_study.run(LARGE)
    assert record.export_path == str(graph.one(TRAIN, LARGE).folder / "export")


HELD_OUT_TEXT = {("law", "domain", "test"): 0, ("law", "domain", "validation"): 20, ("news", "general", "test"): 40}


def ready(study, *overrides):
    """The scores of a study's bases, whose inputs are made, and a session to score them in."""
    graph = graph_of(study, *overrides)
    session = BareSession(graph.root)
    MODELS.build([node for node in graph.of(MODELS) if not store.exists(node)], session)
    EXAMS.build([node for node in graph.of(EXAMS) if not store.exists(node)], session)
    node = graph.one(HELD_OUT)
    if not store.exists(node):
        with session.building(node):
            sets = []
            for (source, role, part), first in HELD_OUT_TEXT.items():
                rows = [
                    {"identity": f"{source}/{n}", "id": str(n), "text": document("law", n)} for n in range(first, first + 8)
                ]
                write_lines(node.folder / f"{source}-{part}.jsonl", rows)
                held = HeldOutSet(source=source, role=role, part=part, path=f"{source}-{part}.jsonl", documents=8, bytes=1)
                sets.append(held)
            record = HeldOutRecord(sets=tuple(sets), reports=(), task_pids={}, shares={})
            (node.folder / HeldOutRecord.FILE).write_text(record.to_json())
    return [one for one in graph.of(EVALUATE) if one.work.is_base], session


@pytest.fixture
def computed(monkeypatch):
    """The exams and entries that are computed, and `text` for each held-out set."""
    found = []

    def count(place, name, said):
        real = getattr(place, name)

        def counting(*args, **settings):
            found.append(said(*args))
            return real(*args, **settings)

        monkeypatch.setattr(place, name, counting)

    count(suite, "score_documents", lambda *_: "text")
    count(suite, "score_exam", lambda scorer, tokenizer, questions, exam: exam.name)
    count(harness, "score_harness_task", lambda lm, task, config: task.task)
    return found


def test_a_model_is_scored_on_both_halves_and_another_with_equal_content_gets_its_scores(tiny, computed):
    again = f"models=[{{name: tiny, base: {tiny.model}}}, {{name: twin, base: {tiny.model}}}]"
    nodes, session = ready(tiny, again)
    EVALUATE.build(nodes, session)
    assert computed == ["text", "text", "text", "tiny_exam"]
    first, twin = (store.load(node) for node in nodes)
    assert [(score.source, score.part) for score in first.held_out] == [(source, part) for source, _, part in HELD_OUT_TEXT]
    assert (first.run, twin.run, twin.model) == ("tiny-base", "twin-base", "twin")
    assert (twin.held_out, twin.exams) == (first.held_out, first.exams)
    assert f"  {nodes[1].label}: all of it was scored before, of the same content" in session.console.said
    for score in twin.held_out:
        assert (nodes[1].folder / score.documents_path).is_file()


def test_another_confidence_computes_nothing_and_starts_no_ray_and_another_task_is_computed_alone(tiny, tmp_path, computed):
    own = write_own_tasks(tmp_path / "tasks")
    [node], session = ready(tiny)
    EVALUATE.build([node], session)
    assert computed == ["text", "text", "text", "tiny_exam"]
    computed.clear()

    [surer], session = ready(tiny, "compare.confidence=0.8", "evaluate.exams.0.label=another")
    session.runtime = RuntimeConfig(kind="ray")
    EVALUATE.build([surer], session)
    assert (computed, session.asked_for_ray) == ([], 0)
    assert surer.folder != node.folder
    one, other = store.load(node).exams[0], store.load(surer).exams[0]
    assert (one.accuracy, one.items_path) == (other.accuracy, other.items_path)
    assert (one.label, other.label) == ("made-up questions", "another")

    [more], session = ready(tiny, f"evaluate.harness_path={own}", "evaluate.harness_tasks=[own_choice]")
    EVALUATE.build([more], session)
    assert computed == ["own_choice"]
    assert [exam.task for exam in store.load(more).exams] == ["tiny_exam", "own_choice"]


def test_a_task_that_fails_leaves_whole_scores_behind_and_is_all_that_the_next_command_computes(tiny, tmp_path, computed):
    own = write_own_tasks(tmp_path / "tasks")
    answer = tmp_path / "answer"
    # What the task needs is outside of its files, as a server would be: they stay the same, and so do their keys.
    (own / "judge.py").write_text(
        f"from pathlib import Path\n\n\ndef of(doc, results):\n    if not Path({str(answer)!r}).exists():\n"
        "        raise ZeroDivisionError('nobody knows')\n    return {'acc': float(results[0][1])}\n"
    )
    form = {"doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "output_type": "loglikelihood"}
    write_task(own, "own_raising", [{"q": "it", "a": "it is said"}], process_results="judge", **form)
    path = own / "own_raising.yaml"
    path.write_text(path.read_text().replace("process_results: judge", "process_results: !function judge.of"))
    tasks = (f"evaluate.harness_path={own}", "evaluate.harness_tasks=[own_raising, own_choice]")

    [node], session = ready(tiny, *tasks)
    EVALUATE.build([node], session)
    record = store.load(node)
    assert [one.reason for one in record.failed] == ["ZeroDivisionError: nobody knows"]
    assert [exam.task for exam in record.exams] == ["tiny_exam", "own_choice"]
    assert len(record.held_out) == 3
    assert store.exists(node)
    assert not store.is_whole(node)
    with pytest.raises(CptRayError, match="own_raising was not scored on tiny-base: ZeroDivisionError: nobody knows;") as said:
        require_all_scored(SimpleNamespace(evaluations=lambda: [record]))
    assert said.value.exit_code == 2
    assert said.value.fix.endswith("then run the same command again: it scores only what failed")
    computed.clear()
    EVALUATE.build([node], session)
    assert computed == ["own_raising"]  # fails again, and keeps the rest again
    assert store.load(node).exams == record.exams
    computed.clear()

    answer.touch()
    [node], session = ready(tiny, *tasks)
    assert not store.is_whole(node)
    EVALUATE.build([node], session)
    assert computed == ["own_raising"]
    assert store.load(node).failed == ()
    require_all_scored(SimpleNamespace(evaluations=lambda: [store.load(node)]))
    assert [exam.task for exam in store.load(node).exams] == ["tiny_exam", "own_raising", "own_choice"]
    assert store.is_whole(node)


def test_scores_that_were_edited_by_hand_are_computed_again(tiny, computed):
    [node], session = ready(tiny)
    EVALUATE.build([node], session)
    computed.clear()
    [kept] = graph_of(tiny).root.glob("scored/*/exams/tiny_exam.jsonl")
    kept.write_text(kept.read_text().replace('"accuracy": 1.0', '"accuracy": 0.0', 1))
    shutil.rmtree(node.folder)
    EVALUATE.build([node], session)
    assert computed == ["tiny_exam"]
