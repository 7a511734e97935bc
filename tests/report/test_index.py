"""Short names, the order of models and arms, and differences by what they are of."""

from dataclasses import replace

from cpt_ray.compare.selection import AS_LISTED, BY_VALIDATION
from cpt_ray.report.index import MOST_DRAWN, Group, Index
from tests.report.made_up import BASE, BUDGETS, delta, held_out, make_contents, run_record
from tests.report.made_up_sizes import make_sizes, make_two_domains

LONGEST = f"smollm2-135m-legal-{BUDGETS[-1]}-seed0"


def test_a_name_leaves_out_what_is_the_same_everywhere_and_says_so():
    index = Index(make_contents())
    assert index.name(LONGEST) == "legal 57.6M"
    assert index.name(BASE) == "base"
    assert index.name("smollm2-135m-legal-trunk-seed0") == "legal trunk"
    assert index.names_legend() == [
        "Every model here is made of smollm2-135m.",
        "Every run has seed 0.",
        "A name is arm and budget in tokens: “legal 6M” is the run smollm2-135m-legal-6000000-seed0.",
    ]
    sizes = Index(make_sizes())
    assert sizes.name("m4-legal-8000000-seed1") == "m4 legal 8M, seed 1"
    assert sizes.name("m4-legal-8000000 (mean of 2 seeds)") == "m4 legal 8M"
    assert sizes.name("m4-base") == "base m4"
    assert sizes.names_legend()[0] == "Without a seed, a figure is the mean over seeds."


def test_two_runs_that_would_share_a_short_name_keep_their_own():
    contents = make_contents()
    near = run_record(f"smollm2-135m-legal-{BUDGETS[-1] + 1}-seed0", "cooldown", "legal", 0, BUDGETS[-1] + 1)
    index = Index(replace(contents, runs=(*contents.runs, near)))
    assert index.name(near.run) == near.run
    assert index.name(LONGEST) == LONGEST


def test_an_unknown_run_keeps_its_name():
    assert Index(make_contents()).name("<nobody>") == "<nobody>"


def test_the_largest_model_stands_first_and_each_group_has_its_control():
    groups = Index(make_sizes()).groups
    assert [(group.model, group.arm) for group in groups] == [
        (model, arm) for model in ("m16", "m4", "m1") for arm in ("matched", "legal")
    ]
    assert {group.control for group in groups} == {"control"}
    assert {group.control for group in Index(make_sizes(control=False)).groups} == {""}
    assert [group.arm for group in Index(make_contents()).groups] == ["legal"]


def test_an_arm_that_trains_on_general_text_for_its_own_sake_is_a_group():
    contents = make_sizes(models=("m1", "m4"), arms=("legal",), budgets=(2_000_000,), seeds=(0,), control=False)
    arms = {"legal": contents.arms["legal"].model_copy(update={"role": "general"})}
    index = Index(replace(contents, arms=arms))
    assert [(group.model, group.arm) for group in index.groups] == [("m4", "legal"), ("m1", "legal")]
    assert index.names_legend()[-1].startswith("A name is model, arm and budget in tokens: ")


def test_of_many_arms_no_reported_score_decides_the_order_and_the_rest_is_counted():
    arms = [f"legal@mix-{i}" for i in range(20)]
    contents = make_sizes(models=("m1",), arms=arms, budgets=(2_000_000,), seeds=(0,))
    index = Index(contents)
    assert [group.arm for group in index.groups] == arms  # the last one is made up to gain the most
    assert index.ordered == AS_LISTED
    # On validation text, the arm in the middle gains most.
    best = {arms[10]: 0.9}
    scored = tuple(
        one.model_copy(update={"held_out": (*one.held_out, held_out("licences", best.get(one.arm, 1.3), "validation"))})
        for one in contents.evals
    )
    chosen = Index(replace(contents, evals=scored))
    assert [group.arm for group in chosen.groups] == [arms[10], *arms[:10], *arms[11:]]
    assert chosen.ordered == BY_VALIDATION
    assert Index(make_contents()).ordered == ""
    drawn, said = index.drawn()
    assert len(drawn) == MOST_DRAWN
    assert drawn[-1].arm == "control"
    assert said == "Drawn: 11 of 20 models and arms, those that stand first; all are in the table."
    assert Index(make_contents()).drawn()[1] == ""


