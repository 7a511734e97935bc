"""Every wording of the verdict: gain, none, loss; control better, equal, worse, missing; forgetting; more training."""

from __future__ import annotations

import pytest

from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.compare.deltas import Cell
from cpt_ray.compare.verdict import ArmFindings
from cpt_ray.compare.verdict import conclude as conclude_arm
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.records import MEASURES, Delta, Interval
from tests.compare.conftest import CONFIG, LABEL, Laboratory


def conclude(laboratory: Laboratory, config: CompareConfig = CONFIG):
    return compare(
        laboratory.evals,
        laboratory.folders,
        laboratory.runs,
        config,
        Facts(
            control_arms=frozenset({"control"}),
            control_draws={str(record.arm): frozenset({"news"}) for record in laboratory.evals},
            tokens_paid=123,
        ),
    )


def study(laboratory: Laboratory, *, law=0.9, news=1.0, small=0.95, control=(1.0, 1.0), right=None, noise=1e-5) -> str:
    """The verdict on 16k and 32k tokens of `legal`, by default with a control at 32k."""
    laboratory.add(right=None if right is None else right[0], noise=noise)
    exam = None if right is None else right[1]
    if small is not None:
        laboratory.add("legal", 16_000, law=small, right=exam, noise=noise)
    laboratory.add("legal", 32_000, law=law, news=news, right=exam, noise=noise)
    if control is not None:
        laboratory.add("control", 32_000, law=control[0], news=control[1], right=exam, noise=noise)
    return conclude(laboratory).verdict


pytestmark = pytest.mark.accept(answer=2)


def test_the_whole_sentence_of_a_plain_gain(laboratory):
    assert study(laboratory, law=0.9, news=1.01, small=0.95, control=(0.98, 0.995)) == (
        "32k tokens of legal on m: bits per byte on law fell by 0.1000 (95 % interval 0.1000 to 0.1000, -10.0 % relative) "
        "against the base; on law it fell by 0.0800 (95 % interval 0.0800 to 0.0800, -8.2 % relative) against the equal-token "
        "control m-control-32000-seed0; general text (news) rose by 0.0100 (95 % interval 0.0100 to 0.0100, +1.0 % relative) "
        "against the base: forgetting, within the tolerance of 0.02; on news it rose by 0.0150 (95 % interval 0.0150 to "
        "0.0150, +1.5 % relative) against the equal-token control m-control-32000-seed0: an opportunity cost, not forgetting; "
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
    ("news", "noise", "says"),
    [
        (1.05, 1e-5, "against the base: forgetting, more than the tolerance of 0.02"),
        (1.01, 1e-5, "against the base: forgetting, within the tolerance of 0.02"),
        (0.95, 1e-5, "general text (news) fell by 0.0500"),
        (1.0, 0.01, "general text (news) did not measurably change ("),
        (1.0, 0.3, "though forgetting above the tolerance of 0.02 is not ruled out"),
    ],
)
def test_forgetting_is_judged_against_the_base_and_the_tolerance(laboratory, news, noise, says):
    verdict = study(laboratory, news=news, control=None, noise=noise)

    assert says in verdict
    assert (": forgetting" in verdict) is (news > 1)
    assert ("not ruled out" in verdict) is (noise == 0.3)


def test_another_tolerance_gives_another_decision(laboratory):
    assert "reduce forgetting first" not in study(laboratory, news=1.015)
    assert "reduce forgetting first" in conclude(laboratory, CompareConfig(subsets=400, forgetting_tolerance=0.01)).verdict


def test_behind_a_control_that_trained_on_the_text_is_an_opportunity_cost(laboratory):
    """The base was not undercut: nothing was forgotten, however much the control gained."""
    verdict = study(laboratory, news=0.98, control=(1.0, 0.9))

    assert "on news it rose by 0.0800" in verdict
    assert "an opportunity cost, not forgetting" in verdict
    assert "more training is indicated" in verdict
    headline = conclude(laboratory).headline
    assert "no measurable forgetting" in headline
    assert "reduce forgetting" not in headline


