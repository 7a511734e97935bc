"""Every wording of the verdict: gain, none, loss; control better, equal, worse, missing; forgetting; more training."""

from __future__ import annotations

import pytest

from cpt_ray.compare.comparison import compare
from cpt_ray.config.sections.evaluate import CompareConfig
from tests.compare.conftest import CONFIG, LABEL, Laboratory


def conclude(laboratory: Laboratory, config: CompareConfig = CONFIG):
    return compare(
        laboratory.evals,
        laboratory.folders,
        laboratory.runs,
        config,
        control_arms=frozenset({"control"}),
        tokens_paid=123,
    )


def study(laboratory: Laboratory, *, law=0.9, news=1.0, small=0.95, control=(1.0, 1.0), right=None, noise=0.0) -> str:
    """The verdict on 16k and 32k tokens of `legal`, by default with a control at 32k."""
    laboratory.add(right=None if right is None else right[0], noise=noise)
    exam = None if right is None else right[1]
    if small is not None:
        laboratory.add("legal", 16_000, law=small, right=exam, noise=noise)
    laboratory.add("legal", 32_000, law=law, news=news, right=exam, noise=noise)
    if control is not None:
        laboratory.add("control", 32_000, law=control[0], news=control[1], right=exam, noise=noise)
    return conclude(laboratory).verdict


def test_the_whole_sentence_of_a_plain_gain(laboratory):
    assert study(laboratory, law=0.9, news=1.01, small=0.95, control=(0.98, 0.995)) == (
        "32k tokens of legal on m: bits per byte on law fell by 0.1000 (95 % interval 0.1000 to 0.1000, -10.0 % relative) "
        "against the base; on law it fell by 0.0800 (95 % interval 0.0800 to 0.0800, -8.2 % relative) against the equal-token "
        "control m-control-32000-seed0; general text (news) rose by 0.0100 (95 % interval 0.0100 to 0.0100, +1.0 % relative) "
        "against the base, within the tolerance of 0.02; general text (news) rose by 0.0150 (95 % interval 0.0150 to 0.0150, "
        "+1.5 % relative) against the equal-token control m-control-32000-seed0, within the tolerance of 0.02; "
        "the last 16k tokens bought 0.0500 bits per byte on law (95 % interval 0.0500 to 0.0500); more training is indicated."
    )


@pytest.mark.parametrize(
    ("law", "noise", "says", "never"),
    [
        (0.9, 0.01, "bits per byte on law fell by 0.", "measurably change (-0.1"),
        (1.0, 0.1, "bits per byte on law did not measurably change (", "bits per byte on law fell"),
        (1.1, 0.01, "so the model got worse on its own domain", "law fell"),
    ],
)
def test_the_gain_is_called_what_it_is(laboratory, law, noise, says, never):
    verdict = study(laboratory, law=law, small=None, control=None, noise=noise)

    assert says in verdict
    assert never not in verdict


@pytest.mark.parametrize(
    ("control", "says"),
    [
        (1.0, "on law it fell by 0.1000"),
        (0.9, "so nothing shows that the domain text did more than additional training alone"),
        (0.8, "so the same number of tokens of the control's text did more for the domain"),
    ],
)
def test_the_control_is_heard(laboratory, control, says):
    verdict = study(laboratory, law=0.9, control=(control, 1.0))

    assert says in verdict
    assert "without an equal-token control" not in verdict


def test_a_missing_control_is_said_in_the_sentence_and_in_the_notes(laboratory):
    verdict = study(laboratory, control=None)

    assert "without an equal-token control, the effects of domain text and of more training are confounded" in verdict
    assert "against the equal-token control" not in verdict
    assert any("legal on m has no equal-token control" in note for note in conclude(laboratory).notes)


def test_a_control_at_another_budget_is_no_equal_token_control(laboratory):
    laboratory.add("control", 16_000)

    assert "without an equal-token control" in study(laboratory, control=None)


