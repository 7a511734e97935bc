"""Write the report and mirror the records to MLflow, from records alone."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb; nothing is trained or scored."""
    if request.dry_run:
        return request.say_dry_run("train", "evaluate")
    options = request.options
    request.study().report(hardware=options.get("hardware"), price=options.get("price"), currency=options.get("currency"))
    return None
