"""Which study an argument means, and the nearest one where it is none."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from tests.study.live.status.made_up_root import (
    make_root,
)


def test_a_folder_that_is_no_study_names_the_nearest_one(tmp_path, capsys, monkeypatch):
    make_root(tmp_path / "a" / "b" / "study")
    monkeypatch.chdir(tmp_path)
    assert main(["status", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert f"cpt-ray status: {tmp_path / 'a'} holds no study: there is no study.yaml in it" in error
    assert "fix: give the nearest study: a/b/study" in error
    assert main(["status", str(tmp_path / "a" / "b" / "study" / "train")]) == 2
    assert f"there is no file or folder {tmp_path}" in capsys.readouterr().err
    (tmp_path / "a" / "b" / "study" / "train").mkdir()
    assert main(["status", str(tmp_path / "a" / "b" / "study" / "train")]) == 2
    assert "fix: give the nearest study: a/b/study" in capsys.readouterr().err


def test_where_no_study_is_near_that_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["status", str(tmp_path / "empty")]) == 2
    assert "or its study file; there is none above or below this folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("", "expected the path of a folder"),
        ("http://x/y", "artifacts are written"),
        ("x" * 300, "File name too long\n  fix: give a study's root, or its study file"),
    ],
)
def test_what_can_be_no_root_is_refused(argument, said, capsys):
    assert main(["status", argument]) == 2
    assert said in capsys.readouterr().err
