"""Say what the study will cost: tokens, epochs, steps, FLOPs, memory and disk."""

import shlex

from cpt_ray.cli.request import Request
from cpt_ray.report.text.grid import render_grid
from cpt_ray.report.text.plan import render_plan
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.stages.train import trained_again


def main(request: Request) -> None:
    """Run the verb; it only reads, so it needs no lease."""
    study = request.driver()
    said = say_bases(study.graph, request.console)
    say_separators(study.graph, request.console, said)
    if len(study.graph.grid) > 1:
        request.console.say(render_grid(study.plan_grid()))
    if len(study.graph.cells) == 1:
        request.console.say(render_plan(*study.plan()))
    else:
        request.console.say(f"for the runs of one cell: --only {shlex.quote(study.graph.cells[0].cell.name)}")
    for again in trained_again(study.graph, study.root):
        request.console.warn(again)
    study.require_budgets()
    request.next_verb("run")
