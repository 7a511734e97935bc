"""Keys of scores: what the lines of a held-out set, an exam or an entry of `evaluate.harness_tasks` depend on.

In: the files of an export, the items, the `evaluate` section. Out: a `PartKey` by the name of each part. What only decides how
lines are summed up (level and subsets of intervals, labels, suites) or how fast they come (`batch_tokens`, compiled layers) is
in none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cpt_ray.config.sections.evaluate import LEAST_UNITS, EvaluateConfig, ExamConfig, HarnessTask
from cpt_ray.edges.packages import versions
from cpt_ray.evaluate.known import PartKey
from cpt_ray.records import ExamItem, FileEntry, HeldOutSet, write_items

FORMAT = 1
"""Of the code that computes lines. Raise it when the same model would get other lines."""
_SCORED = (".safetensors", ".json", ".model", ".txt", ".jinja", ".py")
"""Endings of an export's files that a score can depend on: weights, configuration, tokenizer; not the model card."""


def export_content(files: Iterable[FileEntry], export: str) -> dict[str, str]:
    """The files of an export that scores depend on, and their hashes.

    Args:
        files: Of the artifact that holds the export.
        export: The export's folder in it, with a slash at its end; empty if it is the artifact.
    """
    return {
        entry.path.removeprefix(export): entry.sha256
        for entry in files
        if entry.path.startswith(export) and "/" not in entry.path.removeprefix(export) and entry.path.endswith(_SCORED)
    }


def model_facts(content: Mapping[str, str], config: EvaluateConfig, *, prefix: str) -> dict[str, object]:
    """What the lines of every part depend on: the export, the token before each document, the precision."""
    return {
        "format": FORMAT,
        "export": _hash(dict(content)),
        "prefix": prefix,
        "precision": config.precision,
    }


def held_out_key(model: Mapping[str, object], config: EvaluateConfig, held: HeldOutSet, sha256: str) -> PartKey:
    """The key of a held-out set; `sha256` is that of its file."""
    limits = {name: getattr(config, name) for name in ("held_out_documents", "document_tokens", "context")}
    return _key({**model, "held_out": held.source, "part": held.part, "documents": sha256, **limits})


def exam_key(
    model: Mapping[str, object],
    config: EvaluateConfig,
    exam: ExamConfig,
    items: Sequence[ExamItem],
    examples: Sequence[ExamItem],
) -> PartKey:
    """The key of an exam of the study: its items and examples, however many other exams there are."""
    asked = {name: getattr(exam, name) for name in ("style", "few_shot", "permutations")}
    content = {"items": _hash(write_items(items)), "examples": _hash(write_items(examples))}
    return _key({**model, "exam": exam.name, **content, **asked, "exam_context": config.exam_context})


def task_key(
    model: Mapping[str, object], config: EvaluateConfig, task: HarnessTask, task_versions: Mapping[str, object]
) -> PartKey:
    """The key of an entry of `evaluate.harness_tasks`.

    Args:
        model: See `model_facts`.
        config: The `evaluate` section.
        task: The entry.
        task_versions: lm-eval's versions of its tasks, and the content of own task files (`harness_tasks.task_versions`).
    """
    asked = {name: getattr(task, name) for name in ("num_fewshot", "limit")}
    settings = {name: getattr(config, name) for name in ("exam_context", "harness_seed")}
    # Lines of so many tasks were once in groups also where each task is a score of its own.
    grouped = {"groups": "tasks of one score"} if len(task_versions) >= LEAST_UNITS else {}
    judged = {**versions("lm-eval"), "versions": dict(task_versions), **grouped}
    return _key({**model, "task": Path(task.task).name, **asked, **settings, **judged})


def _key(depends_on: dict[str, object]) -> PartKey:
    return PartKey(_hash(depends_on)[:32], depends_on)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
