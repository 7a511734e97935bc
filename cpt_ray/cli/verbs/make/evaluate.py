"""Score the base models and every budget on held-out text and exams."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("evaluate")
    request.study().evaluate()
    return request.next_verb("report")
