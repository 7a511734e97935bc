"""A study is mirrored into MLflow once: again only if its content or the database has changed."""

import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.config.sections.runtime import TrackingConfig
from cpt_ray.edges.tracking.mirrored import database_of, default_uri
from cpt_ray.errors import CptRayError
from cpt_ray.records import RunRecord
from cpt_ray.study.findings.mirror import Found, Mirror, MirrorTarget, mirror_study, why_not_mirrored
from tests.report.made_up import evaluation


class FakeTracking:
    """Counts calls, and writes to its database as MLflow does."""

    def __init__(self, database: Path) -> None:
        self.database, self.finished = database, 0
        self.watched: dict[str, list[Any]] = {}

    def mirror_run(self, parent: str, record: RunRecord, *, watched: list[Any], **_: Any) -> None:
        self.watched[record.run] = list(watched)

    def finish_study(self, parent: str, **_: Any) -> None:
        self.finished += 1
        self.database.write_bytes(b"x" * self.finished)


def mirror_at(uri: str) -> Mirror:
    target = MirrorTarget(
        uri=uri, experiment="e", study="s", identity="i", config={"a": 1}, params={}, axes={}, control_arms=frozenset()
    )
    return Mirror(target, TerminalConsole(quiet=True))


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return mirror_at(default_uri(tmp_path))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<html></html>", encoding="utf-8")
    return path


def test_an_unchanged_study_is_mirrored_once_and_a_changed_one_again(mirror, report, tmp_path, monkeypatch):
    tracking = FakeTracking(tmp_path / "mlflow.db")
    monkeypatch.setattr(Mirror, "open", lambda self, points, fits: (tracking, "parent"))
    found = Found((), {"funnel.csv": "a"})
    mirror_study(mirror, [], {}, found, report)
    mirror_study(mirror, [], {}, found, report)
    assert tracking.finished == 1
    report.write_text("<html>another</html>", encoding="utf-8")
    mirror_study(mirror, [], {}, found, report)
    assert tracking.finished == 2
    mirror_study(mirror, [], {}, Found((), {"funnel.csv": "b"}), report)
    assert tracking.finished == 3
    tracking.database.unlink()
    mirror_study(mirror, [], {}, Found((), {"funnel.csv": "b"}), report)
    assert tracking.finished == 4


def test_a_line_that_a_run_wrote_since_is_mirrored(mirror, report, tmp_path, monkeypatch):
    tracking = FakeTracking(tmp_path / "mlflow.db")
    monkeypatch.setattr(Mirror, "open", lambda self, points, fits: (tracking, "parent"))
    lines = tmp_path / "run" / "metrics" / "attempt-0001.jsonl"
    lines.parent.mkdir(parents=True)
    for content, times in (("{}", 1), ("{}", 1), ("{}\n{}", 2)):
        lines.write_text(content, encoding="utf-8")
        mirror_study(mirror, [], {"run": tmp_path / "run"}, Found((), {}), report)
        assert tracking.finished == times


def test_exam_scores_are_metrics_of_their_runs_and_new_ones_are_mirrored(mirror, report, tmp_path, monkeypatch):
    tracking = FakeTracking(tmp_path / "mlflow.db")
    monkeypatch.setattr(Mirror, "open", lambda self, points, fits: (tracking, "parent"))
    base = RunRecord(run="base", kind="base", model="smollm2-135m", export_path="/nowhere", annealed=True)
    for scores, metrics in (((), []), ((evaluation("base", None, 0, 1.2, 1.1, 0.3),), ["accuracy", "accuracy_norm"])):
        mirror_study(mirror, [base], {}, Found((), {}, (), scores), report)
        assert [key for key, _, _ in tracking.watched["base"]] == [f"exam.mmlu_dev_smoke.{name}" for name in metrics]
    assert tracking.finished == 2


def test_a_store_that_cannot_be_reached_is_an_error_with_a_fix(mirror, report, monkeypatch):
    def unreachable(self, points, fits):
        raise ConnectionError("refused")

    monkeypatch.setattr(Mirror, "open", unreachable)
    with pytest.raises(CptRayError, match=r"MLflow at sqlite.* cannot be written: refused\n  fix: move /.*mlflow\.db away, or"):
        mirror_study(mirror, [], {}, Found((), {}), report)


