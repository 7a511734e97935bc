"""An export as MLflow loads it: texts of every kind, and an export that is gone or changed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.errors import ArtifactError
from cpt_ray.model.exports.served import _load_pyfunc


@pytest.fixture
def reference(base: Path, tmp_path: Path) -> Path:
    path = tmp_path / "export.json"
    files = {"model.safetensors": (base / "model.safetensors").stat().st_size}
    path.write_text(json.dumps({"run": "r", "export": str(base), "files": files}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "given",
    ["The licensee", ["The licensee"], np.array(["The licensee"]), pd.DataFrame({"text": ["The licensee"]})],
    ids=["text", "list", "array", "table"],
)
def test_texts_are_continued_greedily(reference, base, given):
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    asked = tokenizer("The licensee", return_tensors="pt")
    out = model.generate(**{k: asked[k] for k in ("input_ids", "attention_mask")}, max_new_tokens=5, do_sample=False)
    expected = tokenizer.decode(out[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    assert _load_pyfunc(str(reference)).predict(given, {"max_new_tokens": 5}) == [expected]


def test_an_export_that_changed_or_is_gone_is_refused(reference, base):
    with (base / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(ArtifactError, match=r"model.safetensors: has \d+ bytes, \d+ when the export of r was logged\n  fix: "):
        _load_pyfunc(str(reference))
    (base / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model.safetensors: the export of r is not there\n  fix: put the export back"):
        _load_pyfunc(str(reference))
