"""What all records share: JSON with a stable key order, unknown keys rejected; files by content hash."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict

SourceRole = Literal["domain", "general", "probe"]
RunKind = Literal["base", "trunk", "cooldown", "chain", "independent", "trajectory", "merge"]


class Record(BaseModel):
    """Frozen data that serializes to JSON and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    FILE: ClassVar[str]
    """File name in an artifact's folder, for kinds that have one."""

    def to_json(self) -> str:
        """Serialize with a stable key order."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse the output of `to_json`."""
        return cls.model_validate_json(text)

    @classmethod
    def of(cls, folder: str | Path) -> Self:
        """Read the record of this kind from an artifact's folder, where it is stored as `FILE`."""
        return cls.load(Path(folder) / cls.FILE)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the record stored at a local path."""
        return cls.from_json(Path(path).read_bytes())


RecordT = TypeVar("RecordT", bound=Record)


class Made(NamedTuple, Generic[RecordT]):
    """A finished artifact as input of another stage: its folder and its record."""

    folder: Path
    record: RecordT


class FileEntry(Record):
    """A file of an artifact: path relative to the artifact's folder, size and content hash."""

    path: str
    size_bytes: int
    sha256: str
