"""The verbs of filters in this process, without Ray, on a small web with two kinds of documents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.filter.classifiers import score_source, train_classifier
from cpt_ray.data.filter.derive import Derivation, derive_source
from cpt_ray.data.rows.shards import save_manifest
from cpt_ray.data.run.pipeline import DataJob, draw_held_out, pack_shards, prepare_documents
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.records import (
    ClassifierRecord,
    DocumentsRecord,
    HeldOutRecord,
    Made,
    ScoresRecord,
    SelectionRecord,
    ShardManifest,
)
from tests.data.conftest import settings
from tests.data.prepared import model_tokenizer
from tests.integration.tiny_study import document


class LocalJob(DataJob):
    """Runs its tasks one after another in this process."""

    def run(self, stage, work, tasks, context):
        return UnitReports.of(stage, tasks, context, [work(task, context) for task in tasks])


def source(folder: Path, name: str, role: str, rows: list[dict[str, str]], **fields: object) -> SourceConfig:
    """A source of JSON lines."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"name": name, "role": role, "path": str(path), "format": "jsonl", "id_field": "id", "label_field": "label"}
    return SourceConfig.model_validate({**given, **fields})


def rows(kind: str, count: int, *, name: str, start: int = 0) -> list[dict[str, str]]:
    """Documents of a kind (`law` or `news`), labelled with it."""
    return [
        {"id": f"{name}_{number}", "text": document(kind, 50_000 + start + number), "label": kind} for number in range(count)
    ]


def classifier(positive: dict, negative: dict, **changes: object) -> ClassifierConfig:
    """A classifier called `legal`."""
    given = {"name": "legal", "positive": positive, "negative": negative, "features": {"bits": 16}}
    return ClassifierConfig.model_validate({**given, **changes})


@dataclass
class World:
    """Documents and held-out sets of some sources."""

    root: Path
    sources: list[SourceConfig]
    prepare: PrepareConfig
    documents: Made[DocumentsRecord]
    held_out: Made[HeldOutRecord]

    @classmethod
    def of(cls, root: Path, sources: list[SourceConfig], **changes: object) -> World:
        """Read, clean, deduplicate and hold out."""
        prepare = settings(**{"unit_bytes": 40_000, **changes})

        def job(name: str) -> LocalJob:
            return LocalJob(sources, prepare, root / name, num_workers=1)

        documents = Made(root / "documents", prepare_documents(job("documents")))
        return cls(root, sources, prepare, documents, Made(root / "held_out", draw_held_out(job("held_out"), documents)))

    def job(self, name: str) -> LocalJob:
        """A job that writes to a folder of that name."""
        return LocalJob(self.sources, self.prepare, self.root / name, num_workers=1)

    def pack(self, tokenizer: Path, exam_items: Path | None = None) -> Made[ShardManifest]:
        """Pack what arms train on."""
        job = self.job("shards")
        manifest = pack_shards(job, self.documents, self.held_out, model_tokenizer(tokenizer), exam_items)
        save_manifest(job.folder / ShardManifest.FILE, manifest)
        return Made(job.folder, manifest)

    def train(self, config: ClassifierConfig, exam_items: Path | None = None) -> Made[ClassifierRecord]:
        """Train a classifier."""
        job = self.job(f"classifier-{config.name}")
        return Made(job.folder, train_classifier(job, self.documents, self.held_out, config, exam_items))

    def score(self, config: ClassifierConfig, trained: Made[ClassifierRecord], name: str) -> Made[ScoresRecord]:
        """Score a source."""
        job = self.job(f"scores-{config.name}-{name}")
        return Made(job.folder, score_source(job, self.documents, trained, config, name))

    def derive(
        self,
        derived: SourceConfig,
        parent: Made[ShardManifest],
        scores: dict[str, Made[ScoresRecord]],
        like: Made[ShardManifest] | None = None,
    ) -> tuple[Made[ShardManifest], SelectionRecord]:
        """Make a derived source of the web."""
        job = self.job(f"derived-{derived.name}")
        manifest, selection = derive_source(job, Derivation(derived, "web", parent, self.documents, scores, like))
        return Made(job.folder, manifest), selection
