"""Run the whole study: prepare, train, evaluate, compare, report."""

import time

from cpt_ray.cli.request import Request
from cpt_ray.cli.verbs.look.plan import render_cost
from cpt_ray.report.text.grid import render_grid
from cpt_ray.study.findings.outcome import conclude, summarize_preparation
from cpt_ray.study.live.lines import format_eta


def main(request: Request) -> None:
    """Run the verb; started again after any stop, it resumes."""
    if request.dry_run:
        return request.say_dry_run("prepare", "train", "evaluate")
    started = time.monotonic()
    with request.study() as study:
        study.preflight("prepare", "train", "evaluate")
        study.make("prepare")
        request.console.say(summarize_preparation(study))
        request.console.say(render_cost(study.plan()) if len(study.graph.cells) == 1 else render_grid(study.plan_grid()))
        study.train_and_evaluate()
        request.console.say(conclude(study))
    request.console.say(f"done in {format_eta(time.monotonic() - started)}")
    return None
