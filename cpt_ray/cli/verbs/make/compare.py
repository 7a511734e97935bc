"""Compare budgets with the base and with the control, or runs of several studies with each other; print the differences."""

from collections.abc import Sequence

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.request import Request
from cpt_ray.report.text.across import render_pairing
from cpt_ray.study.findings.across import compare_across, find_run


def main(request: Request) -> None:
    """Run the verb: from records alone."""
    if request.dry_run:
        return request.say_dry_run("evaluate")
    request.study().compare()
    return request.next_verb("report")


def main_across(runs: Sequence[str], console: TerminalConsole, *, dry_run: bool) -> None:
    """Run the verb on runs of finished studies; nothing is written."""
    if dry_run:
        for run in runs:
            for scored in find_run(run).cell.scored:
                console.say(f"  read   {scored.folder}")
        return console.say("dry run: nothing was compared")
    for found in compare_across(runs):
        console.say(render_pairing(found))
    return None
