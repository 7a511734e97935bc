"""Texts in any encoding are read, found and counted; long ones are split."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpt_ray.data.read import ReadPart, Rejected, plan_reads, prove_source, read_documents
from cpt_ray.data.read.decoding.encodings import detect_encoding
from cpt_ray.data.read.texts import read_front_matter, read_text
from cpt_ray.errors import DataError
from cpt_ray.records import Document
from tests.data.read.languages import ENCODED, SAMPLES
from tests.data.read.test_field_cases import counted
from tests.data.read.test_formats import read, source, texts

pytestmark = pytest.mark.accept(inputs=1)

GERMAN = "Der Mieter trägt die Kosten für Schönheitsreparaturen; größere Schäden übernimmt der Vermieter. " * 5
RUSSIAN = "Арендатор оплачивает расходы на ремонт, а более крупные повреждения устраняет арендодатель. " * 5  # noqa: RUF001
JAPANESE = "賃借人は毎月の初日に家賃を支払い、貸主は屋根を良好な状態に保つものとする。" * 8


@pytest.mark.parametrize("name", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_decides(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_bytes(GERMAN.encode(name))
    (tmp_path / "a.jsonl").write_bytes(
        "".join(json.dumps({"text": GERMAN}, ensure_ascii=False) + "\n" for _ in range(9)).encode(name)
    )
    (tmp_path / "a.csv").write_bytes(f"id;text\n1;{GERMAN}\n".replace("Kosten;", "").encode(name))
    for encoding in ("utf-8", "auto", "latin-1"):
        assert texts(source(tmp_path / "a.txt", "text", encoding=encoding)) == [GERMAN]
        assert texts(source(tmp_path / "a.jsonl", "jsonl", encoding=encoding), 100) == [GERMAN] * 9
    assert counted(source(tmp_path / "a.txt", "text")) == (1, {})


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (GERMAN, "latin-1", "cp1252"),
        (GERMAN, "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (JAPANESE, "shift_jis", "cp932"),
        (JAPANESE, "euc_jp", "euc_jis_2004"),
    ],
)
def test_an_encoding_is_found_and_counted(tmp_path: Path, text: str, name: str, found: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(name))
    (tmp_path / "b.txt").write_bytes(text.encode())
    config = source(tmp_path / "*.txt", "text", encoding="auto")
    (task,) = plan_reads(config, 10**6)
    encodings: Counter[str] = Counter()
    items = list(read_documents(task, config, encodings=encodings))
    assert [item.text for item in items if isinstance(item, Document)] == [text, text]
    assert encodings == {found: 1, "utf-8": 1}
    assert counted(source(tmp_path / "*.txt", "text")) == (1, {"bad_encoding": 1})


@pytest.mark.parametrize("times", [1, 300])
@pytest.mark.parametrize(("language", "name"), ENCODED)
def test_an_encoding_of_any_script_is_found(language: str, name: str, times: int) -> None:
    text = SAMPLES[language] * times
    found = detect_encoding(io.BytesIO(text.encode(name)))
    assert text.encode(name).decode(found.name) == text
    assert found.is_sure


def test_wide_encodings_without_a_mark_are_text_and_programs_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(RUSSIAN.encode("utf-16-le"))
    (tmp_path / "b.txt").write_bytes(GERMAN.encode("utf-32-be"))
    (tmp_path / "bb.txt").write_bytes(b"".join(c.encode() + b"\0" for c in "Text " * 30))
    (tmp_path / "c.txt").write_bytes(b"\x7fELF" + bytes(range(256)) * 400)
    (tmp_path / "d.txt").write_bytes(random.Random(1).randbytes(100_000))
    (tmp_path / "e.txt").write_bytes(b"".join(n.to_bytes(4, "little") for n in range(0, 10**6, 97)))
    config = source(tmp_path / "*.txt", "text", encoding="auto")
    assert texts(config) == [RUSSIAN, GERMAN, "Text " * 30]
    assert counted(config) == (3, {"left_out.binary": 3})
    assert texts(source(tmp_path / "a.txt", "text", encoding="utf-16-le")) == [RUSSIAN]


def test_utf8_with_a_damaged_byte_is_no_other_encoding(tmp_path: Path) -> None:
    data = RUSSIAN.encode()
    (tmp_path / "a.txt").write_bytes(data[:100] + b"\xff" + data[100:])
    assert counted(source(tmp_path / "a.txt", "text", encoding="auto")) == (0, {"bad_encoding": 1})


def test_an_encoding_that_might_be_another_is_counted_with_a_question_mark_and_said(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_bytes(b"One odd character, \xbd, and the number %d." % number)
    config = source(tmp_path / "*.txt", "text", encoding="auto")
    (task,) = plan_reads(config, 10**6)
    encodings: Counter[str] = Counter()
    assert len(list(read_documents(task, config, encodings=encodings))) == 9
    ((name, count),) = encodings.items()
    assert name.endswith("?")
    assert count == 9
    (said,) = prove_source(config).warnings
    assert said == (
        f"source law: the encoding of 9 of 9 files might be another: {tmp_path}/0.txt is read as {name[:-1]}; "
        "if that is wrong, set encoding of source law"
    )
    (tmp_path / "0.txt").write_text(GERMAN)
    assert "of 8 of 9 files" in prove_source(config).warnings[0]
    assert prove_source(config.model_copy(update={"encoding": "cp1252"})).warnings == ()


def test_a_given_encoding_is_used_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": GERMAN}, ensure_ascii=False) + "\n" for _ in range(50)).encode("latin-1")
    (tmp_path / "a.jsonl").write_bytes(lines)
    assert texts(source(tmp_path / "a.jsonl", "jsonl", encoding="latin-1"), 1000) == [GERMAN] * 50
    for wrong in ("latin-99", "rot13", "base64"):
        with pytest.raises(ValueError, match=f"encoding '{wrong}' is not"):
            source(tmp_path / "a.jsonl", "jsonl", encoding=wrong)
    (tmp_path / "b.txt").write_bytes(GERMAN.encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"b\.txt: damaged or truncated after 0 records: not utf-16"):
        read(source(tmp_path / "b.txt", "text"))


# Long texts.


def test_a_long_text_is_split_at_paragraphs_into_documents_of_their_own(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {n}: " + "wörter und sätze " * 20 for n in range(100))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt").write_text("short")
    config = source(tmp_path / "*.txt", "text")
    (task,) = plan_reads(config, 10**6)
    items = [item for item in read_documents(task, config, max_bytes=5000) if isinstance(item, Document)]
    assert "".join(item.text for item in items[:-1]) == text
    assert all(len(item.text.encode()) <= 5000 for item in items)
    assert all(item.text.startswith("Paragraph") for item in items[:-1])
    assert [item.id for item in items] == [*(f"a.part-{n}" for n in range(1, len(items))), "b"]
    assert len(list(read_documents(task, config.model_copy(update={"long_text": "drop"}), max_bytes=5000))) == 2


class Counting(io.BytesIO):
    """A stream that counts what was read from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("reader", [read_text, read_front_matter])
