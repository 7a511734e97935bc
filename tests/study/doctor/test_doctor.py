"""The whole verb: one table, a fix for each fault, exit code 0 or 2; what a study needs; a real training step."""

from __future__ import annotations

import json

import pytest

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from cpt_ray.records.findings import Finding
from cpt_ray.study.doctor import cluster, step
from cpt_ray.study.doctor.cluster import check_cluster
from cpt_ray.study.doctor.needs import check_study
from cpt_ray.study.doctor.step import check_step, judge_steps
from cpt_ray.study.doctor.table import render_findings
from cpt_ray.study.preflight.node_probe import AskedNode
from cpt_ray.study.preflight.nodes import Problem


def found(study, *overrides) -> dict[str, Finding]:
    return {one.what: one for one in check_study(load_study(study.config, overrides), study.config)}


def test_a_table_has_a_line_a_check_and_a_fix_below_it_that_is_not_broken():
    long = "word " * 40
    text = render_findings([Finding("a", "fine"), Finding("longer", long, "fail", "x" * 150)])
    lines = text.splitlines()
    assert lines[0] == "ok    a       fine"
    assert lines[1].startswith("fail  longer  word word")
    assert lines[-2] == f"              fix: {'x' * 150}"
    assert lines[-1] == "1 ok, 0 warn, 1 fail"


def test_this_machine_passes_without_a_study(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].endswith(", 0 fail")
    assert "C++ compiler" in said


def test_a_study_that_can_run_passes_and_nothing_is_made(tiny, capsys):
    assert main(["doctor", str(tiny.config)]) == 0
    said = capsys.readouterr().out
    for name in ("packages of the study", "device of the study", "study.root", "train.deepspeed", "bases", "source law"):
        assert f"ok    {name}" in said
    assert not tiny.root.exists()


def test_each_fault_of_a_study_is_a_row_with_its_fix_and_the_exit_code_is_two(tiny, tmp_path, capsys):
    (tiny.inputs / "news.jsonl").write_text("")
    overrides = [
        "study.root=/proc/study", "sources.law.path=/nowhere/*.jsonl", "train.deepspeed=none.json", "models.0.base=/nowhere",
        "evaluate.harness_tasks=[no_such_task_xyz]",
    ]  # fmt: skip
    assert main(["doctor", str(tiny.config), *overrides]) == 2
    caught = capsys.readouterr()
    for name in ("study.root", "train.deepspeed", "bases", "source law", "source news", "lm-eval tasks"):
        assert f"fail  {name}" in caught.out
    assert "set study.root to a folder that you can write to" in caught.out
    assert caught.out.count("fix: ") >= 6
    assert "checks failed: study.root, train.deepspeed, bases, source law, source news, lm-eval tasks" in caught.err


def test_a_package_that_a_study_needs_and_lacks_is_named(tiny, monkeypatch):
    from cpt_ray.study.preflight import packages

    monkeypatch.setattr(packages, "is_installed", lambda module: module != "wandb")
    one = found(tiny, "tracking.wandb=true")["packages of the study"]
    assert one.level == "fail"
    assert "tracking.wandb needs the Python package wandb" in one.found
    assert "pip install 'wandb" in one.fix


def test_a_study_file_that_is_wrong_is_its_own_error(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_a_private_ray_has_this_machine_only(tiny, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert list(check_cluster(load_study(tiny.config))) == []
    (only,) = check_cluster(load_study(tiny.config, ("runtime.kind=ray",)))
    assert only.found == "a private Ray: this machine is the only node"


def test_what_is_wrong_on_a_node_is_named_after_it(tiny, monkeypatch):
    from cpt_ray.edges import ray_runtime
    from cpt_ray.study.preflight import node_probe, nodes

    asked = [AskedNode(name, cpus=4, gpus=0, facts=None, skew_s=0.0) for name in ("a 10.0.0.1", "b 10.0.0.2")]
    monkeypatch.setattr(cluster, "cluster_address", lambda runtime: "auto")
    monkeypatch.setattr(ray_runtime, "ray_session", lambda runtime: monkeypatch.context())
    monkeypatch.setattr(nodes, "judge_nodes", lambda *_, **__: [(asked[0], []), (asked[1], [Problem("no compiler", "g++")])])
    monkeypatch.setattr(
        node_probe,
        "examine_nodes",
        lambda _: {"a 10.0.0.1": [Finding("x", "y")], "b 10.0.0.2": [Finding("disk", "1", "warn", "f")]},
    )
    said = list(check_cluster(load_study(tiny.config, ("runtime.kind=ray",))))
    assert said == [
        Finding("node a 10.0.0.1", "4 CPUs, 0 GPUs, ready"),
        Finding("node b 10.0.0.2", "no compiler", "fail", "g++"),
        Finding("node b 10.0.0.2", "disk: 1", "warn", "f"),
    ]


@pytest.mark.ray
def test_every_node_of_a_real_cluster_is_examined(ray_session_2cpu, tmp_path):
    from cpt_ray.study.preflight.node_probe import examine_nodes

    (findings,) = examine_nodes(tmp_path).values()
    assert {"Python", "packages", "memory", "runtime.scratch", "clock"} <= {one.what for one in findings}


@pytest.mark.slow
def test_a_training_step_through_the_real_engine_is_finite(tiny):
    one = check_step(load_study(tiny.config), tiny.config)
    assert one.level == "ok", one
    assert one.found.startswith("ZeRO-2, bf16, cpu: 4 steps, loss 6.")
    assert "all finite" in one.found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
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
        return check_step(longest_s=1.0)

    assert ends_with("echo 'RuntimeError: no ninja' >&2; exit 1").found == "RuntimeError: no ninja"
    assert ends_with("kill -9 $$").found == "killed by signal 9"
    hung = ends_with("exec sleep 60")
    assert hung.found == "not done after 1 s"
    assert hung.fix == f"see all of it: {tmp_path}/python -m cpt_ray.train.trial bf16"
