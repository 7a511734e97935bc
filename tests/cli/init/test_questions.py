"""Options are answers; what is missing is asked for, or named; a real terminal is in `tests/cli/verbs/around/test_init.py`."""

from __future__ import annotations

import io

import pytest

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.init.questions import Questions
from cpt_ray.errors import ConfigError


def read(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"{text!r} is no number", fix="give a number, such as 7")
    return int(text)


def test_an_option_is_read_and_its_error_goes_through():
    ask = Questions(TerminalConsole(), asks=False)
    assert ask.answer("--n", "3", "How many", read) == 3
    with pytest.raises(ConfigError, match="'x' is no number"):
        ask.answer("--n", "x", "How many", read)


def test_where_nobody_can_be_asked_the_option_is_named():
    ask = Questions(TerminalConsole(), asks=False)
    with pytest.raises(ConfigError, match="--n is missing, and this is no terminal, so nobody can be asked") as caught:
        ask.answer("--n", None, "How many", read, default="7")
    assert caught.value.fix == "give --n, or --yes for 7; cpt-ray init --help lists all options"
    assert ask.answer("--n", None, "How many", read, default="7", is_optional=True) == 7


def test_yes_takes_defaults_and_names_what_has_none():
    ask = Questions(TerminalConsole(), asks=True, takes_defaults=True)
    assert ask.answer("--n", None, "How many", read, default="7") == 7
    with pytest.raises(ConfigError, match="PATH is missing, and --yes has no default for it"):
        ask.answer("PATH", None, "Your text", read)


def test_a_wrong_answer_is_explained_and_asked_again_until_the_input_ends(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("many\n\n12\n"))
    assert Questions(TerminalConsole(), asks=True).answer("--n", None, "How many", read) == 12
    said = capsys.readouterr()
    assert said.out.count("How many: ") == 3
    assert "'many' is no number\n  fix: give a number, such as 7" in said.err
    assert "nothing was answered, and there is no default" in said.err
    monkeypatch.setattr("sys.stdin", io.StringIO("many\n"))
    with pytest.raises(ConfigError, match="--n is missing: the input has ended"):
        Questions(TerminalConsole(), asks=True).answer("--n", None, "How many", read)
