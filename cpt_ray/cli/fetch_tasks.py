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
        spot = study.graph.scan
        if spot is None:
            request.console.say("nothing to fetch: prepare.decontaminate names no task")
        elif spot == study.graph.exams:
            request.console.say("nothing to fetch: the exams are local, and prepare reads them")
        else:
            request.console.say(f"items: {spot.folder / ITEMS}")
    return request.next_verb("prepare")