@pytest.mark.parametrize(
    ("news", "noise", "says", "forgets"),
    [
        (1.05, 0.0, "more than the tolerance of 0.02: this is forgetting", True),
        (1.01, 0.0, "general text (news) rose by 0.0100", False),
        (0.95, 0.0, "general text (news) fell by 0.0500", False),
        (1.0, 0.01, "general text (news) did not measurably change (", False),
        (1.0, 0.3, "though a loss above the tolerance of 0.02 is not ruled out", False),
    ],
)
def test_forgetting_is_judged_against_the_tolerance(laboratory, news, noise, says, forgets):
    verdict = study(laboratory, news=news, control=None, noise=noise)

    assert says in verdict
    assert ("this is forgetting" in verdict) is forgets
    assert ("not ruled out" in verdict) is (noise == 0.3)


def test_another_tolerance_gives_another_verdict(laboratory):
    assert "this is forgetting" not in study(laboratory, news=1.015)
    assert "this is forgetting" in conclude(laboratory, CompareConfig(bootstrap_samples=400, forgetting_tolerance=0.01)).verdict


def test_forgetting_against_a_control_that_improved_is_seen(laboratory):
    verdict = study(laboratory, news=1.0, control=(1.0, 0.9))

    assert "general text (news) did not measurably change (+0.0000, 95 % interval 0.0000 to 0.0000) against the base" in verdict
    assert (
        "against the equal-token control m-control-32000-seed0, more than the tolerance of 0.02: this is forgetting" in verdict
    )
    assert "reduce forgetting first" in verdict


@pytest.mark.parametrize(
    ("small", "news", "noise", "says"),
    [
        (
            0.95,
            1.0,
            0.0,
            "the last 16k tokens bought 0.0500 bits per byte on law (95 % interval 0.0500 to 0.0500); more training is ind",
        ),
        (0.90, 1.0, 0.05, "the last 16k tokens bought nothing measurable on law: "),
        (
            0.85,
            1.0,
            0.0,
            "the last 16k tokens cost 0.0500 bits per byte on law (95 % interval 0.0500 to 0.0500); more training is not i",
        ),
        (0.95, 1.2, 0.0, "more tokens still help the domain, but reduce forgetting first: raise the replay share."),
        (None, 1.0, 0.0, "with only one budget, it is unknown whether more tokens would help."),
    ],
)
def test_the_last_tokens_decide_about_going_on(laboratory, small, news, noise, says):
    verdict = study(laboratory, law=0.9, small=small, news=news, noise=noise)

    assert says in verdict
    assert ("more training is not indicated" in verdict) is (small is not None and small <= 0.9)


def test_nothing_measurable_means_going_on_is_not_indicated(laboratory):
    assert study(laboratory, small=0.9, law=0.9, noise=0.05).endswith("more training is not indicated.")


@pytest.mark.parametrize(
    ("right", "says"),
    [
        ((10, 10), f"{LABEL}: accuracy did not measurably change (+0.0 points, 95 % interval 0.0 to 0.0) against the base"),
        ((10, 20), f"{LABEL}: accuracy rose by 25.0 points (95 % interval "),
        ((20, 10), f"{LABEL}: accuracy fell by 25.0 points (95 % interval "),
    ],
)
def test_an_exam_is_only_mentioned_with_its_label(laboratory, right, says):
    verdict = study(laboratory, right=right)

    assert says in verdict
    assert verdict.count("accuracy") == verdict.count(LABEL) == 1


def test_without_an_exam_none_is_mentioned(laboratory):
    assert "accuracy" not in study(laboratory)


def test_missing_sets_are_called_unknown(laboratory):
    laboratory.add(sets=("law",))
    laboratory.add("legal", 100, sets=("law",))
    assert "no general text and no probe was held out, so forgetting is unknown" in conclude(laboratory).verdict


def test_a_missing_domain_set_is_called_unknown(laboratory):
    laboratory.add(sets=("news",))
    laboratory.add("legal", 100, sets=("news",))
    verdict = conclude(laboratory).verdict
    assert "no domain text was held out, so the gain is unknown" in verdict
    assert "with only one budget" in verdict


