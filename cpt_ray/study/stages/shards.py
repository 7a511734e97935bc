"""Stage `shards`: the text of all sources, without held-out and exam text, tokenized and packed for each model.

Models with the same tokenizer, byte for byte, and the same tokens around documents share their shards: sizes of one family, or
bases that another study trained. That is known where a base is a folder or starts from random weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.data.rows.shards import COLUMNS, ShardReader, save_manifest
from cpt_ray.data.rows.tokenize import ModelTokenizer, resolve_tokenizer
from cpt_ray.errors import ArtifactError, CptRayError
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import ExamItem, ImportedModel, ShardManifest
from cpt_ray.study import store
from cpt_ray.study.inputs import packing_fingerprint
from cpt_ray.study.stages.documents import DOCUMENTS, Text, data_job, prepare_settings
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.scans.scan import SCAN, early_name
from cpt_ray.study.stages.stage import Checked, Graph, Node, Planned, Session, Stage, one_by_one
from cpt_ray.study.stages.tokenizer import tokenizer_node


@dataclass(frozen=True)
class Packing(Text):
    """Text to pack, for a model."""

    model: ModelConfig
    base: Node[ModelConfig, ImportedModel]


ShardsNode = Node[Packing, ShardManifest]


def _plan(graph: Graph) -> Iterator[Planned[Packing]]:
    config = graph.config
    text: dict[str, Node[Any, Any]] = {"documents": graph.one(DOCUMENTS), "held_out": graph.one(HELD_OUT)}
    for scan in graph.of(SCAN):
        if scan.name == early_name(graph):
            text["exams"] = scan
    first: dict[object, str] = {}
    for model in config.models:
        base = graph.one(MODELS, model.name)
        tokenizer = tokenizer_node(graph, model) or graph.input(
            f"packing {model.model_dump_json()}", functools.partial(packing_fingerprint, model, graph.hashes)
        )
        around = {"separator": model.separator, "bos": model.bos}
        rows = {"vocab_size": model.config.get("vocab_size")} if model.config is not None else {}
        key = tokenizer.name if isinstance(tokenizer, Node) else tokenizer or model.name
        yield Planned(
            name=model.name,
            stem=first.setdefault((key, *around.values(), *map(str, rows.values())), model.name),
            inputs={"model": base, **text} if tokenizer is None else {"tokenizer": tokenizer, **text},
            settings={
                **around,
                **rows,
                **prepare_settings(config.prepare, "seed", "decontaminate", "token_rules", "pack"),
            },
            work=Packing(config.read_sources, config.prepare, model, base),
        )


def _build(node: ShardsNode, session: Session) -> None:
    job = data_job(node.work, node.folder, session)
    from cpt_ray.data.run.pipeline import pack_shards

    manifest = pack_shards(
        job,
        store.made(node.input("documents")),
        store.made(node.input("held_out")),
        _tokenizer(node),
        node.input("exams").folder / ExamItem.FILE if "exams" in node.inputs else None,
    )
    save_manifest(node.folder / ShardManifest.FILE, manifest)


def _check_tokenizer(node: ShardsNode) -> bool:
    """Reject a tokenizer that does not fit its model, before hours are spent on preparing text for it."""
    if store.find(node.work.base) is None:
        return False
    resolve_tokenizer(_tokenizer(node))
    return True


def _tokenizer(node: ShardsNode) -> ModelTokenizer:
    model = node.work.base
    imported = store.load(model)
    tokens = text_tokens(node.work.model, model.folder)
    return ModelTokenizer(model.folder, tokens, imported.shape.vocabulary_size, imported.control_tokens)


def verify_shards(node: Node[Any, ShardManifest]) -> Iterator[Checked]:
    """Compare the manifest with the shards: rows and loss-bearing tokens, shard by shard."""
    try:
        manifest = ShardManifest.of(node.folder)
        reader = ShardReader(node.folder, manifest, verify=False)  # just hashed
        for source in manifest.shards.sources:
            for number, entry in enumerate(manifest.of_source(source)):
                loss = reader.loss_of_shard(source, number)
                rows, tokens = len(loss), int(loss.sum())
                if (rows, tokens) != (entry.rows, entry.loss_tokens):
                    raise ArtifactError(
                        f"{node.folder / entry.path}: {rows} rows and {tokens} loss-bearing tokens, but the manifest "
                        f"says {entry.rows} and {entry.loss_tokens}",
                        fix=f"delete {node.folder} and re-run the same command; it will be rebuilt",
                    )
    except CptRayError as error:
        yield Checked(f"manifest of {node.label}", "rows and tokens", (error,))


SHARDS = Stage[Packing, ShardManifest](
    name="shards",
    version=5,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=ShardManifest,
    files=("**/*.arrow", "**/*.parquet", "**/*.json*"),
    driver_files=("*.json", "*.jsonl", COLUMNS),
    early_check=_check_tokenizer,
    verify=verify_shards,
)
