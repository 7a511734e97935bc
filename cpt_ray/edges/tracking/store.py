"""A mirror of the records in MLflow, written by the driver, which can be rebuilt from them at any time.

Next to training, evaluation and comparison. In: configs, specs, records, step metrics, points. Out: one
MLflow run per study, whose metrics draw the token-scaling curve, with a child run per training run and for the base. The x
axis is tokens seen. Guarantee: mirroring the same content twice changes nothing; a run that grew is appended to; content that
contradicts what was mirrored creates a new run and deletes the old one (MLflow can restore it), because MLflow cannot delete a
metric. Only explicit run ids are used, never MLflow's global state. Metrics go out in batches of 1,000, the most that a server
takes at once.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cpt_ray.edges.redaction import redact
from cpt_ray.edges.tracking.client import PARENT_TAG, Status, all_runs, connect, end_running, experiment_id, set_status
from cpt_ray.edges.tracking.content import (
    CONTENT_TAG,
    PARAMS_TAG,
    RECORD_TAG,
    STEPS_TAG,
    WATCHED_CONTENT_TAG,
    WATCHED_TAG,
    continues,
    flatten,
    quoted,
    sha,
    steps_sha,
)
from cpt_ray.edges.tracking.metrics import Watched, curve_metrics, final_metrics, fit_metrics, fit_tags
from cpt_ray.edges.tracking.models import describe_export, log_model
from cpt_ray.records import Fit, Point, RunRecord, RunSpec, StepMetrics

STUDY_TAG = "cpt_ray.study"
RUN_TAG = "cpt_ray.run"
_MODEL_TAG = "cpt_ray.model"
_FILES_TAG = "cpt_ray.files_sha256"
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_GROUPED = ("kind", "model", "arm", "seed", "budget_tokens")
"""Fields of a run that are tags as well as parameters: the UI groups runs by them."""
_STEP_VALUES = ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "mfu")


class Tracking:
    """A mirror in one MLflow experiment.

    Args:
        uri: Tracking URI. With sqlite, artifacts are stored in `mlartifacts` next to the database.
        experiment: Experiment name; created if it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._client = connect(uri)
        self.experiment = experiment_id(self._client, uri, experiment)
        self._children: dict[str, Any] = {}
        self._opened = False

    def mirror_study(
        self,
        study: str,
        root: str,
        *,
        config: Mapping[str, Any],
        points: Sequence[Point] | None,
        control_arms: frozenset[str],
        fits: Sequence[Fit] = (),
    ) -> str:
        """Mirror the study's parent run: its config as parameters, its token-scaling curve and what is fitted to it as metrics.

        Args:
            study: Its name.
            root: Its root, which distinguishes studies of the same name.
            config: The resolved config as plain values; secrets are masked here.
            points: The points known so far; None while runs train, which leaves the curve as it is.
            control_arms: Arms whose role is control.
            fits: Curves fitted to the points, or why none was.

        Returns:
            The run's id, for `mirror_run` and `finish_study`.
        """
        tags = {STUDY_TAG: quoted(f"{study} {root}")}
        params = flatten(redact(dict(config)))
        wanted = curve_metrics(points or (), control_arms) | fit_metrics(fits)
        run = self._find(tags, absent=RUN_TAG)
        stale = run is not None and points is not None and self._contradicts(run.info.run_id, wanted)
        if run is not None and (stale or run.data.tags.get(PARAMS_TAG) != sha(params)):
            new = self._create(study, tags, params)
            self._adopt(run.info.run_id, new.info.run_id)
            run = new
        if run is None:
            run = self._create(study, tags, params)
        run_id = str(run.info.run_id)
        if points is None:
            self._set_status(run_id, run, "RUNNING")
        if not self._opened:
            # A machine that died may have left some, and no run of this command has begun.
            end_running(self._client, self.experiment, run_id, "KILLED", with_parent=False)
            self._opened = True
        # One question for all children: a study may have a thousand.
        children = all_runs(self._client, self.experiment, f"tags.`{PARENT_TAG}` = '{run_id}'")
        self._children = {child.data.tags[RUN_TAG]: child for child in children if RUN_TAG in child.data.tags}
        known = self._history(run_id, {key for key, _ in wanted})
        missing = {place: value for place, value in wanted.items() if place not in known}
        rows = [(key, value, run.info.start_time, step) for (key, step), value in missing.items()]
        self._log(run_id, rows, tags=fit_tags(fits))
        return run_id

    def mirror_run(
        self,
        parent: str,
        run: RunSpec | RunRecord,
        *,
        metrics: Sequence[StepMetrics] = (),
        watched: Sequence[Watched] = (),
        params: Mapping[str, Any] | None = None,
        axes: Mapping[str, str] | None = None,
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
            axes: Values of the study's axes in the run's cell. They, model, arm, seed and budget are tags as well, by which
                MLflow's UI groups.
            status: Default: FINISHED for a record, RUNNING for a spec.

        Returns:
            The run's id.
        """
        fields = {key: getattr(run, key) for key in ("kind", "model", "arm", "seed", "budget_tokens", "parent")}
        if isinstance(run, RunRecord):
            name, fields["start_tokens"] = run.run, run.training.start_tokens if run.training else 0
        else:
            name, fields["start_tokens"] = run.name, run.start_tokens
        axes = {f"axis.{key}": value for key, value in (axes or {}).items()}
        all_params = flatten(redact({**fields, **(params or {}), **axes}))
        groups = {key: str(fields[key]) for key in _GROUPED if fields[key] is not None}
        tags = {PARENT_TAG: parent, RUN_TAG: name, **groups, **axes}
        record_sha = sha(run.to_json()) if isinstance(run, RunRecord) else None
        # What was found when the study was opened is used once: the run changes here.
        found = self._children.pop(name, None) or self._find({PARENT_TAG: parent, RUN_TAG: name})
        if found is not None and not continues(found.data.tags, all_params, metrics, watched, record_sha):
            self._client.delete_run(found.info.run_id)
            found = None
        if found is None:
            found = self._create(name, tags, all_params)
        run_id = str(found.info.run_id)
        self._append(run_id, found, metrics)
        self._append_watched(run_id, found, metrics, watched)
        if isinstance(run, RunRecord) and found.data.tags.get(RECORD_TAG) != record_sha:
            last = run.training.last if run.training else None
            bases = {"peak_basis": last.peak_basis, "flops_basis": last.flops_basis} if last else {}
            self._log(run_id, final_metrics(run, found.info.start_time), tags={**bases, RECORD_TAG: str(record_sha)})
        if isinstance(run, RunRecord):
            self._log_model(found, run)
        self._set_status(run_id, found, status or ("FINISHED" if isinstance(run, RunRecord) else "RUNNING"))
        return run_id

    def _log_model(self, found: Any, record: RunRecord) -> None:
        """Log a run's export as its model, by reference; bases are not made here, and an export may have been deleted."""
        export = Path(record.export_path or "")
        if record.kind == "base" or not record.export_path or not export.is_dir():
            return
        described = describe_export(record.run, export)
        if found.data.tags.get(_MODEL_TAG) != sha(described):
            log_model(self._client, self.experiment, str(found.info.run_id), described)
            self._client.set_tag(found.info.run_id, _MODEL_TAG, sha(described))

    def finish_study(
        self,
        parent: str,
        *,
        status: Status = "FINISHED",
        files: Mapping[str, Path] | None = None,
        config: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Set the study's status, and store artifacts by their paths, unless MLflow has exactly these.

        Args:
            parent: The study's run.
            status: How it ended.
            files: Files to copy.
            config: The resolved config, stored as `config.yaml` with its secrets masked.
            texts: Contents of further files.
        """
        written = dict(texts or {})
        if config is not None:
            written["config.yaml"] = yaml.safe_dump(redact(dict(config)), sort_keys=False, allow_unicode=True)
        run = self._client.get_run(parent)
        content = sha([written, {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (files or {}).items()}])
        if run.data.tags.get(_FILES_TAG) != content:
            with tempfile.TemporaryDirectory() as folder:
                for name in (*written, *(files or {})):
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                for name, text in written.items():
                    (Path(folder) / name).write_text(text, encoding="utf-8")
                for name, path in (files or {}).items():
                    shutil.copy(path, Path(folder) / name)
                self._client.log_artifacts(parent, folder)
            self._client.set_tag(parent, _FILES_TAG, content)
        self._set_status(parent, run, status)

    def end(self, parent: str, status: Status) -> int:
        """End what is still RUNNING of a study; return how many runs that were."""
        return end_running(self._client, self.experiment, parent, status)

    def _find(self, tags: Mapping[str, str], absent: str | None = None) -> Any:
        clauses = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        runs = self._client.search_runs([self.experiment], " and ".join(clauses), max_results=10)
        return next((run for run in runs if absent is None or absent not in run.data.tags), None)

    def _create(self, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Any:
        run = self._client.create_run(self.experiment, run_name=name, tags={**tags})
        self._log_params(run.info.run_id, params)
        # Written last: a run without it counts as contradicting and is created again.
        self._client.set_tag(run.info.run_id, PARAMS_TAG, sha(params))
        return self._client.get_run(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        items = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(items), _MOST_PARAMS):
            self._client.log_batch(run_id, params=items[start : start + _MOST_PARAMS])

    def _append(self, run_id: str, run: Any, metrics: Sequence[StepMetrics]) -> None:
        done = int(run.data.tags.get(STEPS_TAG, 0))
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
        self._log(run_id, rows, tags={STEPS_TAG: str(len(metrics)), CONTENT_TAG: steps_sha(metrics)})

    def _append_watched(self, run_id: str, run: Any, metrics: Sequence[StepMetrics], watched: Sequence[Watched]) -> None:
        done = int(run.data.tags.get(WATCHED_TAG, 0))
        if len(watched) <= done:
            return
        start, seen = run.info.start_time, [item.tokens_seen for item in metrics]
        ends = [0.0, *itertools.accumulate(item.step_s for item in metrics)]
        rows = [
            (key, value, start + round(1000 * ends[bisect.bisect_right(seen, tokens)]), tokens)
            for key, tokens, value in watched[done:]
            if math.isfinite(value)
        ]
        self._log(run_id, rows, tags={WATCHED_TAG: str(len(watched)), WATCHED_CONTENT_TAG: sha(list(watched))})

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
        for child in all_runs(self._client, self.experiment, f"tags.`{PARENT_TAG}` = '{old}'"):
            self._client.set_tag(child.info.run_id, PARENT_TAG, new)
        self._client.delete_run(old)

    def _set_status(self, run_id: str, run: Any, status: Status) -> None:
        if run.info.status != status:
            set_status(self._client, run_id, status)
