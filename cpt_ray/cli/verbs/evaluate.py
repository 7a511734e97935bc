"""Score the base models and every budget on held-out text and exams."""

from cpt_ray.cli.request import Request
from cpt_ray.study.study import Study


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("evaluate")
    with Study(request.config, request.path, request.console) as study:
        study.make("evaluate")
        request.console.say(f"artifacts: {study.root}")
    return request.next_verb("report")