def test_a_database_that_is_broken_is_an_error_with_a_fix(mirror, report):
    database = database_of(mirror.target.uri)
    with contextlib.closing(sqlite3.connect(database)) as broken:
        broken.execute("create table endpoints (routing_strategy text)")  # as a killed process may leave it
    with pytest.raises(CptRayError, match=r"MLflow at sqlite.* cannot be written: .*endpoints") as error:
        mirror_study(mirror, [], {}, Found((), {}), report)
    assert f"move {database} away" in error.value.fix


def test_a_study_is_mirrored_unless_it_is_told_not_to_or_mlflow_is_missing(monkeypatch):
    assert why_not_mirrored(TrackingConfig()) is None
    assert why_not_mirrored(TrackingConfig(enabled=False)) == "off (tracking.enabled: false)"
    with monkeypatch.context() as skinny:
        skinny.setitem(sys.modules, "sqlalchemy", None)
        reason = why_not_mirrored(TrackingConfig())
        assert reason is not None
        assert reason.startswith(
            "mlflow-skinny writes to a tracking server only, so nothing is mirrored; set tracking.uri, or pip"
        )
    monkeypatch.setitem(sys.modules, "mlflow", None)
    reason = why_not_mirrored(TrackingConfig())
    assert reason is not None
    assert reason.startswith("not installed, so nothing is mirrored; the report is complete without it (pip install 'mlflow")
    assert why_not_mirrored(TrackingConfig(uri="http://tracker")) is None  # asked for: an error, not a line


def test_page_twins_and_figures_go_to_mlflow_under_their_own_names(mirror, report, monkeypatch):
    told: dict[str, Any] = {}

    class Recorder:
        def finish_study(self, parent: str, **given: Any) -> None:
            told.update(given)

    for name in ("report.md", "report.json", "figures/scaling.svg"):
        (report.parent / name).parent.mkdir(exist_ok=True)
        (report.parent / name).write_text("x", encoding="utf-8")
    monkeypatch.setattr(Mirror, "open", lambda self, points, fits: (Recorder(), "parent"))
    mirror_study(mirror, [], {}, Found((), {"results.csv": "a"}), report)
    assert sorted(told["files"]) == ["figures/scaling.svg", "report.html", "report.json", "report.md"]
    assert told["texts"] == {"results.csv": "a"}


def test_a_study_ends_in_mlflow_as_its_command_did(monkeypatch):
    ended = []

    class Recorder:
        def end(self, parent: str, status: str) -> int:
            ended.append((parent, status))
            return 0

    for error in (None, ValueError("x"), KeyboardInterrupt()):
        mirror = mirror_at("http://127.0.0.1:9")
        mirror.close(error)  # nothing was opened, so nothing is ended
        monkeypatch.setattr(mirror, "_tracking", Recorder())
        monkeypatch.setattr(mirror, "_parent", "p")
        mirror.close(error)
    assert ended == [("p", "FINISHED"), ("p", "FAILED"), ("p", "KILLED")]


def test_a_server_that_did_not_respond_is_not_waited_for_at_the_end(monkeypatch):
    class Slow:
        def end(self, parent: str, status: str) -> int:
            raise AssertionError("asked again")

    mirror = mirror_at("http://127.0.0.1:9")
    monkeypatch.setattr(mirror, "_tracking", Slow())
    monkeypatch.setattr(mirror, "_parent", "p")
    mirror.lose()
    mirror.close()


def test_a_server_that_is_gone_at_the_end_hides_no_error(monkeypatch, capsys):
    class Gone:
        def end(self, parent: str, status: str) -> int:
            raise ConnectionError

    mirror = mirror_at("http://127.0.0.1:9")
    mirror._console = TerminalConsole()
    monkeypatch.setattr(mirror, "_tracking", Gone())
    monkeypatch.setattr(mirror, "_parent", "p")
    mirror.close(ValueError("the command's own"))
    assert "MLflow at http://127.0.0.1:9 was not told the end (ConnectionError)" in capsys.readouterr().out
