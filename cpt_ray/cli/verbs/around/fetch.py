"""Copy the report, scores, runs, MLflow's records or exports of a study to this machine."""

from argparse import Namespace
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.load import load_study
from cpt_ray.edges.tracking.mirrored import command_that_shows, default_uri
from cpt_ray.study.findings.fetch import fetch
from cpt_ray.study.live.status.place import names_a_file


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; the study is only read."""
    to = Path(options.to).expanduser()
    root = load_study(Path(options.root)).study.root if names_a_file(options.root) else options.root
    for path in fetch(root, options.what, to):
        console.say(f"fetched: {path}")
    if options.what == "mlflow":
        console.say(f"look at it: {command_that_shows(default_uri(to))}")
