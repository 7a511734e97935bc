"""How models, arms and runs look, the same in every figure.

Colors are the classes `k0` to `k6` of the page's style sheet: those of Okabe and Ito (2008), which differ for any color vision,
in a light and a dark form. Dashes and markers repeat the distinction.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.records import RunRecord
from cpt_ray.report.blocks import LegendEntry, Style
from cpt_ray.report.index import Group, Index

COLORS = 7
INK, SOFT = "ki", "ks"
DASHES = ("", "7 3", "2 3", "9 3 2 3")
SHAPES = ("o", "^", "D", "v", "P", "X")
MERGED = "*"
"""Marker of models made without training."""


def group_styles(index: Index, groups: Sequence[Group]) -> dict[tuple[str, str], Style]:
    """A style by model and arm: a color per arm, gray for controls; a dash and a marker per model."""
    models = list(dict.fromkeys(group.model for group in groups))
    domain = [arm for arm in dict.fromkeys(group.arm for group in groups) if _role(index, arm) != "control"]
    styles = {}
    for group in groups:
        place = models.index(group.model)
        if group.arm in domain:
            color = domain.index(group.arm)
            dash, shape = DASHES[place % len(DASHES)], SHAPES[(place + (color if len(models) == 1 else 0)) % len(SHAPES)]
            styles[group.model, group.arm] = Style(f"k{color % COLORS}", dash, shape)
        else:
            dash = DASHES[1] if len(models) == 1 else DASHES[place % len(DASHES)]
            shape = "s" if len(models) == 1 else SHAPES[place % len(SHAPES)]
            styles[group.model, group.arm] = Style(SOFT, dash, shape)
    return styles


def run_style(run: RunRecord, styles: dict[tuple[str, str], Style], budgets: Sequence[int]) -> Style:
    """A run in figures of several budgets: the color of its arm, a dash per budget, none for a trunk or the largest."""
    own = styles[run.model, run.arm or ""]
    place = 0 if run.budget_tokens is None else len(budgets) - 1 - budgets.index(run.budget_tokens)
    return Style(own.color, DASHES[place % len(DASHES)], SHAPES[place % len(SHAPES)])


def group_legend(index: Index, groups: Sequence[Group], styles: dict[tuple[str, str], Style]) -> list[LegendEntry]:
    """One entry per model and arm."""
    entries = []
    for group in groups:
        # An arm that is called control says so itself.
        told = _role(index, group.arm) == "control" and group.arm != "control"
        entries.append(LegendEntry(index.label(group) + (" (control)" if told else ""), styles[group.model, group.arm]))
    return entries


def _role(index: Index, arm: str) -> str:
    config = index.contents.arms.get(arm)
    return config.role if config else ""