def test_a_base_alone_has_no_verdict(laboratory):
    laboratory.add()
    assert conclude(laboratory).verdict == "Only base models were scored, so there is nothing to compare yet."


def test_one_seed_is_noted_and_several_are_noted_otherwise(laboratory):
    study(laboratory)
    one = conclude(laboratory).notes
    for arm, budget in (("legal", 16_000), ("legal", 32_000), ("control", 32_000)):
        laboratory.add(arm, budget, seed=1)
    two = conclude(laboratory).notes

    assert one[0].startswith("One seed: intervals cover the evaluation items only, not training randomness")
    assert two[0] == "With 2 seeds the spread between seeds is itself a rough estimate."
    assert not any(note.startswith("One seed") for note in two)


def test_the_notes_say_what_the_control_did_by_itself(laboratory):
    study(laboratory, control=(0.98, 0.9))

    notes = conclude(laboratory).notes

    assert any("control m-control-32000-seed0 alone: bits per byte on law fell by 0.0200" in note for note in notes)
    assert any("alone: bits per byte on news fell by 0.1000" in note for note in notes)


@pytest.mark.parametrize(("documents", "noted"), [(29, True), (30, False)])
def test_few_documents_are_noted(tmp_path, documents, noted):
    laboratory = Laboratory(tmp_path, documents=documents)
    study(laboratory)
    notes = conclude(laboratory).notes
    assert (f"law has {documents} scored documents: intervals from so few are too narrow." in notes) is noted


@pytest.mark.parametrize(("right", "noted"), [(10, True), (30, False)])
def test_a_base_at_chance_is_noted(laboratory, right, noted):
    study(laboratory, right=(right, right))
    assert any("within two standard errors of chance (25.0 %)" in note for note in conclude(laboratory).notes) is noted


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (
            {"law": 0.9, "news": 1.01, "small": 0.95, "control": (0.98, 1.0)},
            "32k tokens of legal text on m bought 0.100 bits per byte on held-out law (-10.0 %); 0.080 more than the same "
            "number of tokens of general text; news got worse by 0.010 (+1.0 %), which is 0.010 behind the same number of "
            "tokens of general text; more training is indicated.",
        ),
        (
            {"law": 1.1, "news": 0.9, "small": 1.0, "control": (0.95, 1.0)},
            "32k tokens of legal text on m cost 0.100 bits per byte on held-out law (+10.0 %); 0.150 less than the same "
            "number of tokens of general text; news improved by 0.100 (-10.0 %); more training is not indicated.",
        ),
        (
            {"law": 1.0, "news": 1.0, "small": None, "control": (1.0, 1.0)},
            "32k tokens of legal text on m bought nothing measurable on held-out law; not measurably more than the same number "
            "of tokens of general text; news did not measurably change; with only one budget, it is unknown whether more "
            "tokens would help.",
        ),
    ],
)
def test_the_headline_says_gain_control_cost_and_whether_to_go_on(laboratory, figures, expected):
    study(laboratory, **figures)

    assert conclude(laboratory).headline == expected


@pytest.mark.parametrize(
    ("essays", "of_control", "expected"),
    [
        (1.03, 1.0, "essays, the general text that did worst, got worse by 0.030 (+3.0 %), which is 0.030 behind the same"),
        (0.99, 0.95, "essays, the general text that did worst, improved by 0.010 (-1.0 %), which is 0.040 behind the same"),
        (0.80, 1.0, "news, the general text that did worst, got worse by 0.010 (+1.0 %), which is 0.010 behind the same"),
    ],
)
def test_of_several_general_texts_the_headline_names_the_one_that_did_worst(laboratory, essays, of_control, expected):
    sets = ("law", "news", "essays")
    laboratory.add(sets=sets)
    laboratory.add("legal", 32_000, law=0.9, news=1.01, essays=essays, sets=sets)
    laboratory.add("control", 32_000, essays=of_control, sets=sets)

    assert expected in conclude(laboratory).headline


def test_a_base_alone_has_a_headline_too(laboratory):
    laboratory.add()

    assert conclude(laboratory).headline == "Only base models were scored."
