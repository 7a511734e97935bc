"""The comparison: pairs, points, determinism, and every error message."""

from __future__ import annotations

import pytest

from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.records import Comparison, FailedScore
from tests.compare.conftest import CONFIG, Laboratory
from tests.compare.test_verdict import conclude


def fill(laboratory, *, seeds=(0,), model="m"):
    laboratory.add(model=model, right=10)
    for seed in seeds:
        for budget, law in ((100, 0.95), (200, 0.9), (400, 0.87)):
            laboratory.add("legal", budget, seed=seed, law=law, model=model, noise=0.01, right=11)
        laboratory.add("control", 400, seed=seed, law=0.99, model=model, noise=0.01, right=9)


def pairs(comparison, set_name="law"):
    return [(delta.subject, delta.reference) for delta in comparison.deltas if delta.set_name == set_name]


def test_each_budget_meets_the_base_and_its_predecessor_and_the_largest_meets_its_control(laboratory):
    fill(laboratory)

    comparison = conclude(laboratory)

    assert pairs(comparison) == [
        ("m-control-400-seed0", "m-base"),
        ("m-legal-100-seed0", "m-base"),
        ("m-legal-200-seed0", "m-base"),
        ("m-legal-400-seed0", "m-base"),
        ("m-legal-400-seed0", "m-control-400-seed0"),
        ("m-legal-200-seed0", "m-legal-100-seed0"),
        ("m-legal-400-seed0", "m-legal-200-seed0"),
    ]
    # The exam has none between budgets: all of them have the same items right.
    assert all(delta.interval is not None for delta in comparison.deltas if delta.set_name == "law")
    assert {delta.measure for delta in comparison.deltas} == {"bits_per_byte", "accuracy_points", "accuracy_norm_points"}
    assert {delta.set_name for delta in comparison.deltas} == {"law", "news", "smoke"}


def test_what_failed_is_recorded_and_said_and_everything_else_is_compared(laboratory):
    fill(laboratory)
    failed = FailedScore(run="m-legal-400-seed0", task="smoke", reason="no data", fix="fetch it")
    laboratory.evals[3] = laboratory.evals[3].model_copy(update={"exams": (), "failed": (failed,)})

    found = conclude(laboratory)

    assert found.failed == (failed,)
    said = "smoke was not scored on m-legal-400-seed0, failed: no data; running the same command again tries it again."
    assert said in found.notes
    assert list(dict.fromkeys(pairs(found, "smoke"))) == [
        ("m-control-400-seed0", "m-base"),
        ("m-legal-100-seed0", "m-base"),
        ("m-legal-200-seed0", "m-base"),
        ("m-legal-200-seed0", "m-legal-100-seed0"),
    ]
    assert len(pairs(found)) == 7


def test_a_control_at_every_budget_is_met_at_its_own(laboratory):
    fill(laboratory)
    laboratory.add("control", 200, law=1.0, right=9)

    comparison = conclude(laboratory)

    against_control = [pair for pair in pairs(comparison) if "control" in pair[1]]
    assert against_control == [
        ("m-legal-200-seed0", "m-control-200-seed0"),
        ("m-legal-400-seed0", "m-control-400-seed0"),
    ]
    assert "m-control-400-seed0" in comparison.verdict
    assert "m-control-200-seed0" not in comparison.verdict


