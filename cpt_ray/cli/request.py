"""What a verb is given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.study import StudyConfig
from cpt_ray.study.api.study import Study
from cpt_ray.study.graph import Chosen, StudyGraph
from cpt_ray.study.inputs import read_known
from cpt_ray.study.stages.stage import Stage, Verb
from cpt_ray.study.store import resolve_root
from cpt_ray.study.study import StudyDriver


@dataclass(frozen=True)
class Request:
    """A validated study and how to run the verb on it."""

    config: StudyConfig
    path: Path
    console: TerminalConsole
    dry_run: bool
    overrides: tuple[str, ...] = ()
    root: str | None = None
    """The study's root, if that was named in place of a study file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The verb's own options, by name."""

    @property
    def chosen(self) -> Chosen:
        """The cells of a grid that the command is about."""
        return Chosen(tuple(self.options.get("only") or ()), tuple(self.options.get("exclude") or ()))

    def graph(self) -> StudyGraph:
        """The artifacts of the chosen cells."""
        return self.study().graph()

    def study(self) -> Study:
        """The study, with the chosen cells."""
        known = None if self.root is None else read_known(resolve_root(self.root))
        return Study(self.config, self.path, console=self.console, chosen=self.chosen, known=known)

    def driver(self) -> StudyDriver:
        """What builds and reads the artifacts of the chosen cells."""
        return self.study().driver()

    def say_dry_run(self, *verbs: Verb, only: Stage[Any, Any] | None = None) -> None:
        """List the artifacts of some verbs, or of one stage: those that exist, and those that would be built."""
        self.study().dry_run(*verbs, only=only)

    def next_verb(self, verb: str) -> None:
        """Print the command to run next, with the overrides of this one, as a shell reads it."""
        chosen = {"--only": self.chosen.only, "--exclude": self.chosen.exclude}
        cells = [word for option, patterns in chosen.items() for pattern in patterns for word in (option, pattern)]
        self.console.say(f"next: {shlex.join(['cpt-ray', verb, self.root or str(self.path), *self.overrides, *cells])}")
