"""Say what the study will cost: tokens, epochs, steps and FLOPs, memory and disk, hours and money; and whether it fits."""

import shlex

from cpt_ray.cli.request import Request
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.report.text.grid import render_grid
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.cost.place import Choice, parse_workers_option
from cpt_ray.study.cost.said import render_cost
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.stages.train import trained_again


def main(request: Request) -> None:
    """Run the verb; it only reads, unless it measures."""
    choice = _choice(request)
    study = request.driver()
    said = say_bases(study.graph, request.console)
    say_separators(study.graph, request.console, said)
    if request.options.get("measure"):
        from cpt_ray.study.cost.measure import measure  # which needs what preparation needs

        measure(study)
        study = request.driver()  # which reads what was measured
    if len(study.graph.grid) > 1:
        request.console.say(render_grid(study.plan_grid()))
    if len(study.graph.cells) == 1:
        cost = study.plan(choice)
        request.console.say(render_cost(cost, explain=bool(request.options.get("explain"))))
        if request.options.get("fit"):
            request.console.say(_largest(cost))
    else:
        request.console.say(f"for the runs of one cell: --only {shlex.quote(study.graph.cells[0].cell.name)}")
    for again in trained_again(study.graph, study.root):
        request.console.warn(again)
    if choice == Choice():
        study.require_budgets()
    request.next_verb("run")


def _choice(request: Request) -> Choice:
    """What the options ask to assume.

    Raises:
        ConfigError: If one of them cannot be.
    """
    options = request.options
    price, currency = options.get("price"), options.get("currency")
    if currency is not None and price is None:
        raise ConfigError(f"--currency {currency} without a price", fix="give both, such as --price 2.5 --currency USD")
    hardware, workers = options.get("hardware"), options.get("workers")
    return Choice(
        None if hardware is None else load_hardware(hardware),
        None if workers is None else parse_workers_option(workers),
        None if price is None else parse_price(price, currency or "USD"),
    )


def _largest(cost: Cost) -> str:
    """The largest micro-batch of each model."""
    lines = []
    for one in cost.asked:
        rows = one.rows()
        if rows is None:
            lines.append(f"largest micro-batch of {one.model}: none fits")
        elif one.work.room_bytes is None:
            lines.append(f"largest micro-batch of {one.model}: the memory of a worker is not known; name it with --hardware")
        else:
            peak = one.with_rows(rows).memory().peak_bytes / (1 << 30)
            lines.append(f"largest micro-batch of {one.model}: train.micro_batch_size={rows}  ({peak:.2f} GiB)")
    return "\n".join(lines)
