"""Status as lines: the runs that fit on a screen, and sparklines."""

from __future__ import annotations

from cpt_ray.records import StudyStatus
from cpt_ray.study.live.status.gather import gather
from cpt_ray.study.live.status.place import Place
from cpt_ray.study.live.status.text import render_status, sparkline
from tests.study.live.status.made_up_root import (
    make_root,
)


def look(root) -> StudyStatus:
    return gather(Place(root, True, None))


def test_more_runs_than_a_screen_holds_are_counted(tmp_path):
    status = look(make_root(tmp_path / "runs"))
    many = [status.runs[0].model_copy(update={"name": f"r{n}", "state": "done" if n < 30 else "waiting"}) for n in range(60)]
    text = render_status(status.model_copy(update={"runs": tuple(many)}))
    assert "  and 40 more: 10 waiting, 30 done" in text


def test_a_sparkline_goes_from_the_lowest_to_the_highest_and_is_as_wide_as_it_may_be():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([1.0, float("nan"), 8.0]) == "▁█"
    assert len(sparkline(list(range(1000)))) == 24
