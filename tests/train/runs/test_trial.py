"""A trial: real steps of a group on this machine, and what they took."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.records import Trial
from cpt_ray.study.cost.measure import run_trial
from cpt_ray.train.runs import trial
from cpt_ray.train.task import TrialTask
from tests.train.tiny_run import T, tiny_config


def tried(root, *, workers: int, device: str, precision: str) -> Trial:
    config = tiny_config(root, precision=precision)
    return run_trial(
        TrialTask(
            model_folder=str(root / "model"),
            trust_remote_code=False,
            train=config.train,
            deepspeed=load_deepspeed(config.train.deepspeed),
            runtime=RuntimeConfig(kind="local", device=device),
            micro_batch=1,
            workers=workers,
            sequence_length=T,
            segment_tokens=T // 2,
            vocabulary_size=300,
            threads=1,
            seconds=0.1,
        )
    )


@pytest.mark.slow
def test_two_workers_take_as_many_steps_as_each_other_and_report_once(root):
    found = tried(root, workers=2, device="cpu", precision="fp32")
    assert found.passes == 2
    assert found.pass_s > 0
    assert found.host_peak_bytes > found.base_bytes


@pytest.mark.gpu
def test_a_worker_on_a_gpu_takes_steps_and_reports_its_memory(root):
    found = tried(root, workers=1, device="gpu", precision="bf16")
    assert found.device_peak_bytes > 0
    assert found.pass_s > 0


def test_whether_another_step_follows_is_told_on_the_device_of_the_group(monkeypatch):
    """A group of GPUs has no way to send what is on the host; `meta` stands for a card."""

    class SentError(Exception):
        pass

    def send(tensor, _source):
        raise SentError(tensor.device.type)

    monkeypatch.setattr(trial.dist, "broadcast", send)
    with pytest.raises(SentError, match="meta"):
        trial._more(0, 0.0, 1.0, torch.device("meta"))
