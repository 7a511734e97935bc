"""Prove, before anything is prepared, that a source is what its section says: `cpt-ray check` prints what this finds.

Part of stage `read`; runs on the driver. In: a source. Out: a `Proof`, or the error that preparation would end with. It reads
the first records of a few files, the columns of its tables (`tabular.tables`), and the whole of a source of at most 1 MB.

Guarantee: costs a bounded number of reads, whatever the size of the source.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.decoding.encodings import detect_encoding
from cpt_ray.data.read.documents import BAD, Rejected, mapped_fields
from cpt_ray.data.read.plan import ReadPart, ReadTask, Survey, survey_source
from cpt_ray.data.read.reading import LEFT_OUT, read_documents
from cpt_ray.data.read.tabular.tables import check_columns
from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.source_files import archive_kind, format_of, is_local, open_source, shown
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_FEWEST_DOCUMENTS = 3
"""Two for the test set, and one to train on."""
_RECORDS = 20
_FILES = 3
_MOST_FILES = 100
_SMALL_BYTES = 1_000_000
_NO_FIELD = "\0"
_WHOLE_FILES = frozenset({"text", "html", "front_matter"})
"""Formats in which a file is one document."""
_FEWEST_BAD = 3
_FAR_ABOVE = 2.0
"""A sample refuses a source only where its estimate of the share of bad records is so many times the source's limit."""


@dataclass(frozen=True)
class Proof:
    """What is known of a source: its files, the bytes of those, what is left out by kind with an example, and warnings."""

    files: int
    size_bytes: int
    left_out: dict[str, tuple[int, str]]
    warnings: tuple[str, ...]


def prove_source(
    source: SourceConfig, survey: Survey | None = None, *, filters_language: bool = False, max_bytes: int | None = None
) -> Proof:
    """Read a sample of a source.

    Args:
        source: The source.
        survey: Its files, if they are listed already.
        filters_language: Whether cleaning keeps some languages only, by what the source says of each document.
        max_bytes: The size above which files that are one document are split.

    Raises: DataError: If it has no files, none of the records that were read is a document, more are bad than preparation
    would accept, a table lacks a column, or the source is too small for a test set and training.
    """
    found = survey or survey_source(source)
    size = sum(file.size_bytes for file in found.files)
    is_whole = size <= _SMALL_BYTES and len(found.files) <= _RECORDS and all(is_local(file.path) for file in found.files)
    looked = check_columns([_part(found, number) for number in range(len(found.files))], source)
    # A default would hide which documents have a language of their own.
    sample = _sample(source.model_copy(update={"default_language": None}), found, is_whole=is_whole, max_bytes=max_bytes)
    items = [item for read in sample.values() for item in read]
    documents = [item for item in items if isinstance(item, Document)]
    rejected = [item for item in items if isinstance(item, Rejected)]
    bad = [item for item in rejected if item.problem]
    if bad and not documents:
        raise DataError(
            f"source {source.name}: none of the first {len(bad)} records is a document: {bad[0].id}: {bad[0].problem}",
            fix=BAD[bad[0].reason].format(source=source.name),
        )
    tolerated = _check_bad(source, found, sample, is_whole=is_whole)
    if is_whole and len(documents) < _FEWEST_DOCUMENTS:
        raise DataError(
            f"source {source.name}: holds {len(documents)} documents; its test set needs 2, and training at least 1",
            fix=f"add documents to source {source.name}, or leave it out",
        )
    left_out = {item.kind: item.path for item in reversed(found.left_out)}
    counts = Counter(item.kind for item in found.left_out)
    listed = {redact_uris(item.path) for item in found.left_out}
    inside = [item for item in rejected if _is_left_out(item) and item.id not in listed]
    for item in inside:
        kind = item.reason.split(".", 1)[1]
        counts[kind] += 1
        left_out.setdefault(kind, shown(item.id))
    return Proof(
        files=len(found.files),
        size_bytes=size,
        left_out={kind: (counts[kind], left_out[kind]) for kind in sorted(left_out)},
        warnings=(
            *_warnings(source, found, documents, filters_language=filters_language),
            *filter(None, (looked, tolerated)),
        ),
    )


def _format_of(survey: Survey, number: int) -> str | None:
    """The format of a file, as far as its name tells it."""
    return survey.format if survey.format != "auto" else format_of(survey.files[number].path)


def _part(survey: Survey, number: int) -> ReadPart:
    file = survey.files[number]
    return ReadPart(path=file.path, size_bytes=file.size_bytes, version=file.version, format=_format_of(survey, number))


def _task(survey: Survey, number: int) -> ReadTask:
    return ReadTask(index=0, format=survey.format, parts=(_part(survey, number),))


def _sample(
    source: SourceConfig, survey: Survey, *, is_whole: bool, max_bytes: int | None
) -> dict[int, list[Document | Rejected]]:
    """By number of its file, the records of a small source; of a large one the first of a few files of each format.

    Where files are documents, one of a few files says little: then those of twenty, spread.
    """
    chosen = list(range(len(survey.files))) if is_whole else _chosen(survey)
    sample: dict[int, list[Document | Rejected]] = {}
    for number in chosen:
        if is_whole or number == 0 or is_local(survey.files[number].path):
            read = read_documents(_task(survey, number), source, max_bytes=max_bytes)
            sample[number] = list(itertools.islice(read, None if is_whole else _RECORDS))
    return sample


