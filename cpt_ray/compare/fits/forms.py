"""The forms that are fitted: loss in tokens, loss over compute or size, loss in tokens and the domain's share.

In: parameters as searched (positive ones by their logarithm) and a design, a row of columns per score. Out: log losses. All
functions take leading dimensions, so that hundreds of fits run as one. Guarantee: losses are positive within the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cpt_ray.evaluate.intervals import Floats


@dataclass(frozen=True)
class Form:
    """A family of curves.

    Attributes:
        name: Short name in records.
        formula: The form as it is printed.
        parameters: Names as in the formula.
        logged: Which parameters are searched by their logarithm, because they are positive.
        box: Design [scores, columns] and losses [scores] to the ends of each searched parameter.
        log_loss: Searched parameters [..., parameters] and design [..., scores, columns] to log losses [..., scores].
        reported: Parameters that are reported; the others only carry the curve.
        undetermined: What scores never determine of the form, in a sentence that goes with every fit; empty if nothing.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    logged: tuple[bool, ...]
    box: Callable[[Floats, Floats], tuple[Floats, Floats]]
    log_loss: Callable[[Floats, Floats], Floats]
    reported: tuple[str, ...]
    undetermined: str = ""


def _tokens_loss(searched: Floats, design: Floats) -> Floats:
    floor, scale, power = (np.exp(searched[..., place, None]) for place in range(3))
    tokens, base = design[..., 0], design[..., 1]
    loss: Floats = np.log(floor + (base - floor) * np.exp(-power * np.log1p(tokens / scale)))
    return loss


def _tokens_box(design: Floats, losses: Floats) -> tuple[Floats, Floats]:
    tokens, base = design[:, 0], design[:, 1].max()
    low = np.log([1e-3 * base, tokens.min() / 30, 0.02])
    # A floor above the base is a loss that rises: forgetting has the same form.
    high = np.log([5 * max(base, losses.max()), 30 * tokens.max(), 4.0])
    return low, high


TOKENS = Form(
    "tokens", "E + (L0 - E)(1 + x/x0)^-b", ("E", "x0", "b"), (True, True, True), _tokens_box, _tokens_loss, ("E", "x0", "b")
)
"""Columns: tokens, and the measured loss of the base L0. A pure power law is infinite at 0 tokens, a base is not."""


def _power_loss(searched: Floats, design: Floats) -> Floats:
    loss: Floats = searched[..., 0, None] - searched[..., 1, None] * np.log(design[..., 0])
    return loss


def _power_box(_: Floats, losses: Floats) -> tuple[Floats, Floats]:
    return np.array([np.log(losses.min()) - 3, -3.0]), np.array([np.log(losses.max()) + 3, 3.0])


POWER = Form("power", "a (x/x_max)^-b", ("a", "b"), (True, False), _power_box, _power_loss, ("a", "b"))
"""Column: compute or parameters, in units of the largest; a is the loss there."""


def _mix_loss(searched: Floats, design: Floats) -> Floats:
    floor, tokens_term, eta, beta, share_term, gamma, epsilon = (np.exp(searched[..., place, None]) for place in range(7))
    tokens, share = design[..., 0], design[..., 1]
    repeated = tokens_term * np.exp(eta * np.log(np.maximum(share, 1e-12)) - beta * np.log(tokens))
    loss: Floats = np.log(floor + repeated + share_term * np.exp(-gamma * np.log(share + epsilon)))
    return loss


def _mix_box(_: Floats, losses: Floats) -> tuple[Floats, Floats]:
    top = losses.max()
    low = np.log([1e-3 * top, 1e-6 * top, 0.01, 0.01, 1e-6 * top, 0.01, 1e-3])
    return low, np.log([top, 10 * top, 3.0, 3.0, 10 * top, 3.0, 1.0])


MIX = Form(
    "mix",
    "E + B r^eta (D/D_max)^-beta + C/(r + epsilon)^gamma",
    ("E", "B", "eta", "beta", "C", "gamma", "epsilon"),
    (True,) * 7,
    _mix_box,
    _mix_loss,
    # In simulations of four shares, nothing bounds gamma and epsilon, and E and C with them (docs/log.md).
    ("eta", "beta"),
    "gamma and epsilon cannot be determined from the shares of a study, nor E, B and C with them: none is reported",
)
"""D-CPT law (arXiv 2406.01375) at one model size, whose term of size is part of E. Columns: tokens in units of the largest, and
the share of the text whose loss it is: the domain's for a domain set, the rest for a general one."""
