"""Made-up evaluations with known differences, laid out like an evaluation folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.evaluate.bits_per_byte import aggregate
from cpt_ray.evaluate.per_item import ScoredDocument, ScoredItem, format_scores
from cpt_ray.records import EvalRecord, ExamScore, HeldOutSet, Merge, RunMix, RunRecord, SourceRole, TrainingRecord
from tests.run_records import cost, training

CONFIG = CompareConfig(subsets=400)
LABEL = "smoke check on 4-way questions; not a real exam"


class Laboratory:
    """Builds evaluations whose bits per byte differ by the amount a test sets."""

    def __init__(self, root: Path, documents: int = 40) -> None:
        self.root = root
        self.documents = documents
        self.evals: list[EvalRecord] = []
        self.runs: list[RunRecord] = []
        self.folders: dict[str, Path] = {}

    def add(
        self,
        arm: str | None = None,
        budget: int | None = None,
        *,
        seed: int = 0,
        model: str = "m",
        law: float = 1.0,
        news: float = 1.0,
        essays: float = 1.0,
        noise: float = 1e-5,
        right: int | None = None,
        annealed: bool = True,
        sets: tuple[str, ...] = ("law", "news"),
        roles: Mapping[str, SourceRole] = MappingProxyType({}),
        parts: tuple[str, ...] = ("test",),
        merge: str = "",
        flops_per_token: float = 1e9,
        weights: Mapping[str, float] = MappingProxyType({}),
        suite: Literal["domain", "general"] | None = None,
    ) -> EvalRecord:
        """Add an evaluation: bits per byte of the `sets`, with `noise` per document, and `right` correct of 40 exam items
        of a `suite`.

        The run took `flops_per_token` and drew from sources by `weights`; with `merge`, it is an interpolation of that name, at
        weight 0.5, of the budget.
        """
        made_of = f"{model}-{arm}-{budget}-seed{seed}"
        run = f"{model}-base" if arm is None else f"{model}-{arm}-{budget}-{merge}-0.5-seed{seed}" if merge else made_of
        folder = self.root / run
        random = np.random.default_rng([seed, len(self.evals)])
        scores = []
        for name, value in (("law", law), ("news", news), ("essays", essays)):
            for part in parts if name in sets else ():
                documents = [_document(name, n, value + noise * float(random.normal())) for n in range(self.documents)]
                path = f"held_out/{name}-{part}.jsonl"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(format_scores(documents))
                role = roles.get(name, "domain" if name == "law" else "general")
                held = HeldOutSet(source=name, role=role, part=part, path="-", documents=self.documents, bytes=1)
                scores.append(aggregate(documents, held_out=held, documents_path=path, compare=CONFIG))
        record = EvalRecord(
            run=run,
            model=model,
            arm=arm,
            seed=None if arm is None else seed,
            budget_tokens=budget,
            tokens_seen=0 if arm is None else (budget or 5) + 7,
            held_out=tuple(scores),
            exams=() if right is None else (self._exam(folder, right, suite),),
            task_pid=1,
            wall_s=1.0,
        )
        self.evals.append(record)
        made = Merge(run=run, name=merge, rule="interpolate", made_of=made_of, weight=0.5) if merge else None
        own = {} if arm is None or merge else {"training": _training(record, flops_per_token, weights)}
        self.runs.append(_run(record, annealed=annealed, merge=made, **own))
        self.folders[run] = folder
        return record

    def _exam(self, folder: Path, right: int, suite: Literal["domain", "general"] | None) -> ExamScore:
        items = [ScoredItem(f"q{n}", float(n < right), float(n < right), (-1.0,) * 4) for n in range(40)]
        (folder / "exams").mkdir(parents=True, exist_ok=True)
        (folder / "exams/smoke.jsonl").write_text(format_scores(items))
        share = right / 40
        stderr = (share * (1 - share) / 39) ** 0.5
        return ExamScore(
            task="smoke",
            label=LABEL,
            items=40,
            accuracy=share,
            accuracy_stderr=stderr,
            accuracy_norm=share,
            accuracy_norm_stderr=stderr,
            suite=suite,
            chance=0.25,
            items_path="exams/smoke.jsonl",
        )


def _document(name: str, number: int, bits_per_byte: float) -> ScoredDocument:
    size = 100 + 10 * number
    nats = bits_per_byte * math.log(2) * size
    return ScoredDocument(f"{name}/00000/{number}", "same for all", nats=nats, tokens=25 + number, bytes=size)


def _training(record: EvalRecord, flops_per_token: float, weights: Mapping[str, float]) -> TrainingRecord:
    mixes = (RunMix(first_position=0, rows=100, weights=dict(weights)),) if weights else ()
    return training(record.tokens_seen, cost=cost(flops=flops_per_token * record.tokens_seen), mixes=mixes)


def _run(record: EvalRecord, *, annealed: bool, merge: Merge | None, training: TrainingRecord | None = None) -> RunRecord:
    base = record.arm is None
    return RunRecord(
        run=record.run,
        kind="base" if base else "merge" if merge else "cooldown",
        model=record.model,
        arm=record.arm,
        seed=record.seed,
        budget_tokens=record.budget_tokens,
        export_path="/nowhere",
        annealed=annealed,
        training=training,
        merge=merge,
        merged_tokens=record.tokens_seen if merge else 0,
    )


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)