@pytest.mark.parametrize(
    ("small", "news", "noise", "says"),
    [
        (
            0.95,
            1.0,
            1e-5,
            "the last 16k tokens bought 0.0500 bits per byte on law (95 % interval 0.0500 to 0.0500); more training is ind",
        ),
        (0.90, 1.0, 0.05, "the last 16k tokens bought nothing measurable, "),
        (
            0.85,
            1.0,
            1e-5,
            "the last 16k tokens cost 0.0500 bits per byte on law (95 % interval 0.0500 to 0.0500); more training is not i",
        ),
        (0.95, 1.2, 1e-5, "reduce forgetting first, though more tokens still help the domain: raise the replay share."),
        (None, 1.0, 1e-5, "with only one budget, it is unknown whether more tokens would help."),
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
        ((10, 10), f"{LABEL}: accuracy did not measurably change (+0.0 points, no interval: all units are equal: "),
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


def test_a_study_without_domain_text_says_what_its_general_text_gained(laboratory):
    laboratory.add(sets=("news", "essays"))
    laboratory.add("web", 1_500_000, news=0.9, essays=1.0, sets=("news", "essays"), noise=1e-5)
    assert conclude(laboratory).headline == (
        "1.5M tokens of web on m: news better by 0.100 bits/byte, no domain text scored, no measurable forgetting; "
        "more tokens unknown."
    )


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


def test_too_few_documents_give_no_judgment_and_say_so(tmp_path):
    laboratory = Laboratory(tmp_path, documents=9)
    verdict = study(laboratory)

    assert "bits per byte on law fell by 0.1000, not judged (no interval: 9 units are too few" in verdict
    assert "the last 16k tokens bought, not judged, 0.0500 bits per byte on law (no interval: 9 units" in verdict
    assert not any(words in verdict for words in ("measurabl", "nothing shows"))
    assert "law: no interval, and so no judgment: 9 units are too few: at least 10 are needed." in conclude(laboratory).notes
    headline = conclude(laboratory).headline
    assert "domain gain not judged (control not judged), forgetting not judged" in headline


@pytest.mark.parametrize(("right", "noted"), [(10, True), (30, False)])
def test_a_base_at_chance_is_noted(laboratory, right, noted):
    study(laboratory, right=(right, right))
    assert any("within two standard errors of chance (25.0 %)" in note for note in conclude(laboratory).notes) is noted


PLAIN = {"law": 0.9, "news": 1.0, "small": 0.95, "control": (1.0, 1.0), "noise": 0.004}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        pytest.param(
            {"news": 1.01, "noise": 1e-5, "control": (0.98, 1.0)},
            "domain gain 0.100 bits/byte (0.080 beyond the control), forgetting 0.010 on news; more training is indicated.",
            id="gain and a little forgetting",
        ),
        pytest.param(
            {"law": 1.0, "small": 1.0},
            "no measurable domain gain (not measurably beyond the control), no measurable forgetting; "
            "more training is not indicated.",
            id="no effect",
        ),
        pytest.param(
            {"noise": 1e-5},
            "domain gain 0.100 bits/byte (0.100 beyond the control), no measurable forgetting; more training is indicated.",
            id="gain",
        ),
        pytest.param(
            {"news": 1.1, "noise": 1e-5},
            "domain gain 0.100 bits/byte (0.100 beyond the control), forgetting 0.100 on news; reduce forgetting first.",
            id="gain and forgetting",
        ),
        pytest.param(
            {"law": 1.1, "news": 0.9, "small": 1.0, "control": (0.95, 1.0), "noise": 1e-5},
            "domain loss 0.100 bits/byte (0.150 behind the control), no measurable forgetting; more training is not indicated.",
            id="loss",
        ),
        pytest.param(
            {"control": (0.85, 0.9), "noise": 1e-5},
            "domain gain 0.100 bits/byte (0.050 behind the control), no measurable forgetting; more training is indicated.",
            id="the control does better",
        ),
        pytest.param(
            {"small": None, "noise": 1e-5},
            "domain gain 0.100 bits/byte (0.100 beyond the control), no measurable forgetting; more tokens unknown.",
            id="one budget",
        ),
        pytest.param(
            {"control": None, "noise": 1e-5},
            "domain gain 0.100 bits/byte (no control), no measurable forgetting; more training is indicated.",
            id="no control",
        ),
    ],
)
def test_the_headline_of_a_study(laboratory, figures, expected):
    study(laboratory, **{**PLAIN, **figures})
    headline = conclude(laboratory).headline

    assert headline == f"32k tokens of legal on m: {expected}"
    assert len(headline.split()) <= 25


