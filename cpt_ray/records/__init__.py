"""Records: what the rooms pass to each other and what is stored with every artifact.

All records are frozen and serialize to JSON; a shard manifest, which may have a million entries, to JSON and columns.
A record states where its numbers come from; no room passes on a bare dict.
Units are part of the names: `_tokens`, `_bytes`, `_s`, `_nats`.
"""

from cpt_ray.records.base import Artifact, FileEntry, Made, Record, RunKind, SourceRole
from cpt_ray.records.data import (
    Amount,
    Document,
    DocumentKey,
    DocumentsRecord,
    Dropped,
    DuplicateComponents,
    HeldOutRecord,
    HeldOutSet,
    LargeComponent,
    RepeatedIds,
    ShownDocument,
    StageReport,
    UnitFacts,
    UnitReport,
    sum_reports,
)
from cpt_ray.records.device import Card, DeviceFacts
from cpt_ray.records.exam_scan import ExamHit, ExamScan, TaskScan, read_hits
from cpt_ray.records.exams import ExamItem, read_items, write_items
from cpt_ray.records.model import ImportedModel, ModelShape, TextTokens
from cpt_ray.records.plan import MemoryPlan, PlannedBudget, PlannedMix, PlannedRun, SourceNeed, StudyPlan
from cpt_ray.records.profile import CorpusProfile, Histogram, Term
from cpt_ray.records.runs import (
    CheckpointManifest,
    CheckpointTimes,
    LoadedCheckpoint,
    RateSchedule,
    RunAttempt,
    RunMix,
    RunProgress,
    RunRecord,
    RunSpec,
    SelfTest,
    StateFigures,
    StepMetrics,
    TrainingCost,
    TrainingRecord,
)
from cpt_ray.records.scores import Comparison, Delta, EvalRecord, ExamScore, HeldOutScore, Interval, Point
from cpt_ray.records.shards import PackedPieces, ShardEntry, ShardManifest, ShardTable
from cpt_ray.records.watch import Heartbeat, HeldOutPoint, MemoryPoint, RunEvent

__all__ = [
    "Amount",
    "Artifact",
    "Card",
    "CheckpointManifest",
    "CheckpointTimes",
    "Comparison",
    "CorpusProfile",
    "Delta",
    "DeviceFacts",
    "Document",
    "DocumentKey",
    "DocumentsRecord",
    "Dropped",
    "DuplicateComponents",
    "EvalRecord",
    "ExamHit",
    "ExamItem",
    "ExamScan",
    "ExamScore",
    "FileEntry",
    "Heartbeat",
    "HeldOutPoint",
    "HeldOutRecord",
    "HeldOutScore",
    "HeldOutSet",
    "Histogram",
    "ImportedModel",
    "Interval",
    "LargeComponent",
    "LoadedCheckpoint",
    "Made",
    "MemoryPlan",
    "MemoryPoint",
    "ModelShape",
    "PackedPieces",
    "PlannedBudget",
    "PlannedMix",
    "PlannedRun",
    "Point",
    "RateSchedule",
    "Record",
    "RepeatedIds",
    "RunAttempt",
    "RunEvent",
    "RunKind",
    "RunMix",
    "RunProgress",
    "RunRecord",
    "RunSpec",
    "SelfTest",
    "ShardEntry",
    "ShardManifest",
    "ShardTable",
    "ShownDocument",
    "SourceNeed",
    "SourceRole",
    "StageReport",
    "StateFigures",
    "StepMetrics",
    "StudyPlan",
    "TaskScan",
    "Term",
    "TextTokens",
    "TrainingCost",
    "TrainingRecord",
    "UnitFacts",
    "UnitReport",
    "read_hits",
    "read_items",
    "sum_reports",
    "write_items",
]
