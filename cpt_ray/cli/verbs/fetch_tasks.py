"""Bring the items that training text is scanned for: those of the exams, and those of lm-eval tasks from the hub."""

from cpt_ray.cli.request import Request
from cpt_ray.study import stages
from cpt_ray.study.study import ITEMS, Study

STAGES = ("scan",)


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run(STAGES)
    with Study(request.config, request.path, request.console) as study:
        stages.fetch_tasks(study)
        spots = [spot for spot in (study.graph.scan, study.graph.late_items) if spot is not None]
        if not spots:
            request.console.say("nothing to fetch: neither prepare.decontaminate nor evaluate names a task")
        for spot in spots:
            request.console.say(f"items: {spot.folder / ITEMS}")
    return request.next_verb("prepare")
