"""Curves grow while a run trains: at once where points can be taken back, behind a checkpoint elsewhere, MLflow among these."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.runtime import TrackingConfig
from cpt_ray.edges.tracking.event_files import EventFiles
from cpt_ray.edges.tracking.mirrored import default_uri
from cpt_ray.records import CheckpointManifest, HeldOutPoint, Point, RunProgress, StateFigures
from cpt_ray.study.findings import curves, mirror
from cpt_ray.study.findings.curves import SCORES, StudyCurves, open_places
from cpt_ray.study.findings.mirror import LiveMirror, Mirror, MirrorTarget
from tests.edges.tracking.test_event_files import scalars, step
from tests.run_records import attempt
from tests.run_specs import make_spec
from tests.study.planned import Lines

SPEC = make_spec(1000, name="m-legal-1000-seed0")
RUN = f"{SPEC.name}-0123abcd"


class Remembered:
    """A place that takes nothing back."""

    takes_back = False

    def __init__(self) -> None:
        self.written: list[tuple[str, list]] = []
        self.closed: list[bool] = []

    def write(self, run, key, points) -> None:
        self.written.append((run, list(points)))

    def close(self, *, failed) -> None:
        self.closed.append(failed)


def checkpoint(folder, number: int) -> None:
    figures = StateFigures(loss=1.0, weights_norm=1.0, moments={}, optimizer_steps=number)
    manifest = CheckpointManifest(
        run="r", attempt=1, progress=RunProgress(step=number, tokens_seen=100 * number), world_size=1, zero_stage=2,
        precision="bf16", global_batch_size=4, run_fingerprint="f", data_fingerprint="d", figures=figures, versions={},
        files=(), created="now",
    )  # fmt: skip
    path = folder / "checkpoints" / f"step-{number:08d}-a0001" / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(manifest.to_json())


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has begun."""
    folder = tmp_path / "root" / "train" / f"{SPEC.name}-0123abcd"
    (folder / "attempts").mkdir(parents=True)
    began = attempt(started="2026-01-01T00:00:00+00:00")
    (folder / "attempts" / "attempt-0001.json").write_text(began.to_json())
    return folder


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    for module in (curves, mirror):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def losses(points) -> list[int]:
    return [point.tokens for point in points if point.key == "train/loss"]


def test_steps_appear_while_a_run_trains_and_the_last_ones_when_the_command_ends(run, tmp_path, clock):
    root, place, lines = tmp_path / "root", Remembered(), Lines()
    study = StudyCurves({"a": EventFiles(root), "b": place}, root, lines)
    follow = study.follow(SPEC, run)
    follow(lambda: (step(1), step(2)))
    assert not (root / "tensorboard").exists()  # ten seconds have not passed
    clock[0] += 11
    follow(lambda: (step(1), step(2)))
    assert [tokens for key, tokens, _ in scalars(root, RUN) if key == "train/loss"] == [100, 200]
    assert place.written == []  # nothing that a resumed run might do again
    checkpoint(run, 2)
    clock[0] += 11
    follow(lambda: (step(1), step(2), step(3)))
    assert [(name, losses(points)) for name, points in place.written] == [(RUN, [100])]
    assert place.written[0][1][0].time_s == 1767225602.0  # two seconds after the run began
    follow(lambda: (step(1), step(2), step(3), step(4)))
    study.close(failed=True)
    assert [tokens for key, tokens, _ in scalars(root, RUN) if key == "train/loss"] == [100, 200, 300, 400]
    assert place.closed == [True]
    assert lines.said == []


def test_a_held_out_loss_waits_for_its_step(run, tmp_path, clock):
    place = Remembered()
    (run / "held_out").mkdir()
    point = HeldOutPoint(
        attempt=1, step=2, tokens_seen=200, source="law", role="domain", part="validation", documents=1, scored_tokens=1,
        scored_bytes=1, nats_per_token=3.0, bits_per_byte=1.5, seconds=0.1,
    )  # fmt: skip
    (run / "held_out" / "attempt-0001.jsonl").write_text(point.model_dump_json() + "\n")
    follow = StudyCurves({"b": place}, tmp_path, Lines()).follow(SPEC, run)
    checkpoint(run, 2)
    clock[0] += 11
    follow(lambda: (step(1), step(2)))
    checkpoint(run, 3)
    clock[0] += 11
    follow(lambda: (step(1), step(2), step(3)))
    keys = [{one.key for one in points if one.tokens == 200} for _, points in place.written]
    assert keys[0] == set()
    assert {"train/loss", "during_training/domain/law/bits_per_byte"} <= keys[1]


