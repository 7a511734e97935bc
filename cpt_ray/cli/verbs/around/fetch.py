"""Copy the report, scores, runs, MLflow's records or exports of a study to this machine."""

from argparse import Namespace
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.edges.tracking.mirrored import command_that_shows, default_uri
from cpt_ray.study.findings.fetch import fetch


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; the study is only read."""
    to = Path(options.to).expanduser()
    for path in fetch(options.root, options.what, to):
        console.say(f"fetched: {path}")
    if options.what == "mlflow":
        console.say(f"look at it: {command_that_shows(default_uri(to))}")