def test_a_long_text_is_read_and_split_in_a_stream(reader: Callable[..., Iterator[Document]]) -> None:
    text = "".join(f"Paragraph {n}: " + "wörter und sätze " * 20 + "\n\n" for n in range(50_000))
    header = "---\nlanguage: de\n---\n" if reader is read_front_matter else ""
    stream = Counting((header + text).encode())
    part = ReadPart(path="/in/a.txt", size_bytes=len(text), version="1")
    items, ahead, given = [], 0, 0
    for item in reader(stream, part, source("/in/a.txt", "text", language_field="language"), 500_000):
        items.append(item)
        given += len(item.text.encode())
        ahead = max(ahead, stream.taken - given)
    assert "".join(item.text for item in items) == text
    assert ahead < 5_000_000 < len(text.encode()) / 3
    assert all(item.text.startswith("Paragraph") and 200_000 < len(item.text.encode()) <= 500_000 for item in items)
    assert {item.language for item in items} == {"de" if header else None}


def test_a_part_that_is_not_utf8_is_rejected_by_itself_and_says_where(tmp_path: Path) -> None:
    text = "".join(f"Absatz {n} für alle.\n\n" for n in range(2000)).encode()
    (tmp_path / "a.txt").write_bytes(text[:30_000] + b"\xff" + text[30_000:])
    config = source(tmp_path / "a.txt", "text")
    (task,) = plan_reads(config, 10**6)
    items = list(read_documents(task, config, max_bytes=10_000))
    (bad,) = [item for item in items if isinstance(item, Rejected)]
    assert len(items) > 4
    assert (bad.reason, bad.problem) == ("bad_encoding", "not UTF-8: byte 30000")
    kept = sum(len(item.text.encode()) for item in items if isinstance(item, Document))
    assert kept + bad.num_bytes == len(text) + 1
