"""Records as MLflow metrics: keys, tokens on the x axis, values."""

import pytest

from cpt_ray.edges.tracking.metrics import (
    curve_metrics,
    event_metrics,
    exam_metrics,
    fit_metrics,
    fit_tags,
    held_out_metrics,
    memory_metrics,
)
from tests.edges.points import CONTROL, FITS, POINTS, event, held_out, memory, point
from tests.report.made_up import evaluation


def test_what_was_watched_becomes_metrics_against_tokens():
    assert held_out_metrics([held_out(20, 1.5)]) == [
        ("during_training.domain.law.bits_per_byte", 20, 1.5),
        ("during_training.domain.law.nats_per_token", 20, 3.0),
    ]
    # The highest over phases and workers; without a peak, the resident size; without a GPU, nothing.
    points = [memory(10, "load", 5, 7), memory(10, "forward", 6, 9), memory(20, "steps", 6, None)]
    assert memory_metrics(points) == [("memory.host_peak_bytes", 10, 9.0), ("memory.host_peak_bytes", 20, 6.0)]
    assert ("memory.device_peak_bytes", 10, 3.0) in memory_metrics([memory(10, "forward", 6, 9, device=3)])
    happened = [event("spike", 30), event("skipped_step", 40), event("skipped_step", 40), event("spike", 20)]
    assert event_metrics(happened) == [("events.spike", 20, 1.0), ("events.spike", 30, 2.0), ("events.skipped_step", 40, 2.0)]


def test_exam_scores_stand_at_the_tokens_that_the_model_saw():
    record = evaluation("m-legal", "legal", 400, 1.2, 1.1, 0.3)
    assert exam_metrics(record) == [
        ("exam.mmlu_dev_smoke.accuracy", 400, 0.3),
        ("exam.mmlu_dev_smoke.accuracy_norm", 400, pytest.approx(0.317)),
    ]
    letter = record.exams[0].model_copy(
        update={"task": "own@1", "letter_perplexity": 3.5, "margin": -0.2, "accuracy_norm": None}
    )
    assert [(key, value) for key, _, value in exam_metrics(record.model_copy(update={"exams": (letter,)}))] == [
        ("exam.own:1.accuracy", 0.3),
        ("exam.own:1.letter_perplexity", 3.5),
        ("exam.own:1.margin", -0.2),
    ]


def test_a_merge_is_on_no_curve():
    merged = point(100, 0.5, "legal", merged=True)
    assert curve_metrics((*POINTS, merged), CONTROL) == curve_metrics(POINTS, CONTROL)


def test_curve_keys_name_models_arms_and_hollow_points_only_where_needed():
    hollow = point(30, 1.35, "legal", annealed=False)
    assert curve_metrics((*POINTS, hollow), CONTROL)["not_annealed.domain.law.bits_per_byte", 30] == 1.35
    two = (point(0, 1.4, None), point(9, 1.3, "a"), point(9, 1.2, "b"))
    assert set(curve_metrics(two, CONTROL)) == {
        (f"{arm}.domain.law.bits_per_byte", tokens) for arm in ("a", "b") for tokens in (0, 9)
    }
    models = (point(0, 1.4, None), point(0, 1.5, None, model="n"), point(9, 1.3, "a"), point(9, 1.2, "a", model="n"))
    assert curve_metrics(models, CONTROL)["n.domain.law.bits_per_byte", 0] == 1.5
    seeds = (point(9, 1.0, "a"), point(9, 2.0, "a", seed=1))
    assert curve_metrics(seeds, CONTROL) == {("domain.law.bits_per_byte", 9): 1.5}


def test_parameters_of_fits_have_their_intervals_and_no_end_that_is_not_known():
    assert fit_metrics(FITS) == {
        ("fit.tokens.m.legal.law.E", 0): 0.7,
        ("fit.tokens.m.legal.law.E.low", 0): 0.6,
        ("fit.tokens.m.legal.law.E.high", 0): 0.8,
        ("fit.tokens.m.legal.law.b", 0): 0.5,
        ("fit.tokens.m.legal.law.b.low", 0): 0.1,
    }
    assert fit_tags(FITS) == {
        "cpt_ray.fit.tokens.m.legal.law": (
            "E + ...; 4 points, 8 scores, 2 seeds, 1 degrees of freedom; 4 points: a curve through so few fits almost anything"
        ),
        "cpt_ray.fit.size.all_models.legal.law": "not fitted: 2 model sizes: a curve needs at least 3",
    }


def test_arms_of_a_grid_are_named_as_mlflow_allows():
    two = (point(0, 1.4, None), point(9, 1.3, "a@mix-half+factor-0.5"), point(9, 1.2, "a@mix-most+factor-0.5"))
    assert {key for key, _ in curve_metrics(two, CONTROL)} == {
        "a:mix-half:factor-0.5.domain.law.bits_per_byte",
        "a:mix-most:factor-0.5.domain.law.bits_per_byte",
    }
