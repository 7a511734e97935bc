"""Exports as models of MLflow, by reference: `mlflow models predict` and `serve` find them, and nothing is copied.

In: a run that was mirrored and the folder of its export. Out: a logged model named `model`, at `runs:/<run>/model` and
`models:/<id>`: an `MLmodel` of the pyfunc flavor and a file that names the export. Whoever loads it needs that folder, and
cpt-ray, whose module does the loading. Guarantee: the same export is logged once per run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.edges.tracking.content import sha

MODEL = "model"
"""Name of the logged model in its run."""
REFERENCE = "export.json"
_CONTENT_TAG = "cpt_ray.content_sha256"
LOADER = "cpt_ray.model.exports.served"
"""The module that loads it, see there; MLflow imports it by name."""


def describe_export(run: str, export: Path) -> dict[str, Any]:
    """What the reference holds: run, folder, and name and size of every file in it."""
    files = {path.name: path.stat().st_size for path in sorted(export.iterdir()) if path.is_file() and path.name != INDEX}
    return {"run": run, "export": str(export.resolve()), "files": files}


def log_model(client: Any, experiment: str, run_id: str, described: dict[str, Any]) -> str:
    """Log an export as the model of a run, unless it is; return the model's id. One of another export is deleted.

    Args:
        client: MLflow's.
        experiment: Id of the run's experiment.
        run_id: The run that the model came from.
        described: What `describe_export` returned.
    """
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    content = sha(described)
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}' and name = '{MODEL}'")
    for model in found:
        # A model that is not ready is one whose driver died before its files were there.
        if model.status == LoggedModelStatus.READY and model.tags.get(_CONTENT_TAG) == content:
            return str(model.model_id)
        client.delete_logged_model(model.model_id)
    model = client.create_logged_model(
        experiment,
        name=MODEL,
        source_run_id=run_id,
        tags={"export": described["export"], _CONTENT_TAG: content},
        model_type="causal language model",
    )
    card = Model(artifact_path=MODEL, run_id=run_id, model_id=model.model_id, metadata=described)
    add_to_model(card, loader_module=LOADER, data=REFERENCE)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / REFERENCE).write_text(json.dumps(described, indent=1), encoding="utf-8")
        card.save(str(Path(folder) / "MLmodel"))
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)
