"""The contents of a report: records only, collected by `study`.

The input of the page. Nothing is computed here; the page shows what is in the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import (
    Comparison,
    CorpusProfile,
    DomainFindings,
    EvalRecord,
    ExamHit,
    HeldOutPoint,
    HeldOutSet,
    RepeatedIds,
    RunEvent,
    RunRecord,
    ShardManifest,
    StageReport,
    StepMetrics,
    TaskScan,
)


@dataclass(frozen=True, slots=True)
class PlannedCost:
    """What a study was planned to take, and what its stages took."""

    workers: int
    on_gpu: bool
    """Whether `peak_bytes` are of GPUs, as torch allocates them, or of whole processes."""
    peak_bytes: Mapping[str, int]
    """Model to the peak of a worker; of a grid, in the cell that needs the most."""
    seconds: Mapping[str, float]
    """Stage to planned wall seconds; those that are not known are left out."""
    measured_seconds: Mapping[str, float]
    """Stage to the wall seconds in which its artifacts were made."""
    basis: str
    """What the planned times rest on."""
    cells: int = 1
    """Cells of the grid that are planned together."""
    foreseen: bool = False
    """Whether it was planned before anything was made, instead of when the report was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContents:
    """The records of a finished study.

    `labels` are warnings such as `isolation: none` that must appear at every figure and table. `metrics` maps a run's name to
    its step metrics; a run may have none. `samples` are a few dropped documents: reason, identity, id and the beginning of
    the text.
    """

    study: str
    created: str
    config_yaml: str
    funnel: tuple[StageReport, ...]
    manifest: ShardManifest
    held_out: tuple[HeldOutSet, ...]
    runs: tuple[RunRecord, ...]
    metrics: Mapping[str, tuple[StepMetrics, ...]]
    comparison: Comparison
    evals: tuple[EvalRecord, ...]
    arms: Mapping[str, ArmConfig]
    stage_timings: Mapping[str, float]
    """Stage to wall seconds."""
    versions: Mapping[str, str]
    base_note: str = ""
    labels: tuple[str, ...] = ()
    samples: tuple[Mapping[str, str], ...] = ()
    scans: tuple[TaskScan, ...] = ()
    """What was found of each exam in the training text."""
    exam_hits: tuple[ExamHit, ...] = ()
    profile: CorpusProfile = field(default_factory=CorpusProfile)
    languages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Source to documents by language."""
    redacted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Source to what placeholders replaced, by kind."""
    invisible: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Source to invisible characters removed, by kind."""
    repeated_ids: Mapping[str, RepeatedIds] = field(default_factory=dict)
    """Source to its ids that several documents have."""
    wall_s: float | None = None
    """Wall time of the study; if None, the sum of the stages."""
    lineage: Mapping[str, str] = field(default_factory=dict)
    """Artifact name to fingerprint."""
    watched: Mapping[str, tuple[HeldOutPoint, ...]] = field(default_factory=dict)
    """Run to its held-out losses during training; a run may have none."""
    warnings: Mapping[str, tuple[RunEvent, ...]] = field(default_factory=dict)
    """Run to the warnings and hangs of its workers."""
    domains: DomainFindings = field(default_factory=DomainFindings)
    """What the study's filters found."""
    planned: PlannedCost | None = None
    """None for a study whose plan is not known."""

    @property
    def total_wall_s(self) -> float:
        """Wall time of the study."""
        return self.wall_s if self.wall_s is not None else sum(self.stage_timings.values())

    @property
    def one_tokenizer(self) -> bool:
        """Whether all models cut each held-out set into the same tokens; otherwise no perplexity is comparable between them."""
        counts: dict[tuple[str, str], set[tuple[int, int]]] = {}
        for record in self.evals:
            for score in record.held_out:
                counts.setdefault((score.source, score.part), set()).add((score.scored_tokens, score.scored_bytes))
        return all(len(seen) == 1 for seen in counts.values())
