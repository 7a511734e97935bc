"""Progress lines: done, rate, time left."""

from __future__ import annotations

from cpt_ray.records import RunEvent, StepMetrics
from cpt_ray.study.live import lines as progress
from cpt_ray.study.live.lines import StageProgress, describe_event, describe_steps
from tests.run_records import run_steps
from tests.run_specs import make_spec


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        raise AssertionError("progress is a line that is replaced")

    def progress(self, text: str) -> None:
        self.lines.append(text)


def test_units_are_shown_with_rate_and_time_left_once_there_is_one(monkeypatch):
    heard, clock = Heard(), iter([100.0, 102.0, 104.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    show = StageProgress(heard)
    show("clean", 0, 8)
    show("clean", 2, 8)
    show("clean", 8, 8)
    show("pack", 0, 3)  # a separate stage with a separate clock
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
    line = describe_steps(spec, run_steps(step(1), step(2)))
    assert line == ("  tiny-legal-2000-seed0  10 % of 2k tokens  ETA 36 s  step 2  loss 2.500  50 tokens/s  lr 3.00e-04")
    troubled = (step(1, skipped=True), step(2, spike=True), step(3, spike=True))
    line = describe_steps(spec, run_steps(*troubled), "run 1/3")
    assert line.startswith("  run 1/3 tiny-legal-2000-seed0  15 % of 2k tokens")
    assert line.endswith("  1 step skipped  2 loss spikes")


def test_an_event_is_a_line_that_names_step_and_rows():
    spec = make_spec(9000, name="r")
    rows = tuple(f"law:{i}" for i in range(6))
    event = RunEvent(kind="spike", attempt=1, step=7, tokens_seen=1, text="loss 9, usual 2", sample_ids=rows)
    assert describe_event(spec, event) == "r  step 7  loss spike: loss 9, usual 2; rows law:0, law:1, law:2, law:3, ..."
    hang = RunEvent(kind="hang", attempt=1, step=7, tokens_seen=1, text="no worker has moved")
    assert describe_event(spec, hang) == "r  step 7  hang: no worker has moved"


def test_the_rate_is_that_of_the_last_ten_steps():
    spec = make_spec(9000)
    slow = [step(number, tokens_per_s=1.0) for number in range(1, 11)]
    fast = [step(number, tokens_per_s=80.0) for number in range(11, 21)]
    assert "  80 tokens/s  " in describe_steps(spec, run_steps(*slow, *fast))