def test_the_mean_over_seeds_is_the_difference_of_a_budget():
    contents = make_contents()
    cell = f"smollm2-135m-legal-{BUDGETS[-1]} (mean of 3 seeds)"
    overall = delta(cell, BASE, "licences", (1.247, 1.347), 0.02)
    group = Group("smollm2-135m", "legal", BUDGETS, "control")
    for deltas in ((overall, *contents.comparison.deltas), (*contents.comparison.deltas, overall)):
        index = Index(replace(contents, comparison=contents.comparison.model_copy(update={"deltas": deltas})))
        assert index.difference(group, BUDGETS[-1], "licences") == overall
    plain = Index(contents)
    assert plain.difference(group, BUDGETS[-1], "licences").subject == LONGEST
    assert plain.difference(group, BUDGETS[-1], "licences", reference="control").reference.startswith("smollm2-135m-control")
    assert plain.difference(group, BUDGETS[0], "licences", reference="control") is None


def test_probes_stand_before_general_text_and_after_the_domain():
    contents = make_contents()
    probe = delta(LONGEST, BASE, "essays", (1.1, 1.1), 0.01, role="probe")
    points = [p.model_copy(update={"set_name": "essays"}) for p in contents.comparison.points if p.set_name == "news"]
    comparison = contents.comparison.model_copy(
        update={"deltas": (*contents.comparison.deltas, probe), "points": (*contents.comparison.points, *points)}
    )
    index = Index(replace(contents, comparison=comparison))
    assert index.sets == [("licences", "domain"), ("essays", "probe"), ("news", "general")]


def test_every_run_has_the_role_of_its_arm_and_none_if_the_study_no_longer_has_it():
    index = Index(make_contents())
    assert [index.role_of(run) for run in index.contents.runs] == ["base", *["domain"] * 4, "control"]
    gone = Index(make_contents(arms={}))
    assert gone.role_of(gone.runs[LONGEST]) == ""
    assert gone.groups == []


def test_a_run_is_found_by_name_and_a_cell_by_the_first_of_its_seeds():
    index = Index(make_sizes())
    assert index.run_of("m1-legal-2000000-seed1").run == "m1-legal-2000000-seed1"
    assert index.run_of("m1-legal-2000000 (mean of 2 seeds)").run == "m1-legal-2000000-seed0"
    assert index.run_of("m1-legal-2000000") is None


def test_a_set_that_is_a_probe_for_one_arm_and_the_domain_of_another_is_domain_text_of_the_study():
    index = Index(make_two_domains())
    matched, legal = index.groups
    assert index.sets == [("licences", "domain"), ("news", "domain")]
    assert index.sets_of(matched) == [("licences", "domain"), ("news", "probe")]
    assert index.sets_of(legal) == [("news", "domain"), ("licences", "probe")]
    assert (index.is_domain(legal, "news"), index.is_domain(legal, "licences")) == (True, False)
    found = make_two_domains()
    alone = tuple(one for one in found.comparison.deltas if "-legal-" in one.subject)
    only_legal = replace(found, comparison=found.comparison.model_copy(update={"deltas": alone}))
    assert Index(only_legal).sets == [("news", "domain"), ("licences", "probe")]


def test_the_domain_of_the_arm_that_stands_first_is_the_first_set():
    contents = make_two_domains()
    runs = sorted(contents.runs, key=lambda run: run.arm != "legal")
    index = Index(replace(contents, runs=tuple(runs)))
    assert [group.arm for group in index.groups] == ["legal", "matched"]
    assert index.sets == [("news", "domain"), ("licences", "domain")]
