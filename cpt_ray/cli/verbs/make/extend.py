"""Give a study larger budgets: continue its trunks, reuse everything else."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb: say what is reused and what is new, add the budgets to the study file, and run the study."""
    request.study().extend(request.options["budgets"], overrides=request.overrides, dry_run=request.dry_run)
