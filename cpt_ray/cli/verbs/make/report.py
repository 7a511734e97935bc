"""Write the report and mirror the records to MLflow, from records alone."""

from cpt_ray.cli.request import Request
from cpt_ray.study.findings.outcome import conclude


def main(request: Request) -> None:
    """Run the verb; nothing is trained or scored."""
    if request.dry_run:
        return request.say_dry_run("train", "evaluate")
    with request.study() as study:
        request.console.say(conclude(study))
    return None
