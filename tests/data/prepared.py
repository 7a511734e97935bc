"""Run a small corpus through all three verbs of preparation."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.rows.tokenize import ModelTokenizer
from cpt_ray.data.run.pipeline import DataJob, draw_held_out, pack_shards, prepare_documents
from cpt_ray.data.run.run_stage import Progress
from cpt_ray.records import DocumentsRecord, HeldOutRecord, Made, ShardManifest, TextTokens
from tests.data.conftest import SEPARATOR, VOCABULARY, settings, sources_of


@dataclass
class Prepared:
    root: Path
    documents: DocumentsRecord
    held_out: HeldOutRecord
    manifest: ShardManifest
    heard: list[tuple[str, int, int]]

    @property
    def made_documents(self) -> Made[DocumentsRecord]:
        return Made(self.root / "documents", self.documents)

    @property
    def made_held_out(self) -> Made[HeldOutRecord]:
        return Made(self.root / "held_out", self.held_out)


def job(
    sources: Sequence[SourceConfig],
    config: PrepareConfig,
    folder: Path,
    *,
    num_workers: int = 2,
    progress: Progress | None = None,
    pool: Executor | None = None,
) -> DataJob:
    return DataJob(sources, config, folder, num_workers=num_workers, progress=progress, pool=pool)


def prepare(corpus: Path, tokenizer: Path, root: Path, num_workers: int, pool: Executor | None = None) -> Prepared:
    """Prepare the corpus shared by the tests in this folder, with its settings; without Ray in a pool."""
    items = corpus / "exams.jsonl"
    return prepare_sources(sources_of(corpus), settings(), tokenizer, root, num_workers, exam_items=items, pool=pool)


def prepare_sources(
    sources: list[SourceConfig],
    config: PrepareConfig,
    tokenizer: Path,
    root: Path,
    num_workers: int,
    *,
    exam_items: Path | None = None,
    pool: Executor | None = None,
) -> Prepared:
    """Prepare any sources with any settings."""
    heard: list[tuple[str, int, int]] = []

    def told(stage: str, done: int, total: int) -> None:
        heard.append((stage, done, total))

    def made_in(verb: str) -> DataJob:
        return job(sources, config, root / verb, num_workers=num_workers, progress=told, pool=pool)

    documents = Made(root / "documents", prepare_documents(made_in("documents")))
    held_out = Made(root / "held_out", draw_held_out(made_in("held_out"), documents))
    manifest = pack_shards(made_in("shards"), documents, held_out, model_tokenizer(tokenizer), exam_items)
    return Prepared(root, documents.record, held_out.record, manifest, heard)


def model_tokenizer(folder: Path) -> ModelTokenizer:
    """The tests' tokenizer, without BOS."""
    return ModelTokenizer(folder, TextTokens(separator=SEPARATOR, bos=None), VOCABULARY)
