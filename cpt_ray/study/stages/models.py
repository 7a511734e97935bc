"""Stage `models`: each base model and its tokenizer, imported into a folder that everything else loads."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.storage import FileHashes, write_atomic
from cpt_ray.errors import ArtifactError, DataError
from cpt_ray.records import ImportedModel
from cpt_ray.study.inputs import base_files, base_fingerprint, tokenizer_fingerprint
from cpt_ray.study.stages.stage import Checked, Graph, Node, Planned, Session, Stage, one_by_one
from cpt_ray.study.stages.tokenizer import tokenizer_node

SOURCE_FILE = "base.json"
"""What was imported."""


def _plan(graph: Graph) -> Iterator[Planned[ModelConfig]]:
    for model in graph.config.models:
        key = model.model_dump_json()
        inputs: dict[str, Node[Any, Any] | str] = {
            "base": graph.input(f"base {key}", functools.partial(base_fingerprint, model, graph.hashes))
        }
        given = graph.input(f"tokenizer {key}", functools.partial(tokenizer_fingerprint, model, graph.hashes))
        tokenizer = given or tokenizer_node(graph, model)
        yield Planned(
            name=model.name,
            inputs=inputs if tokenizer is None else {**inputs, "tokenizer": tokenizer},
            settings={"revision": model.revision, "new_tokens": model.new_tokens, **_initialization(model)},
            work=model,
        )


def _initialization(model: ModelConfig) -> dict[str, object]:
    """What a model from random weights is made of; it is part of the base's fingerprint, and here for readers."""
    return {"config": model.config, "init_seed": model.init_seed} if model.is_new else {}


def waits(node: Node[ModelConfig, ImportedModel]) -> bool:
    """Whether a model can only be made after the text: its tokenizer is learned from it."""
    return isinstance(node.inputs.get("tokenizer"), Node)


def _build(node: Node[ModelConfig, ImportedModel], _: Session) -> None:
    from cpt_ray.model.base import import_base  # imports torch, which a verb that builds nothing must not pay for

    import_base(node.work, node.folder, tokenizer=node.input("tokenizer").folder if waits(node) else None)
    hashes = FileHashes(node.folder.parents[1])
    if base_fingerprint(node.work, hashes) != node.inputs["base"]:
        raise DataError(f"models.{node.name}.base changed while it was imported", fix="re-run the same command")
    files = {path.name: hashes.of(path) for path in base_files(node.work)}
    write_atomic(node.folder / SOURCE_FILE, json.dumps({"base": node.work.base, "files": files}, indent=1) + "\n")


def _verify(node: Node[ModelConfig, ImportedModel]) -> Iterator[Checked]:
    yield compare_base(node.work, node.folder)


def compare_base(model: ModelConfig, folder: Path) -> Checked:
    """Hash the files of a base, and compare them with those that were imported into `folder`.

    Args:
        model: The model in the study file.
        folder: An import of its base.
    """
    then, hashes = imported_from(folder).get("files", {}), FileHashes(None)
    files = base_files(model)
    now = {path.name: hashes.of(path) for path in files}
    problems = tuple(
        ArtifactError(
            f"models.{model.name}.base: {name} of {model.base} is not the file that was imported into {folder.name}",
            fix="put the imported base back, or re-run cpt-ray run, which imports the new one next to it",
        )
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    )
    size = sum(path.stat().st_size for path in files)
    amount = model.origin if model.is_new else f"{len(files)} files, {size / 1e6:.1f} MB"
    return Checked(f"base of {model.name}", amount, problems, is_input=True)


def imported_from(folder: Path) -> dict[str, Any]:
    """What was imported into a folder: the base as the study file named it, and the sha256 of its files by name."""
    path = folder / SOURCE_FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


MODELS = Stage[ModelConfig, ImportedModel](
    name="models",
    version=4,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=ImportedModel,
    files=("*",),
    driver_files=("*.json", "*.txt", "*.model", "*.jinja", "*.py"),
    verify=_verify,
)
