"""Plans that are refused, and the values of each fix: epochs, cooldowns or marks within a step, states larger than the GPU."""

import pytest

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import plan_study
from cpt_ray.plan.checks import check_cooldowns, check_epochs, check_memory
from cpt_ray.plan.memory import estimate_memory
from cpt_ray.records import Card, StudyPlan
from cpt_ray.train.runs.specs import plan_runs
from tests.plan.planned import SHAPE, WORK, make_plan, make_study


def test_needs_are_unknown_until_prepared_and_are_then_not_judged():
    plan = make_plan(make_study())
    assert {need.available_tokens for need in plan.needs} == {None}
    assert {need.epochs for need in plan.needs} == {None}
    assert not plan.fill_measured
    check_epochs(plan)


def test_a_budget_of_too_many_passes_is_refused_with_what_would_fit():
    plan = make_plan(make_study(), {"law": 1200, "news": 4000})
    with pytest.raises(ConfigError) as caught:
        check_epochs(plan)
    assert caught.value.problem == (
        "arms.legal at budget 4k needs 3k tokens of source law (weight 0.75), but it has 1.2k: 2.50 epochs, "
        "and arms.legal.max_epochs is 1"
    )
    assert caught.value.fix == (
        "set arms.legal.max_epochs to at least 2.5 to allow repeats, or lower train.budgets to at most 1600, "
        "the largest that fits this arm"
    )


def test_both_numbers_of_the_fix_work():
    available = {"law": 1200, "news": 4000}
    check_epochs(make_plan(make_study(max_epochs=2.5), available))
    check_epochs(make_plan(make_study(budgets=(1000, 1600)), available))
    with pytest.raises(ConfigError, match=r"at budget 1\.6k"):
        check_epochs(make_plan(make_study(budgets=(1000, 1602)), available))


def test_a_source_may_have_a_limit_of_its_own():
    available = {"law": 1200, "news": 4000}
    check_epochs(make_plan(make_study(arm={"max_epochs_of": {"law": 2.5}}), available))
    with pytest.raises(ConfigError) as caught:
        check_epochs(make_plan(make_study(max_epochs=9, arm={"max_epochs_of": {"law": 2}}), available))
    assert "2.50 epochs, and arms.legal.max_epochs_of.law is 2" in caught.value.problem
    assert "set arms.legal.max_epochs_of.law to at least 2.5" in caught.value.fix


def test_a_source_with_nothing_left_is_refused_by_name():
    with pytest.raises(ConfigError) as caught:
        check_epochs(make_plan(make_study(), {"law": 0, "news": 4000}))
    assert caught.value.problem == (
        "arms.legal at budget 1k needs 750 tokens of source law (weight 0.75), but no token of it is left after preparation"
    )
    assert caught.value.fix == "check what prepare dropped from law, or remove it from arms.legal.mix"


def test_a_cooldown_shorter_than_a_step_is_refused():
    check_cooldowns(make_plan(make_study((1000, 4000))))  # 250 tokens of cooldown, 190 per step
    with pytest.raises(
        ConfigError, match="run m-legal-700-seed0 cools down over 175 tokens, less than one optimizer step"
    ) as error:
        check_cooldowns(make_plan(make_study((700, 4000))))
    assert "train.schedule.cooldown_share" in error.value.fix


def test_an_independent_run_whose_cooldown_is_shorter_than_a_step_is_refused_too():
    check_cooldowns(make_plan(make_study((760,), "independent")))  # 190 tokens of cooldown, 190 per step
    with pytest.raises(ConfigError, match="run m-legal-750-seed0 cools down over 188 tokens"):
        check_cooldowns(make_plan(make_study((750,), "independent")))


def test_trajectory_marks_closer_than_a_step_are_refused():
    check_cooldowns(make_plan(make_study(trajectory_tokens=(190, 380, 3000))))
    with pytest.raises(ConfigError) as caught:
        check_cooldowns(make_plan(make_study(trajectory_tokens=(190, 379))))
    assert caught.value.problem == (
        "run m-legal-trunk-seed0: the trajectory marks 190 and 379 are closer than one optimizer step of about 190 tokens: "
        "they would be the same model"
    )
    assert (
        caught.value.fix == "space train.trajectory_tokens wider, or lower train.trajectory_points or train.global_batch_size"
    )


def test_an_average_of_models_closer_than_a_step_is_refused_and_the_fix_works():
    def average(every: int) -> StudyPlan:
        tree = make_study().model_dump(mode="json", exclude_none=True)
        merges = [{"name": "averaged", "average": {"last": 2, "every": every}}]
        return make_plan(parse_study({**tree, "merges": merges}, place="test"))

    with pytest.raises(ConfigError) as caught:
        check_cooldowns(average(189))
    assert caught.value.problem == (
        "run m-legal-4000-seed0: an average in merges takes its weights at 3811 and 4000 tokens, closer than one optimizer "
        "step of about 190 tokens: they would be the same model"
    )
    assert caught.value.fix == "set merges.*.average.every to at least 190, or lower train.global_batch_size"
    check_cooldowns(average(190))
    assert [merge.run for merge in average(190).merges] == ["m-legal-4000-averaged-seed0"]


def test_too_many_passes_of_a_budget_in_flops_name_that_key():
    config = make_study(budgets=None, budgets_flops=[1e8])
    plan = plan_study(config, {"m": SHAPE}, plan_runs(config, {"m": (4000,)}), {"law": 1200, "news": 4000})
    with pytest.raises(ConfigError) as caught:
        check_epochs(plan)
    assert "or lower train.budgets_flops to at most 1600 tokens, the largest that fits this arm" in caught.value.fix


def test_states_that_do_not_fit_the_card_are_refused_and_those_that_just_fit_are_not():
    shape = SHAPE.model_copy(update={"parameters": 1 << 30})  # 16 GiB at stage 0
    deepspeed, train = check_deepspeed({}, "ds.json"), make_study().train

    def memory(card: Card | None):
        work = WORK._replace(card=card)
        return [estimate_memory("m", shape=shape, deepspeed=deepspeed, train=train, num_workers=1, work=work)]

    check_memory(memory(None))
    check_memory(memory(Card("NVIDIA A10", 16 << 30)))
    with pytest.raises(ConfigError) as caught:
        check_memory(memory(Card("Tesla T4", 15 << 30)))
    assert caught.value.problem == (
        "the states of m take 16.0 GiB on each of 1 worker(s), ZeRO stage 0, but Tesla T4 has 15.0 GiB"
    )
    assert caught.value.fix.startswith(
        "offload (train.deepspeed=ds_configs/zero3_bf16_offload_cpu.json), share them among more"
    )
