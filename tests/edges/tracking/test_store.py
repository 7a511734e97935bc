"""The MLflow mirror against a real sqlite database: counts, idempotence, appending, replacing, rebuilding."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from cpt_ray.edges.redaction import MASK
from cpt_ray.edges.tracking.metrics import event_metrics, held_out_metrics, memory_metrics
from cpt_ray.edges.tracking.mirrored import default_uri
from cpt_ray.edges.tracking.store import PARENT_TAG, RUN_TAG, Tracking
from cpt_ray.records import Fit, RunRecord, StepMetrics
from tests.edges.points import CONTROL, FITS, POINTS, event, held_out, memory, point
from tests.run_records import attempt, cost, training
from tests.run_specs import make_spec

CONFIG = {"study": {"name": "s", "seeds": [0]}, "hub": {"api_token": "hf_x"}, "path": "s3://me:pw@bucket/x", "batch_tokens": 3}
SPEC = make_spec(100, cooldown=80, name="m-legal-100-seed0", arm="legal")


def step(number: int, loss: float = 2.0, attempt: int = 1) -> StepMetrics:
    return StepMetrics(
        attempt=attempt, step=number, tokens_seen=10 * number, loss=loss + 1 / number, learning_rate=1e-4, gradient_norm=1.0,
        tokens_per_s=50.0, step_s=0.2, data_wait_s=0.0, mfu=None,
    )  # fmt: skip


def steps(count: int, **changes: Any) -> tuple[StepMetrics, ...]:
    return tuple(step(n, **changes) for n in range(1, count + 1))


def record(kind: str = "independent", name: str = SPEC.name, **changes: Any) -> RunRecord:
    if kind == "base":
        return RunRecord(run=name, kind="base", model="m", export_path="/x", annealed=True)
    return RunRecord(
        run=name, kind=kind, model="m", arm="legal", seed=0, budget_tokens=100, export_path="/x", annealed=True,
        training=training(100, **changes),
    )  # fmt: skip


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory) -> Path:
    """A database after MLflow's migrations, which take seconds; each test works on a copy."""
    root = tmp_path_factory.mktemp("empty")
    Tracking(default_uri(root), "another")
    return root / "mlflow.db"


@pytest.fixture
def fresh(empty_database) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        root.mkdir()
        shutil.copy(empty_database, root / "mlflow.db")
        return default_uri(root)

    return make


@pytest.fixture
def uri(fresh, tmp_path) -> str:
    return fresh(tmp_path / "root")


def mirror_all(uri: str) -> tuple[Tracking, str]:
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "runs/s", config=CONFIG, points=POINTS, control_arms=CONTROL)
    tracking.mirror_run(parent, record("base", "m-base"))
    tracking.mirror_run(parent, record(), metrics=steps(10))
    tracking.finish_study(parent)
    return tracking, parent


def dump(uri: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Run name to metric to its full history, without deleted runs."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {
        str(run.info.run_name): {
            key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
            for key in sorted(run.data.metrics)
        }
        for run in runs
    }


def count_runs(uri: str, view: int) -> int:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    return len(client.search_runs([experiment.experiment_id], run_view_type=view))


