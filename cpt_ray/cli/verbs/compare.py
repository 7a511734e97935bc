"""Compare budgets with the base and with the control, and print the differences."""

from cpt_ray.cli.request import Request
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import Comparison
from cpt_ray.report.text.summary import render_deltas
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
        request.console.say(render_deltas(comparison))
        request.console.say(f"comparison: {path}")
    return request.next_verb("report")
