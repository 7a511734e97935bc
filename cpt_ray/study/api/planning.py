"""What `Study.plan` and `cpt-ray plan` do: choose the hardware, measure if asked, say what the study costs.

In: a driver, and what to assume. Out: the cost, printed. Guarantee: whatever is asked for is in what is printed, of a study
with axes too, or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import HardwareProfile, Price, load_hardware, parse_price
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.cost.grid import GridCost
from cpt_ray.study.cost.place import Choice, parse_workers_option
from cpt_ray.study.cost.said import render_cost, render_grid_cost
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.stages.train import trained_again
from cpt_ray.study.study import StudyDriver


class Shown(NamedTuple):
    """What is shown beside the plan."""

    measure: bool = False
    """Whether a few real steps are taken first."""
    fit: bool = False
    explain: bool = False


def choose(
    hardware: str | Path | HardwareProfile | None = None,
    workers: int | str | None = None,
    price: float | str | Price | None = None,
    currency: str | None = None,
) -> Choice:
    """What a plan is asked to assume.

    Raises:
        ConfigError: If one of them cannot be.
    """
    if currency is not None and (price is None or isinstance(price, Price)):
        raise ConfigError(f"--currency {currency} without a price", fix="give both, such as --price 2.5 --currency USD")
    return Choice(
        hardware if hardware is None or isinstance(hardware, HardwareProfile) else load_hardware(str(hardware)),
        None if workers is None else parse_workers_option(str(workers)),
        price if price is None or isinstance(price, Price) else parse_price(str(price), currency or "USD"),
    )


def plan(open_driver: Callable[[], StudyDriver], choice: Choice, shown: Shown) -> Cost | GridCost:
    """Plan a study and print it.

    Args:
        open_driver: Opens the study; again after a measurement, which later looks then read.
        choice: What to assume.
        shown: What else to do and to show.

    Raises:
        CptRayError: If a budget repeats a source too often, or a model does not fit; not on hardware that was chosen.
    """
    study = open_driver()
    said = say_bases(study.graph, study.console)
    say_separators(study.graph, study.console, said)
    if shown.measure:
        from cpt_ray.study.cost.measure import measure  # which needs what preparation needs

        measure(study)
        study = open_driver()
    found: Cost | GridCost
    if len(study.graph.cells) == 1:
        found = study.plan(choice)
        study.console.say(render_cost(found, explain=shown.explain, fit=shown.fit))
    else:
        found = study.plan_grid(choice)
        study.console.say(render_grid_cost(found, explain=shown.explain, fit=shown.fit))
    for again in trained_again(study.graph, study.root):
        study.console.warn(again)
    if choice == Choice():
        study.require_budgets()
    return found
