"""Copy the report, scores, runs or exports of a study to this machine."""

from argparse import Namespace
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.study.findings.fetch import fetch


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; the study is only read."""
    for path in fetch(options.root, options.what, Path(options.to).expanduser()):
        console.say(f"fetched: {path}")
