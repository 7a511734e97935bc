"""Which models a study makes without training, of which runs, and what these keep for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import Merge
from cpt_ray.train.runs.merges import plan_merges
from cpt_ray.train.runs.specs import plan_runs, tokens_paid
from tests.train.tiny_run import tiny_config

FRONTIER = {"name": "frontier", "interpolate": {"weights": [0.25, 0.5]}}


def study(root: Path, *merges: dict[str, Any], seeds: tuple[int, ...] = (0,), **train: Any) -> StudyConfig:
    tree = tiny_config(root, **train).model_dump(mode="json", exclude_none=True)
    tree["study"]["seeds"] = seeds
    return parse_study({**tree, "merges": list(merges)}, place="test")


def planned(config: StudyConfig) -> list[Merge]:
    return [one.merge for one in plan_merges(config, plan_runs(config))]


def refused(config_of: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        plan_runs(config_of)
    return error.value


def test_by_default_it_is_made_of_every_seed_of_the_largest_budget_of_domain_arms(tmp_path):
    merges = planned(study(tmp_path, FRONTIER, seeds=(0, 1)))
    assert [(merge.run, merge.made_of, merge.weight) for merge in merges] == [
        (f"tiny-legal-2000-frontier-{weight}-seed{seed}", f"tiny-legal-2000-seed{seed}", weight)
        for seed in (0, 1)
        for weight in (0.25, 0.5)
    ]


def test_patterns_choose_budgets_of_any_arm(tmp_path):
    def made_of(*patterns: str) -> list[str]:
        return list(dict.fromkeys(merge.made_of for merge in planned(study(tmp_path, {**FRONTIER, "of": patterns}))))

    assert made_of("*-control-*") == ["tiny-control-2000-seed0"]
    assert made_of("tiny-legal-1000", "*-2000") == [
        "tiny-legal-1000-seed0",
        "tiny-legal-2000-seed0",
        "tiny-control-2000-seed0",
    ]


def test_a_pattern_without_a_budget_is_refused_with_the_budgets_there_are(tmp_path):
    error = refused(study(tmp_path, {**FRONTIER, "of": ["*-legal-*", "*-trunk"]}))
    assert error.problem == "merges.frontier.of: '*-trunk' matches no budget"
    assert error.fix == "the budgets of this study are tiny-legal-1000, tiny-legal-2000, tiny-control-2000"


def test_without_a_domain_arm_the_budgets_must_be_named(tmp_path):
    config = study(tmp_path, FRONTIER)
    arms = {"control": config.arms["control"]}
    error = refused(config.model_copy(update={"arms": arms}))
    assert "no arm has role domain" in error.problem
    assert error.fix == "set merges.frontier.of to patterns of the budgets: tiny-control-2000"


def test_two_models_of_one_name_are_refused(tmp_path):
    error = refused(study(tmp_path, FRONTIER, {"name": "frontier-0.5", "average": {"last": 2}}))
    assert error.problem == "merges: two models would be named tiny-legal-2000-frontier-0.5-seed0"


def test_an_average_marks_its_cooldown_and_changes_nothing_else_of_any_run(tmp_path):
    plain = plan_runs(study(tmp_path))
    marked = plan_runs(study(tmp_path, {"name": "averaged", "average": {"last": 3}}, FRONTIER))
    # A cooldown of 500 tokens from 1500 to 2000; a tenth of it apart.
    assert {spec.name: spec.average_tokens for spec in marked if spec.average_tokens} == {"tiny-legal-2000-seed0": (1900, 1950)}
    assert [spec.model_copy(update={"average_tokens": ()}) for spec in marked] == plain
    assert tokens_paid(marked) == tokens_paid(plain)


def test_averages_of_one_run_share_its_marks(tmp_path):
    two = [{"name": f"every{every}", "average": {"last": 3, "every": every}} for every in (100, 200)]
    specs = plan_runs(study(tmp_path, *two))
    assert [spec.average_tokens for spec in specs if spec.average_tokens] == [(1600, 1800, 1900)]
    assert [merge.marks for merge in planned(study(tmp_path, *two))] == [(1800, 1900), (1600, 1800)]


def test_a_cosine_cools_down_from_the_end_of_its_warmup(tmp_path):
    config = study(tmp_path, {"name": "averaged", "average": {}}, budgets=[2000], schedule={"warmup": 100, "shape": "cosine"})
    assert planned(config)[0].marks == (1620, 1810)


def test_a_cooldown_too_short_for_an_average_is_refused_and_both_numbers_of_the_fix_work(tmp_path):
    def averaged(last: int, every: int) -> StudyConfig:
        return study(tmp_path, {"name": "averaged", "average": {"last": last, "every": every}})

    error = refused(averaged(4, 200))
    assert error.problem == (
        "merges.averaged.average.last is 4, but tiny-legal-2000-seed0 cools down over 500 tokens, where only 3 models are 200 "
        "tokens apart"
    )
    assert error.fix == "set merges.averaged.average.last to at most 3, or merges.averaged.average.every to at most 166"
    assert planned(averaged(3, 200))[0].marks == (1600, 1800)
    assert planned(averaged(4, 166))[0].marks == (1502, 1668, 1834)
    assert refused(averaged(4, 167))


def test_what_a_merge_is_made_of_is_said_in_words(tmp_path):
    residual = {"name": "chat", "instruction_residual": {"instruct": "somewhere", "scale": 0.5}}
    merges = planned(study(tmp_path, FRONTIER, {"name": "averaged", "average": {}}, residual))
    assert [str(merge) for merge in merges] == [
        "0.25 of tiny-legal-2000-seed0, 0.75 of the base",
        "0.5 of tiny-legal-2000-seed0, 0.5 of the base",
        "mean of tiny-legal-2000-seed0 and its weights at 1,900, 1,950 tokens",
        "tiny-legal-2000-seed0 plus 0.5 x (instruct minus base)",
    ]