def test_with_the_report_come_all_runs_whole_and_the_scores(run, tmp_path, clock):
    root, place = tmp_path / "root", Remembered()
    (run / "metrics").mkdir()
    (run / "metrics" / "attempt-0001.jsonl").write_text("".join(step(n).model_dump_json() + "\n" for n in (1, 2, 3)))
    study = StudyCurves({"tracking.tensorboard": EventFiles(root), "tracking.wandb": place}, root, Lines())
    where = study.conclude({SPEC.name: run}, [score(None, 0, 1.5), score("legal", 1000, 1.25)], frozenset())
    assert where[0] == f"tensorboard: tensorboard --logdir {root}/tensorboard"
    assert where[1].startswith(f"wandb: files are in {root}/wandb")
    assert scalars(root, SCORES) == [("domain/law/bits_per_byte", 0, 1.5), ("domain/law/bits_per_byte", 1000, 1.25)]
    assert [losses(points) for _, points in place.written] == [[100, 200, 300], []]
    before = sorted(path.stat().st_mtime_ns for path in (root / "tensorboard").rglob("*"))
    study.conclude({SPEC.name: run}, [score(None, 0, 1.5), score("legal", 1000, 1.25)], frozenset())
    assert sorted(path.stat().st_mtime_ns for path in (root / "tensorboard").rglob("*")) == before


def score(arm, tokens, bits) -> Point:
    return Point(
        model="m", arm=arm, seed=0 if arm else None, run="r", tokens_seen=tokens, set_name="law", role="domain", annealed=True,
        bits_per_byte=bits, interval=None,
    )  # fmt: skip


def test_a_place_that_fails_is_reported_once_and_the_others_go_on(run, tmp_path, clock):
    (tmp_path / "root" / "tensorboard").write_text("a file")
    place, lines = Remembered(), Lines()
    study = StudyCurves({"tracking.tensorboard": EventFiles(tmp_path / "root"), "b": place}, tmp_path, lines)
    follow = study.follow(SPEC, run)
    checkpoint(run, 3)
    for _ in range(2):
        clock[0] += 11
        follow(lambda: (step(1), step(2)))
    assert len(lines.said) == 1
    assert "tracking.tensorboard: no curves are written any more" in lines.said[0]
    assert len(place.written) == 2


def test_nothing_is_opened_that_was_not_asked_for(tmp_path):
    assert open_places(TrackingConfig(), tmp_path, "s") == {}
    assert list(open_places(TrackingConfig(tensorboard=True), tmp_path, "s")) == ["tracking.tensorboard"]


def test_mlflow_has_the_steps_that_a_checkpoint_covers_while_the_run_trains(run, tmp_path, clock):
    from mlflow.tracking import MlflowClient

    root = tmp_path / "root"
    target = MirrorTarget(
        uri=default_uri(root), experiment="e", study="s", identity="i", config={"a": 1}, params={SPEC.name: {}},
        axes={SPEC.name: {}}, control_arms=frozenset(),
    )  # fmt: skip
    study, lines = Mirror(target, Lines()), Lines()
    live = LiveMirror(study, SPEC, run, lines)
    checkpoint(run, 2)
    clock[0] += 11
    live(lambda: (step(1), step(2), step(3)))
    client = MlflowClient(target.uri)
    experiment = client.get_experiment_by_name("e").experiment_id
    (found,) = [one for one in client.search_runs([experiment]) if one.info.run_name == SPEC.name]
    assert found.info.status == "RUNNING"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [100, 200]
    checkpoint(run, 3)
    clock[0] += 11
    live(lambda: (step(1), step(2), step(3)))
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [100, 200, 300]
    study.close()
    assert client.get_run(found.info.run_id).info.status == "FINISHED"
    assert lines.said == []
