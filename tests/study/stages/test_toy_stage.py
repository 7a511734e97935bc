"""A stage is one value: a toy stage is built, reused, rebuilt after a change, verified and listed like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.records import Record
from cpt_ray.study import graph, store
from cpt_ray.study.inputs import listing
from cpt_ray.study.inspect.verify import verify_study
from cpt_ray.study.stages.stage import Checked, Planned, Stage, one_by_one
from cpt_ray.study.study import StudyDriver
from tests.study.planned import Lines


# The toy stage: everything a new stage needs.
class LetterCount(Record):
    FILE = "letters.json"
    letters: int


def plan(graph):
    path = graph.config.sources[0].path[0]
    yield Planned("law", inputs={"law": listing(path)}, settings={"seed": graph.config.prepare.seed}, work=path)


def build(node, _session):
    (node.folder / LetterCount.FILE).write_text(json.dumps({"letters": len(Path(node.work).read_text())}))


LETTERS = Stage("letters", 1, "prepare", plan, one_by_one(build), LetterCount, files=("*.json",))


def open_study(tiny, *overrides, stages=(LETTERS,)):
    return StudyDriver(load_study(tiny.config, overrides), tiny.config, Lines(), stages=stages)


def made(study):
    """Build the stage and return the console output."""
    with study:
        study.make_stage(LETTERS)
    return study.console.said


def test_it_is_built_and_then_reused(tiny):
    study = open_study(tiny)
    node = study.graph.one(LETTERS)
    assert made(study) == [f"  made    {node.label}  in 0 s"]
    assert store.load(node).letters == (tiny.inputs / "law.jsonl").stat().st_size
    again = open_study(tiny)
    assert made(again) == [f"  reused  {node.label}  (made in 0 s)"]


def test_it_is_rebuilt_after_a_changed_setting_or_input_and_after_nothing_else(tiny):
    before = open_study(tiny)
    made(before)
    folder = before.graph.one(LETTERS).folder
    assert made(open_study(tiny, "prepare.pack.sequence_length=128"))[0].startswith("  reused")
    other = open_study(tiny, "prepare.seed=7")
    assert made(other)[0].startswith("  made")
    assert other.graph.one(LETTERS).folder != folder
    with (tiny.inputs / "law.jsonl").open("a") as stream:
        stream.write(json.dumps({"id": "new", "text": "One more."}) + "\n")
    grown = open_study(tiny)
    assert made(grown)[0].startswith("  made")
    assert store.load(grown.graph.one(LETTERS)).letters > store.load(before.graph.one(LETTERS)).letters


def test_it_is_verified_by_its_hashes_and_by_what_it_checks_itself(tiny):
    study = open_study(tiny)
    made(study)
    node = study.graph.one(LETTERS)
    assert [checked.problems for checked in verify_study(study.graph, lambda _: None)] == [()]
    (node.folder / LetterCount.FILE).write_text(
        json.dumps({"letters": 1}).ljust((node.folder / LetterCount.FILE).stat().st_size)
    )
    problems = [problem.problem for checked in verify_study(study.graph, lambda _: None) for problem in checked.problems]
    assert len(problems) == 1
    assert "letters.json" in problems[0]


def test_what_a_stage_checks_itself_is_part_of_verify(tiny):
    def count_again(node):
        yield Checked("letters counted again", f"{store.load(node).letters} letters", ())

    stage = Stage("letters", 1, "prepare", plan, one_by_one(build), LetterCount, ("*.json",), verify=count_again)
    study = open_study(tiny, stages=(stage,))
    with study:
        study.make_stage(stage)
    assert [checked.name for checked in verify_study(study.graph, lambda _: None)][1:] == ["letters counted again"]


def test_a_stage_that_cannot_be_built_is_refused_before_an_earlier_one_is(tiny):
    def refuse(node):
        raise ConfigError("too few letters", fix="add some")

    later = Stage("later", 1, "prepare", plan, one_by_one(build), LetterCount, ("*.json",), early_check=refuse)
    study = open_study(tiny, stages=(LETTERS, later))
    with study, pytest.raises(ConfigError, match="too few letters"):
        study.make("prepare")
    assert not store.exists(study.graph.one(LETTERS))


def test_a_check_that_has_no_answer_yet_is_asked_again_before_each_stage(tiny):
    asked = []

    def check(node):
        asked.append(node.name)
        return store.exists(study.graph.one(LETTERS))

    later = Stage("later", 1, "evaluate", plan, one_by_one(build), LetterCount, ("*.json",), early_check=check)
    first = Stage("letters", 1, "evaluate", plan, one_by_one(build), LetterCount, ("*.json",))
    last = Stage("last", 1, "evaluate", plan, one_by_one(build), LetterCount, ("*.json",))
    study = open_study(tiny, stages=(first, later, last))
    with study:
        study.make("evaluate")
    assert len(asked) == 2


def test_an_input_of_an_earlier_verb_must_be_there(tiny):
    def plan_later(graph):
        yield Planned("law", inputs={"letters": graph.one(LETTERS)}, settings={}, work=None)

    later = Stage("later", 1, "evaluate", plan_later, one_by_one(build), LetterCount, ("*.json",))
    study = open_study(tiny, stages=(LETTERS, later))
    with study, pytest.raises(ConfigError, match=r"letters/law-.* has not been built yet") as error:
        study.make("evaluate")
    assert "run cpt-ray prepare first" in error.value.fix


def test_a_build_that_fails_leaves_no_artifact_and_is_tried_again(tiny):
    fails = [True]

    def build_later(node, session):
        if fails:
            raise OSError("disk full")
        build(node, session)

    stage = Stage("letters", 1, "prepare", plan, one_by_one(build_later), LetterCount, ("*.json",))
    study = open_study(tiny, stages=(stage,))
    with study, pytest.raises(OSError, match="disk full"):
        study.make_stage(stage)
    assert not store.exists(study.graph.one(stage))
    fails.clear()
    assert made(open_study(tiny))[0].startswith("  made")


def test_the_command_line_lists_it_beside_the_others(tiny, monkeypatch, capsys):
    monkeypatch.setattr(graph, "STAGES", (*graph.STAGES, LETTERS))
    assert main(["prepare", str(tiny.config), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "make   letters/law-" in line]
    assert [line for line in lines if "make   shards/tiny-" in line]
