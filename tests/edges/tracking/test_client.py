"""Over http: a mirror that is the same when repeated, in few requests, and runs that are ended with their study."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from mlflow.entities import ViewType

from cpt_ray.edges.tracking.client import PARENT_TAG, all_runs, connect, end_running, experiment_id
from cpt_ray.edges.tracking.mirrored import uri_of
from cpt_ray.edges.tracking.store import Tracking
from tests.edges.points import CONTROL, POINTS
from tests.edges.tracking.test_store import CONFIG, SPEC, record, steps

STEPS = 2_000


def mirror_all(tracking: Tracking, name: str) -> str:
    parent = tracking.mirror_study("s", name, config=CONFIG, points=POINTS, control_arms=CONTROL)
    tracking.mirror_run(parent, record("base", "m-base"))
    tracking.mirror_run(parent, record(), metrics=steps(STEPS), params={"lr": 1}, axes={"replay": "half"})
    tracking.finish_study(parent, config=CONFIG, texts={"results.csv": "a,b\n", "prepare/funnel.csv": "c\n"})
    return parent


def state(server: str, name: str) -> dict[str, Any]:
    """Everything of an experiment: runs, deleted ones included, with tags, parameters, and every point of their metrics."""
    client = connect(server)
    runs = client.search_runs([experiment_id(client, server, name)], run_view_type=ViewType.ALL)
    return {
        run.info.run_id: (
            run.info.status,
            run.info.lifecycle_stage,
            {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
            dict(run.data.params),
            {key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics},
        )
        for run in runs
    }


def test_a_study_of_many_points_is_mirrored_once_and_in_batches(server, monkeypatch, capfd):
    tracking = Tracking(server, "many")
    batches = []
    log = tracking._client.log_batch
    monkeypatch.setattr(
        tracking._client, "log_batch", lambda *a, **k: (batches.append(len(k.get("metrics", ()))), log(*a, **k))
    )
    parent = mirror_all(tracking, "many")
    points = 4 * STEPS  # no GPU, no MFU
    assert max(batches) == 1000
    assert sum(size == 1000 for size in batches) == points // 1000
    found = state(server, "many")
    (curve,) = [metrics for *_, metrics in found.values() if "loss" in metrics]
    assert [step for step, _ in curve["loss"]] == [10 * n for n in range(1, STEPS + 1)]  # tokens seen
    assert sum(len(values) for key, values in curve.items() if not key.startswith("final.")) == points
    batches.clear()
    again = Tracking(server, "many")
    requests = []
    send = again._client.log_batch
    monkeypatch.setattr(again._client, "log_batch", lambda *a, **k: (requests.append(a), send(*a, **k)))
    assert mirror_all(again, "many") == parent
    assert requests == []
    assert state(server, "many") == found
    assert capfd.readouterr().out == ""  # no address of every run on the terminal


def test_table_and_config_are_artifacts_and_runs_can_be_grouped_by_their_axes(server):
    parent = mirror_all(Tracking(server, "grouped"), "grouped")
    client = connect(server)
    assert sorted(found.path for found in client.list_artifacts(parent)) == ["config.yaml", "prepare", "results.csv"]
    experiment = experiment_id(client, server, "grouped")
    (run,) = all_runs(client, experiment, "tags.`axis.replay` = 'half' and tags.arm = 'legal'")
    assert run.data.tags[PARENT_TAG] == parent
    assert (run.data.params["axis.replay"], run.data.tags["model"], run.data.tags["budget_tokens"]) == ("half", "m", "100")


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_what_a_study_left_running_ends_with_it(server, status):
    tracking = Tracking(server, f"left-{status}")
    parent = tracking.mirror_study("s", "left", config={}, points=None, control_arms=CONTROL)
    run = tracking.mirror_run(parent, SPEC, metrics=steps(2))
    done = tracking.mirror_run(parent, record("base", "m-base"))
    client = connect(server)
    assert client.get_run(parent).info.status == client.get_run(run).info.status == "RUNNING"
    assert end_running(client, tracking.experiment, parent, status) == 2
    assert [client.get_run(one).info.status for one in (parent, run, done)] == [status, status, "FINISHED"]
    assert end_running(client, tracking.experiment, parent, status) == 0


def test_a_run_that_a_dead_machine_left_running_is_corrected_by_the_next_command(server):
    name = "dead machine"
    first = Tracking(server, name)
    parent = first.mirror_study("s", "dead", config={}, points=None, control_arms=CONTROL)
    left = first.mirror_run(parent, SPEC, metrics=steps(2))
    second = Tracking(server, name)
    assert second.mirror_study("s", "dead", config={}, points=None, control_arms=CONTROL) == parent
    client = connect(server)
    assert client.get_run(left).info.status == "KILLED"
    # The run goes on where it was, and nothing that this command made running is ended when the study is opened again.
    assert second.mirror_run(parent, SPEC, metrics=steps(4)) == left
    second.mirror_study("s", "dead", config={}, points=POINTS, control_arms=CONTROL)
    assert client.get_run(left).info.status == "RUNNING"


def test_more_runs_than_a_page_holds_are_all_found(server, monkeypatch):
    client = connect(server)
    experiment = experiment_id(client, server, "pages")
    for _ in range(5):
        client.create_run(experiment, tags={"kind": "x"})
    search = client.search_runs
    monkeypatch.setattr(client, "search_runs", lambda e, f, max_results, page_token: search(e, f, 1, 2, None, page_token))
    assert len(all_runs(client, experiment, "tags.kind = 'x'")) == 5


def test_a_process_that_is_killed_as_it_makes_a_database_leaves_none_and_the_next_one_makes_it(tmp_path):
    database = tmp_path / "a 100 % study" / "mlflow.db"
    command = f"from cpt_ray.edges.tracking.client import connect; connect({uri_of(database)!r})"
    maker = subprocess.Popen([sys.executable, "-c", command])
    end = time.monotonic() + 120
    while not any(path.stat().st_size for path in database.parent.glob(".mlflow.db.*.making.tmp")):
        assert maker.poll() is None
        assert time.monotonic() < end
        time.sleep(0.001)
    maker.kill()
    maker.wait()
    assert not database.exists()
    client = connect(uri_of(database))
    assert experiment_id(client, uri_of(database), "study") == experiment_id(client, uri_of(database), "study")
    assert [path.name for path in database.parent.iterdir() if path.is_file()] == ["mlflow.db"]


def test_processes_that_find_no_database_make_one_together(tmp_path):
    uri = uri_of(tmp_path / "mlflow.db")
    command = f"from cpt_ray.edges.tracking.client import connect; print(connect({uri!r}).get_experiment('0').name)"
    makers = [subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [maker.communicate(timeout=300)[0] for maker in makers] == ["Default\n"] * 2
