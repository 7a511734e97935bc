"""The plan that a report shows, and the time that a stage took."""

from cpt_ray.config.load import load_study
from cpt_ray.records import Artifact
from cpt_ray.study.findings.planned import as_it_ran, planned_cost, seconds_covered
from cpt_ray.study.study import StudyDriver
from tests.report.made_up import make_contents
from tests.study.planned import Lines
from tests.study.test_grid import CONTEXT, MIX


def made(end: str, seconds: float) -> Artifact:
    return Artifact(
        stage="train", name="x", fingerprint="0", inputs={}, settings={}, files=(), wall_s=seconds, versions={},
        created=f"2026-01-01T00:{end}+00:00",
    )  # fmt: skip


def test_what_was_made_side_by_side_counts_once_and_a_pause_does_not_count():
    # 00:50 to 01:00, inside 00:30 to 01:10; then, after a pause, 02:00 to 02:05.
    assert seconds_covered([made("01:00", 10.0), made("01:10", 40.0), made("02:05", 5.0)]) == 45.0
    assert seconds_covered([]) == 0.0


def test_a_grid_is_planned_as_a_whole_and_each_model_by_its_worst_cell(tiny):
    def planned(*overrides):
        return planned_cost(StudyDriver(load_study(tiny.config, overrides), tiny.config, Lines()), [])

    alone, mixed, scored = planned(), planned(MIX), planned(CONTEXT)
    assert (alone.cells, mixed.cells, set(mixed.peak_bytes)) == (1, 2, {"tiny"})
    assert mixed.peak_bytes == alone.peak_bytes
    assert alone.seconds["train"] < mixed.seconds["train"] < 2 * alone.seconds["train"]
    assert mixed.seconds["prepare"] == alone.seconds["prepare"]
    # What is only scored otherwise is trained once, under the name of its first cell.
    assert scored.seconds["train"] == alone.seconds["train"]
    rows = planned("axes.rows={key: prepare.pack.sequence_length, values: [32, 64]}")
    assert rows.peak_bytes["tiny"] == max(planned(f"prepare.pack.sequence_length={n}").peak_bytes["tiny"] for n in (32, 64))


def test_a_report_that_is_written_elsewhere_plans_for_the_card_that_runs_computed_on():
    def ran_on(card):
        runs = [run for run in make_contents().runs if run.training]
        attempt = (
            runs[0]
            .training.attempts[-1]
            .model_copy(update={"peak_basis": f"measured on each worker ({card}) as the fastest product", "world_size": 8})
        )
        return [runs[0].model_copy(update={"training": runs[0].training.model_copy(update={"attempts": (attempt,)})})]

    choice = as_it_ran(ran_on("NVIDIA H100 80GB HBM3"), on_gpu=True)
    assert (choice.hardware.name, choice.workers) == ("h100", 8)
    assert as_it_ran(ran_on("a card of ours"), on_gpu=True) is None
    assert as_it_ran([], on_gpu=True) is None
    assert not as_it_ran([], on_gpu=False).hardware.is_gpu
