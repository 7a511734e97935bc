"""The demo, whose study file is part of the package."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from cpt_ray.cli.verbs.around.demo import STUDY
from tests.integration.tiny_study import REPOSITORY


def test_its_study_is_that_of_the_checkout():
    assert STUDY.read_text("utf-8") == (REPOSITORY / "configs" / "demo.yaml").read_text("utf-8")


def test_it_runs_the_study_with_overrides(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["demo", "study.seeds=[3]", "--dry-run"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "  make   train/smollm2-135m-legal-24000-seed3" in said
    assert "dry run: nothing was changed under runs/demo" in said
    assert not (tmp_path / "runs").exists()


def test_a_wrong_override_ends_with_the_exit_code_of_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["demo", "train.learnin_rate=1"])
    assert end.value.code == 2
    assert "learning_rate" in capsys.readouterr().err
