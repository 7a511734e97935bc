"""Write the report and mirror the records to MLflow, from records alone."""

from cpt_ray.cli.request import Request
from cpt_ray.study.outcome import conclude, render_summary
from cpt_ray.study.study import Study


def main(request: Request) -> None:
    """Run the verb; nothing is trained or scored."""
    if request.dry_run:
        return request.say_dry_run(("train", "evaluate"))
    with Study(request.config, request.path, request.console) as study:
        where = conclude(study)
        request.console.say(render_summary(study))
        request.console.say(where)
    return None