def test_a_merge_meets_the_base_and_its_budget_and_is_in_no_verdict(laboratory):
    fill(laboratory, seeds=(0, 1))
    before = conclude(laboratory)
    for seed in (0, 1):
        # Far better than any budget: it would be the headline if it were one.
        laboratory.add("legal", 400, seed=seed, law=0.5, noise=0.01, right=30, merge="frontier")

    after = conclude(laboratory)

    assert [getattr(after, field) for field in ("headline", "verdict", "notes", "tokens_seen", "tokens_paid")] == [
        getattr(before, field) for field in ("headline", "verdict", "notes", "tokens_seen", "tokens_paid")
    ]
    assert after.deltas[: len(before.deltas)] == before.deltas
    cell = "m-legal-400-frontier-0.5"
    assert pairs(after)[len(pairs(before)) :] == [
        (f"{cell} (mean of 2 seeds)", "m-base"),
        (f"{cell}-seed0", "m-base"),
        (f"{cell}-seed1", "m-base"),
        (f"{cell} (mean of 2 seeds)", "m-legal-400 (mean of 2 seeds)"),
        (f"{cell}-seed0", "m-legal-400-seed0"),
        (f"{cell}-seed1", "m-legal-400-seed1"),
    ]
    assert {point.run for point in after.points if point.merged} == {f"{cell}-seed0", f"{cell}-seed1"}


def test_points_start_at_the_base_and_keep_the_control_as_an_arm_of_its_own(laboratory):
    fill(laboratory)

    points = [point for point in conclude(laboratory).points if point.set_name == "law"]

    assert [(point.arm, point.tokens_seen) for point in points] == [
        (None, 0),
        ("legal", 107),
        ("legal", 207),
        ("legal", 407),
        ("control", 407),
    ]
    assert points[0].bits_per_byte == pytest.approx(1.0)
    assert all(point.interval.low <= point.bits_per_byte <= point.interval.high for point in points)


def test_a_checkpoint_that_is_not_annealed_is_drawn_and_never_compared(laboratory):
    fill(laboratory)
    laboratory.add("legal", None, annealed=False, law=0.5)
    laboratory.add("legal", 800, annealed=False, law=0.5)

    comparison = conclude(laboratory)

    hollow = [point.run for point in comparison.points if not point.annealed and point.set_name == "law"]
    assert hollow == ["m-legal-None-seed0", "m-legal-800-seed0"]
    assert not any(run in pair for run in hollow for pair in pairs(comparison))
    assert any("2 scores are of checkpoints whose learning rate has not decayed" in note for note in comparison.notes)


def test_several_seeds_are_averaged_and_listed(laboratory):
    fill(laboratory, seeds=(0, 1, 2))

    comparison = conclude(laboratory)

    found = pairs(comparison)
    assert ("m-legal-400 (mean of 3 seeds)", "m-base") in found
    assert ("m-legal-400 (mean of 3 seeds)", "m-control-400 (mean of 3 seeds)") in found
    assert ("m-legal-400-seed1", "m-control-400-seed1") in found
    assert "m-control-400 (mean of 3 seeds)" in comparison.verdict


def test_each_model_gets_its_own_sentence(laboratory):
    fill(laboratory, model="small")
    fill(laboratory, model="large")

    verdict = conclude(laboratory).verdict

    assert "tokens of legal on small: " in verdict
    assert "tokens of legal on large: " in verdict
    assert not any("small" in pair[0] and "large" in pair[1] for pair in pairs(conclude(laboratory)))


def test_the_same_scores_give_the_same_comparison_and_survive_json(laboratory):
    fill(laboratory, seeds=(0, 1))

    first, second = conclude(laboratory), conclude(laboratory)

    assert first == second
    assert Comparison.from_json(first.to_json()) == first
    assert (first.tokens_seen, first.tokens_paid) == (407, 123)


@pytest.mark.accept(answer=2)
def test_a_base_without_scores_is_an_error(laboratory):
    laboratory.add("legal", 100)
    with pytest.raises(DataError, match="the base of m was not scored; everything is compared with it") as caught:
        conclude(laboratory)
    assert "run `cpt-ray evaluate`" in caught.value.fix


def test_scores_without_a_run_or_a_folder_are_an_error(laboratory):
    laboratory.add()
    laboratory.runs.clear()
    with pytest.raises(DataError, match="m-base has scores, but no run record or no evaluation folder"):
        conclude(laboratory)


def test_scores_on_validation_only_are_an_error(laboratory):
    laboratory.add(parts=("validation",))
    with pytest.raises(DataError, match="m-base has no scores on a test set"):
        conclude(laboratory)


