"""Write a folder that is ready for a model hub: weights, tokenizer, and a card with scores and licenses."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb."""
    run, to, force = (request.options[name] for name in ("run", "to", "force"))
    if request.dry_run:
        request.console.say(f"dry run: {request.study().export_source(run)} would be copied to {to}")
    else:
        request.study().export(run, to=to, force=force)
