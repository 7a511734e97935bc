"""A verb's request lists what would be made, and names the next verb."""

from __future__ import annotations

import pytest

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.request import Request
from cpt_ray.config.load import load_study
from cpt_ray.study.stages.scan import SCAN
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
