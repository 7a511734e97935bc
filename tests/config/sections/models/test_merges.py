"""The `merges` section: one rule an entry, with defaults, and what is refused."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil


def test_a_rule_needs_no_more_than_its_name(tree):
    merges = [{"name": "frontier", "interpolate": {}}, {"name": "averaged", "average": {}}]
    frontier, averaged = parse_study(spoil(tree, "merges", merges), place="study.yaml").merges
    assert (frontier.rule, frontier.of, frontier.interpolate.weights) == ("interpolate", (), (0.25, 0.5, 0.75))
    assert (averaged.rule, averaged.average.last, averaged.average.every) == ("average", 3, None)
    chat = [{"name": "chat", "instruction_residual": {"instruct": "somewhere"}}]
    (residual,) = parse_study(spoil(tree, "merges", chat), place="study.yaml").merges
    assert (residual.rule, residual.instruction_residual.scale) == ("instruction_residual", 1.0)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (
            [{"name": "x"}],
            "merges.x needs one of interpolate, average, instruction_residual, saw none of them; give each an entry of its own",
        ),
        ([{"name": "x", "interpolate": {}, "average": {}}], "saw interpolate and average"),
        ([{"name": "x", "interpolate": {"weights": [0.5, 0.50]}}], "interpolate.weights has a weight twice: 0.5, 0.5"),
        ([{"name": "x", "interpolate": {"weights": []}}], "merges.0.interpolate.weights"),
        ([{"name": "x", "interpolate": {"weights": [1.5]}}], "Input should be less than or equal to 1, saw 1.5"),
        ([{"name": "x", "average": {"last": 1}}], "Input should be greater than or equal to 2, saw 1"),
        (
            [{"name": "x", "instruction_residual": {"instruct": "init"}}],
            "instruction_residual.instruct is init, random weights",
        ),
        ([{"name": "x", "instruction_residual": {}}], "merges.0.instruction_residual.instruct"),
        ([{"name": "x", "instruction_residual": {"instruct": "a", "scale": 0}}], "Input should be greater than 0, saw 0"),
        ([{"name": "x", "interpolate": {}}, {"name": "x", "average": {}}], "merges has two entries named 'x'"),
    ],
)
def test_a_wrong_entry_is_refused(tree, merges, message):
    assert message in refusal(spoil(tree, "merges", merges))
