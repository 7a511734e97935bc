"""A study's status, from Python as from the command line."""

from __future__ import annotations

from cpt_ray import Study
from cpt_ray.cli.main import main
from tests.cli.said import said
from tests.study.live.status.made_up_root import make_root


def test_python_says_what_the_command_line_says_and_returns_it(tiny, capsys):
    status = Study.load(tiny.config).status()
    assert capsys.readouterr().out == said(capsys, "status", str(tiny.config))
    assert (status.state, status.runs) == ("never started", ())
    assert not tiny.root.exists()


def test_the_root_is_that_of_the_overrides(tiny, tmp_path, capsys):
    root = make_root(tmp_path / "runs", released=True, outcome="done")
    status = Study.load(tiny.config, {"study.root": str(root)}).status()
    assert status.state in ("finished", "stopped")
    assert status.root == str(root)
    assert main(["status", str(root)]) == 0
    assert status.study in capsys.readouterr().out
