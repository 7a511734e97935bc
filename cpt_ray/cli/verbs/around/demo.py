"""Run the demo, whose study file is part of the package."""

from argparse import Namespace
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.main import main as run_command_line

STUDY = Path(__file__).parents[2] / "demo.yaml"
"""In a checkout a link to `configs/demo.yaml`."""


def main(options: Namespace, _console: TerminalConsole) -> None:
    """Run the verb: `cpt-ray run` of the demo's study.

    Raises:
        SystemExit: With the exit code of `run`.
    """
    said = [f"--{name}" for name in ("dry_run", "verbose", "quiet", "debug") if getattr(options, name)]
    words = [word.replace("_", "-") for word in said]
    raise SystemExit(run_command_line(["run", str(STUDY), *options.overrides, *words]))
