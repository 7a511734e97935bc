"""Say what the study will cost: tokens, epochs, steps and FLOPs, memory and disk, hours and money; and whether it fits."""

from cpt_ray.cli.request import Request


def main(request: Request) -> None:
    """Run the verb; it only reads, unless it measures."""
    options = request.options
    request.study().plan(
        hardware=options.get("hardware"),
        workers=options.get("workers"),
        price=options.get("price"),
        currency=options.get("currency"),
        measure=bool(options.get("measure")),
        fit=bool(options.get("fit")),
        explain=bool(options.get("explain")),
    )
    request.next_verb("run")