def test_another_arms_domain_is_a_probe_for_an_arm_and_the_caveats_of_the_study_are_noted(laboratory):
    laboratory.add(roles={"news": "domain"})
    laboratory.add("legal", 400, law=0.9, news=1.05, roles={"news": "domain"})
    laboratory.add("press", 400, law=1.0, news=0.9, roles={"news": "domain"})
    probes = {"legal": frozenset({"news"}), "press": frozenset({"law"})}
    found = compare(
        laboratory.evals,
        laboratory.folders,
        laboratory.runs,
        CONFIG,
        Facts(control_arms=frozenset(), probes=probes),
        caveats=("No probe.",),
    )
    roles = {(delta.subject.split("-")[1], delta.set_name): delta.role for delta in found.deltas}
    assert roles == {
        ("legal", "law"): "domain",
        ("legal", "news"): "probe",
        ("press", "law"): "probe",
        ("press", "news"): "domain",
    }
    assert found.notes[-1] == "No probe."
    assert "text that it does not train on (news) rose by 0.0500" in found.verdict
    assert "against the base: forgetting, more than the tolerance of 0.02" in found.verdict
    assert "forgetting 0.050 on news" in found.headline


def test_the_headline_names_the_worst_of_probes_and_general_text(laboratory):
    roles = {"essays": "probe"}
    sets = ("law", "news", "essays")
    laboratory.add(sets=sets, roles=roles)
    laboratory.add("legal", 400, law=0.9, news=1.2, essays=1.03, sets=sets, roles=roles)
    found = conclude(laboratory)
    assert "forgetting 0.200 on news" in found.headline
    assert "text that it does not train on (essays) rose by 0.0300" in found.verdict
    assert "general text (news) rose by 0.2000" in found.verdict


@pytest.mark.accept(answer=2)
def test_models_with_different_tokenizers_are_not_compared_in_perplexity(laboratory):
    fill(laboratory, model="small")
    fill(laboratory, model="large")
    assert not any("perplexity" in note for note in conclude(laboratory).notes)

    base = next(record for record in laboratory.evals if record.run == "large-base")
    tokens = tuple(score.model_copy(update={"scored_tokens": 7}) for score in base.held_out)
    laboratory.evals[laboratory.evals.index(base)] = base.model_copy(update={"held_out": tokens})

    assert (
        "small and large have different tokenizers: a perplexity is per token and does not compare between them; compare bits "
        "per byte."
    ) in conclude(laboratory).notes


def test_a_study_of_three_budgets_and_seeds_has_a_forecast_and_one_of_two_says_why_not(laboratory):
    fill(laboratory, seeds=(0, 1))
    found = conclude(laboratory).answers
    (legal,) = (one for one in found.forecasts if (one.arm, one.set_name) == ("legal", "law"))
    assert legal.change is not None
    (control,) = (one for one in found.forecasts if (one.arm, one.set_name) == ("control", "law"))
    assert control.missing == "1 budget: a curve needs at least 3, besides the base"


def test_too_few_subsets_to_judge_so_many_sets_are_said_with_as_many_as_it_takes(tmp_path):
    """Three sets, each far from zero: with 100 subsets no p-value is below 2/101, three times which is above 5 %."""
    said = "law, news, essays: compare.subsets is too small to judge so many sets together: set it to 120 or more."
    for subsets, few in ((100, True), (120, False)):
        laboratory = Laboratory(tmp_path / str(subsets))
        sets = ("law", "news", "essays")
        laboratory.add(sets=sets)
        laboratory.add("legal", 400, law=0.5, news=1.5, essays=1.7, sets=sets)
        config = CompareConfig(subsets=subsets)
        found = compare(laboratory.evals, laboratory.folders, laboratory.runs, config, Facts(control_arms=frozenset()))
        assert (said in found.notes) is few
        assert {delta.unsettled for delta in found.deltas} == {few}
        # It would be no difference of any size.
        assert {delta.smallest_effect is None for delta in found.deltas} == {few}
