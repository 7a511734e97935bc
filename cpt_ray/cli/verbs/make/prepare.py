"""Prepare text: clean, remove duplicates, hold out, decontaminate, tokenize and pack."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("prepare")
    request.study().prepare()
    return request.next_verb("train")
