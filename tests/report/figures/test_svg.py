"""A panel as SVG: escaped, finite, the same bytes, a title on every point."""

import re
from dataclasses import replace

from cpt_ray.report.blocks import Style
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.svg import MARKERS, Dot, Panel, Series, draw

DOTS = (Dot(1, 2, "one", y_bar=(1.9, 2.1)), Dot(2, 3, "<two>", hollow=True), Dot(3, float("nan"), "lost"))
PANEL = Panel("a & b", Axis("x"), Axis("y"), (Series(Style("k0", "7 3"), DOTS),), ((True, True, "corner"),), (("y", 0.0),))


def test_a_panel_is_the_same_bytes_twice_and_refers_to_nothing():
    assert draw(PANEL) == draw(PANEL)
    assert not re.search(r"https?:|url\(|href|style=|#", str(draw(PANEL)).replace("&#", ""))


def test_points_have_titles_and_text_is_escaped_and_what_is_no_number_is_left_out():
    drawn = str(draw(PANEL))
    assert re.findall("<title>(.*?)</title>", drawn) == ["one", "&lt;two&gt;"]
    assert ">a &amp; b</text>" in drawn
    assert "nan" not in drawn
    assert drawn.count('class="m"') == drawn.count('class="h"') == 1
    assert 'stroke-dasharray="7 3"' in drawn


def test_without_markers_a_point_can_still_be_hovered():
    drawn = draw(replace(PANEL, series=(Series(Style("k0"), DOTS, mark=False),)))
    assert drawn.count("<circle") == 2


def test_a_bound_is_an_arrow_and_every_marker_is_drawn():
    plain = draw(replace(PANEL, series=(Series(Style("k0"), (Dot(1, 1),)),)))
    above = draw(replace(PANEL, series=(Series(Style("k0"), (Dot(1, 1, bound="above"),)),)))
    assert 'class="e"' in above
    assert 'class="e"' not in plain
    for name, path in MARKERS.items():
        assert path in draw(replace(PANEL, series=(Series(Style("k0", marker=name), (Dot(1, 1),)),)))


def test_one_very_wide_bar_does_not_press_the_points_together():
    def heights(bar):
        drawn = draw(replace(PANEL, guides=(), series=(Series(Style("k0"), (Dot(1, 1, y_bar=bar), Dot(2, 2))),)))
        return [float(y) for y in re.findall(r'class="m" transform="translate\([\d.]+ ([\d.]+)\)', drawn)]

    low, high = heights((-1000.0, 1000.0))
    assert low - high > 80


def test_nothing_to_draw_is_an_empty_panel():
    assert "<svg" in draw(replace(PANEL, series=(), guides=()))
