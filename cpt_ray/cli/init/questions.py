"""Answers from options, or from questions in a terminal; a wrong answer is explained and asked again.

In: an option's value, if it was given. Out: what a reader makes of it. Guarantee: nothing is asked where nobody can answer; the
option that would is named instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.errors import ConfigError, CptRayError

Answer = TypeVar("Answer")


class Questions:
    """Asks what options do not say.

    Args:
        console: Where wrong answers are explained.
        asks: Whether somebody is there to ask; None to find out.
        takes_defaults: Whether defaults are taken without asking.
    """

    def __init__(self, console: TerminalConsole, *, asks: bool | None = None, takes_defaults: bool = False) -> None:
        self._console = console
        self._asks = (sys.stdin.isatty() if asks is None else asks) and not takes_defaults
        self._takes_defaults = takes_defaults

    def answer(
        self,
        option: str,
        given: str | None,
        question: str,
        read: Callable[[str], Answer],
        *,
        default: str | None = None,
        is_optional: bool = False,
    ) -> Answer:
        """The answer to a question.

        Args:
            option: The option that answers it.
            given: Its value, if it was given.
            question: What to ask.
            read: Makes an answer of a text, or raises what is wrong with it and how it is right.
            default: The text that stands for no answer.
            is_optional: Whether the default is taken where nobody can be asked.

        Raises:
            ConfigError: If it is missing and nobody can be asked; or what `read` raises.
        """
        if given is not None:
            return read(given)
        if not self._asks:
            if default is not None and (is_optional or self._takes_defaults):
                return read(default)
            why = "--yes has no default for it" if self._takes_defaults else "this is no terminal, so nobody can be asked"
            also = f", or --yes for {default}" if default is not None else ""
            raise ConfigError(
                f"{option} is missing, and {why}", fix=f"give {option}{also}; cpt-ray init --help lists all options"
            )
        while True:
            try:
                said = input(f"{question}{f' [{default}]' if default is not None else ''}: ").strip()
            except EOFError:
                raise ConfigError(f"{option} is missing: the input has ended", fix=f"give {option}") from None
            said = (
                said[1:-1] if said[:1] in ("'", '"') and said[-1:] == said[:1] and len(said) > 1 else said
            )  # as files are dropped
            try:
                if not said and default is None:
                    raise ConfigError("nothing was answered, and there is no default", fix=f"answer, or end and give {option}")
                return read(said or str(default))
            except CptRayError as error:
                self._console.warn(str(error))
