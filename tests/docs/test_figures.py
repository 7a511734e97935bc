"""The two drawn figures are what their script draws, and show what the page says of them."""

from __future__ import annotations

import runpy
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.docs.pages import ROOT

DRAWN = runpy.run_path(str(ROOT / "docs" / "figures.py"))
IMAGES = ROOT / "docs" / "images"
pytestmark = pytest.mark.accept(practical=3)


@pytest.mark.parametrize("name", ["concept_replay.svg", "concept_intervals.svg"])
def test_a_figure_is_what_the_script_draws(name):
    assert DRAWN["figures"]()[name] == (IMAGES / name).read_text("utf-8"), "run: python docs/figures.py"


@pytest.mark.parametrize("path", sorted(IMAGES.glob("concept_*.svg")), ids=lambda path: path.stem)
def test_a_figure_is_on_its_page_and_has_words_for_who_cannot_see_it(path):
    assert f"](images/{path.name})" in (ROOT / "docs" / "concepts.md").read_text("utf-8")
    assert len(ElementTree.fromstring(path.read_text("utf-8")).attrib["aria-label"]) > 30


def test_replay_takes_5_and_25_percent_of_the_rows_and_the_control_has_no_other():
    rows = DRAWN["replay"]()
    assert rows.count('fill="#0072b2"') - 1 == 40 + 38 + 30
    assert rows.count('fill="#d55e00"') - 1 == 2 + 10 + 40


def test_the_scores_overlap_while_the_difference_excludes_zero_and_the_other_holds_it():
    base, arm, other = DRAWN["simulated"]()
    (base_low, _), (_, arm_high), (_, gain_high), (change_low, change_high) = (
        DRAWN["_estimate"](np.asarray(values), name).bounds(0.95)
        for values, name in ((base, "base"), (arm, "domain arm"), (arm - base, "gain"), (other, "change"))
    )
    assert base_low < arm_high
    assert gain_high < 0
    assert change_low < 0 < change_high
