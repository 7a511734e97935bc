"""The launcher: the same records with and without Ray, progress, and the original error from a task."""

from __future__ import annotations

import os
import time

import pytest

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.evaluate import launch
from cpt_ray.evaluate.launch import ScoringQueue
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings
from cpt_ray.records import EvalRecord
from tests.evaluate.tiny import SEPARATOR, make_run

CONFIG = EvaluateConfig(held_out_documents=4, document_tokens=64, context=32, batch_tokens=256, precision="fp32")
LOCAL = RuntimeConfig(kind="local")
RAY = RuntimeConfig(kind="ray", evaluate_workers=2)
Records = dict[str, EvalRecord]


def score(tiny_folder, held_out, root, runtime, *, names=("a", "b", "c"), prefixes=None) -> tuple[ScoringQueue, Records]:
    """Score models that differ in name and prefix; also returns their records, in the order in which they came."""
    settings = EvaluateSettings(held_out, exam_items=None, config=CONFIG, compare=CompareConfig(subsets=100))
    records: Records = {}
    queue = ScoringQueue(runtime, lambda job, record: records.update({job.run.run: record}))
    for name in names:
        prefix = (prefixes or {}).get(name, SEPARATOR)
        run = make_run(tiny_folder, run=name)
        queue.add(EvaluateJob(run=run, tokenizer=tiny_folder, prefix=prefix, folder=root / name), settings)
    while queue.busy:
        queue.look(runtime.evaluate_workers)
    return queue, records


def test_local_scores_here_in_order_and_tells_how_far_it_is(tiny_folder, held_out, tmp_path):
    queue, records = score(tiny_folder, held_out, tmp_path, LOCAL)
    assert list(records) == ["a", "b", "c"]
    assert {record.task_pid for record in records.values()} == {os.getpid()}
    progress = queue.progress
    assert (progress.done, progress.total, progress.eta_s) == (3, 3, 0)
    assert progress.scored_tokens == 3 * sum(one.scored_tokens for one in records["a"].held_out) > 0
    assert progress.tokens_per_s > 0
    assert str(progress).startswith("scoring: 3/3 models done, ETA 0 s, ")
    assert ScoringQueue(LOCAL, lambda job, record: None).progress.eta_s is None


def test_the_rate_counts_no_time_in_which_nothing_is_scored(tiny_folder, held_out, tmp_path):
    queue, _ = score(tiny_folder, held_out, tmp_path, LOCAL, names=("a",))
    queue.require_all()
    before = queue.progress.tokens_per_s
    time.sleep(0.2)
    assert queue.progress.tokens_per_s == before


def check_one_failed(queue: ScoringQueue, records: Records) -> None:
    assert set(records) == {"a", "c"}
    with pytest.raises(ConfigError, match="'nope', the prefix of each document, is not a token") as caught:
        queue.require_all()
    assert type(caught.value) is ConfigError
    assert caught.value.problem.endswith("; not scored: b; 2 other model(s) are")
    assert "set the model's bos or separator" in caught.value.fix


def test_a_model_that_fails_leaves_the_others_alone(tiny_folder, held_out, tmp_path, caplog):
    check_one_failed(*score(tiny_folder, held_out, tmp_path, LOCAL, prefixes={"b": "nope"}))
    assert "b is not scored: 'nope', the prefix" in caplog.text
    assert "the others go on" in caplog.text


def test_a_defect_is_raised_as_it_is_with_what_is_missing(tiny_folder, held_out, tmp_path, monkeypatch):
    def broken(job, settings):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(launch, "evaluate_model", broken)
    queue, _ = score(tiny_folder, held_out, tmp_path, LOCAL, names=("a", "b"))
    with pytest.raises(ZeroDivisionError, match="no") as caught:
        queue.require_all()
    assert caught.value.__notes__ == ["not scored: a, b; 0 other model(s) are"]


@pytest.mark.ray
def test_ray_tasks_give_the_records_of_a_local_run(tiny_folder, held_out, tmp_path, ray_session_2cpu):
    _, remote_records = score(tiny_folder, held_out, tmp_path / "ray", RAY)
    _, local_records = score(tiny_folder, held_out, tmp_path / "local", LOCAL)
    assert set(remote_records) == {"a", "b", "c"}
    assert os.getpid() not in {record.task_pid for record in remote_records.values()}  # it really ran in other processes
    for name, record in remote_records.items():
        for remote, here in zip(record.held_out, local_records[name].held_out, strict=True):
            assert remote.nats == pytest.approx(here.nats, rel=1e-6)
    assert (tmp_path / "ray" / "b" / "evaluation.json").is_file()


@pytest.mark.ray
def test_a_task_that_fails_leaves_the_others_alone(tiny_folder, held_out, tmp_path, ray_session_2cpu):
    check_one_failed(*score(tiny_folder, held_out, tmp_path, RAY, prefixes={"b": "nope"}))


@pytest.mark.ray
def test_without_room_nothing_is_begun(tiny_folder, held_out, tmp_path, ray_session_2cpu):
    queue = ScoringQueue(RAY, lambda job, record: None)
    job = EvaluateJob(run=make_run(tiny_folder, run="a"), tokenizer=tiny_folder, prefix=SEPARATOR, folder=tmp_path / "a")
    queue.add(job, EvaluateSettings(held_out, exam_items=None, config=CONFIG, compare=CompareConfig(subsets=100)))
    queue.look(0)
    assert queue.busy
    assert not (tmp_path / "a").exists()
    queue.cancel()
    assert not queue.busy


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
