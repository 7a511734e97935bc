"""Check a study file and everything it refers to; costs nothing."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb: schema, files, DeepSpeed JSON and artifacts."""
    request.study().check()
    request.next_verb("plan")
