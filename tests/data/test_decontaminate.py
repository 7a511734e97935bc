import json
from pathlib import Path

import pytest

from cpt_ray.data.decontaminate import ExamIndex
from cpt_ray.data.words import hash_words, words
from cpt_ray.errors import DataError
from cpt_ray.records import DocumentKey, ExamHit, ExamItem, read_items
from tests.data.conftest import EXAM, LEAK, QUESTION, sentence


def find(index: ExamIndex, text: str) -> list[str]:
    return [index.items[match.item].id for match in index.find(hash_words(text))]


def describe(index: ExamIndex, text: str) -> list[ExamHit]:
    return index.describe(index.find(hash_words(text)), source="law", document=DocumentKey("law/00000/1", "leak_1"), text=text)


def items(tmp_path: Path, *rows: object) -> list[ExamItem]:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return list(read_items(path))


@pytest.mark.accept(data=3)
def test_a_leak_is_found_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    text = f"{sentence(20, seed=1)} {LEAK} {sentence(20, seed=2)}"
    hits = describe(index, text)
    assert [(hit.task, hit.item, hit.part, hit.document) for hit in hits] == [("astronomy", "q1", "question", "leak_1")]
    assert hits[0].matched in text
    # The longest run, not the first n-gram of it.
    assert words(hits[0].matched) == words(LEAK) == words(QUESTION)
    assert (hits[0].words, hits[0].ratio) == (len(words(QUESTION)), 1.0)


def test_twelve_words_of_a_long_question_are_no_hit(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    assert not find(index, " ".join(QUESTION.split()[:12]) + " something else")
    assert find(index, " ".join(QUESTION.split()[:13]) + " something else") == ["q1"]


@pytest.mark.accept(data=3)
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


ANSWER = "because the harbour master had promised each captain one silver coin for every hour of honest measurement"
LONG_ANSWER = {"task": "t", "id": "long", "question": "Why did they do it?", "choices": ["no reason", ANSWER], "answer": 1}


@pytest.mark.accept(data=3)
@pytest.mark.parametrize("leak", [ANSWER, ANSWER.upper().replace(" ", " -- "), ANSWER.replace(" ", ",\n")])
def test_an_answer_is_found_without_its_question(tmp_path: Path, leak: str) -> None:
    index = ExamIndex.build(items(tmp_path, LONG_ANSWER), 13)
    hits = describe(index, f"{sentence(20, seed=1)} {leak} {sentence(20, seed=2)}")
    assert [(hit.item, hit.part, hit.ratio) for hit in hits] == [("long", "answer", 1.0)]
    scan = index.summary(hits)[0]
    assert (scan.items_found, scan.items_found_by_answer, scan.documents_found) == (1, 1, 1)
    assert not find(index, ANSWER.replace("captain", "sailor"))


def test_a_match_that_runs_from_question_to_answer_counts_for_the_part_it_covers_most_of(tmp_path: Path) -> None:
    row = {"task": "t", "id": "i", "question": sentence(30, seed=1), "choices": ["no", sentence(6, seed=2)], "answer": 1}
    index = ExamIndex.build(items(tmp_path, row), 13)
    text = " ".join([*sentence(30, seed=1).split()[-8:], sentence(6, seed=2)])
    hits = describe(index, text)
    assert [(hit.part, hit.words, hit.ratio) for hit in hits] == [("answer", 14, 1.0)]


def test_a_ratio_lets_a_turn_of_phrase_pass_and_still_finds_the_item(tmp_path: Path) -> None:
    phrase = "which of the following statements about the passage above is true in every case"
    row = {"task": "t", "id": "i", "question": f"{sentence(60, seed=1)} {phrase}", "choices": ["x", "y"], "answer": 0}
    document = f"{sentence(30, seed=3)} {phrase} {sentence(30, seed=4)}"
    assert find(ExamIndex.build(items(tmp_path, row), 13), document) == ["i"]
    strict = ExamIndex.build(items(tmp_path, row), 13, min_ratio=0.5)
    assert not find(strict, document)
    assert find(strict, sentence(60, seed=1)) == ["i"]


def test_redaction_cuts_every_match_and_nothing_else(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM, LONG_ANSWER), 13)
    before, between, after = (sentence(20, seed=number) for number in range(3))
    text = f"{before} {LEAK}, {between} {ANSWER.title()}. {LEAK} {after}"
    redacted = index.redact(text)
    assert redacted is not None
    assert not find(index, redacted)
    assert words(redacted) == [*words(before), *words(between), *words(after)]
    assert index.redact(f"{before} Straße {LEAK}") == f"{before} Straße"


def test_a_book_full_of_copies_is_left_with_what_stood_between_them(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    between = [sentence(20, seed=number) for number in range(2_000)]
    redacted = index.redact(f"\n{LEAK} {LEAK}\n".join(between))
    assert redacted is not None
    assert words(redacted) == words(" ".join(between))


def test_overlapping_matches_are_cut_once(tmp_path: Path) -> None:
    whole = sentence(40, seed=1).split()
    rows = [
        {"task": "t", "id": str(start), "question": " ".join(whole[start : start + 20]), "choices": ["a", "b"], "answer": 0}
        for start in (0, 10, 20)
    ]
    index = ExamIndex.build(items(tmp_path, *rows), 13)
    assert index.redact(f"first {' '.join(whole)} last") == "first\n\nlast"


def test_a_text_that_cannot_be_redacted_says_so(tmp_path: Path) -> None:
    index = ExamIndex.build(items(tmp_path, EXAM), 13)
    assert index.redact(LEAK) is None
    assert index.redact(f"cafe\u0301 {LEAK}") is None


def test_items_too_short_to_scan_are_counted(tmp_path: Path) -> None:
    row = {"task": "t", "id": "tiny", "question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    index = ExamIndex.build(items(tmp_path, row, EXAM), 13)
    scans = {scan.task: scan for scan in index.summary([])}
    assert (scans["t"].items, scans["t"].scanned, scans["t"].too_short_to_scan) == (1, 0, 1)
    assert (scans["astronomy"].scanned, scans["astronomy"].items_found) == (1, 0)


@pytest.mark.parametrize(("answer", "text"), [(1, "two"), ("B", "two"), ("two", "two"), ("a", "one")])
def test_an_answer_is_a_number_a_letter_or_the_text(tmp_path: Path, answer: object, text: str) -> None:
    row = {"task": "t", "id": "i", "question": "q", "choices": ["one", "two"], "answer": answer}
    assert items(tmp_path, row)[0].answer_text == text


def test_a_line_that_is_no_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items\.jsonl, line 2: not an exam item \(1 validation error .*question") as caught:
        items(tmp_path, EXAM, {"task": "t", "id": "i"})
    assert caught.value.fix == "each line is a JSON object with task, id, question, choices and answer"


@pytest.mark.accept(inputs=1)
def test_in_hindi_thirteen_words_are_a_leak_and_twelve_are_none(tmp_path: Path) -> None:
    question = "किरायेदार हर महीने के पहले दिन किराया देता है और मकान मालिक छत को अच्छी हालत में रखता है"
    item = {"task": "law", "id": "q", "question": question, "choices": ["हाँ", "नहीं"], "answer": 0}
    index = ExamIndex.build(items(tmp_path, item), 13)
    split = question.split()
    assert len(words(question)) == len(split) > 14
    assert find(index, f"पहले {' '.join(split[:13])} बाद")
    assert not find(index, f"पहले {' '.join(split[:12])} बाद")
