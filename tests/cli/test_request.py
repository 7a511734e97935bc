"""A verb's request lists what would be made, and names the next verb."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.request import Request
from cpt_ray.config.load import load_study
from cpt_ray.study.stages.scans.scan import SCAN
from tests.cli.said import would


@pytest.fixture
def request_(tiny):
    return Request(load_study(tiny.config), tiny.config, TerminalConsole(), dry_run=True)


def test_only_the_verbs_asked_for_are_listed(request_, tiny, capsys):
    request_.say_dry_run("evaluate")
    text = capsys.readouterr().out
    assert {name.split("/")[0] for name in would(text, "make")} == {"evaluate"}
    assert text.splitlines()[-1] == f"dry run: nothing was changed under {tiny.root}"


def test_one_stage_alone_can_be_listed(request_, capsys):
    request_.say_dry_run("prepare", only=SCAN)
    assert would(capsys.readouterr().out, "make") == {"scan/tiny"}


def test_the_next_verb_is_named_with_the_study_file(request_, tiny, capsys):
    request_.next_verb("plan")
    assert capsys.readouterr().out == f"next: cpt-ray plan {tiny.config}\n"


def test_the_next_verb_is_named_with_the_root_if_that_was_named(tiny, capsys):
    config = load_study(tiny.config)
    Request(config, tiny.config, TerminalConsole(), dry_run=False, root="s3://bucket/a study").next_verb("report")
    assert capsys.readouterr().out == "next: cpt-ray report 's3://bucket/a study'\n"


@pytest.mark.parametrize("folder", ["a b", "a#b", "100%", "what?", "[x]", "caf\u00e9", "it's", "$HOME", "~"])
def test_the_next_command_can_be_pasted_into_a_shell(tiny, tmp_path, capsys, folder):
    path = tmp_path / folder / "study.yaml"
    path.parent.mkdir()
    shutil.copy(tiny.config, path)
    overrides = ("train.budgets=[1k, 2k]", "sources.law.path=a*b.jsonl")
    Request(load_study(path), path, TerminalConsole(), dry_run=False, overrides=overrides).next_verb("plan")
    pasted = capsys.readouterr().out.removeprefix("next: ").strip()
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {pasted}"], capture_output=True, text=True, check=True).stdout
    assert words.splitlines() == ["cpt-ray", "plan", str(path), *overrides]
