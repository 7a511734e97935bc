"""A small corpus on its way through all three verbs of preparation."""

from dataclasses import dataclass
from pathlib import Path

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.run.pipeline import draw_held_out, pack_shards, prepare_documents
from cpt_ray.records import DocumentsRecord, HeldOutRecord, ShardManifest
from tests.data.conftest import SEPARATOR, VOCABULARY, settings, sources_of


@dataclass
class Prepared:
    root: Path
    documents: DocumentsRecord
    held_out: HeldOutRecord
    manifest: ShardManifest
    heard: list[tuple[str, int, int]]


def prepare(corpus: Path, tokenizer: Path, root: Path, num_workers: int) -> Prepared:
    """The corpus of all tests of this folder, under its settings."""
    return prepare_sources(sources_of(corpus), settings(), tokenizer, root, num_workers, exam_items=corpus / "exams.jsonl")


def prepare_sources(
    sources: list[SourceConfig],
    config: PrepareConfig,
    tokenizer: Path,
    root: Path,
    num_workers: int,
    *,
    exam_items: Path | None = None,
) -> Prepared:
    """Any sources, under any settings."""
    heard: list[tuple[str, int, int]] = []

    def told(stage: str, done: int, total: int) -> None:
        heard.append((stage, done, total))

    documents = prepare_documents(sources, config, folder=root / "documents", num_workers=num_workers, progress=told)
    held_out = draw_held_out(
        root / "documents", documents, sources, config, folder=root / "held_out", num_workers=num_workers, progress=told
    )
    manifest = pack_shards(
        root / "documents",
        documents,
        root / "held_out",
        held_out,
        exam_items=exam_items,
        tokenizer=tokenizer,
        separator=SEPARATOR,
        bos=None,
        vocabulary_size=VOCABULARY,
        sources=sources,
        prepare=config,
        folder=root / "shards",
        num_workers=num_workers,
        progress=told,
    )
    return Prepared(root, documents, held_out, manifest, heard)
