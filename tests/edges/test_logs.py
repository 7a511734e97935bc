"""A process's log reaches its file, and each warning is reported once."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from cpt_ray.edges import logs
from cpt_ray.edges.logs import log_to, rank_log, tell_warnings

LOGGER = logging.getLogger("cpt_ray.somewhere")


@pytest.fixture(autouse=True)
def locations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    monkeypatch.setattr(logs, "LOCATIONS", found)
    return found


def test_information_goes_to_the_file_and_a_warning_is_told_as_well(tmp_path: Path, locations: list[Path]) -> None:
    told: list[str] = []
    path = rank_log(tmp_path, 3)
    with log_to(path, told.append):
        LOGGER.info("begun")
        LOGGER.warning("the disk of %s is full", "node-1")
        LOGGER.warning("the disk of %s is full", "node-1")
    LOGGER.warning("after the end")
    assert told == ["the disk of node-1 is full"]
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "logs" / "rank-00003.log"
    assert "INFO cpt_ray.somewhere: begun" in text
    assert text.count("WARNING cpt_ray.somewhere: the disk of node-1 is full") == 2
    assert "after the end" not in text
    assert locations == [path]


def test_what_libraries_warn_of_is_told_without_the_line_of_code_and_deprecations_are_only_logged(tmp_path: Path) -> None:
    told: list[str] = []
    with warnings.catch_warnings(), log_to(tmp_path / "a.log", told.append):
        warnings.simplefilter("always")
        warnings.warn("rows are idle", stacklevel=1)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
        warnings.warn("will change", FutureWarning, stacklevel=1)
    assert told == ["rows are idle"]
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert "old name" in text
    assert "will change" in text


def test_of_nested_logs_the_inner_one_tells_and_both_files_have_it(tmp_path: Path) -> None:
    outer: list[str] = []
    inner: list[str] = []
    with log_to(tmp_path / "driver.log", outer.append):
        with log_to(tmp_path / "rank.log", inner.append):
            LOGGER.warning("here")
        LOGGER.warning("there")
    assert (outer, inner) == (["there"], ["here"])
    assert "here" in (tmp_path / "driver.log").read_text(encoding="utf-8")
    assert "there" not in (tmp_path / "rank.log").read_text(encoding="utf-8")


def test_a_library_that_prints_by_itself_is_heard_and_printed_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    theirs, handler = logging.getLogger("DeepSpeed"), logging.StreamHandler()
    before = (theirs.handlers, theirs.propagate)
    theirs.handlers, theirs.propagate = [handler], False
    told: list[str] = []
    try:
        with tell_warnings(told.append):
            theirs.warning("cannot detect an accelerator")
        assert told == ["cannot detect an accelerator"]
        assert capsys.readouterr().err == ""
        assert (theirs.handlers, theirs.propagate) == ([handler], False)
    finally:
        theirs.handlers, theirs.propagate = before


def test_many_different_warnings_end_with_a_word_about_the_log() -> None:
    told: list[str] = []
    with tell_warnings(told.append):
        for number in range(50):
            LOGGER.warning("number %d", number)
    assert len(told) == 21
    assert told[-1] == "more than 20 different warnings; the rest are in the log only"


def test_a_log_file_holds_no_control_characters_and_no_credentials(tmp_path):
    told = []
    with log_to(tmp_path / "a.log", told.append):
        logging.getLogger("x").warning("read %s", "https://me:SECRET@host/x?sig=SECRET \x1b[2J\u202e")
        try:
            raise ValueError("https://me:SECRET@host \x1b]0;owned\x07")
        except ValueError:
            logging.getLogger("x").exception("failed")
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert "Traceback" in text
    assert r"\x1b]0;owned\x07" in text
    assert told[0] == r"read https://***@host/x?sig=*** \x1b[2J\u202e"
    for shown in (text, *told):
        assert "SECRET" not in shown
        assert "\x1b" not in shown
