"""Start MLflow's UI on a study's database, take screenshots of the run list and the curves, and check both through the API."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.acceptance.evidence import check
from benchmarks.acceptance.views import browser
from benchmarks.measure.tracking_server import serve


def photograph_study(database: Path, images: Path) -> list[str]:
    """Take screenshots of the parent run's curves and the run list; return the evidence."""
    with serve(database) as base:
        experiments = _post(f"{base}/api/2.0/mlflow/experiments/search", {"max_results": 10})["experiments"]
        experiment = next(one["experiment_id"] for one in experiments if one["name"] == "cpt-ray")
        runs = _post(f"{base}/api/2.0/mlflow/runs/search", {"experiment_ids": [experiment], "max_results": 100})["runs"]
        tags = {run["info"]["run_id"]: {t["key"]: t["value"] for t in run["data"].get("tags", [])} for run in runs}
        parents = [run for run in runs if "mlflow.parentRunId" not in tags[run["info"]["run_id"]]]
        parent = parents[0]
        children = [run["info"]["run_name"] for run in runs if tags[run["info"]["run_id"]].get("mlflow.parentRunId")]
        keys = sorted(metric["key"] for metric in parent["data"]["metrics"])
        curve = next(key for key in keys if key.startswith("domain.") and key.endswith("bits_per_byte"))
        run_id = parent["info"]["run_id"]
        history = _get(f"{base}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key={curve}")["metrics"]
        check(len(children) >= 5, f"the study has only these child runs: {children}")
        check(len(history) >= 3, f"{curve} has {len(history)} points")
        runs_page = f"{base}/#/experiments/{experiment}/runs"
        curve_page = f"{base}/#/experiments/{experiment}/runs/{run_id}/model-metrics"
        expand = "document.querySelector('.ag-row .ag-cell button').click()"
        browser.photograph(
            runs_page, images / "mlflow_runs.png", until="document.querySelector('.ag-row button')", before=expand
        )
        browser.photograph(
            curve_page, images / "mlflow_curve.png", until="document.querySelector('.js-plotly-plot .scatterlayer')"
        )
        points = [(int(point["step"]), round(point["value"], 4)) for point in history]
        return [
            f"MLflow: parent {parent['info']['run_name']} with {curve} = {points}",
            f"children: {sorted(children)}",
            "mlflow_runs.png",
            "mlflow_curve.png",
        ]


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    result: dict[str, Any] = json.load(urllib.request.urlopen(request, timeout=30))
    return result


def _get(url: str) -> dict[str, Any]:
    result: dict[str, Any] = json.load(urllib.request.urlopen(url, timeout=30))
    return result
