"""Run the whole study: prepare, train, evaluate, compare, report."""

import time

from cpt_ray.cli.request import Request
from cpt_ray.report.text.plan import render_plan
from cpt_ray.study.outcome import conclude, summarize_preparation
from cpt_ray.study.progress import format_eta
from cpt_ray.study.study import Study


def main(request: Request) -> None:
    """Run the verb; started again after any stop, it resumes."""
    if request.dry_run:
        return request.say_dry_run("prepare", "train", "evaluate")
    started = time.monotonic()
    with Study(request.config, request.path, request.console) as study:
        study.preflight("prepare", "train", "evaluate")
        study.make("prepare")
        request.console.say(summarize_preparation(study))
        request.console.say(render_plan(*study.plan()))
        study.make("train")
        study.make("evaluate")
        request.console.say(conclude(study))
    request.console.say(f"done in {format_eta(time.monotonic() - started)}")
    return None
