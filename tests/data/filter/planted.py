"""A corpus with a planted domain, and a study of domain arms on it.

Every document begins with a word of its own (`webnn12x`), so that decoded rows tell which documents they hold. General text is
drawn from one vocabulary; of domain text a third of the words are from the domain's own. Some documents of either are `good`:
a tenth of their words are from a third vocabulary, and more of the domain is good, as legal text is better edited than the web.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.tiny_study import TinyStudy, study_tree, write_lines, write_tiny_study

GENERAL, PLANTED = 950, 50
SYLLABLES = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve"]
THRESHOLD = 0.5
COPIES = 3
"""Probe documents that are in the web too, and web documents that hold most of a probe document."""


def _vocabulary(name: str, size: int) -> list[str]:
    draw = random.Random(f"vocabulary {name}")
    return ["".join(draw.choices(SYLLABLES, k=3)) for _ in range(size)]


COMMON, DOMAIN, GOOD = _vocabulary("common", 2000), _vocabulary("domain", 150), _vocabulary("good", 60)


@dataclass(frozen=True)
class Made:
    """A made-up document: its record, and what it is."""

    row: dict[str, Any]
    planted: bool
    good: bool


def marker(kind: str, number: int) -> str:
    """The first word of a document, which no other document has."""
    return f"{kind}{chr(97 + number // 676 % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number % 26)}x"


def make_document(kind: str, number: int, *, planted: bool) -> Made:
    """Document `number` of a kind, 30 to 120 words in lines of 12."""
    draw = random.Random(f"{kind} {number}")
    good = draw.random() < (0.7 if planted else 0.3)
    words = [marker(kind, number)]
    for _ in range(draw.randint(30, 120)):
        share = draw.random()
        own = DOMAIN if planted and share < 0.33 else GOOD if good and share > 0.9 else COMMON
        # Squared, so that some words are frequent, as in real text.
        words.append(own[int(len(own) * draw.random() ** 2)])
    lines = [" ".join(words[start : start + 12]) for start in range(0, len(words), 12)]
    row = {"id": f"{kind}_{number}", "text": "\n".join(lines), "quality": "good" if good else "bad"}
    return Made(row, planted, good)


def web_documents() -> list[Made]:
    """General text with 5 % planted domain text, shuffled."""
    made = [make_document("web", number, planted=number < PLANTED) for number in range(GENERAL + PLANTED)]
    random.Random(1).shuffle(made)
    return made


def probe_rows() -> list[dict[str, Any]]:
    """Text of its own, and a few copies of web documents."""
    rows = [make_document("probe", number, planted=False).row for number in range(24)]
    copies = [make_document("web", PLANTED + number, planted=False).row for number in range(COPIES)]
    return rows + [{**row, "id": f"copy_of_{row['id']}"} for row in copies]


def leaking_rows() -> list[dict[str, Any]]:
    """Web documents that hold a whole probe document, too long to be near-duplicates of it."""
    rows = []
    for number in range(COPIES):
        around = [make_document("around", 10 * number + part, planted=False).row["text"] for part in range(6)]
        probe = make_document("probe", number, planted=False).row["text"]
        rows.append({"id": f"holds_probe_{number}", "text": "\n".join([*around[:3], probe, *around[3:]]), "quality": "bad"})
    return rows


def write_planted_study(folder: Path) -> TinyStudy:
    """A study whose arms train on the web, a filtered part of it, a sample, and a quality-matched sample."""
    study = write_tiny_study(folder, kind="local")
    write_lines(study.inputs / "web.jsonl", [made.row for made in web_documents()] + leaking_rows())
    write_lines(study.inputs / "seeds.jsonl", [make_document("seed", number, planted=True).row for number in range(400)])
    write_lines(study.inputs / "news.jsonl", [make_document("news", number, planted=False).row for number in range(800)])
    write_lines(study.inputs / "probe.jsonl", probe_rows())

    def source(name: str, role: str) -> dict[str, Any]:
        fields = {"format": "jsonl", "id_field": "id", "label_field": "quality"}
        return {"name": name, "role": role, "path": str(study.inputs / f"{name}.jsonl"), **fields}

    tree = study_tree(folder, "local")
    study.change(
        sources=[
            source("web", "general"),
            source("news", "general"),
            source("seeds", "seed"),
            source("probe", "probe"),
            {"name": "web_legal", "from": "web", "where": f"legal >= {THRESHOLD}"},
            {"name": "web_sample", "from": "web", "sample": {"like": "web_legal"}},
            {"name": "web_matched", "from": "web", "quality_matched": {"like": "web_legal", "by": "quality"}},
            {"name": "web_best", "from": "web_legal", "where": "quality > 0.5"},
        ],
        classifiers=[
            {"name": "legal", "positive": {"sources": "seeds"}, "negative": {"sources": "news"}},
            {
                "name": "quality",
                "positive": {"sources": ["news", "seeds"], "labels": "good"},
                "negative": {"sources": ["news", "seeds"], "labels": "bad"},
            },
        ],
        prepare={**tree["prepare"], "unit_bytes": 150_000},
        arms={
            "general": {"role": "control", "mix": {"web": 1.0}},
            "special": {"role": "domain", "mix": {"web_legal": 0.5, "news": 0.5}, "max_epochs": 9},
            "sample": {"role": "domain", "mix": {"web_sample": 0.5, "news": 0.5}, "max_epochs": 9},
            "matched": {"role": "domain", "mix": {"web_matched": 1.0}, "cooldown_mix": {"web_best": 1.0}, "max_epochs": 9},
        },
    )
    return study
