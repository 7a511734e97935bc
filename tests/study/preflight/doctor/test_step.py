"""A real training step, and those that fail."""

from __future__ import annotations

import json
import shlex

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor import step
from cpt_ray.study.preflight.doctor.step import StepSettings, check_step, judge_steps


@pytest.mark.slow
def test_a_training_step_through_the_real_engine_is_finite(tiny):
    one = check_step(StepSettings.of(load_study(tiny.config), tiny.config))
    assert one.level == "ok", one
    assert one.found.startswith("ZeRO-2, bf16, cpu: 4 steps, loss 6.")
    assert "all finite" in one.found


def test_the_command_to_see_all_of_it_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(step.sys, "executable", "false")
    fix = check_step(StepSettings("fp32", '{"zero_optimization": {"stage": 3}}')).fix
    assert shlex.split(fix.partition(": ")[2])[-2:] == ["fp32", '{"zero_optimization": {"stage": 3}}']


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 6.3])
def test_a_machine_that_computes_wrongly_fails(value):
    line = {
        "losses": [6.2, value],
        "norms": [1.0, 1.0],
        "zero_stage": 2,
        "precision": "bf16",
        "device": "cpu",
        "build_s": 1,
        "step_s": 1,
    }
    assert judge_steps(json.loads(json.dumps(line))).level == "fail"


def test_a_step_that_fails_or_hangs_is_told_with_the_command_that_shows_it(tmp_path, monkeypatch):
    def ends_with(script: str) -> Finding:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(step.sys, "executable", str(program))
        return check_step(StepSettings(), longest_s=1.0)

    assert ends_with("echo 'RuntimeError: no ninja' >&2; exit 1").found == "RuntimeError: no ninja"
    assert ends_with("kill -9 $$").found == "killed by signal 9"
    hung = ends_with("exec sleep 60")
    assert hung.found == "not done after 1 s"
    assert hung.fix == f"see all of it: {tmp_path}/python -m cpt_ray.study.preflight.doctor.tiny_step bf16"
