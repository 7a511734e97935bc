"""Results, progress and warnings go where people and shells look for them."""

from __future__ import annotations

import io
import sys
import time

import pytest

from cpt_ray.cli.console import TerminalConsole


def test_results_are_on_stdout_and_warnings_on_stderr(capsys):
    console = TerminalConsole()
    console.say("a result")
    console.step("made something")
    console.warn("look at this")
    captured = capsys.readouterr()
    assert captured.out == "a result\nmade something\n"
    assert captured.err == "  warning: look at this\n"


def test_quiet_leaves_results_and_warnings(capsys):
    console = TerminalConsole(quiet=True)
    console.say("a result")
    console.step("made something")
    console.progress("1 %")
    console.warn("look at this")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "  warning: look at this\n")


def test_progress_in_a_log_comes_every_ten_seconds_only(capsys, monkeypatch):
    console = TerminalConsole()
    for now, text in ((1000.0, "1 %"), (1005.0, "2 %"), (1010.0, "3 %")):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        console.progress(text)
    assert capsys.readouterr().err == "1 %\n3 %\n"


@pytest.mark.parametrize("follow", ["say", "warn"])
def test_progress_on_a_terminal_replaces_itself_and_is_gone_before_the_next_line(capsys, monkeypatch, follow):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "10")
    console = TerminalConsole()
    console.progress("a long line of progress")
    console.progress("2 %")
    getattr(console, follow)("text")
    getattr(console, follow)("more")
    written = capsys.readouterr().err
    assert written.startswith("\r\x1b[2Ka long li\r\x1b[2K2 %\r\x1b[2K")  # cut, so that it never wraps
    assert written.count("\x1b[2K") == 3


def test_a_redrawn_result_clears_a_terminal_and_follows_the_one_before_elsewhere(capsys, monkeypatch):
    console = TerminalConsole()
    console.redraw("one")
    console.redraw("two")
    assert capsys.readouterr().out == "one\ntwo\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console = TerminalConsole()
    console.progress("waiting")
    console.redraw("\x1b[2Jthree")
    captured = capsys.readouterr()
    assert captured.out == "\x1b[H\x1b[2J\\x1b[2Jthree\n"  # its own escapes only
    assert captured.err.endswith("\r\x1b[2K")


ESCAPE, SHOWN = "a \x1b]0;owned\x07 \u202eb https://me:SECRET@host/x", r"a \x1b]0;owned\x07 \u202eb https://***@host/x"


@pytest.mark.parametrize("way", ["say", "step", "warn", "progress"])
def test_no_way_of_printing_lets_control_characters_or_credentials_through(capsys, way):
    getattr(TerminalConsole(), way)(ESCAPE)
    captured = capsys.readouterr()
    assert SHOWN in captured.out + captured.err
    assert "\x1b" not in captured.out + captured.err


def test_a_locale_without_the_character_shows_its_code(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    TerminalConsole().say("caf\u00e9 \u4e2d")
    assert written.getvalue() == b"caf\\xe9 \\u4e2d\n"
