"""Print the JSON Schema of study files."""

from argparse import Namespace

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.reference.schema import render_schema


def main(_options: Namespace, console: TerminalConsole) -> None:
    """Run the verb."""
    console.say(render_schema().rstrip())