def test_a_study_has_a_parent_with_its_curve_and_a_child_per_run_and_base(uri):
    _, parent = mirror_all(uri)
    seen = dump(uri)
    assert set(seen) == {"s", "m-base", SPEC.name}
    assert seen["s"] == {
        "domain.law.bits_per_byte": [(0, 1.4), (50, 1.3), (100, 1.2)],
        "control.domain.law.bits_per_byte": [(0, 1.4), (100, 1.39)],
    }
    assert seen[SPEC.name]["loss"] == [(10 * n, 2.0 + 1 / n) for n in range(1, 11)]
    assert seen[SPEC.name]["final.tokens_seen"] == [(100, 100.0)]
    assert "mfu" not in seen[SPEC.name]
    client = MlflowClient(uri)
    children = client.search_runs([client.get_run(parent).info.experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'")
    assert {run.data.tags[RUN_TAG] for run in children} == {"m-base", SPEC.name}
    assert {run.info.status for run in children} == {"FINISHED"}
    assert client.get_run(parent).info.status == "FINISHED"


def test_fits_are_metrics_and_tags_of_the_parent_and_another_fit_makes_a_new_one(uri):
    def mirror(fits: Sequence[Fit]) -> str:
        tracking = Tracking(uri, "exp")
        return tracking.mirror_study("s", "runs/s", config=CONFIG, points=POINTS, control_arms=CONTROL, fits=fits)

    parent = mirror(FITS)
    assert mirror(FITS) == parent
    seen = dump(uri)["s"]
    assert seen["fit.tokens.m.legal.law.E.low"] == [(0, 0.6)]
    assert "fit.tokens.m.legal.law.x0" not in seen
    tags = MlflowClient(uri).get_run(parent).data.tags
    assert tags["cpt_ray.fit.size.all_models.legal.law"].startswith("not fitted: 2 model sizes")
    assert mirror(FITS[1:]) != parent
    assert "fit.tokens.m.legal.law.E" not in dump(uri)["s"]


def test_the_same_content_is_mirrored_once(uri):
    _, parent = mirror_all(uri)
    before = dump(uri)
    _, again = mirror_all(uri)
    assert again == parent
    assert dump(uri) == before
    assert count_runs(uri, ViewType.ALL) == 3


def test_a_run_that_grew_is_appended_to(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    first = tracking.mirror_run(parent, SPEC, metrics=steps(4))
    assert MlflowClient(uri).get_run(first).info.status == "RUNNING"
    assert tracking.mirror_run(parent, SPEC, metrics=steps(7)) == first
    assert tracking.mirror_run(parent, record(), metrics=steps(10)) == first
    assert [x for x, _ in dump(uri)[SPEC.name]["loss"]] == [10 * n for n in range(1, 11)]
    assert MlflowClient(uri).get_run(first).info.status == "FINISHED"
    assert count_runs(uri, ViewType.ALL) == 2


def test_steps_done_again_make_a_new_run_and_delete_the_old_one(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    first = tracking.mirror_run(parent, SPEC, metrics=steps(6))
    redone = (*steps(3), *(step(n, loss=1.9, attempt=2) for n in range(4, 9)))
    second = tracking.mirror_run(parent, SPEC, metrics=redone)
    assert second != first
    assert MlflowClient(uri).get_run(first).info.lifecycle_stage == "deleted"
    assert dump(uri)[SPEC.name]["loss"] == [(m.tokens_seen, m.loss) for m in redone]


def test_held_out_losses_grow_with_a_run_and_the_rest_is_added_when_it_is_done(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    losses = [held_out(0, 1.9), held_out(40, 1.8), held_out(80, 1.7)]
    first = tracking.mirror_run(parent, SPEC, metrics=steps(4), watched=held_out_metrics(losses[:2]))
    rows = [*held_out_metrics(losses), *memory_metrics([memory(10, "load", 5, 7)]), *event_metrics([event("spike", 30)])]
    for _ in range(2):
        assert tracking.mirror_run(parent, record(), metrics=steps(10), watched=rows) == first
    seen = dump(uri)[SPEC.name]
    assert seen["during_training.domain.law.bits_per_byte"] == [(0, 1.9), (40, 1.8), (80, 1.7)]
    assert seen["memory.host_peak_bytes"] == [(10, 7.0)]
    assert seen["events.spike"] == [(30, 1.0)]
    assert count_runs(uri, ViewType.ALL) == 2


def test_another_held_out_loss_at_the_same_place_makes_a_new_run(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    first = tracking.mirror_run(parent, SPEC, metrics=steps(4), watched=held_out_metrics([held_out(40, 1.8)]))
    second = tracking.mirror_run(parent, SPEC, metrics=steps(4), watched=held_out_metrics([held_out(40, 1.6)]))
    assert second != first
    assert dump(uri)[SPEC.name]["during_training.domain.law.bits_per_byte"] == [(40, 1.6)]


def test_a_skipped_step_leaves_no_point_in_the_curves(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    skipped = step(3).model_copy(update={"skipped": True, "tokens_seen": 20, "loss": 9.0, "tokens_per_s": 0.0})
    tracking.mirror_run(parent, SPEC, metrics=(*steps(2), skipped, step(4)))
    seen = dump(uri)[SPEC.name]
    assert [x for x, _ in seen["loss"]] == [x for x, _ in seen["tokens_per_s"]] == [10, 20, 40]


def test_a_finished_run_says_how_its_mfu_was_counted_and_what_watching_found(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    counted = attempt(peak_basis="measured", flops_basis="keys attended")
    finished = record(attempts=(counted,), spikes=2, cost=cost(host_peak_bytes=7))
    run = tracking.mirror_run(parent, finished, metrics=steps(2))
    data = MlflowClient(uri).get_run(run).data
    assert (data.tags["peak_basis"], data.tags["flops_basis"]) == ("measured", "keys attended")
    assert (data.metrics["final.spikes"], data.metrics["final.host_peak_bytes"]) == (2.0, 7.0)
    assert "final.device_peak_bytes" not in data.metrics


def test_fewer_steps_or_another_record_are_other_content(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    first = tracking.mirror_run(parent, record(), metrics=steps(6))
    second = tracking.mirror_run(parent, record(), metrics=steps(5))
    third = tracking.mirror_run(parent, record(cost=cost(wall_s=3.0)), metrics=steps(5))
    assert len({first, second, third}) == 3
    assert count_runs(uri, ViewType.ACTIVE_ONLY) == 2


def test_what_a_killed_driver_logged_before_its_tags_is_not_doubled(uri, monkeypatch):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    log = tracking._log

    def killed(run_id, rows, tags=None):
        log(run_id, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "_log", killed)
    with pytest.raises(KeyboardInterrupt):
        tracking.mirror_run(parent, SPEC, metrics=steps(5))
    assert len(dump(uri)[SPEC.name]["loss"]) == 5
    Tracking(uri, "exp").mirror_run(parent, SPEC, metrics=steps(6))
    assert [x for x, _ in dump(uri)[SPEC.name]["loss"]] == [10, 20, 30, 40, 50, 60]


def test_a_curve_grows_in_place_and_a_changed_point_makes_a_new_parent_with_the_same_children(uri):
    tracking, parent = mirror_all(uri)
    more = (*POINTS, point(0, 1.1, None, "general"), point(100, 1.11, "legal", "general"))
    assert tracking.mirror_study("s", "runs/s", config=CONFIG, points=more, control_arms=CONTROL) == parent
    changed = (*POINTS[:-1], point(100, 1.37, "control"))
    new = tracking.mirror_study("s", "runs/s", config=CONFIG, points=changed, control_arms=CONTROL)
    assert new != parent
    assert dump(uri)["s"]["control.domain.law.bits_per_byte"] == [(0, 1.4), (100, 1.37)]
    client = MlflowClient(uri)
    children = client.search_runs([client.get_run(new).info.experiment_id], f"tags.`{PARENT_TAG}` = '{new}'")
    assert len(children) == 2


def test_a_mirror_rebuilt_in_a_fresh_database_has_the_same_numbers(uri, fresh, tmp_path):
    mirror_all(uri)
    other = fresh(tmp_path / "elsewhere")
    mirror_all(other)
    assert dump(other) == dump(uri)


def test_more_metrics_than_one_batch_holds_all_arrive(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    tracking.mirror_run(parent, SPEC, metrics=steps(450))
    assert len(dump(uri)[SPEC.name]["gradient_norm"]) == 450


def test_a_failed_run_is_called_failed_and_can_run_again(uri):
    tracking = Tracking(uri, "exp")
    parent = tracking.mirror_study("s", "r", config={}, points=(), control_arms=CONTROL)
    run = tracking.mirror_run(parent, SPEC, metrics=steps(2), status="FAILED")
    assert MlflowClient(uri).get_run(run).info.status == "FAILED"
    assert tracking.mirror_run(parent, SPEC, metrics=steps(3)) == run
    assert MlflowClient(uri).get_run(run).info.status == "RUNNING"


def test_report_and_config_lie_under_the_root_without_secrets(uri, tmp_path):
    tracking, parent = mirror_all(uri)
    report = tmp_path / "report.html"
    report.write_text("<html></html>", encoding="utf-8")
    tracking.finish_study(parent, files={"report.html": report}, config=CONFIG)
    files = {path.name: path for path in (tmp_path / "root" / "mlartifacts").rglob("*") if path.is_file()}
    assert set(files) == {"report.html", "config.yaml"}
    params = MlflowClient(uri).get_run(parent).data.params
    assert params["batch_tokens"] == "3"
    assert params["hub.api_token"] == MASK
    assert params["path"] == "s3://***@bucket/x"
    for text in (str(params), files["config.yaml"].read_text(encoding="utf-8")):
        assert "hf_x" not in text
        assert "pw" not in text


def test_making_a_database_is_silent(tmp_path, capfd, caplog):
    uri = default_uri(tmp_path / "not" / "there")
    with caplog.at_level(logging.INFO):
        Tracking(uri, "exp")
    assert Path(uri.removeprefix("sqlite:///")).is_file()
    assert capfd.readouterr().err == ""
    assert not [r for r in caplog.records if r.name.startswith(("alembic", "mlflow.store"))]


def test_a_root_with_odd_characters_holds_its_own_database(fresh, tmp_path):
    root = tmp_path / "a b#c%20d?e[f] caf\u00e9 it's"
    uri = fresh(root)
    tracking, parent = mirror_all(uri)
    tracking.finish_study(parent, texts={"prepare/t.md": "text"})
    assert MlflowClient(tracking_uri=uri).get_run(parent).info.status == "FINISHED"
    assert sorted(path.name for path in tmp_path.iterdir()) == [root.name]
    assert [path.name for path in root.rglob("t.md")] == ["t.md"]
