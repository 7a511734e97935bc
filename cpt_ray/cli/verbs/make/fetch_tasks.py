"""Fetch the items to decontaminate against: those of the exams, and those of lm-eval tasks from the hub."""

from cpt_ray.cli.request import Request
from cpt_ray.edges.store import address
from cpt_ray.records import ExamItem
from cpt_ray.study.stages.scans.scan import SCAN


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("prepare", only=SCAN)
    with request.driver() as study:
        study.make_stage(SCAN)
        nodes = study.graph.of(SCAN)
        if not nodes:
            request.console.say("nothing to fetch: neither prepare.decontaminate nor evaluate names a task")
        for node in nodes:
            request.console.say(f"items: {address(node.folder / ExamItem.FILE)}")
    return request.next_verb("prepare")
