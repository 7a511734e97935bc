"""How a launch file is checked: the schema that its launcher holds it against, with every unknown key an error."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml
from ray.autoscaler._private.util import prepare_config

FOLDER = Path(__file__).parents[2] / "cluster"
CRDS = Path(__file__).parent / "crds"
RAY_SCHEMA = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"


def ray_problems(text: str) -> list[str]:
    """What is wrong with a file for `ray up`: by Ray's schema, as written and after Ray's defaults, and names of node types."""
    schema, tree = json.loads(RAY_SCHEMA.read_text()), yaml.safe_load(text)
    problems = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(tree)]
    if problems:
        return problems
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        full = prepare_config(tree)
    problems += [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(full)]
    head = full.get("head_node_type")
    return problems + ([] if head in full["available_node_types"] else [f"head_node_type {head} is no node type"])


def kubernetes_problems(text: str) -> list[str]:
    """What is wrong with a manifest of KubeRay, by its own schema and as strictly as `kubectl --validate=strict` is."""
    manifest = yaml.safe_load(text)
    for path in CRDS.glob("*.json.gz"):
        found = json.loads(gzip.decompress(path.read_bytes()))
        if (found["apiVersion"], found["kind"]) == (manifest.get("apiVersion"), manifest.get("kind")):
            schema = _strict(found["schema"])
            schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
            errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
            return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]
    return [f"no schema of {manifest.get('apiVersion')} {manifest.get('kind')}"]


def shell_problems(script: str) -> list[str]:
    """What shellcheck says of a bash script."""
    found = subprocess.run(["shellcheck", "--shell=bash", "--format=gcc", "-"], input=script, capture_output=True, text=True)
    return found.stdout.splitlines()


def image_runs(text: str) -> Iterator[str]:
    """The shell commands of a Dockerfile's RUN lines."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("RUN "):
            yield line.removeprefix("RUN ")


def image_copies(text: str) -> Iterator[str]:
    """What a Dockerfile copies from the clone."""
    for line in text.splitlines():
        if line.startswith("COPY "):
            yield from line.split()[1:-1]


def image_problems(text: str) -> list[str]:
    """What is wrong with the Dockerfile: its shell commands, and what it copies."""
    problems = [problem for script in image_runs(text) for problem in shell_problems(script)]
    wanted = (FOLDER.parent / ".dockerignore").read_text().splitlines()
    for name in image_copies(text):
        problems += [] if (FOLDER.parent / name).exists() else [f"COPY {name}: there is none"]
        problems += [] if f"!{name}" in wanted else [f"COPY {name}: .dockerignore leaves it out"]
    known = {"ARG", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR"}
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return problems + [f"no instruction: {line}" for line in lines if line.split()[0] not in known]


CHECKS: dict[str, Callable[[str], list[str]]] = {
    "Dockerfile": image_problems,
    "aws.yaml": ray_problems,
    "gcp.yaml": ray_problems,
    "kuberay_raycluster.yaml": kubernetes_problems,
    "kuberay_rayjob.yaml": kubernetes_problems,
    "onprem.yaml": ray_problems,
    "slurm.sbatch": shell_problems,
}


def _strict(schema: Any) -> Any:
    """A structural schema that refuses unknown keys, which Kubernetes only prunes."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
    strict = {
        key: {name: _strict(one) for name, one in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
        if not key.startswith("x-") or key in kept
    }
    if strict.pop("x-kubernetes-int-or-string", False):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if not strict.pop("x-kubernetes-preserve-unknown-fields", False) and "properties" in strict:
        strict.setdefault("additionalProperties", False)
    return strict
