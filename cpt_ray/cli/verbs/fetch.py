"""Copy the report, scores, records or exports of a study to this machine, from its root alone."""

from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.study.fetch import fetch


def main(root: str, what: str, to: str, console: TerminalConsole) -> None:
    """Run the verb; the study is only read, so it may be running."""
    for path in fetch(root, what, Path(to).expanduser()):
        console.say(f"fetched: {path}")
