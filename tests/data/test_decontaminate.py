import json
from pathlib import Path

import pytest

from cpt_ray.data.decontaminate import ExamIndex, ExamItem, read_items
from cpt_ray.data.words import hash_words, words
from cpt_ray.errors import DataError

from .conftest import EXAM, LEAK, QUESTION, sentence


def find(index: ExamIndex, text: str) -> list[str]:
    return [index.items[number].id for number in index.find(hash_words(words(text)))]


def items(tmp_path: Path, *rows: object) -> list[ExamItem]:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return list(read_items(path))


def test_a_leak_is_found_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    text = f"{sentence(20, seed=1)} {LEAK} {sentence(20, seed=2)}"
    hits = index.describe(index.find(hash_words(words(text))), source="law", document="leak_1", text=text)
    assert [(hit.task, hit.item, hit.document) for hit in hits] == [("astronomy", "q1", "leak_1")]
    assert hits[0].matched in text
    assert len(words(hits[0].matched)) == 13


def test_twelve_words_of_a_long_question_are_no_hit(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    assert not find(index, " ".join(QUESTION.split()[:12]) + " something else")
    assert find(index, " ".join(QUESTION.split()[:13]) + " something else") == ["q1"]


def test_a_short_question_is_found_together_with_its_answer(tmp_path: Path) -> None:
    row = {
        "task": "t",
        "id": "s",
        "question": "Who wrote the old code?",
        "choices": ["x", "a very patient monk"],
        "answer": "B",
    }
    index = ExamIndex.build(items(tmp_path, row), 13)
    assert find(index, "so, who wrote the old code: a VERY patient monk did") == ["s"]
    assert not find(index, "who wrote the old code")


def test_items_too_short_to_scan_are_counted(tmp_path: Path) -> None:
    row = {"task": "t", "id": "tiny", "question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    index = ExamIndex.build(items(tmp_path, row, EXAM), 13)
    scans = {scan.task: scan for scan in index.summary([])}
    assert (scans["t"].items, scans["t"].scanned, scans["t"].too_short_to_scan) == (1, 0, 1)
    assert (scans["astronomy"].scanned, scans["astronomy"].items_found) == (1, 0)


@pytest.mark.parametrize(("answer", "text"), [(1, "two"), ("B", "two"), ("two", "two"), ("a", "one")])
def test_an_answer_is_a_number_a_letter_or_the_text(tmp_path: Path, answer: object, text: str) -> None:
    row = {"task": "t", "id": "i", "question": "q", "choices": ["one", "two"], "answer": answer}
    assert items(tmp_path, row)[0].answer == text


def test_a_line_that_is_no_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items\.jsonl, line 2: not an exam item \(KeyError: 'question'\)") as caught:
        items(tmp_path, EXAM, {"task": "t", "id": "i"})
    assert caught.value.fix == "each line is a JSON object with task, id, question, choices and answer"
