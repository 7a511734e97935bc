"""The only door to MLflow: a mirror of the records, written by the driver, which can be rebuilt from them at any time.

Next to training, evaluation and comparison. In: configs, specs, records, step metrics, points. Out: one
MLflow run per study, whose metrics draw the token-scaling curve, with a child run per training run and for the base. The x
axis is tokens seen. Guarantee: mirroring the same content twice changes nothing; a run that grew is appended to; content that
contradicts what was mirrored creates a new run and deletes the old one (MLflow can restore it), because MLflow cannot delete a
metric. Only explicit run ids are used, never MLflow's global state.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from cpt_ray.edges.redaction import redact
from cpt_ray.edges.tracking.metrics import Watched, curve_metrics
from cpt_ray.edges.tracking.mirrored import database_of
from cpt_ray.records import Point, RunRecord, RunSpec, StepMetrics

Status = Literal["RUNNING", "FINISHED", "FAILED"]

STUDY_TAG = "cpt_ray.study"
RUN_TAG = "cpt_ray.run"
PARENT_TAG = "mlflow.parentRunId"
_PARAMS_TAG = "cpt_ray.params_sha256"
_STEPS_TAG = "cpt_ray.mirrored_steps"
_CONTENT_TAG = "cpt_ray.mirrored_sha256"
_WATCHED_TAG = "cpt_ray.mirrored_watched"
_WATCHED_CONTENT_TAG = "cpt_ray.watched_sha256"
_RECORD_TAG = "cpt_ray.record_sha256"
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_LONGEST_PARAM = 6000
_STEP_VALUES = ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "mfu")


class Tracking:
    """A mirror in one MLflow experiment.

    Args:
        uri: Tracking URI. With sqlite, artifacts are stored in `mlartifacts` next to the database.
        experiment: Experiment name; created if it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._client = _client(uri)
        self._experiment = _experiment_id(self._client, uri, experiment)

    def mirror_study(
        self, study: str, root: str, *, config: Mapping[str, Any], points: Sequence[Point], control_arms: frozenset[str]
    ) -> str:
        """Mirror the study's parent run: its config as parameters, its token-scaling curve as metrics.

        Args:
            study: Its name.
            root: Its root, which distinguishes studies of the same name.
            config: The resolved config as plain values; secrets are masked here.
            points: The points known so far.
            control_arms: Arms whose role is control.

        Returns:
            The run's id, for `mirror_run` and `finish_study`.
        """
        tags = {STUDY_TAG: _quoted(f"{study} {root}")}
        params = _flatten(redact(dict(config)))
        wanted = curve_metrics(points, control_arms)
        run = self._find(tags, absent=RUN_TAG)
        if run is not None and (run.data.tags.get(_PARAMS_TAG) != _sha(params) or self._contradicts(run.info.run_id, wanted)):
            new = self._create(study, tags, params)
            self._adopt(run.info.run_id, new.info.run_id)
            run = new
        if run is None:
            run = self._create(study, tags, params)
        run_id = str(run.info.run_id)
        known = self._history(run_id, {key for key, _ in wanted})
        missing = {place: value for place, value in wanted.items() if place not in known}
        self._log(run_id, [(key, value, run.info.start_time, step) for (key, step), value in missing.items()])
        return run_id

    def mirror_run(
        self,
        parent: str,
        run: RunSpec | RunRecord,
        *,
        metrics: Sequence[StepMetrics] = (),
        watched: Sequence[Watched] = (),
        params: Mapping[str, Any] | None = None,
        status: Status | None = None,
    ) -> str:
        """Mirror one training run, or the base, as a child of its study.

        Args:
            parent: The id that `mirror_study` returned.
            run: The spec while it is running, the record when it is done. A record also mirrors its totals, as `final.*`,
                and, as tags, how its MFU was counted.
            metrics: The steps that led to its weights so far, in order; skipped steps appear as events only.
            watched: The output of `held_out_metrics`, `memory_metrics` and `event_metrics`; later entries are appended.
            params: Further parameters; secrets are masked here.
            status: Default: FINISHED for a record, RUNNING for a spec.

        Returns:
            The run's id.
        """
        fields = {key: getattr(run, key) for key in ("kind", "model", "arm", "seed", "budget_tokens", "parent")}
        if isinstance(run, RunRecord):
            name, fields["start_tokens"] = run.run, run.training.start_tokens if run.training else 0
        else:
            name, fields["start_tokens"] = run.name, run.start_tokens
        all_params = _flatten(redact({**fields, **(params or {})}))
        tags = {PARENT_TAG: parent, RUN_TAG: name}
        record_sha = _sha(run.to_json()) if isinstance(run, RunRecord) else None
        found = self._find(tags)
        if found is not None and not _continues(found.data.tags, all_params, metrics, watched, record_sha):
            self._client.delete_run(found.info.run_id)
            found = None
        if found is None:
            found = self._create(name, tags, all_params)
        run_id = str(found.info.run_id)
        self._append(run_id, found, metrics)
        self._append_watched(run_id, found, metrics, watched)
        if isinstance(run, RunRecord) and found.data.tags.get(_RECORD_TAG) != record_sha:
            last = run.training.last if run.training else None
            bases = {"peak_basis": last.peak_basis, "flops_basis": last.flops_basis} if last else {}
            self._log(run_id, _final_metrics(run, found.info.start_time), tags={**bases, _RECORD_TAG: str(record_sha)})
        self._set_status(run_id, found, status or ("FINISHED" if isinstance(run, RunRecord) else "RUNNING"))
        return run_id

    def finish_study(
        self,
        parent: str,
        *,
        status: Status = "FINISHED",
        report: Path | None = None,
        config: Mapping[str, Any] | None = None,
        tables: Mapping[str, str] | None = None,
    ) -> None:
        """Set the study's status, and store its report, its config (secrets masked) and `tables` by name as artifacts."""
        if report is not None:
            self._client.log_artifact(parent, str(report))
        if config is not None:
            self._log_text(parent, "config.yaml", yaml.safe_dump(redact(dict(config)), sort_keys=False, allow_unicode=True))
        for name, text in (tables or {}).items():
            self._log_text(parent, name, text, folder="prepare")
        self._set_status(parent, self._client.get_run(parent), status)

    def _log_text(self, run_id: str, name: str, text: str, folder: str | None = None) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / name
            path.write_text(text, encoding="utf-8")
            self._client.log_artifact(run_id, str(path), artifact_path=folder)

    def _find(self, tags: Mapping[str, str], absent: str | None = None) -> Any:
        clauses = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        runs = self._client.search_runs([self._experiment], " and ".join(clauses), max_results=10)
        return next((run for run in runs if absent is None or absent not in run.data.tags), None)

    def _create(self, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Any:
        run = self._client.create_run(self._experiment, run_name=name, tags={**tags})
        self._log_params(run.info.run_id, params)
        # Written last: a run without it counts as contradicting and is created again.
        self._client.set_tag(run.info.run_id, _PARAMS_TAG, _sha(params))
        return self._client.get_run(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        items = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(items), _MOST_PARAMS):
            self._client.log_batch(run_id, params=items[start : start + _MOST_PARAMS])

    def _append(self, run_id: str, run: Any, metrics: Sequence[StepMetrics]) -> None:
        done = int(run.data.tags.get(_STEPS_TAG, 0))
        if len(metrics) <= done:
            return
        start = run.info.start_time
        ends = list(itertools.accumulate(item.step_s for item in metrics))
        rows = [
            (key, value, start + round(1000 * ends[i]), item.tokens_seen)
            for i, item in enumerate(metrics)
            if i >= done and not item.skipped
            for key in _STEP_VALUES
            if (value := getattr(item, key)) is not None and math.isfinite(value)
        ]
        # Times are a function of the content, so what a killed driver logged before its tags is overwritten, not duplicated.
        self._log(run_id, rows, tags={_STEPS_TAG: str(len(metrics)), _CONTENT_TAG: _steps_sha(metrics)})

    def _append_watched(self, run_id: str, run: Any, metrics: Sequence[StepMetrics], watched: Sequence[Watched]) -> None:
        done = int(run.data.tags.get(_WATCHED_TAG, 0))
        if len(watched) <= done:
            return
        start, seen = run.info.start_time, [item.tokens_seen for item in metrics]
        ends = [0.0, *itertools.accumulate(item.step_s for item in metrics)]
        rows = [
            (key, value, start + round(1000 * ends[bisect.bisect_right(seen, tokens)]), tokens)
            for key, tokens, value in watched[done:]
            if math.isfinite(value)
        ]
        self._log(run_id, rows, tags={_WATCHED_TAG: str(len(watched)), _WATCHED_CONTENT_TAG: _sha(list(watched))})

    def _log(self, run_id: str, rows: Sequence[tuple[str, float, int, int]], tags: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import Metric, RunTag

        items = [Metric(key, float(value), time_ms, step) for key, value, time_ms, step in rows]
        for begin in range(0, len(items), _MOST_METRICS):
            self._client.log_batch(run_id, metrics=items[begin : begin + _MOST_METRICS])
        if tags:
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _history(self, run_id: str, keys: Iterable[str]) -> dict[tuple[str, int], float]:
        return {(key, m.step): m.value for key in sorted(keys) for m in self._client.get_metric_history(run_id, key)}

    def _contradicts(self, run_id: str, wanted: Mapping[tuple[str, int], float]) -> bool:
        keys = set(self._client.get_run(run_id).data.metrics)
        return any(wanted.get(place) != value for place, value in self._history(run_id, keys).items())

    def _adopt(self, old: str, new: str) -> None:
        for child in self._client.search_runs([self._experiment], f"tags.`{PARENT_TAG}` = '{old}'", max_results=10_000):
            self._client.set_tag(child.info.run_id, PARENT_TAG, new)
        self._client.delete_run(old)

    def _set_status(self, run_id: str, run: Any, status: Status) -> None:
        if run.info.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status, end_time=int(1000 * time.time()))


def _continues(
    tags: Mapping[str, str],
    params: Mapping[str, str],
    metrics: Sequence[StepMetrics],
    watched: Sequence[Watched],
    record_sha: str | None,
) -> bool:
    if tags.get(_PARAMS_TAG) != _sha(params):
        return False
    done = int(tags.get(_STEPS_TAG, 0))
    if done > len(metrics) or (done and tags.get(_CONTENT_TAG) != _steps_sha(metrics[:done])):
        return False
    told = int(tags.get(_WATCHED_TAG, 0))
    if told > len(watched) or (told and tags.get(_WATCHED_CONTENT_TAG) != _sha(list(watched[:told]))):
        return False
    return _RECORD_TAG not in tags or (tags[_RECORD_TAG] == record_sha and done == len(metrics))


def _final_metrics(record: RunRecord, time_ms: int) -> list[tuple[str, float, int, int]]:
    training = record.training
    values: dict[str, float | None] = {"tokens_seen": record.tokens_seen}
    if training is not None:
        values |= {
            "steps": training.progress.step,
            "attempts": len(training.attempts),
            "spikes": training.spikes,
            "steps_skipped": training.progress.steps_skipped,
            "tokens_skipped": training.progress.tokens_skipped,
            **training.cost.model_dump(),
        }
    return [(f"final.{key}", float(v), time_ms, record.tokens_seen) for key, v in values.items() if v is not None]


def _steps_sha(metrics: Sequence[StepMetrics]) -> str:
    digest = hashlib.sha256()
    for item in metrics:
        digest.update(item.model_dump_json(exclude={"sample_ids"}).encode())
    return digest.hexdigest()


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{prefix}{key}"] = text[:_LONGEST_PARAM]
    return flat


def _quoted(value: str) -> str:
    # MLflow's filter language has no escape for a quote inside single quotes.
    return value.replace("'", "_")


def _client(uri: str) -> Any:
    # The project sends nothing to anyone; MLflow would otherwise report its use.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if (database := database_of(uri)) is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    # The package alone takes 1.0 s of CPU to import, whatever is imported from it, and sqlalchemy's check of the schema 1.3 s.
    from mlflow.tracking import MlflowClient

    # Creating a database logs about a hundred lines of migrations.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _experiment_id(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    database = database_of(uri)
    location = (database.parent / "mlartifacts").resolve().as_uri() if database is not None else None
    # Without its kind MLflow's UI takes an experiment for one of language-model prompts and hides the training charts.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=location, tags=tags))
