"""One table of precisions: it contains every one that a study may name."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from cpt_ray.config.sections.evaluate import EvaluateConfig
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.precision import PRECISIONS


@pytest.mark.parametrize(
    ("section", "key"), [(TrainConfig, "precision"), (TrainConfig, "export_precision"), (EvaluateConfig, "precision")]
)
def test_every_precision_of_the_configuration_is_in_the_table(section, key):
    assert set(get_args(section.model_fields[key].annotation)) <= PRECISIONS.keys()


def test_only_fp32_has_a_fixed_bound_of_isolation_and_its_loss_may_differ_least():
    assert [name for name, of in PRECISIONS.items() if of.isolation_nats is not None] == ["fp32"]
    assert PRECISIONS["fp32"].state_loss_bound < min(PRECISIONS[name].state_loss_bound for name in ("bf16", "fp16"))
    # A unit of rounding is larger than the bound: it is the mean over many tokens that must agree.
    assert all(PRECISIONS[name].state_loss_bound < 2 * torch.finfo(PRECISIONS[name].dtype).eps for name in ("bf16", "fp16"))
