"""Compare budgets with the base and with the control, or runs of several studies with each other; print the differences."""

from collections.abc import Sequence

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.request import Request
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import Comparison
from cpt_ray.report.text.across import render_pairing
from cpt_ray.report.text.summary import render_deltas
from cpt_ray.study.findings.across import compare_across, find_run
from cpt_ray.study.findings.outcome import summarize


def main(request: Request) -> None:
    """Run the verb: from records alone."""
    if request.dry_run:
        return request.say_dry_run("evaluate")
    with request.study() as study:
        comparison = study.comparison()
        path = study.root / Comparison.FILE
        write_atomic(path, comparison.to_json())
        request.console.say(summarize(study, comparison))
        request.console.say(render_deltas(comparison.deltas))
        request.console.say(f"comparison: {path}")
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
