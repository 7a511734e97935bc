"""What the comparison and the report of a large grid take: made-up cells, each with runs, metrics, scores and score files.

Times are CPU seconds of this one process: from scores on disk to the conclusions, fits included, and from these to the page and
its twins on disk. The browser's are wall seconds, its start not counted.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.acceptance.views.browser import CHROMIUM, load_seconds
from benchmarks.measure.claims import POSITIVE, Claim
from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.evaluate.per_item import ScoredDocument, format_scores
from cpt_ray.records import EvalRecord, HeldOutScore
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.page import write_report
from tests.report.made_up_sizes import make_sizes

CELLS = 1000
STEPS = 100
BUDGETS = (2_000_000, 8_000_000, 32_000_000, 128_000_000)
"""Four: with fewer, a curve in tokens of one seed is refused."""
DOCUMENTS = 200
_NOISE = 0.02
"""Bits per byte, of each document of each run."""


def measure(cells: int = CELLS, folder: Path | None = None) -> list[Claim]:
    """Compare and build the page of a grid of one model: an arm of four budgets per cell, and one control.

    Args:
        cells: Number of cells.
        folder: Where to leave the page; by default it is not kept.
    """
    arms = [f"legal@mix-{number}" for number in range(cells)]
    study = make_sizes(models=("m1",), arms=arms, budgets=BUDGETS, seeds=(0,), steps=STEPS)
    config = CompareConfig()
    facts = Facts(control_arms=frozenset({"control"}), tokens_paid=study.comparison.tokens_paid)
    with tempfile.TemporaryDirectory() as scratch:
        evals, folders = _write_scores(study, Path(scratch))
        page = (folder or Path(scratch)) / "report.html"
        started = time.process_time()
        found = compare(evals, folders, study.runs, config, facts)
        compared = time.process_time()
        write_report(page, replace(study, evals=evals, comparison=found))
        written, size = time.process_time(), page.stat().st_size / 1e6
        loaded = load_seconds(page) if shutil.which(CHROMIUM[0]) else None
    fitted = sum(not one.refused for one in found.answers.fits)
    raw = {
        "cells": cells, "runs": len(study.runs), "differences": len(found.deltas), "steps_per_run": STEPS, "sets": 2,
        "documents_per_set": DOCUMENTS, "fits": fitted, "compare_s": compared - started, "page_s": written - compared,
    }  # fmt: skip
    claims = [
        Claim(
            id=f"report.page_{cells}_cells_s", possible=POSITIVE,
            claim=f"comparing {cells:,} cells of four budgets, fits of {config.most_fitted} of them included, and building "
            "page, Markdown and JSON, in one process",
            value=written - started, unit="CPU s", target="<= 60", raw=raw,
        ),
        Claim(
            id=f"report.page_{cells}_cells_mb", possible=POSITIVE, claim=f"size of the page of a study of {cells:,} cells",
            value=size, unit="MB", target="<= 15", raw=raw,
        ),
    ]  # fmt: skip
    if loaded is not None:
        claims.append(
            Claim(
                id=f"report.page_{cells}_cells_load_s", possible=POSITIVE, value=loaded, unit="s", target="<= 3",
                claim=f"until Chromium has loaded and laid out the page of a study of {cells:,} cells",
            )
        )  # fmt: skip
    return claims


def _write_scores(study: ReportContents, folder: Path) -> tuple[tuple[EvalRecord, ...], Mapping[str, Path]]:
    """Score files that agree with the made-up scores of a study, and its records with their sums."""
    random = np.random.default_rng(0)
    sizes = np.exp(random.normal(7, 0.7, DOCUMENTS)).round()
    # What a document is like is the same for all models: differences are paired.
    own = {name: random.normal(0, 0.1, DOCUMENTS) for name in ("licences", "news")}
    evals, folders = [], {}
    for record in study.evals:
        place = folders[record.run] = folder / record.run
        place.mkdir()
        scores = []
        for score in record.held_out:
            bits = score.bits_per_byte + own[score.source] + random.normal(0, _NOISE, DOCUMENTS)
            scores.append(_write_documents(place, score, bits, sizes))
        evals.append(record.model_copy(update={"held_out": tuple(scores), "exams": ()}))
    return tuple(evals), folders


def _write_documents(folder: Path, score: HeldOutScore, bits: Floats, sizes: Floats) -> HeldOutScore:
    nats = bits * math.log(2) * sizes
    documents = [
        ScoredDocument(f"{score.source}/{place}", "same for all", nats=float(own), tokens=int(size) // 4, bytes=int(size))
        for place, (own, size) in enumerate(zip(nats, sizes, strict=True))
    ]
    path = f"{score.source}.jsonl"
    (folder / path).write_text(format_scores(documents), encoding="utf-8")
    sums = {
        "documents": len(documents), "documents_path": path, "nats": math.fsum(one.nats for one in documents),
        "scored_bytes": sum(one.bytes for one in documents), "scored_tokens": sum(one.tokens for one in documents),
    }  # fmt: skip
    return score.model_copy(update={**sums, "bits_per_byte": sums["nats"] / math.log(2) / sums["scored_bytes"]})
