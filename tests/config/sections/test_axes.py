"""The values of an axis have names, and keys that would make no grid are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cpt_ray.config.sections.axes import AxisConfig


def axis(**fields: object) -> AxisConfig:
    return AxisConfig.model_validate(fields)


def test_plain_values_are_named_as_they_are_written():
    named = axis(key="train.lora", values=[None, True, 0.5, "400M"])
    assert named.values == {"none": None, "true": True, "0.5": 0.5, "400M": "400M"}
    assert named.changes()["0.5"] == {"train.lora": 0.5}


def test_an_axis_without_a_key_sets_several_keys():
    explicit = axis(values={"gentle": {"train.beta1": 0.8, "train.beta2": 0.9}})
    assert explicit.changes() == {"gentle": {"train.beta1": 0.8, "train.beta2": 0.9}}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"key": "train.beta1", "values": [1, 1]}, "is there twice"),
        ({"key": "train.beta1", "values": {"a": 1, "b": 1}}, "values a and b are equal"),
        ({"key": "train.budgets", "values": [[1]]}, "can not be a name"),
        ({"key": "train.beta1", "values": [-1]}, "can not be a name"),
        ({"key": "study.seeds", "values": [0, 1]}, "study is the study's own"),
        ({"key": "compare.seed", "values": [0, 1]}, "compare is how all cells are judged"),
        ({"key": "sources.news.name", "values": ["a", "b"]}, "a name is an identity"),
        ({"key": "arms", "values": [0, 1]}, "does not have the form section.key"),
        ({"key": "train..beta1", "values": [0, 1]}, "does not have the form section.key"),
        ({"values": {"a": 1}}, "must be a mapping of keys to values"),
        ({"values": {"a": {}}}, "must be a mapping of keys to values"),
    ],
)
def test_what_makes_no_grid_is_refused(fields, problem):
    with pytest.raises(ValidationError, match=problem):
        axis(**fields)


def test_true_and_one_are_two_values():
    assert set(axis(key="train.compile", values={"on": True, "one": 1}).values) == {"on", "one"}