@pytest.mark.parametrize("forgotten", ["none", "text", "task", "not settled", "no judgment", "unknown"])
@pytest.mark.parametrize("control", [True, False, None, "not settled", "no judgment", "none"])
@pytest.mark.parametrize("gain", [True, False, None, "not settled", "no judgment", "unknown"])
@pytest.mark.parametrize("last", [True, False, None, "not settled", "no judgment", "none"])
def test_a_headline_has_at_most_25_words(gain, control, forgotten, last):
    kept = {
        "none": (made("news", "general", None),),
        "text": (made("news", "general", False),),
        "task": (made("hellaswag", "exam", False, measure="accuracy_points"),),
        "not settled": (made("news", "general", "not settled"),),
        "no judgment": (made("news", "general", "no judgment"),),
        "unknown": (),
    }[forgotten]
    cell = Cell("smollm2-135m", "legal", 57_600_000, ())
    finding = ArmFindings(
        largest=cell,
        previous=None if last == "none" else cell,
        against_base=(*(() if gain == "unknown" else (made("law", "domain", gain),)), *kept),
        against_control=() if control == "none" else (made("law", "domain", control),),
        marginal=() if last == "none" else (made("law", "domain", last),),
        control_against_base=(),
        control_draws=frozenset(),
    )
    said = conclude_arm(finding, CONFIG, {}).headline
    assert len(said.split()) <= 25, said
    assert (
        ("indicated" in said)
        or ("more tokens unknown" in said)
        or ("judged" in said)
        or ("unclear" in said)
        or ("reduce" in said)
    )


def made(name, role, better, measure="bits_per_byte"):
    """A difference of 0.1 that is judged as said; "not settled" is a loss on general text, and a gain elsewhere."""
    size = 12.5 if role == "exam" else 0.125
    worse = better is False or (better == "not settled" and role == "general")
    value = size if worse == MEASURES[measure].lower_is_better else -size
    half = {None: 2 * size, "no judgment": None}.get(better, size / 2)
    ends = None if half is None else Interval(low=value - half, high=value + half, confidence=0.95, kind="")
    return Delta(
        measure=measure, set_name=name, role=role, subject="m", reference="base", suite="general" if role == "exam" else None,
        subject_value=1.0, reference_value=1.0, difference=value, interval=ends, p_value=0.03, adjusted_p_value=0.06,
        smallest_effect=None, relative_percent=None, items=20, better=better if isinstance(better, bool) else None,
    )  # fmt: skip


def test_behind_a_control_that_does_not_train_on_the_text_is_no_opportunity_cost(laboratory):
    study(laboratory, news=0.98, control=(1.0, 0.9))
    folders, runs = laboratory.folders, laboratory.runs
    found = compare(laboratory.evals, folders, runs, CONFIG, Facts(control_arms=frozenset({"control"})))
    assert "on news it rose by 0.0800" in found.verdict
    assert "opportunity cost" not in found.verdict


def test_text_that_counts_as_a_probe_is_text_that_the_arm_does_not_train_on(laboratory):
    study(laboratory, news=1.05)
    folders, runs = laboratory.folders, laboratory.runs
    probes = {"legal": frozenset({"news"})}
    found = compare(laboratory.evals, folders, runs, CONFIG, Facts(control_arms=frozenset({"control"}), probes=probes))
    assert "text that it does not train on (news) rose by 0.0500" in found.verdict
    assert "forgetting 0.050 on news" in found.headline


def test_seeds_that_disagree_are_not_a_gain(laboratory):
    """Two seeds of 0.02 bits per byte apart say little, whatever the documents say."""
    laboratory.add()
    for seed, law in enumerate((0.99, 0.95)):
        laboratory.add("legal", 32_000, seed=seed, law=law, noise=1e-4)
    assert "no measurable domain gain" in conclude(laboratory).headline
    for seed, law in enumerate((0.97, 0.96, 0.965), start=2):
        laboratory.add("legal", 32_000, seed=seed, law=law, noise=1e-4)
    assert "domain gain 0.033" in conclude(laboratory).headline


def test_every_model_gets_its_own_headline(laboratory):
    for model in ("small", "large"):
        laboratory.add(model=model)
        laboratory.add("legal", 32_000, model=model, law=0.9)
    headline = conclude(laboratory).headline
    assert "on small: domain gain" in headline
    assert "on large: domain gain" in headline


@pytest.mark.parametrize(("essays", "named"), [(1.03, "forgetting 0.030 on essays"), (0.8, "forgetting 0.010 on news")])
def test_of_several_general_texts_the_headline_names_the_one_that_did_worst(laboratory, essays, named):
    sets = ("law", "news", "essays")
    laboratory.add(sets=sets)
    laboratory.add("legal", 32_000, law=0.9, news=1.01, essays=essays, sets=sets)

    assert named in conclude(laboratory).headline
