"""Run the whole study: prepare, train, evaluate, compare, report."""

import time

from cpt_ray.cli.request import Request
from cpt_ray.config.values import format_eta


def main(request: Request) -> None:
    """Run the verb; started again after any stop, it resumes."""
    if request.dry_run:
        return request.say_dry_run("prepare", "train", "evaluate")
    started = time.monotonic()
    request.study().run()
    request.console.say(f"done in {format_eta(time.monotonic() - started)}")
    return None
