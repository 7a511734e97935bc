"""Prove that every table of a source has the columns that its section names.

Part of stage `read`; runs on the driver, for `cpt-ray check`. In: the files of a source. Out: an error that names
the first table without them, before anything is prepared. Only schemas are read: 0.06 ms for a local Parquet file.

Guarantee: reads at most `MOST_LOCAL` local and `MOST_REMOTE` remote tables, spread evenly, and says so if there are more.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.decoding.encodings import as_utf8, detect_encoding
from cpt_ray.data.read.documents import missing_columns
from cpt_ray.data.read.plan import ReadPart, not_parquet
from cpt_ray.data.read.tabular.columns import column_names
from cpt_ray.data.read.tabular.csv_rows import header_of
from cpt_ray.edges.source_files import archive_kind, foreign_kind, is_local, is_unpacked, open_source
from cpt_ray.errors import DataError

MOST_LOCAL = 20_000
MOST_REMOTE = 32
_FORMATS = ("parquet", "arrow", "csv")
_THREADS = 8
_HEAD = 1 << 13


def check_columns(parts: Sequence[ReadPart], source: SourceConfig) -> str | None:
    """Check the columns of a source's tables.

    Args:
        parts: All files of the source, each with its format.
        source: The source.

    Returns:
        What to say if not all tables were looked at.

    Raises:
        DataError: If a table lacks the column of text or id, has it twice, or is no table.
    """
    tables = [part for part in parts if part.format in _FORMATS and archive_kind(part.path) is None]
    local = [part for part in tables if is_local(part.path)]
    # A file behind a URL is fetched whole, and a member of an archive is found by reading what is in front of it.
    remote = [p for p in tables if not is_local(p.path) and "::" not in p.path and not p.path.startswith(("http:", "https:"))]
    problems = {part.path: _problem(part, source) for part in _spread(local, MOST_LOCAL)}
    if remote:
        looked = _spread(remote, MOST_REMOTE)
        with ThreadPoolExecutor(_THREADS) as pool:
            problems |= zip((part.path for part in looked), pool.map(lambda part: _problem(part, source), looked), strict=True)
    wrong = [(path, problem) for path, problem in problems.items() if problem is not None]
    if wrong:
        path, problem = wrong[0]
        if len(wrong) == len(problems):
            raise DataError(f"{path}: {problem}", fix=f"set the field names of source {source.name} to existing columns")
        raise DataError(
            f"{path}: {problem}; {len(wrong)} of {len(problems)} tables of source {source.name} have such a problem",
            fix=f"leave it out of source {source.name}, or set the field names to columns that all its tables have",
        )
    if len(problems) < len(local) + len(remote):
        return f"source {source.name}: the columns of {len(problems)} of its {len(local) + len(remote)} tables were looked at"
    return None


def _spread(parts: Sequence[ReadPart], most: int) -> list[ReadPart]:
    return [parts[number * len(parts) // most] for number in range(most)] if len(parts) > most else list(parts)


def _problem(part: ReadPart, source: SourceConfig) -> str | None:
    encoding = source.encoding
    if part.format == "csv" and encoding == "auto":
        with open_source(part.path) as stream:
            encoding = detect_encoding(stream, most_bytes=_HEAD).name
    with open_source(part.path) as stream:
        # What is not a table at all, and a table inside a compressed file, is left to reading.
        if foreign_kind(stream.peek(_HEAD)[:_HEAD], part.format or "parquet") is not None:
            return None
        if part.format == "csv":
            names = header_of(as_utf8(stream, encoding)[0], part, source)
            return missing_columns(names, source, part.path) if names else None
        if is_unpacked(stream):
            return None
        try:
            return missing_columns(column_names(stream, str(part.format)), source, part.path)
        except (pa.ArrowException, OSError) as error:
            raise not_parquet(part.path, error, source.name) from error
