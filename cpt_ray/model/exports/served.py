"""Load an export that MLflow refers to: `mlflow models predict --model-uri runs:/<run>/model --env-manager local`.

MLflow imports this module by the name that `edges.tracking.models` writes into `MLmodel`, and calls `_load_pyfunc`. In: the
file that names the export. Out: a model that continues texts greedily. Guarantee: an export that has moved or changed since it
was logged is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.errors import ArtifactError
from cpt_ray.model.layers.products import multiply_in_fp32_without_units

_NEW_TOKENS = 64
_FIX = "put the export back to where it was, or run `cpt-ray report` again so that MLflow is told where it is"


class ServedExport:
    """What MLflow calls: texts in, their continuations out."""

    def __init__(self, export: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(export)
        self._model: Any = AutoModelForCausalLM.from_pretrained(export).eval()
        multiply_in_fp32_without_units(self._model.dtype)

    @torch.no_grad()
    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Continue each text, greedily.

        Args:
            model_input: Texts: one, a list of them, an array, or a table whose first column has them.
            params: `max_new_tokens`, by default 64.
        """
        limit = int((params or {}).get("max_new_tokens", _NEW_TOKENS))
        found = []
        for text in _texts(model_input):
            ids = self._tokenizer(text, return_tensors="pt").input_ids
            out = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False
            )
            found.append(str(self._tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)))
        return found


def _texts(model_input: Any) -> list[str]:
    if isinstance(model_input, str):
        return [model_input]
    if hasattr(model_input, "iloc"):
        model_input = model_input.iloc[:, 0]
    items: Iterable[Any] = model_input.ravel() if hasattr(model_input, "ravel") else model_input
    return [str(item) for item in items]


def _load_pyfunc(path: str) -> ServedExport:
    """MLflow's entry point.

    Raises:
        ArtifactError: If the export is gone, or a file of it has another size than when it was logged.
    """
    reference = json.loads(Path(path).read_text(encoding="utf-8"))
    export = Path(reference["export"])
    for name, size in reference["files"].items():
        file = export / name
        if not file.is_file():
            raise ArtifactError(f"{file}: the export of {reference['run']} is not there", fix=_FIX)
        if file.stat().st_size != size:
            raise ArtifactError(
                f"{file}: has {file.stat().st_size} bytes, {size} when the export of {reference['run']} was logged", fix=_FIX
            )
    return ServedExport(export)
