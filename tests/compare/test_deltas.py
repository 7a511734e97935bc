"""Paired differences: hand-computed values, pairing, seeds, coverage, and errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from cpt_ray.compare.deltas import Cell, Scored, cell_deltas, relative_percent
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate.per_item import ScoredDocument, ScoredItem, format_scores
from tests.compare.conftest import CONFIG, Laboratory


def cell(laboratory: Laboratory, *records) -> Cell:
    first = records[0]
    scored = (next(one for one in laboratory.evals if one.run == record.run) for record in records)
    return Cell(
        first.model, first.arm, first.budget_tokens, tuple(Scored(record, laboratory.folders[record.run]) for record in scored)
    )


def write_documents(laboratory, record, rows):
    """Score other documents of `law`, and say so in the record."""
    path = laboratory.folders[record.run] / "held_out/law-test.jsonl"
    documents = [ScoredDocument(identity, "same for all", *rest) for identity, *rest in rows]
    path.write_text(format_scores(documents))
    sums = {
        "documents": len(documents),
        "nats": sum(one.nats for one in documents),
        "scored_bytes": sum(one.bytes for one in documents),
    }
    place = next(number for number, one in enumerate(laboratory.evals) if one.run == record.run)
    held_out = tuple(score.model_copy(update=sums if score.source == "law" else {}) for score in record.held_out)
    laboratory.evals[place] = record.model_copy(update={"held_out": held_out})


def only(deltas, set_name="law", measure="bits_per_byte"):
    [delta] = [delta for delta in deltas if delta.set_name == set_name and delta.measure == measure]
    return delta


def test_a_difference_pools_documents_by_bytes(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    two = math.log(2)
    write_documents(laboratory, base, [("a", 4 * two, 3, 2), ("b", 8 * two, 3, 8)])
    write_documents(laboratory, run, [("a", 2 * two, 3, 2), ("b", 8 * two, 3, 8)])

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall)

    assert delta.subject_value == pytest.approx(1.0)  # 10 bits in 10 bytes
    assert delta.reference_value == pytest.approx(1.2)
    assert delta.difference == pytest.approx(-0.2)
    assert delta.relative_percent == pytest.approx(-100 / 6)
    assert (delta.subject, delta.reference, delta.items) == ("m-legal-100-seed0", "m-base", 2)
    assert delta.interval is None
    assert delta.better is None
    assert delta.missing == "2 units are too few: at least 10 are needed"


def test_pairing_sees_a_difference_far_below_the_spread_of_documents(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    random = np.random.default_rng(0)
    values = random.gamma(4, 0.3, size=60) * 300
    write_documents(laboratory, base, [(str(n), value, 90, 300) for n, value in enumerate(values)])
    write_documents(laboratory, run, [(str(n), value * 0.999, 90, 300) for n, value in enumerate(values)])

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall)

    assert values.std() > 100 * abs(delta.difference) * 300 * math.log(2)
    assert delta.better is True
    assert delta.interval.low < delta.difference < delta.interval.high < 0


@pytest.mark.parametrize(("law", "better"), [(0.9, True), (1.0, None), (1.1, False)])
def test_lower_bits_per_byte_is_better_only_beyond_the_interval(laboratory, law, better):
    base, run = laboratory.add(noise=0.05), laboratory.add("legal", 100, law=law, noise=0.05)

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall)

    assert delta.better is better
    assert delta.interval.kind == "over documents; evaluation items only, not training randomness"


@pytest.mark.parametrize(("right", "better"), [(20, True), (12, None), (2, False)])
def test_higher_accuracy_is_better_only_beyond_the_interval(laboratory, right, better):
    base, run = laboratory.add(right=11), laboratory.add("legal", 100, right=right)

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall, "smoke", "accuracy_points")

    assert delta.better is better
    assert delta.difference == pytest.approx(100 * (right - 11) / 40)
    assert delta.role == "exam"


@pytest.mark.parametrize(("right", "p_value"), [(14, 2 / 2**4), (18, 2 / 2**8)])
def test_exam_items_are_judged_like_the_sign_test(laboratory, right, p_value):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=right)
    config = CompareConfig(subsets=20_000)

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), config).overall, "smoke", "accuracy_norm_points")

    assert delta.p_value == pytest.approx(p_value, rel=0.2)
    assert delta.better is (True if p_value < 0.05 else None)
    assert delta.interval.kind == "over items; evaluation items only, not training randomness"
    assert delta.relative_percent == pytest.approx(100 * (right - 10) / 10)


@pytest.mark.parametrize(("better", "worse"), [(5, 0), (6, 0), (8, 1), (14, 4), (15, 4), (3, 3)])
def test_right_and_wrong_answers_are_judged_by_mcnemars_exact_test(laboratory, better, worse):
    base, run = laboratory.add(right=20), laboratory.add("legal", 100, right=20 + better - worse)
    right = [n >= worse for n in range(20)] + [n < better for n in range(20)]
    write_exam(laboratory, run, [item(n, accuracy=float(one)) for n, one in enumerate(right)])

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall, "smoke", "accuracy_points")

    exact = float(binomtest(better, better + worse).pvalue)
    assert delta.p_value == pytest.approx(exact)
    assert delta.better is (True if exact <= 0.05 else None)
    # Judgment and interval are one: it excludes zero where, and only where, the test does.
    assert (delta.interval.low > 0) is (exact <= 0.05)


def write_exam(laboratory, record, items, **fields):
    """Give a record other items of its exam, and its scores."""
    (laboratory.folders[record.run] / "exams/smoke.jsonl").write_text(format_scores(items))
    place = next(number for number, one in enumerate(laboratory.evals) if one.run == record.run)
    changed = {"items": len(items), "accuracy": sum(one.accuracy for one in items) / len(items), **fields}
    exams = tuple(exam.model_copy(update=changed) for exam in record.exams)
    laboratory.evals[place] = record.model_copy(update={"exams": exams})


def item(number, **fields):
    return ScoredItem(**{"id": f"q{number}", "accuracy": 0.0, "accuracy_norm": 0.0, "log_p": (-1.0,) * 4, **fields})


def letters(shift, seed=0):
    """Forty letter questions whose correct choice, the first, has `shift` more nats than by chance."""
    random = np.random.default_rng(seed)
    return [item(n, log_p=(-2.0 + shift + random.normal(0, 0.05), -2.0, -2.5, -3.0), right=0) for n in range(40)]


MEASURES_OF_LETTERS = {"letter_perplexity": 7.0, "margin": 0.0, "suite": "general"}


@pytest.mark.parametrize(("shift", "better"), [(0.3, True), (0.0, None), (-0.3, False)])
def test_the_letters_perplexity_and_the_margin_are_compared_like_accuracy(laboratory, shift, better):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=10)
    write_exam(laboratory, base, letters(0.0), **MEASURES_OF_LETTERS)
    write_exam(laboratory, run, letters(shift, seed=1), **MEASURES_OF_LETTERS)

    deltas = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall

    letter, margin = (only(deltas, "smoke", measure) for measure in ("letter_nats", "margin_nats"))
    assert (letter.better, margin.better) == (better, better)
    assert letter.difference == pytest.approx(-shift, abs=0.03)
    # The correct choice against the second, which has the same probability as by chance.
    assert margin.difference == pytest.approx(shift, abs=0.03)
    assert letter.subject_value == pytest.approx(2.0 - shift, abs=0.03)
    assert letter.relative_percent == pytest.approx(100 * math.expm1(letter.difference))
    assert margin.relative_percent is None
    assert {delta.suite for delta in deltas if delta.role == "exam"} == {"general"}
    assert letter.interval.kind == "over items; evaluation items only, not training randomness"


def test_orders_of_the_choices_are_compared_too_and_what_follows_the_letter_is_worse(laboratory):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=10)
    fields = {"order_accuracy": 0.5, "order_changes": 0.5}
    for record, changes in ((base, 0.0), (run, 1.0)):
        found = [item(n, order_accuracy=0.25, order_changes=changes * (n % 2)) for n in range(40)]
        write_exam(laboratory, record, found, **fields)

    deltas = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall

    assert only(deltas, "smoke", "order_changes_points").better is False
    assert only(deltas, "smoke", "order_changes_points").difference == pytest.approx(50.0)
    assert only(deltas, "smoke", "order_accuracy_points").better is None


def test_each_measure_is_a_family_of_its_own_over_exams(laboratory):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=16)
    deltas = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall
    accuracy = only(deltas, "smoke", "accuracy_points")
    assert accuracy.adjusted_p_value == accuracy.p_value == pytest.approx(2 / 2**6)


def test_items_that_have_a_group_are_compared_by_group(laboratory):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=20)
    for record, right in ((base, 10), (run, 20)):
        items = [ScoredItem(f"q{n}", *[float(n < right)] * 2, (-1.0,) * 4, group=str(n % 20)) for n in range(40)]
        (laboratory.folders[record.run] / "exams/smoke.jsonl").write_text(format_scores(items))

    delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall, "smoke", "accuracy_points")

    assert delta.interval.kind.startswith("over groups of items; ")
    assert (delta.items, delta.difference) == (40, 25.0)


def test_of_many_sets_one_must_be_surer_than_alone(laboratory):
    """Holm: the smaller of two p-values counts twice."""
    sets = ("law", "news")
    base = laboratory.add(noise=0.3, sets=sets)
    run = laboratory.add("legal", 100, law=0.85, noise=0.3, sets=sets)

    law, news = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall

    smaller, larger = sorted((law, news), key=lambda delta: delta.p_value)
    assert smaller.adjusted_p_value == pytest.approx(2 * smaller.p_value)
    assert larger.adjusted_p_value == pytest.approx(max(larger.p_value, smaller.adjusted_p_value))


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(laboratory, damage):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    rows = [(str(n), 10.0 + n, 3, 8) for n in range(12)]
    write_documents(laboratory, base, rows)
    write_documents(laboratory, run, [*rows[:-1], ("11", damage, 3, 8)])
    with pytest.raises(DataError, match=r"line 12: not a per-document score: nats: Input should be a finite number") as caught:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert caught.value.fix == "delete the evaluation's folder and run `cpt-ray evaluate` again"


@pytest.mark.accept(answer=2)
def test_documents_of_no_bytes_are_an_error_only_if_all_are(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    rows = [(str(n), 10.0 + n, 3, 8 * (n > 0)) for n in range(12)]
    for record in (base, run):
        write_documents(laboratory, record, rows)
    assert math.isfinite(only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall).difference)
    rows = [(str(n), 10.0 + n, 3, 0) for n in range(12)]
    for record in (base, run):
        write_documents(laboratory, record, rows)
    with pytest.raises(DataError, match="law: m-legal-100-seed0 against m-base: the weights of all units are 0") as caught:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert caught.value.fix == "delete the evaluation folders of both and run `cpt-ray evaluate` again"


def test_identical_scores_are_no_difference(laboratory):
    base, run = laboratory.add(right=10, noise=0), laboratory.add("legal", 100, right=10, noise=0)

    deltas = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall

    assert [delta.better for delta in deltas] == [None] * 4
    assert {delta.difference for delta in deltas} == {0.0}
    assert {delta.interval for delta in deltas} == {None}


def test_with_several_seeds_the_mean_is_labeled_and_each_seed_stays_visible(laboratory):
    base = laboratory.add(right=10)
    seeds = [laboratory.add("legal", 100, seed=seed, law=law, right=12) for seed, law in enumerate([0.8, 0.9, 1.0])]

    paired = cell_deltas(cell(laboratory, *seeds), cell(laboratory, base), CONFIG)

    delta = only(paired.overall)
    assert delta.subject == "m-legal-100 (mean of 3 seeds)"
    assert delta.difference == pytest.approx(-0.1, abs=1e-5)
    assert delta.interval.kind == "over documents and 3 seeds"
    # Nearly no spread between documents here: a t interval of three seeds with a standard deviation of 0.1.
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert delta.interval.low == pytest.approx(-0.1 - half, abs=1e-4)
    assert delta.interval.high == pytest.approx(-0.1 + half, abs=1e-4)
    assert only(paired.overall, "smoke", "accuracy_points").interval.kind == "over items and 3 seeds"
    singles = [d for d in paired.by_seed if d.set_name == "law"]
    assert [d.subject for d in singles] == [seed.run for seed in seeds]
    assert [d.difference for d in singles] == pytest.approx([-0.2, -0.1, 0.0], abs=1e-5)
    assert all("not training randomness" in d.interval.kind for d in singles)


def test_trained_cells_are_paired_by_seed(laboratory):
    arms = [laboratory.add("legal", 100, seed=seed, law=0.9 - seed / 10) for seed in (0, 1, 2)]
    controls = [laboratory.add("control", 100, seed=seed, law=1.0 - seed / 10) for seed in (2, 1)]

    paired = cell_deltas(cell(laboratory, *arms), cell(laboratory, *controls), CONFIG)

    law = [delta for delta in paired.by_seed if delta.set_name == "law"]
    assert [(d.subject, d.reference) for d in law] == [
        ("m-legal-100-seed1", "m-control-100-seed1"),
        ("m-legal-100-seed2", "m-control-100-seed2"),
    ]
    assert [d.difference for d in law] == pytest.approx([-0.1, -0.1], abs=1e-5)
    mean = only(paired.overall)
    assert mean.interval.high == pytest.approx(-0.1, abs=1e-4)  # seeds cancel in pairs
    # The arm's first seed is in no pair, nor in the mean and its name.
    assert (mean.subject, mean.reference) == ("m-legal-100 (mean of 2 seeds)", "m-control-100 (mean of 2 seeds)")


def test_cells_without_a_common_seed_are_not_compared(laboratory):
    arm, control = laboratory.add("legal", 100, seed=0), laboratory.add("control", 100, seed=1)

    assert cell_deltas(cell(laboratory, arm), cell(laboratory, control), CONFIG) == ((), ())


def test_paired_intervals_cover_the_true_difference_about_as_often_as_they_say(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    random = np.random.default_rng(5)
    sizes = random.integers(200, 2000, size=60)
    covered = 0
    for _ in range(120):
        level = random.normal(1.0, 0.3, size=60)
        shift = random.normal(-0.02, 0.05, size=60)
        for record, values in ((base, level), (run, level + shift)):
            rows = [(str(n), float(v * s * math.log(2)), 9, int(s)) for n, (v, s) in enumerate(zip(values, sizes, strict=True))]
            write_documents(laboratory, record, rows)
        delta = only(cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall)
        covered += delta.interval.low <= -0.02 <= delta.interval.high
    assert 103 <= covered <= 119


def test_only_the_test_part_is_compared(laboratory):
    parts = ("validation", "test")
    base, run = laboratory.add(parts=parts), laboratory.add("legal", 100, parts=parts)

    overall = cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall

    assert [delta.set_name for delta in overall] == ["law", "news"]


def test_other_documents_are_refused(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    write_documents(laboratory, run, [("other", 1.0, 1, 1), ("law_1", 1.0, 1, 1)])
    with pytest.raises(DataError, match="law: m-legal-100-seed0 and m-base were not scored on the same documents") as caught:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert "evaluate" in caught.value.fix


def test_the_same_document_over_other_bytes_is_refused(laboratory):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    write_documents(laboratory, base, [("a", 1.0, 1, 4), ("b", 1.0, 1, 4)])
    write_documents(laboratory, run, [("a", 1.0, 1, 4), ("b", 1.0, 2, 9)])
    message = (
        r"'same for all' \(b\) was scored over 9 bytes in 2 tokens by m-legal-100-seed0, over 4 bytes in 1 tokens by m-base"
    )
    with pytest.raises(DataError, match=message):
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)


def test_a_set_or_exam_that_the_reference_lacks_is_refused(laboratory):
    base = laboratory.add(sets=("news",))
    run = laboratory.add("legal", 100, right=3)
    with pytest.raises(DataError, match="m-base was not scored on the test set of law"):
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    whole = laboratory.add(model="n")
    with pytest.raises(DataError, match="n-base was not scored on the exam smoke"):
        cell_deltas(cell(laboratory, run), cell(laboratory, whole), CONFIG)


def test_other_exam_items_are_refused(laboratory):
    base, run = laboratory.add(right=3), laboratory.add("legal", 100, right=3)
    path = laboratory.folders[run.run] / "exams/smoke.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(lines[0]), "id": "other"}), *lines[1:]]) + "\n")
    with pytest.raises(DataError, match="exam smoke: m-legal-100-seed0 and m-base were not scored on the same items"):
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)


def test_a_percentage_of_nothing_is_a_convention():
    assert (relative_percent(3, 2), relative_percent(0, 0), relative_percent(5, 0)) == (50.0, 0.0, 100.0)
