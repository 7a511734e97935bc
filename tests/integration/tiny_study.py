"""A complete study small enough for a test: model, tokenizer, two corpora, an exam and the study file, in one folder.

Ids tell the role of each document: `dup_of_law_3` is a near-duplicate, `copy_of_law_4` an exact one, `leaks_exam_2` has an
exam question with different case and punctuation, `short_*` are below the minimum length.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
SEQUENCE_LENGTH = 64
BUDGETS = (2000, 4000)
DOCUMENTS = 160
ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t"]
VOWELS = {"law": "ae", "news": "iou"}
EXAM_LEAKED = 2


@dataclass(frozen=True)
class TinyStudy:
    """The locations of a tiny study."""

    config: Path
    root: Path
    model: Path
    inputs: Path

    @classmethod
    def at(cls, folder: Path) -> TinyStudy:
        """The study in `folder`."""
        return cls(folder / "tiny.yaml", folder / "runs", folder / "model", folder / "inputs")

    def copy(self, folder: Path) -> TinyStudy:
        """Copy inputs, study file and artifacts into `folder`; prepared artifacts are reused there."""
        here = self.config.parent
        shutil.copytree(here, folder, dirs_exist_ok=True, symlinks=True)
        copied = TinyStudy.at(folder)
        copied.config.write_text(self.config.read_text().replace(str(here), str(folder)))
        return copied

    def change(self, **sections: Any) -> None:
        """Replace whole sections of the study file."""
        tree = yaml.safe_load(self.config.read_text())
        self.config.write_text(yaml.safe_dump({**tree, **sections}, sort_keys=False))

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file under the root with its size and modification time."""
        return {
            str(path.relative_to(self.root)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file()
        }


def sentence(words: int, *, kind: str, seed: object) -> str:
    """Readable nonsense without repeats; the two kinds have distinct vowels, so that a model can tell them apart."""
    draw = random.Random(f"{kind} {seed}")
    made = ["".join(draw.choice(ONSETS) + draw.choice(VOWELS[kind]) for _ in range(3)) for _ in range(words)]
    return " ".join(made).capitalize() + "."


def document(kind: str, number: int) -> str:
    """Document `number` of a kind: four to eight lines of about sixty bytes."""
    lines = random.Random(f"{kind} lines {number}").randint(4, 8)
    return "\n".join(sentence(9, kind=kind, seed=(number, line)) for line in range(lines))


def question(number: int) -> str:
    """An exam question of twenty words."""
    return sentence(20, kind="law", seed=("exam", number)).rstrip(".") + "?"


def exam_items() -> list[dict[str, Any]]:
    """Eight questions with two choices each."""
    return [
        {"question": question(number), "choices": ["Lapa nata.", "Mibo turi."], "answer": number % 2} for number in range(8)
    ]


def law_documents() -> list[dict[str, str]]:
    """The domain corpus with the planted documents."""
    rows = [{"id": f"law_{number}", "text": document("law", number)} for number in range(DOCUMENTS)]
    leaked = question(EXAM_LEAKED).upper().replace(" ", " - ", 3).replace("?", "!")
    rows += [
        {"id": "dup_of_law_3", "text": document("law", 3) + "\nWith three words more."},
        {"id": "copy_of_law_4", "text": document("law", 4)},
        {"id": f"leaks_exam_{EXAM_LEAKED}", "text": f"{document('law', 1001)}\n{leaked}\n{document('law', 1002)}"},
        {"id": "short_1", "text": "Too short to keep."},
        {"id": "short_2", "text": "Shorter."},
    ]
    return rows


def news_documents() -> list[dict[str, str]]:
    """The general corpus."""
    return [{"id": f"news_{number}", "text": document("news", number)} for number in range(DOCUMENTS)]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_tiny_study(folder: Path, *, kind: str = "ray") -> TinyStudy:
    """Write a study's inputs and study file.

    Args:
        folder: Output folder; artifacts go into `folder / "runs"`.
        kind: `ray` with two workers, or `local`.
    """
    inputs = folder / "inputs"
    write_lines(inputs / "law.jsonl", law_documents())
    write_lines(inputs / "news.jsonl", news_documents())
    write_lines(inputs / "exam.jsonl", exam_items())
    write_model(folder / "model")
    study = TinyStudy.at(folder)
    study.config.write_text(yaml.safe_dump(study_tree(folder, kind), sort_keys=False))
    return study


def write_model(folder: Path) -> None:
    """Write a tiny base with its tokenizer."""
    shutil.copytree(_model_once(str(folder.parent.parent)), folder, dirs_exist_ok=True)


def study_tree(folder: Path, kind: str = "ray") -> dict[str, Any]:
    """The study file as plain values."""
    return {
        "study": {"name": "tiny", "root": str(folder / "runs")},
        "models": [{"name": "tiny", "base": str(folder / "model"), "license": "none"}],
        "sources": [
            {
                "name": "law",
                "role": "domain",
                "path": str(folder / "inputs" / "law.jsonl"),
                "format": "jsonl",
                "id_field": "id",
            },
            {
                "name": "news",
                "role": "general",
                "path": str(folder / "inputs" / "news.jsonl"),
                "format": "jsonl",
                "id_field": "id",
            },
        ],
        "prepare": {
            "unit_bytes": 16_000,
            "held_out": {"share": 0.15},
            "pack": {"sequence_length": SEQUENCE_LENGTH},
        },
        "arms": {
            "legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}},
            "control": {"role": "control", "mix": {"news": 1.0}},
        },
        "train": {
            "budgets": list(BUDGETS),
            "learning_rate": 3e-3,
            "schedule": {"warmup": 200, "cooldown_share": 0.25},
            "global_batch_size": 4,
            "micro_batch_size": 2,
            "precision": "bf16",
            "deepspeed": str(REPOSITORY / "ds_configs" / "zero2_bf16.json"),
            "checkpoint_every": 1000,
        },
        "evaluate": {
            "held_out_documents": 8,
            "document_tokens": 96,
            "context": 64,
            "batch_tokens": 1024,
            "exam_context": 128,
            "exams": [
                {"name": "tiny_exam", "path": str(folder / "inputs" / "exam.jsonl"), "label": "made-up questions"},
            ],
        },
        "compare": {"subsets": 200},
        "runtime": {
            "kind": kind,
            "workers": 1 if kind == "local" else 2,
            "prepare_workers": 2,
            "evaluate_workers": 2,
        },
    }


@functools.lru_cache(maxsize=4)
def _model_once(folder: str) -> Path:
    """A tiny model and tokenizer, made once per test run."""
    from tests.evaluate.tiny import build_model, build_tokenizer

    target = Path(folder) / "tiny-model-made-once"
    tokenizer = build_tokenizer()
    build_model(len(tokenizer)).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
