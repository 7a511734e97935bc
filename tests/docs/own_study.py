"""The study file of the README's section "Your own study", with a base and two folders of text put in."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.tiny_study import document, write_model

README = Path(__file__).parents[2] / "README.md"
DOCUMENTS = {"law": "PATH/OF/THE/CONTRACTS", "news": "PATH/OF/GENERAL/TEXT"}
"""Kinds of made-up text, and the placeholders for their folders."""


def write_own_study(folder: Path, *, documents: int) -> Path:
    """Write the README's study with a tiny base and two folders of text files; return the study file."""
    snippet = re.search(r"^## Your own study$.*?^```yaml\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert snippet is not None
    write_model(folder / "base")
    text = snippet[1].replace("PATH/OF/THE/BASE", str(folder / "base"))
    for kind, placeholder in DOCUMENTS.items():
        (folder / kind).mkdir()
        for number in range(documents):
            (folder / kind / f"{number}.txt").write_text(document(kind, number), encoding="utf-8")
        assert placeholder in text
        text = text.replace(placeholder, str(folder / kind))
    assert "PATH/" not in text
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return folder / "study.yaml"
