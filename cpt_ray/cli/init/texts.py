"""Look into a folder: which of its files are text, in which fields, and what is left out.

In: a path as a user gives it. Out: `Looked`: one `Group` of files for each source that the study needs. Reads the first records
of the first files of each format; what follows is proven by `cpt-ray check`.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cpt_ray.cli.init.fields import Fields, propose_fields
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import ROW_FORMATS, ReadPart, ReadTask, Survey, first_records, read_documents, survey_source
from cpt_ray.data.read.decoding.encodings import UTF_8, detect_encoding
from cpt_ray.edges.source_files import SourceFile, archive_kind, foreign_kind, format_of, is_local, open_source
from cpt_ray.errors import DataError
from cpt_ray.records import Document

_MOST_LOOKED = 2000
"""Files of a format that are opened."""
_MOST_LISTED = 40
"""Files that a source names one by one."""
_HEAD = 1 << 13
_FILES_READ, _TEXTS_OF_FILE, _LONGEST_READ = 10, 3, 100_000
_TEXT_OF = {"html": 0.3, "parquet": 2.0, "arrow": 0.8}
"""Bytes of text in a byte of a file, as a rule of thumb; of rows in text formats the first records tell."""
_UNPACKED = 3.0


@dataclass
class Group:
    """Files that one source can read: documents, and rows with the same text field."""

    files: list[SourceFile] = field(default_factory=list)
    fields: Fields | None = None
    encoding: str = UTF_8
    text_bytes: float = 0.0
    documents: float = 0.0
    paths: tuple[str, ...] = ()

    @property
    def kinds(self) -> str:
        """Its files by format, as a comment says it."""
        names = [str(format_of(file.path) or archive_kind(file.path) or "text") for file in self.files]
        return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))

    @property
    def has_rows(self) -> bool:
        """Whether files of it hold many documents."""
        return any(format_of(file.path) in ROW_FORMATS or archive_kind(file.path) for file in self.files)


@dataclass
class Looked:
    """What a path holds."""

    path: str
    groups: list[Group]
    left_out: list[tuple[str, str]]
    """Files that are not read, each with the reason."""

    @property
    def stem(self) -> str:
        """The name of the folder, or of the file without its endings."""
        path = absolute(self.path)
        name = Path(path.rstrip("/")).name.partition("*")[0]
        return name.partition(".")[0] or name if Path(path).is_file() else name

    @property
    def text_bytes(self) -> float:
        """Bytes of text, about."""
        return sum(group.text_bytes for group in self.groups)

    @property
    def documents(self) -> float:
        """Number of documents, about."""
        return sum(group.documents for group in self.groups)


def absolute(path: str) -> str:
    """A local path as it is from any working directory; anything else as it stands."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def look(path: str, flag: str) -> Looked:
    """Look into what a path names.

    Args:
        path: A file, a folder, a pattern or a URL.
        flag: The option that gave it, for messages.

    Raises:
        DataError: If there is no such path, or no text in it.
    """
    if not path.strip():
        raise DataError(f"{flag} is empty", fix="give a file or folder; for the current one, its name: $PWD")
    source = SourceConfig(name="text", role="domain", path=(absolute(path),))
    try:
        survey = survey_source(source)
    except DataError as error:
        raise DataError(
            f"{flag} {path}: {error.problem.removeprefix('source text: ').removeprefix(f'{source.path[0]}: ')}",
            fix="give a file or folder with text, Markdown, web pages, JSON lines, JSON, CSV, Parquet or Arrow",
        ) from error
    found = _sorted_out(survey, source)
    if not found.groups:
        names = "; ".join(f"{Path(name).name}: {why}" for name, why in found.left_out[:5])
        raise DataError(
            f"{flag} {path}: none of its {len(survey.files) + len(survey.left_out)} files holds text: {names}",
            fix="give a folder with documents, or records with a field that holds text",
        )
    found.path = path
    return found


def _sorted_out(survey: Survey, source: SourceConfig) -> Looked:
    left_out = [(item.path, item.kind) for item in survey.left_out]
    documents, rows = Group(), dict[str, Group]()
    looked: dict[str, int] = {}
    for file in survey.files:
        kind = format_of(file.path)
        looked[str(kind)] = looked.get(str(kind), 0) + 1
        opened = is_local(file.path) and archive_kind(file.path) is None and looked[str(kind)] <= _MOST_LOOKED
        foreign = _foreign(file, str(kind or "text")) if opened else None
        if foreign is not None or (file.size_bytes == 0 and is_local(file.path)):
            left_out.append((file.path, foreign or "empty"))
        elif kind in ROW_FORMATS and opened:
            fields = propose_fields(first_records(file, source))
            if fields is None:
                left_out.append((file.path, "no field with text"))
            else:
                _add_rows(rows.setdefault(fields.text, Group(fields=fields)), file, fields)
        elif kind in ROW_FORMATS and rows:  # as the files of its format that were opened
            group = next(
                (g for g in rows.values() if any(format_of(f.path) == kind for f in g.files)), next(iter(rows.values()))
            )
            _add_rows(group, file, group.fields)
        else:
            _add_document(documents, file, opened=opened)
    return Looked("", _groups(survey, source, documents, list(rows.values())), left_out)


def _foreign(file: SourceFile, kind: str) -> str | None:
    with open_source(file.path) as stream:
        return foreign_kind(stream.peek(_HEAD)[:_HEAD], kind)  # type: ignore[arg-type]


def _unpacked_bytes(file: SourceFile) -> float:
    packed = file.path.endswith((".gz", ".zst", ".bz2", ".xz")) or archive_kind(file.path) is not None
    return file.size_bytes * (_UNPACKED if packed else 1.0)


