"""The launcher: the same records with and without Ray, progress, and the original error from a task."""

from __future__ import annotations

import os

import pytest

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.evaluate import launch
from cpt_ray.evaluate.launch import evaluate_runs
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings
from tests.evaluate.tiny import SEPARATOR, make_run

CONFIG = EvaluateConfig(held_out_documents=4, document_tokens=64, context=32, batch_tokens=256, precision="fp32")
LOCAL = RuntimeConfig(kind="local")
RAY = RuntimeConfig(kind="ray", evaluate_workers=2)


def run_all(tiny_folder, held_out, root, runtime, *, names=("a", "b", "c"), prefixes=None, **callbacks):
    jobs = [
        EvaluateJob(
            run=make_run(tiny_folder, run=name),
            tokenizer=tiny_folder,
            prefix=(prefixes or {}).get(name, SEPARATOR),
            folder=root / name,
        )
        for name in names
    ]
    settings = EvaluateSettings(held_out, exam_items=None, config=CONFIG, compare=CompareConfig(subsets=100))
    return evaluate_runs(jobs, settings, runtime, **callbacks)


def test_local_scores_here_in_order_and_tells_how_far_it_is(tiny_folder, held_out, tmp_path):
    done, progress = [], []

    records = run_all(
        tiny_folder, held_out, tmp_path, LOCAL, on_done=lambda _, r: done.append(r.run), on_progress=progress.append
    )

    assert [record.run for record in records] == done == ["a", "b", "c"]
    assert {record.task_pid for record in records} == {os.getpid()}
    assert [step.done for step in progress] == [0, 1, 2, 3]
    assert (progress[0].eta_s, progress[0].tokens_per_s) == (None, 0.0)
    assert progress[-1].eta_s == 0
    assert progress[-1].scored_tokens == 3 * progress[1].scored_tokens > 0
    assert progress[1].tokens_per_s > 0


def test_a_local_error_is_the_jobs_own(tiny_folder, held_out, tmp_path):
    with pytest.raises(ConfigError, match="'nope', the prefix of each document, is not a token"):
        run_all(tiny_folder, held_out, tmp_path, LOCAL, prefixes={"a": "nope"})


@pytest.mark.ray
def test_ray_tasks_give_the_records_of_a_local_run(tiny_folder, held_out, tmp_path, ray_session_2cpu):
    done = []

    records = run_all(tiny_folder, held_out, tmp_path / "ray", RAY, on_done=lambda _, r: done.append(r.run))

    local = run_all(tiny_folder, held_out, tmp_path / "local", LOCAL)
    assert [record.run for record in records] == ["a", "b", "c"]
    assert sorted(done) == ["a", "b", "c"]
    assert os.getpid() not in {record.task_pid for record in records}  # it really ran in other processes
    for theirs, ours in zip(records, local, strict=True):
        for remote, here in zip(theirs.held_out, ours.held_out, strict=True):
            assert remote.nats == pytest.approx(here.nats, rel=1e-6)
    assert (tmp_path / "ray" / "b" / "evaluation.json").is_file()


@pytest.mark.ray
def test_the_original_error_comes_out_of_a_task(tiny_folder, held_out, tmp_path, ray_session_2cpu):
    with pytest.raises(ConfigError, match="'nope', the prefix of each document, is not a token") as caught:
        run_all(tiny_folder, held_out, tmp_path, RAY, prefixes={"b": "nope"})
    assert type(caught.value) is ConfigError
    assert "set the model's bos or separator" in caught.value.fix


@pytest.mark.ray
def test_a_worker_that_dies_is_reported_with_the_run(tiny_folder, tmp_path, ray_session_2cpu, monkeypatch):
    import ray

    @ray.remote(max_retries=0)
    def die():
        os._exit(1)

    job = EvaluateJob(run=make_run(tiny_folder, run="doomed"), tokenizer=tiny_folder, prefix="", folder=tmp_path)
    with pytest.raises(CptRayError, match="scoring doomed lost its worker three times") as caught:
        launch._result(die.remote(), job)
    assert "evaluate.batch_tokens" in caught.value.fix
