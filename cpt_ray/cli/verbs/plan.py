"""Say what the study will cost: tokens, epochs, steps, FLOPs, memory and disk."""

from cpt_ray.cli.request import Request
from cpt_ray.plan.checks import check_cooldowns, check_epochs, check_memory
from cpt_ray.report.text.plan import render_plan
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.study import Study


def main(request: Request) -> None:
    """Run the verb; it only reads, so it needs no lease."""
    study = Study(request.config, request.path, request.console)
    said = say_bases(request.config, request.console)
    say_separators(study.graph, request.console, said)
    plan, memory = study.plan()
    request.console.say(render_plan(plan, memory))
    check_cooldowns(plan)
    check_epochs(plan)
    check_memory(memory)
    request.next_verb("run")
