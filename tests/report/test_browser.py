"""A real browser shows the page: on a phone, a laptop, a desktop screen and paper, light and dark."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks.acceptance.views.browser import FIRST_FIGURES, LAPTOP, WIDTHS, Seen, View, look
from cpt_ray.report.page import write_report
from tests.report.made_up import make_contents
from tests.report.made_up_sizes import make_sizes
from tests.report.test_page import SECTIONS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.accept(answer=5),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed, so nothing can open the page"),
]
STUDIES = {"one model": make_contents, "sizes and arms": make_sizes}
VIEWS = {**{f"{width} px": View(width=width) for width in WIDTHS}, "paper": View.paper()}


@pytest.fixture(scope="module", params=STUDIES)
def page(request, tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, STUDIES[request.param]())
    return path


@pytest.fixture(scope="module")
def seen(page) -> dict[str, Seen]:
    return dict(zip(VIEWS, look(page, list(VIEWS.values())), strict=True))


@pytest.mark.parametrize("view", VIEWS)
def test_no_table_is_cut_off_and_nothing_is_wider_than_the_window(seen, view):
    assert seen[view].tables > 15
    assert seen[view].cut == []
    assert seen[view].overflow == 0


@pytest.mark.parametrize("view", VIEWS)
def test_every_part_and_figure_is_there_at_a_size_that_can_be_read(page, seen, view):
    found, text = seen[view], page.read_text(encoding="utf-8")
    assert found.headings == SECTIONS
    assert len(found.plots) == text.count('class="plot"')
    assert all(width > 0.25 * min(VIEWS[view].width, 1360) and height > 150 for width, height in found.plots), found.plots
    assert found.outside == []
    assert found.overlaps == []


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_requested_and_every_figure_has_words(seen, view):
    assert seen[view].requests == []
    assert seen[view].unnamed == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_screen_has_the_sentence_the_table_and_the_figures_begin_in_it(page, width):
    (found,) = look(page, [View(width=width, unfold=False)])
    assert found.verdict
    assert found.verdict_bottom < 0.5 * found.window_height
    assert found.results_top is not None
    assert found.results_top < 0.8 * found.window_height
    tops = {figure: ends[0] for figure, ends in found.drawn.items() if figure in FIRST_FIGURES}
    assert set(tops) == set(FIRST_FIGURES)
    assert tops["figure-scaling"] < found.results_top + 200
    assert found.drawn["figure-scaling"][1] <= found.window_height
    # On a phone, the second figure stands below the table.
    assert width < LAPTOP or tops["figure-forgetting"] < 0.75 * found.window_height


def test_a_wide_table_stands_below_the_figures(tmp_path):
    page, budgets = tmp_path / "report.html", tuple(1_000_000 * 2**step for step in range(6))
    write_report(page, make_sizes(models=("m1",), arms=("legal",), budgets=budgets, seeds=(0,)))
    (found,) = look(page, [View(width=LAPTOP, unfold=False)])
    assert found.results_top is not None
    assert all(found.drawn[figure][1] < found.results_top < found.window_height for figure in FIRST_FIGURES)
    assert found.cut == []


def test_dark_readers_get_light_text_on_a_dark_page(page):
    light, dark = look(page, [View(width=1280), View(width=1280, dark=True)])
    assert _luminance(light.paper) > 200 > 60 > _luminance(light.ink)
    assert _luminance(dark.paper) < 60 < 200 < _luminance(dark.ink)
    assert dark.cut == []


def test_a_planted_fault_is_seen(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    spoiled = tmp_path / "spoiled.html"
    wide = '<p style="width:3000px">wide</p><div role="img">unnamed</div>'
    text = text.replace("</header>", f"{wide}</header>").replace("@container(", "@container(min-width:99999px) and (")
    # A label of the x axis, drawn twice a few pixels apart.
    label = re.search(r'<text class="f" x="253" y="(\d+)" text-anchor="middle">[^<]*</text>', text)
    assert label is not None
    text = text.replace(label[0], label[0] + label[0].replace('x="253"', 'x="260"'), 1)
    spoiled.write_text(text.replace("default-src 'none'", "img-src *"), encoding="utf-8")
    (found,) = look(spoiled, [View(width=390)])
    assert found.overflow > 500
    assert found.unnamed == 1
    assert found.cut != []
    assert found.overlaps != []


def test_a_request_to_outside_is_seen(page, tmp_path):
    asking = tmp_path / "asking.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    asking.write_text(text.replace("</header>", '<img alt="x" src="http://127.0.0.1:9/x.png"></header>'), encoding="utf-8")
    (found,) = look(asking, [View(width=390)])
    assert found.requests == ["http://127.0.0.1:9/x.png"]


def test_print_shows_what_the_screen_folds(page):
    screen, paper = look(page, [View(width=1280, unfold=False), View.paper()])
    assert paper.tables > screen.tables >= 1


def _luminance(color: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
