"""Exam items: which choice is correct, and the file that holds them."""

import pytest

from cpt_ray.errors import DataError
from cpt_ray.records import ExamItem, read_items, write_items


def item(answer: int | str, choices: tuple[str, ...] = ("red", "green", "blue"), **changes) -> ExamItem:
    return ExamItem(**{"task": "colors", "id": "1", "question": "Which?", "choices": choices, "answer": answer, **changes})


@pytest.mark.parametrize(("answer", "index"), [(0, 0), (2, 2), ("A", 0), ("c", 2), (" b ", 1)])
def test_the_right_choice_is_an_index_or_a_letter(answer, index):
    assert item(answer).right_choice == index
    assert item(answer).answer_text == ("red", "green", "blue")[index]


@pytest.mark.parametrize("answer", ["D", "AB", "", "green"])
def test_what_is_no_letter_of_a_choice_has_no_right_choice(answer):
    with pytest.raises(ValueError, match="no correct choice"):
        _ = item(answer).right_choice
    assert item(answer).answer_text == answer


def test_a_choice_that_is_spelled_like_a_letter_is_a_text():
    """Of the choices B and A, the answer `A` may mean either."""
    with pytest.raises(ValueError, match="no correct choice"):
        _ = item("A", choices=("B", "A")).right_choice
    assert item("A", choices=("B", "A")).answer_text == "A"


def test_items_read_back_even_with_unicode_line_ends(tmp_path):
    written = [item(0), item("B", question="one\u2028two\u0085three\nfour", id="2"), item("text", choices=(), id="3")]
    path = tmp_path / ExamItem.FILE
    path.write_text(write_items(written), encoding="utf-8")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    assert list(read_items(path)) == written


def test_blank_lines_are_no_items(tmp_path):
    (tmp_path / "items.jsonl").write_text("\n" + write_items([item(0)]) + "  \n")
    assert list(read_items(tmp_path / "items.jsonl")) == [item(0)]


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "items.jsonl"
    for line in ("not json", '{"task": "colors"}', item(3).model_dump_json(), item(-1).model_dump_json()):
        path.write_text(write_items([item(0)]) + line + "\n")
        with pytest.raises(DataError, match=r"items\.jsonl, line 2:"):
            list(read_items(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        list(read_items(tmp_path / "gone.jsonl"))
