"""Progress lines: done, rate, time left."""

from __future__ import annotations

import pytest

from cpt_ray.records import StepMetrics
from cpt_ray.study import progress
from cpt_ray.study.progress import StageProgress, describe_steps, format_eta
from tests.run_specs import make_spec


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        raise AssertionError("progress is a line that is replaced")

    def progress(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")]
)
def test_time_left_is_written_the_way_people_read_it(seconds, text):
    assert format_eta(seconds) == text


def test_units_are_shown_with_rate_and_time_left_once_there_is_one(monkeypatch):
    heard, clock = Heard(), iter([100.0, 102.0, 104.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    show = StageProgress(heard)
    show("clean", 0, 8)
    show("clean", 2, 8)
    show("clean", 8, 8)
    show("pack", 0, 3)  # a stage of its own, with a clock of its own
    assert heard.lines == [
        "  clean 0/8 units",
        "  clean 2/8 units, 1.0 units/s, ETA 6 s",
        "  clean 8/8 units, 2.0 units/s, ETA 0 s",
        "  pack 0/3 units",
    ]


def step(number: int, **changes: object) -> StepMetrics:
    fields = {
        "attempt": 1,
        "step": number,
        "tokens_seen": 100 * number,
        "loss": 2.5,
        "learning_rate": 3e-4,
        "gradient_norm": 1.0,
        "tokens_per_s": 50.0,
        "step_s": 2.0,
        "data_wait_s": 0.0,
        "mfu": None,
        **changes,
    }
    return StepMetrics.model_validate(fields)


def test_a_run_is_shown_with_its_tokens_loss_rate_and_time_left():
    spec = make_spec(2000, cooldown=1500, name="tiny-legal-2000-seed0")
    line = describe_steps(spec, (step(1), step(2)))
    assert line == "  tiny-legal-2000-seed0  step 2  200/2k tokens  loss 2.500  lr 3.00e-04  50 tokens/s  ETA 36 s"


def test_the_rate_is_that_of_the_last_ten_steps():
    spec = make_spec(9000)
    slow = [step(number, tokens_per_s=1.0) for number in range(1, 11)]
    fast = [step(number, tokens_per_s=80.0) for number in range(11, 21)]
    assert "  80 tokens/s  " in describe_steps(spec, (*slow, *fast))
