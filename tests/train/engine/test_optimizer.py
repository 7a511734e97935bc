"""AdamW as the study configures it: decay on matrices only, and a learning rate that only the engine sets."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.model.layers.fused import fuse_projections
from cpt_ray.train.engine.optimizer import build_optimizer, offloads_optimizer
from tests.model.layers.test_fused import build
from tests.train.tiny_run import tiny_config


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.linear = torch.nn.Linear(4, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.frozen = torch.nn.Linear(4, 4).requires_grad_(False)


def test_matrices_decay_and_biases_and_norms_do_not(tmp_path):
    train = tiny_config(tmp_path, weight_decay=0.3, beta1=0.8, beta2=0.9, epsilon=1e-6).train
    model = Block()
    optimizer = build_optimizer(model, train, {})
    decayed, plain = optimizer.param_groups
    assert {id(p) for p in decayed["params"]} == {id(model.embedding.weight), id(model.linear.weight)}
    assert {id(p) for p in plain["params"]} == {id(model.linear.bias), id(model.norm.weight), id(model.norm.bias)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {(0.0, (0.8, 0.9), 1e-6)}


def test_a_fused_model_decays_the_same_weights(tmp_path):
    names = []
    for fuse in (False, True):
        model = build("Qwen2")  # its projections have biases
        assert not fuse or "q_proj" in fuse_projections(model)
        known = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = build_optimizer(model, tiny_config(tmp_path).train, {}).param_groups
        names.append([[known[id(parameter)] for parameter in group["params"]] for group in groups])
    assert names[0] == names[1]
    assert any("q_proj.bias" in name for name in names[1][1])


def test_until_the_engine_sets_a_rate_a_step_changes_nothing(tmp_path):
    model = Block()
    optimizer = build_optimizer(model, tiny_config(tmp_path).train, {})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.linear(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("resolved", "expected"),
    [
        ({}, False),
        ({"zero_optimization": {"stage": 2}}, False),
        ({"zero_optimization": {"offload_optimizer": None}}, False),
        ({"zero_optimization": {"offload_optimizer": {"device": "none"}}}, False),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, True),
    ],
)
def test_states_are_offloaded_where_the_deepspeed_file_says_so(resolved, expected):
    assert offloads_optimizer(resolved) is expected


def test_offloaded_states_are_stepped_on_the_cpu_like_the_others(tmp_path):
    train = tiny_config(tmp_path).train
    torch.manual_seed(0)
    here = Block()
    there = Block()
    there.load_state_dict(here.state_dict())
    offload = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    optimizers = build_optimizer(here, train, {}), build_optimizer(there, train, offload)
    assert type(optimizers[1]).__name__ == "DeepSpeedCPUAdam"
    for model, optimizer in zip((here, there), optimizers, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        for step in range(3):
            optimizer.zero_grad()
            model.norm(model.linear(model.embedding(torch.arange(10)))).pow(3).sum().mul(step + 1).backward()
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
    for name, tensor in here.state_dict().items():
        torch.testing.assert_close(tensor, there.state_dict()[name], rtol=1e-4, atol=1e-5)
