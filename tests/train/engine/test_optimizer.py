"""AdamW as the study configures it: decay on matrices only, and a learning rate that only the engine sets."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.errors import ConfigError
from cpt_ray.model.layers.fused import fuse_projections
from cpt_ray.train.engine.optimizer import build_optimizer, offloads_optimizer, parameter_groups
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
    optimizer = build_optimizer(parameter_groups(model, train), train, {})
    decayed, plain = optimizer.param_groups
    assert {id(p) for p in decayed["params"]} == {id(model.embedding.weight), id(model.linear.weight)}
    assert {id(p) for p in plain["params"]} == {id(model.linear.bias), id(model.norm.weight), id(model.norm.bias)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {(0.0, (0.8, 0.9), 1e-6)}


def test_embeddings_and_head_form_groups_of_their_own_only_if_their_rate_differs(tmp_path):
    model = Block()
    head = (model.embedding.weight, model.linear.bias)  # a matrix that decays and a bias that does not
    for factor, expected in (
        (1.0, [(0.1, 1.0, 2), (0.0, 1.0, 3)]),
        (0.2, [(0.1, 0.2, 1), (0.1, 1.0, 1), (0.0, 0.2, 1), (0.0, 1.0, 2)]),
    ):
        train = tiny_config(tmp_path, embedding_learning_rate_factor=factor).train
        groups = parameter_groups(model, train, embeddings=head)
        assert [(group.weight_decay, group.rate_factor, len(group.parameters)) for group in groups] == expected


def test_a_model_of_matrices_alone_has_one_group(tmp_path):
    (group,) = parameter_groups(torch.nn.Linear(4, 4, bias=False), tiny_config(tmp_path).train)
    assert group.weight_decay == 0.1


def test_a_rate_for_embeddings_that_do_not_train_is_refused(tmp_path):
    model = Block()
    train = tiny_config(tmp_path, embedding_learning_rate_factor=0.5).train
    message = "train.embedding_learning_rate_factor is 0.5, but train.freeze leaves neither token embeddings nor output head"
    with pytest.raises(ConfigError, match=message):
        parameter_groups(model, train, embeddings=model.frozen.parameters())


def test_a_fused_model_decays_the_same_weights(tmp_path):
    names = []
    for fuse in (False, True):
        model = build("Qwen2")  # its projections have biases
        assert not fuse or "q_proj" in fuse_projections(model)
        known = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = parameter_groups(model, tiny_config(tmp_path).train)
        names.append([[known[id(parameter)] for parameter in group.parameters] for group in groups])
    assert names[0] == names[1]
    assert any("q_proj.bias" in name for name in names[1][1])


def test_until_the_engine_sets_a_rate_a_step_changes_nothing(tmp_path):
    model = Block()
    train = tiny_config(tmp_path).train
    optimizer = build_optimizer(parameter_groups(model, train), train, {})
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
    optimizers = [build_optimizer(parameter_groups(m, train), train, ds) for m, ds in ((here, {}), (there, offload))]
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
