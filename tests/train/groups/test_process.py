"""A worker's process: with several GPUs each worker takes its own, and a process without a group is one of its own."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.train.groups import process
from cpt_ray.train.groups.process import prepare_process


@pytest.mark.usefixtures("one_worker")
def test_a_worker_computes_on_the_gpu_of_its_local_rank_which_is_torch_s_current_one(monkeypatch):
    chosen: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(process, "prove_device", lambda *_: "gpu")  # a machine with four cards
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    assert prepare_process(RuntimeConfig(kind="local"), precision="bf16", threads=None) == torch.device("cuda", 3)
    assert chosen == [3]


@pytest.mark.usefixtures("one_worker")
def test_a_worker_without_a_gpu_has_the_cpu_and_the_threads_it_was_given():
    before = torch.get_num_threads()
    try:
        runtime = RuntimeConfig(kind="local", device="cpu")
        assert prepare_process(runtime, precision="fp32", threads=1) == torch.device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert dist.get_world_size() == 1