def _chosen(survey: Survey) -> list[int]:
    """Numbers of files: the first few of each format, or twenty, spread, where each is a document."""
    by_format: dict[str | None, list[int]] = {}
    for number in range(len(survey.files)):
        by_format.setdefault(_format_of(survey, number), []).append(number)
    chosen: list[int] = []
    for numbers in by_format.values():
        step = len(numbers) // _RECORDS
        spread = step and all(_is_document(survey, number) for number in numbers[:_FILES])
        chosen += numbers[::step][:_RECORDS] if spread else numbers[:_FILES]
    return sorted(chosen)


def _check_bad(
    source: SourceConfig, survey: Survey, sample: Mapping[int, Sequence[Document | Rejected]], *, is_whole: bool
) -> str | None:
    """Refuse a source with more bad records than preparation accepts (`limits.check_bad_share`), and say that there are some.

    What is read whole is judged as preparation does. Of a sample the share of each format is weighted by how many records the
    format has, as far as sizes tell, and refused only if it is far above the limit.
    """
    records = {n: [i for i in items if not _is_left_out(i)] for n, items in sample.items()}
    bad = [item for items in records.values() for item in items if isinstance(item, Rejected) and item.problem]
    if not bad:
        return None
    read = sum(map(len, records.values()))
    share = len(bad) / read if is_whole else _estimated_share(survey, records)
    what = f"{len(bad)} of the {read} records that were read are bad, for example {bad[0].id}: {bad[0].problem}"
    far = share > source.max_bad_share if is_whole else share > _FAR_ABOVE * source.max_bad_share and len(bad) >= _FEWEST_BAD
    if far:
        raise DataError(
            f"source {source.name}: {what}; {share:.1%} of the source{'' if is_whole else ', as far as this tells'}, but "
            f"max_bad_share is {source.max_bad_share:g}",
            fix=f"{BAD[bad[0].reason].format(source=source.name)}; or leave these files out of source {source.name}",
        )
    return f"source {source.name}: {what}; the run drops such records, and stops above max_bad_share {source.max_bad_share:g}"


def _is_left_out(item: Document | Rejected) -> bool:
    return isinstance(item, Rejected) and item.reason.startswith(LEFT_OUT)


def _estimated_share(survey: Survey, records: Mapping[int, Sequence[Document | Rejected]]) -> float:
    """The share of bad records in a source, of which some records of each format were read."""
    total = wrong = 0.0
    for kind in {_format_of(survey, number) for number in records}:
        numbers = [n for n in range(len(survey.files)) if _format_of(survey, n) == kind]
        items = [item for number in numbers for item in records.get(number, ())]
        if not items:
            continue
        sizes = [len(i.text.encode()) if isinstance(i, Document) else i.num_bytes for i in items]
        mean = max(1.0, sum(sizes) / len(items))
        size = sum(survey.files[number].size_bytes for number in numbers)
        count = len(numbers) if kind in _WHOLE_FILES else max(len(items), size / mean)
        total += count
        wrong += count * sum(isinstance(item, Rejected) and bool(item.problem) for item in items) / len(items)
    return wrong / total if total else 0.0


def _is_document(survey: Survey, number: int) -> bool:
    """Whether a file is one document, on this machine."""
    return is_local(survey.files[number].path) and _format_of(survey, number) in _WHOLE_FILES


def _uncertain_encodings(source: SourceConfig, survey: Survey) -> list[str]:
    """What to say of files whose encoding is found but might be another."""
    if source.encoding != "auto":
        return []
    looked, unsure = 0, []
    for number, file in enumerate(survey.files[:_MOST_FILES]):
        if not is_local(file.path) or archive_kind(file.path) or _format_of(survey, number) in ("parquet", "arrow"):
            continue
        looked += 1
        with open_source(file.path) as stream:
            found = detect_encoding(stream, most_bytes=_SMALL_BYTES)
        if not found.is_sure:
            unsure.append(f"{file.path} is read as {found.name}")
    if not unsure:
        return []
    return [
        f"source {source.name}: the encoding of {len(unsure)} of {looked} files might be another: {unsure[0]}; "
        f"if that is wrong, set encoding of source {source.name}"
    ]


def _warnings(source: SourceConfig, survey: Survey, documents: list[Document], *, filters_language: bool) -> list[str]:
    if not documents:
        return []
    said = []
    said += _uncertain_encodings(source, survey)
    formats = {_format_of(survey, number) for number in range(len(survey.files))}
    if source.text_field != "text" and formats <= _WHOLE_FILES:
        said.append(f"source {source.name}: text_field has no effect: each file is one document")
    for name, key in mapped_fields(source).items():
        if name != "id" and all(getattr(document, name) is None for document in documents):
            said.append(
                f"source {source.name}: none of the {len(documents)} documents that were read has {name}_field {key!r}"
                f"{_present(source, survey)}"
            )
    if filters_language and source.default_language is None and all(document.language is None for document in documents):
        said.append(
            f"source {source.name}: prepare.clean.languages keeps its documents whatever their language, because none says "
            "its own: set language_field or default_language of the source, or prepare.clean.language_id.detect to missing"
        )
    return said


def _present(source: SourceConfig, survey: Survey) -> str:
    """The names of the fields of a first record, as the reader would give them for a field that is missing."""
    probe = source.model_copy(update={"text_field": _NO_FIELD, "on_bad_record": "drop"})
    try:
        first = next(read_documents(_task(survey, 0), probe), None)
    except DataError as error:
        problem = error.problem
    else:
        problem = first.problem if isinstance(first, Rejected) else ""
    names = problem.partition("present: ")[2]
    return f"; fields present: {names}" if names else ""
