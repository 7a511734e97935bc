"""A folder as people have them: formats mixed, records nested, names not ASCII, and things that are no text."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.tiny_study import document, write_model


def write_messy(folder: Path, documents: int = 40) -> Path:
    """Write the folder; each format has so many documents, of made-up domain text."""
    folder.mkdir(parents=True)
    for number in range(documents):
        (folder / f"plain {number}.txt").write_text(document("law", number))
        (folder / f"Überblick-{number}.md").write_text(document("law", 1000 + number))
        text = document("law", 2000 + number)
        (folder / f"seite_{number}.html").write_text(f"<html><nav>menu</nav><article><p>{text}</p></article></html>")
    rows = [
        {"meta": {"id": f"r{number}", "lang": "en"}, "data": {"title": "x", "body": document("law", 3000 + number)}}
        for number in range(documents)
    ]
    (folder / "日本.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "empty.txt").write_text("")
    (folder / "scan.pdf").write_bytes(b"%PDF-1.7 by mistake")
    (folder / "also a scan.txt").write_bytes(b"%PDF-1.7 called a text")
    return folder


def write_general(folder: Path, documents: int = 200) -> Path:
    """Write general text in three folders, of which one is small enough for a probe."""
    for start, (name, count) in enumerate((("books", documents), ("news", documents * 2), ("web", documents * 2))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.txt").write_text(document("news", start * 10_000 + number))
    return folder


def write_base(folder: Path) -> Path:
    """Write a tiny base."""
    write_model(folder)
    return folder
