"""The benchmark of a large grid's report measures what it says: scores read from files, fits, differences, a page."""

import shutil

import pytest

from benchmarks.grid.page import BUDGETS, measure

pytestmark = [
    pytest.mark.browser,
    pytest.mark.accept(answer=5),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed, so nothing can load the page"),
]


def test_a_small_grid_is_compared_fitted_written_and_loaded(tmp_path):
    seconds, megabytes, load = measure(2, tmp_path)
    assert [one.id for one in (seconds, megabytes, load)] == [f"report.page_2_cells_{what}" for what in ("s", "mb", "load_s")]
    # Two sets: three arms against the base, two against the control, each budget after the first against the one before.
    assert seconds.raw["differences"] == 2 * (12 + 8 + 6)
    # In tokens and in compute, of two arms and the control.
    assert seconds.raw["fits"] == 2 * 2 * 3
    assert seconds.raw["runs"] == 1 + 3 * len(BUDGETS)
    assert seconds.value == seconds.raw["compare_s"] + seconds.raw["page_s"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "fitted curve at " in page
    assert megabytes.value == pytest.approx(len(page.encode()) / 1e6)
    assert 0 < load.value < 60