def _add_rows(group: Group, file: SourceFile, fields: Fields | None) -> None:
    group.files.append(file)
    if fields is None or group.fields is None:
        return
    # A field that not every file has is no field of the source; a text is, by which they are grouped.
    common = tuple(item for item in group.fields.named if item in fields.named or item[0] not in ("text_field", "id_field"))
    more = tuple(item for item in fields.named if item[0] not in dict(group.fields.named) and item[0] != "id_field")
    group.fields = group.fields._replace(named=(*common, *more))
    text = _unpacked_bytes(file) * _TEXT_OF.get(str(format_of(file.path)), fields.share)
    group.text_bytes += text
    group.documents += max(1.0, text / max(1.0, fields.characters))


def _add_document(group: Group, file: SourceFile, *, opened: bool) -> None:
    group.files.append(file)
    size = _unpacked_bytes(file) * _TEXT_OF.get(str(format_of(file.path)), 1.0)
    group.text_bytes += size
    group.documents += 1.0
    if opened and group.encoding == UTF_8:
        with open_source(file.path) as stream:
            group.encoding = UTF_8 if detect_encoding(stream, most_bytes=1_000_000).name == UTF_8 else "auto"


def _groups(survey: Survey, source: SourceConfig, documents: Group, rows: list[Group]) -> list[Group]:
    """The sources: documents and rows together if all rows have their text in one field, else one for each field."""
    if documents.files and rows:
        first = rows[0]
        first.files = sorted([*first.files, *documents.files])
        first.text_bytes += documents.text_bytes
        first.documents += documents.documents
        first.encoding = documents.encoding
    found = rows or ([documents] if documents.files else [])
    # A folder as a whole, unless that would read what has no text.
    here = {file.path for group in found for file in group.files}
    whole = len(found) == 1 and not any(
        format_of(file.path) in ROW_FORMATS and _matters(file) for file in survey.files if file.path not in here
    )
    for group in found:
        group.paths = source.path if whole else _names(group, survey)
    return found


def _names(group: Group, survey: Survey) -> tuple[str, ...]:
    """The paths that name the files of one of several groups: patterns for extensions that are its own, else file by file."""
    paths: list[str] = []
    single: list[str] = []
    mine = {file.path for file in group.files}
    top = os.path.commonpath([os.path.dirname(file.path) for file in survey.files])
    for suffix in sorted({Path(path).suffix for path in mine}):
        of_suffix = {file.path for file in survey.files if Path(file.path).suffix == suffix and _matters(file)}
        if of_suffix <= mine and suffix:
            paths.append(f"{glob.escape(top)}/**/*{suffix}")
        else:
            single += sorted(path for path in mine if Path(path).suffix == suffix)
    if len(single) > _MOST_LISTED:
        raise DataError(
            f"{top}: its records have their text in different fields: {len(single)} files, such as {single[0]}, are odd ones",
            fix="put files with the same fields into a folder of their own, and give that",
        )
    return (*paths, *single)


def _matters(file: SourceFile) -> bool:
    """Whether a file has content, or is an error without: an empty table is no table."""
    return file.size_bytes > 0 or format_of(file.path) in ("parquet", "arrow")


def first_texts(looked: Looked) -> list[str]:
    """A few texts, by which its language can be told."""
    texts: list[str] = []
    for group in looked.groups:
        named = dict(group.fields.named) if group.fields else {}
        source = SourceConfig(name="text", role="domain", path=group.paths, encoding=group.encoding, **named)
        local = [file for file in group.files if is_local(file.path) and file.size_bytes]
        for file in local[:: max(1, len(local) // _FILES_READ)][:_FILES_READ]:
            part = ReadPart(path=file.path, size_bytes=file.size_bytes, version=file.version, format=format_of(file.path))
            read = read_documents(ReadTask(index=0, format="auto", parts=(part,)), source, max_bytes=_LONGEST_READ)
            texts += [item.text for item in itertools.islice(read, _TEXTS_OF_FILE) if isinstance(item, Document)]
    return texts


def probe_of(path: str, fewest: int, largest_share: float) -> tuple[Looked, Looked] | None:
    """The smallest sub-folder of general text that can stand alone, and the rest; None if there is no such group.

    Args:
        path: The folder of the general text.
        fewest: Documents that a probe needs.
        largest_share: Of all text, the most that it may take.
    """
    folder = Path(absolute(path))
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")] if folder.is_dir() else []
    if len(entries) < 2 or not all(entry.is_dir() for entry in entries):
        return None
    try:
        looked = [look(str(entry), "--general") for entry in entries]
    except DataError:
        return None  # a folder without text: the general text stays in one piece
    total = sum(one.text_bytes for one in looked)
    fit = [one for one in looked if one.documents >= fewest and one.text_bytes <= largest_share * total]
    if not fit or any(len(one.groups) != 1 for one in looked):
        return None
    chosen = min(fit, key=lambda one: one.text_bytes)
    rest = [one for one in looked if one is not chosen]
    fields = {one.groups[0].fields and one.groups[0].fields.text for one in rest} - {None}
    return (chosen, _joined(path, rest)) if len(fields) < 2 else None


def _joined(path: str, parts: Sequence[Looked]) -> Looked:
    """Several folders, whose rows have their text in one field, as one source."""
    groups = [part.groups[0] for part in parts]
    joined = Group(
        files=[file for group in groups for file in group.files],
        fields=next((group.fields for group in groups if group.fields), None),
        encoding="auto" if any(group.encoding == "auto" for group in groups) else UTF_8,
        text_bytes=sum(group.text_bytes for group in groups),
        documents=sum(group.documents for group in groups),
        paths=tuple(name for group in groups for name in group.paths),
    )
    return Looked(path, [joined], [item for part in parts for item in part.left_out])
