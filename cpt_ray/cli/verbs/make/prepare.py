"""Prepare text: clean, remove duplicates, hold out, decontaminate, tokenize and pack."""

from cpt_ray.cli.request import Request
from cpt_ray.study.findings.outcome import summarize_preparation


def main(request: Request) -> None:
    """Run the verb."""
    if request.dry_run:
        return request.say_dry_run("prepare")
    with request.study() as study:
        study.make("prepare")
        request.console.say(summarize_preparation(study))
        request.console.say(f"artifacts: {study.root}")
    return request.next_verb("train")
