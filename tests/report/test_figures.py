"""Figures: the same bytes for the same records, text kept as text, None if there is nothing to draw."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cpt_ray.records import CorpusProfile
from cpt_ray.report.figures import forgetting_figure, loss_figure, profile_figure, scaling_figure, watched_figure
from tests.report.made_up import make_contents

EMPTY = {
    loss_figure: {"metrics": {}},
    watched_figure: {"watched": {}},
    scaling_figure: {"comparison": make_contents().comparison.model_copy(update={"points": ()})},
    forgetting_figure: {"comparison": make_contents().comparison.model_copy(update={"deltas": ()})},
    profile_figure: {"profile": CorpusProfile()},
}
FIGURES = pytest.mark.parametrize("figure", EMPTY, ids=lambda figure: figure.__name__)


@FIGURES
def test_without_records_there_is_no_figure(figure):
    assert figure(replace(make_contents(), **EMPTY[figure])) is None


@FIGURES
def test_a_figure_is_the_same_bytes_twice_and_refers_to_nothing_outside(figure):
    wide, narrow = figure(make_contents()), figure(make_contents(), narrow=True)
    assert figure(make_contents()) == wide
    assert narrow != wide
    for svg in (wide, narrow):
        head = svg[: svg.index(">")]
        assert re.match(r'<svg [^>]*viewBox="0 0 [\d.]+ [\d.]+"[^>]* aria-hidden="true"$', head)
        assert " width=" not in head
        assert not re.search(r"https?:|<metadata|<!DOCTYPE", svg)
        used = set(re.findall(r'[("]#([\w-]+)', svg))
        assert used <= set(re.findall(r'\sid="([^"]*)"', svg))


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (loss_figure, ["training loss, nats per token", "learning rate", "tokens seen (loss-bearing)"]),
        (watched_figure, ["domain: licences, during training", "bits per byte (validation half)"]),
        (scaling_figure, ["domain: licences", "general: news", "base", "not annealed", "bits per byte (lower is better)"]),
        (forgetting_figure, ["gain, nothing forgotten", "gain, but forgetting", "worse on both"]),
        (profile_figure, ["licences: length", "news: repetition", "documents"]),
    ],
)
def test_axes_say_what_they_show_in_text_that_a_reader_can_select(figure, words):
    text = re.findall(r"<text[^>]*>(.*?)</text>", figure(make_contents()), re.DOTALL)
    assert set(words) <= {part.strip() for part in text}
