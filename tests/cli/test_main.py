"""The command line itself: verbs, exit codes, dry runs, the next verb and prerequisites."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

import pytest

from cpt_ray.cli.catalog import VERBS
from cpt_ray.cli.main import main, program
from cpt_ray.cli.verbs.make import run as run_verb
from cpt_ray.cli.verbs.make import train as train_verb
from cpt_ray.config.load import load_study
from cpt_ray.edges.lease import FILE, read_lease
from cpt_ray.records import KnownInputs
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.store import STUDY_FILE, study_text
from cpt_ray.study.study import StudyDriver
from tests.cli.said import said, would
from tests.object_store import node


def test_help_lists_every_verb_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert list(VERBS) == [
        "check",
        "plan",
        "fetch-tasks",
        "prepare",
        "train",
        "evaluate",
        "compare",
        "report",
        "run",
        "extend",
        "export",
        "inspect",
        "trace",
        "verify",
        "status",
        "logs",
        "doctor",
        "demo",
        "fetch",
        "init",
        "schema",
        "completion",
    ]
    for verb in VERBS:
        assert len([line for line in text.splitlines() if line.split()[:1] == [verb]]) == 1, verb
        assert f" {verb} {VERBS[verb].summary}" in " ".join(text.split())
    assert "Exit codes: 0 done, 2 a problem you can fix" in " ".join(text.split())


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"]])
def test_a_command_that_is_none_ends_with_code_two_and_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: cpt-ray" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("cpt-ray 0.")


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate", "compare", "report", "run"])
def test_a_dry_run_of_a_new_study_lists_what_would_be_made_and_makes_nothing(tiny, capsys, verb):
    text = said(capsys, verb, str(tiny.config), "--dry-run")
    assert "  make   " in text
    assert "  reuse  " not in text
    assert f"dry run: nothing was changed under {tiny.root}" in text
    assert not tiny.root.exists()


def test_a_verb_that_only_looks_has_no_dry_run(tiny, capsys):
    for verb in ("plan", "check", "verify"):
        with pytest.raises(SystemExit, match="2"):
            main([verb, str(tiny.config), "--dry-run"])
        assert "unrecognized arguments: --dry-run" in capsys.readouterr().err


@pytest.mark.ray
def test_a_dry_run_of_a_prepared_study_says_what_would_be_reused_and_changes_nothing(prepared, capsys):
    before = prepared.files()
    assert len(before) > 30
    for verb in ("check", "plan"):
        said(capsys, verb, str(prepared.config))
        assert prepared.files() == before, verb
    for verb in ("prepare", "train", "evaluate", "compare", "report", "run"):
        said(capsys, verb, str(prepared.config), "--dry-run")
        assert prepared.files() == before, verb
    text = said(capsys, "run", str(prepared.config), "--dry-run")
    assert would(text, "reuse") == {"models/tiny", "exams/tiny", "scan/tiny", "documents/tiny", "held_out/tiny", "shards/tiny"}
    assert {"train/tiny-legal-4000-seed0", "evaluate/tiny-base"} <= would(text, "make")
    text = said(capsys, "run", str(prepared.config), "prepare.pack.sequence_length=32", "--dry-run")
    assert "shards/tiny" in would(text, "make")
    assert "documents/tiny" in would(text, "reuse")


@pytest.mark.ray
def test_each_verb_works_on_what_the_one_before_left_and_says_which_is_next(prepared, capsys):
    overrides = ("train.budgets=[2000]", "evaluate.exams=[]", "prepare.decontaminate.enabled=false")
    config = str(prepared.config)
    same = shlex.join((config, *overrides))
    assert said(capsys, "check", config, *overrides).splitlines()[-1] == f"next: cpt-ray plan {same}"
    assert said(capsys, "plan", config, *overrides).splitlines()[-1] == f"next: cpt-ray run {same}"
    for verb, then in (("prepare", "train"), ("train", "evaluate"), ("evaluate", "report"), ("compare", "report")):
        text = said(capsys, verb, config, *overrides)
        assert text.splitlines()[-1] == f"next: cpt-ray {then} {same}", verb
        assert str(prepared.root) in text, verb
    text = said(capsys, "report", config, *overrides)
    assert f"report:  {prepared.root / 'report.html'}" in text


def test_an_interrupt_ends_with_code_130_says_how_to_go_on_and_releases_the_study(tiny, capsys, monkeypatch):
    def interrupted(study, verb):
        assert not read_lease(tiny.root / FILE).released
        raise KeyboardInterrupt

    monkeypatch.setattr(StudyDriver, "make", interrupted)
    text = said(capsys, "run", str(tiny.config), code=130)
    assert "cpt-ray run: interrupted; re-run the same command to resume" in text
    assert read_lease(tiny.root / FILE).released


def test_debug_lets_the_error_through_with_its_traceback(tiny):
    from cpt_ray.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown key"):
        main(["check", str(tiny.config), "train.nonsense=1", "--debug"])


@pytest.mark.parametrize(
    ("arguments", "before", "restarts"),
    [
        (["train"], {}, True),
        (["run"], {}, True),
        (["run", "runtime.kind=ray"], {}, False),  # its workers are started with these settings
        (["run", "runtime.recycle_memory=false"], {}, False),
        (["run"], {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}, False),  # the user's setting
        (["run", "--dry-run"], {}, False),
        (["check"], {}, False),
    ],
)
def test_training_here_starts_anew_with_its_allocator_settings(tiny, monkeypatch, capsys, arguments, before, restarts):
    class RestartedError(Exception):
        pass

    def instead(program, command, environment):
        raise RestartedError(command, environment)

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "execve", instead)
    monkeypatch.setattr(run_verb, "main", lambda request: None)
    monkeypatch.setattr(train_verb, "main", lambda request: None)
    verb, *rest = arguments
    command = ["cpt-ray", verb, str(tiny.config), *rest]
    monkeypatch.setattr(sys, "argv", command)
    if not restarts:
        assert program() == 0
        return
    with pytest.raises(RestartedError) as restarted:
        program()
    started, environment = restarted.value.args
    assert started == [sys.executable, "-m", "cpt_ray.cli.main", *command[1:]]
    assert environment["GLIBC_TUNABLES"].startswith("glibc.malloc.hugetlb=1")
    monkeypatch.setattr(os, "environ", dict(environment))
    assert program() == 0  # the replacement process; it restarts only once
    assert "GLIBC_TUNABLES" not in os.environ


def test_what_shows_results_takes_a_root_whose_study_file_and_inputs_are_gone(tiny, capsys):
    graph = StudyGraph(load_study(tiny.config), tiny.config)
    kept = {STUDY_FILE: study_text(graph.config), KnownInputs.FILE: KnownInputs(found=graph.inputs).to_json()}
    tiny.root.mkdir()
    for name, text in kept.items():
        (tiny.root / name).write_text(text)
    expected = would(said(capsys, "report", str(tiny.config), "--dry-run"), "make")
    for folder in (tiny.inputs, tiny.model):
        shutil.rmtree(folder)
    tiny.config.unlink()
    assert would(said(capsys, "report", str(tiny.root), "--dry-run"), "make") == expected != set()
    refused = said(capsys, "compare", str(tiny.root), code=2)
    assert f"has not been built yet under {tiny.root}" in refused
    assert {name: (tiny.root / name).read_text() for name in kept} == kept


def test_a_root_in_a_bucket_does_likewise_on_a_machine_that_has_nothing_else(tiny, bucket, tmp_path, capsys):
    root = "s3://studies/elsewhere/tiny"
    override = f"study.root={root}"
    with node(tmp_path / "cluster"):
        graph = StudyGraph(load_study(tiny.config, (override,)), tiny.config)
        bucket.put(f"elsewhere/tiny/{STUDY_FILE}", study_text(graph.config).encode())
        bucket.put(f"elsewhere/tiny/{KnownInputs.FILE}", KnownInputs(found=graph.inputs).to_json().encode())
        expected = would(said(capsys, "report", str(tiny.config), override, "--dry-run"), "make")
    for folder in (tiny.inputs, tiny.model):
        shutil.rmtree(folder)
    with node(tmp_path / "laptop"):
        assert would(said(capsys, "report", root, "--dry-run"), "make") == expected != set()
        assert "has not been built yet under s3://studies/elsewhere/tiny" in said(capsys, "compare", root, code=2)
        missing = said(capsys, "report", "s3://studies/none", code=2)
        assert "s3://studies/none holds no study: there is no study.yaml" in missing
        bucket.client.delete_object(Bucket="studies", Key=f"elsewhere/tiny/{KnownInputs.FILE}")
    with node(tmp_path / "another laptop"):  # of a root that says nothing, the files are looked up as ever
        assert "fix:" in said(capsys, "report", root, "--dry-run", code=2)


def test_a_folder_that_is_no_root_of_a_study_is_refused(tmp_path, capsys):
    for verb in ("report", "compare"):
        assert f"{tmp_path} holds no study: there is no study.yaml" in said(capsys, verb, str(tmp_path), code=2)
    assert f"{tmp_path}: is a folder, not a study file" in said(capsys, "run", str(tmp_path), code=2)
