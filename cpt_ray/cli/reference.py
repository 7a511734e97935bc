"""The reference of all verbs, `docs/cli.md`: `python -m cpt_ray.cli.reference > docs/cli.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from cpt_ray.cli.catalog import CELLS, DRY_RUN, VERBS, Verb
from cpt_ray.cli.main import make_parser

_ROOMS = {
    "look": "Check, estimate, show",
    "make": "Make and conclude",
    "around": "Around a study",
}


def render() -> str:
    """The page, in Markdown."""
    parser = make_parser()
    lines = [
        "# Command line",
        "",
        "`cpt-ray VERB CONFIG [section.key=value ...]`. CONFIG is a study file; what follows it overrides its keys. A verb",
        "makes what is missing before it, reuses what is there, and can be stopped and repeated at any time.",
        "ROOT_OR_CONFIG may be `study.root` of a study that was run: its file, sources and bases are then not needed here.",
        "",
        "| option | of |",
        "|---|---|",
        *(f"| `{name}`: {settings['help']} | verbs that make something |" for name, settings in DRY_RUN.items()),
        *(f"| `{name} {settings['metavar']}`: {settings['help']} | verbs with a CONFIG |" for name, settings in CELLS.items()),
        *(f"| {_option(action)} | all verbs |" for action in _common(parser)),
        "",
        parser.epilog or "",
    ]
    for room, title in _ROOMS.items():
        lines += ["", f"## {title}"]
        for name, verb in VERBS.items():
            if verb.room == room:
                usage = f"cpt-ray {name}{f' {verb.study_argument}' * verb.takes_study}{_usage(verb)}"
                lines += ["", f"### {name}", "", f"`{usage}`: {verb.summary}."]
                if verb.arguments:
                    lines += ["", *(f"- `{_named(*one)}`: {one[1]['help']}" for one in verb.arguments.items())]
    return "\n".join(lines) + "\n"


def _common(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Options that all verbs have, but for those of `CELLS`."""
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    fetch: argparse.ArgumentParser = verbs.choices["fetch"]
    return [action for action in fetch._actions if action.option_strings and action.dest != "help"]


def _option(action: argparse.Action) -> str:
    return f"`{'`, `'.join(action.option_strings)}`: {action.help}"


def _named(name: str, settings: Mapping[str, Any]) -> str:
    """An argument as help shows it."""
    metavar = str(settings.get("metavar", ""))
    return f"{name} {metavar}".strip() if name.startswith("--") else metavar or name


def _usage(verb: Verb) -> str:
    """Positional arguments of a verb, those that may be left out in brackets."""
    given = {_named(*one): one[1].get("nargs") for one in verb.arguments.items() if not one[0].startswith("--")}
    return "".join(f" [{name}]" if nargs in ("?", "*") else f" {name}" for name, nargs in given.items())


if __name__ == "__main__":
    sys.stdout.write(render())
