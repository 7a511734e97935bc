"""Train every run of the study to its token budget."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("train")
    request.study().train()
    return request.next_verb("evaluate")
