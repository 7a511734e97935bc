"""The text that a tokenizer is learned from: documents that are left after cleaning, without the held-out ones.

In: prepared documents and held-out sets. Out: texts, and how many of each source they are. Memory: a batch of documents.

Guarantee: the same documents, in the same order, for any number of workers; a document is drawn by its identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cpt_ray.config.sections.models.init import TrainTokenizerConfig
from cpt_ray.data.run.merge import unit_files
from cpt_ray.data.run.training_tasks import DrawUnit, kept_documents
from cpt_ray.data.run.units import UnitContext
from cpt_ray.data.words import seeded_share
from cpt_ray.records import DocumentsRecord, HeldOutRecord, Made


class TokenizerText:
    """Documents to learn a tokenizer from; iterating counts what was drawn.

    Args:
        config: Which sources, and how much text.
        documents: The prepared documents.
        held_out: The sets drawn from them.
        context: Settings and sources.
    """

    def __init__(
        self,
        config: TrainTokenizerConfig,
        documents: Made[DocumentsRecord],
        held_out: Made[HeldOutRecord],
        context: UnitContext,
    ) -> None:
        self.documents: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._config, self._made = config, documents
        self._floor = tuple(name for names in held_out.record.floor.values() for name in names)
        self._context = context.model_copy(update={"inputs": {"documents": str(documents.folder)}})

    def __iter__(self) -> Iterator[str]:
        """The texts, in the order of the study's units."""
        prepare = self._context.prepare
        total = sum(
            report.kept.bytes
            for report in self._made.record.reports
            if report.stage == "near_duplicates" and report.source in self._config.sources
        )
        share = min(1.0, self._config.text_bytes / total) if total else 1.0
        for unit in self._made.record.units:
            task = DrawUnit(**unit_files(self._made.folder, unit), floor=self._floor)
            if task.source not in self._config.sources:
                continue
            for row in kept_documents(task, self._context):
                if task.part(row["component"], prepare) is not None:
                    continue
                if share < 1 and seeded_share("tokenizer", prepare.seed, row["identity"]) >= share:
                    continue
                self.documents[task.source] += 1
                self.bytes[task.source] += row["bytes"]
                yield row["text"]
