"""Exam items: both formats, sampling, what is left out, and every error message."""

from __future__ import annotations

import json

import pytest

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate.exam.items import read_exam, write_exams
from cpt_ray.records import ExamItem, read_items

MMLU = "package://lm-eval/lm_eval/tasks/mmlu/flan_cot_fewshot/mmlu_*.yaml"


def exam(path, **changes) -> ExamConfig:
    return ExamConfig(**{"name": "quiz", "path": str(path), "label": "a quiz", **changes})


def write_lines(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def question(number: int, **changes) -> dict:
    return {"question": f"What is {number}?", "choices": ["a", "b", "c"], "answer": number % 3, **changes}


def test_json_lines_take_an_index_or_a_letter(tmp_path):
    path = write_lines(tmp_path / "quiz.jsonl", question(1, id="first"), "", question(2, answer="C", source="ignored"))

    items = {item.question: item for item in read_exam(exam(path)).items}

    assert items["What is 1?"].id == "first"
    assert items["What is 1?"].answer == 1
    assert items["What is 2?"].answer == 2
    assert items["What is 2?"].choices == ("a", "b", "c")
    assert len(items["What is 2?"].id) == 16  # a content hash


def test_a_line_separator_inside_a_question_does_not_end_the_line(tmp_path):
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps(question(1, question="a\u2028b\u0085c"), ensure_ascii=False) + "\n", encoding="utf-8")

    assert [item.question for item in read_exam(exam(path)).items] == ["a\u2028b\u0085c"]
    write_exams([exam(path)], tmp_path / "out")
    assert [item.question for item in read_items(tmp_path / "out" / ExamItem.FILE)] == ["a\u2028b\u0085c"]


def test_the_mmlu_questions_inside_lm_eval_are_read_and_the_malformed_one_is_counted():
    reading = read_exam(exam(MMLU, format="mmlu_flan_cot"))

    assert reading.found == len(reading.items) + len(reading.malformed) + reading.duplicates == 282
    assert len(reading.malformed) == 1
    assert "mmlu_college_chemistry.yaml, question" in reading.malformed[0]
    assert {len(item.choices) for item in reading.items} == {4}
    assert {item.answer for item in reading.items} == {0, 1, 2, 3}
    by_question = {item.question: item for item in reading.items}
    found = by_question["Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field."]
    assert (found.choices, found.answer) == (("0", "1", "2", "3"), 1)


MMLU_FILE = """
fewshot_config:
  samples:
  - question: "Is (A) a letter? (A) yes (B) no (C) both (D) neither"
    target: "First the answer is (B). No: the answer is (A)."
  - question: "Five? (A) 1 (B) 2 (C) 3 (D) 4 (E) 5"
    target: "The answer is (E)."
  - question: "No choices?"
    target: "The answer is (A)."
  - question: "No answer? (A) 1 (B) 2 (C) 3 (D) 4"
    target: "Who knows."
  - question: "An empty one? (A) 1 (B) (C) 3 (D) 4"
    target: "The answer is (A)."
"""


def test_the_last_run_of_letters_is_the_choices_and_the_last_answer_counts(tmp_path):
    (tmp_path / "mmlu_x.yaml").write_text(MMLU_FILE)

    reading = read_exam(exam(tmp_path / "mmlu_x.yaml", format="mmlu_flan_cot"))

    assert [(i.question, i.choices, i.answer) for i in reading.items] == [
        ("Is (A) a letter?", ("yes", "no", "both", "neither"), 0)
    ]
    assert [place.rsplit(" ", 1)[1] for place in reading.malformed] == ["2", "3", "4", "5"]


def test_the_draw_depends_on_content_and_not_on_order(tmp_path):
    lines = [question(number) for number in range(30)]
    forward = read_exam(exam(write_lines(tmp_path / "a.jsonl", *lines), limit=7))
    backward = read_exam(exam(write_lines(tmp_path / "b.jsonl", *lines[::-1]), limit=7))

    assert len(forward.items) == 7
    assert forward.items == backward.items
    assert forward.not_drawn == 23
    assert [item.question for item in forward.items] != [line["question"] for line in lines[:7]]


def test_a_smaller_limit_draws_a_subset(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *[question(number) for number in range(30)])

    assert read_exam(exam(path, limit=3)).items == read_exam(exam(path, limit=9)).items[:3]


def test_repeated_questions_are_counted_once(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", question(1), question(2), question(1))

    reading = read_exam(exam(path))

    assert (len(reading.items), reading.duplicates, reading.found) == (2, 1, 3)


def years(folder, *contents):
    """A file of each year, with the question numbers of the year as ids."""
    for year, lines in zip((2019, 2020, 2021), contents, strict=False):
        write_lines(folder / f"{year}.jsonl", *lines)
    return folder / "*.jsonl"


def test_a_file_with_the_ids_of_another_is_refused_and_not_dropped(tmp_path):
    path = years(tmp_path, [question(1, id="1")], [question(2, id="1")])
    said = r"2020\.jsonl, line 1: id '1' is that of another question, .*2019\.jsonl, line 1"
    with pytest.raises(DataError, match=said) as caught:
        read_exam(exam(path))
    assert caught.value.fix.startswith("give each question an id that no other one has in any file of the exam")
    pool = exam(write_lines(tmp_path / "quiz", question(9)), few_shot=1, few_shot_path=str(path))
    with pytest.raises(DataError, match="id '1' is that of another question"):
        read_exam(pool)


def test_a_question_of_two_files_is_counted_once_in_any_order(tmp_path):
    repeated = [question(1, id="2019-1"), question(1, id="2020-7", group="tax"), question(1, id="2019-1", group="law")]
    found = []
    for name, order in (("a", repeated), ("b", repeated[::-1])):
        (tmp_path / name).mkdir()
        found.append(read_exam(exam(years(tmp_path / name, *([line] for line in order)))))
    assert [(item.id, item.group) for item in found[0].items] == [("2019-1", "")]
    assert found[0].items == found[1].items
    assert found[0].duplicates == 2


def test_a_question_with_two_answers_is_refused(tmp_path):
    path = years(tmp_path, [question(1, answer=0), question(2)], [question(1, answer=2)])
    with pytest.raises(DataError, match=r"2020\.jsonl, line 1: the question and choices of .*2019\.jsonl, line 1, with"):
        read_exam(exam(path))


def test_items_survive_the_round_trip_and_the_report_says_what_was_left_out(tmp_path):
    first = exam(write_lines(tmp_path / "a.jsonl", *[question(n) for n in range(5)]), limit=4)
    (tmp_path / "mmlu_x.yaml").write_text(MMLU_FILE)
    second = exam(tmp_path / "mmlu_x.yaml", name="smoke", format="mmlu_flan_cot")

    write_exams([first, second], tmp_path / "out")

    path = tmp_path / "out" / "items.jsonl"
    assert list(read_items(path)) == [*read_exam(first).items, *read_exam(second).items]
    assert set(json.loads(path.read_text().splitlines()[0])) == {*("task", "id", "question", "choices", "answer", "group")}
    report = json.loads((tmp_path / "out" / "exam_report.json").read_text())
    assert report["quiz"] == {"found": 5, "items": 4, "malformed": [], "duplicates": 0, "not_drawn": 1, "examples": 0}
    assert len(report["smoke"]["malformed"]) == 4


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"quiz\.jsonl, line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ('{"answer": ' + "9" * 5000 + "}", "line 2: not JSON"),
        ([1], "line 2: not a JSON object"),
        (question(1, question=" "), "line 2: no question"),
        (question(1, choices=["only"]), r"line 2: choices must be at least two non-empty strings, saw \['only'\]"),
        (question(1, choices=["a", ""]), "choices must be at least two non-empty strings"),
        (question(1, answer=3), "line 2: answer must name one of 3 choices, saw 3"),
        (question(1, answer="D"), "answer must name one of 3 choices, saw 3"),
        (question(1, answer="yes"), "answer must name one of 3 choices, saw 'yes'"),
        ({"question": "What?", "choices": ["a", "b"]}, "line 2: no answer"),
        (question(1, group=3), "line 2: group must be a string, saw 3"),
        (question(1, answer=True), "answer must name one of 3 choices, saw True"),
        (question(1, id="dup"), "line 2: id 'dup' also used in line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = write_lines(tmp_path / "quiz.jsonl", question(7, id="dup"), line)
    with pytest.raises(DataError, match=message) as caught:
        read_exam(exam(path))
    assert caught.value.fix


@pytest.mark.accept(answer=2)
def test_an_exam_without_a_well_formed_question_is_an_error(tmp_path):
    (tmp_path / "quiz.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"evaluate\.exams quiz: 0 questions in .*quiz\.jsonl, none of them well formed"):
        read_exam(exam(tmp_path / "quiz.jsonl"))


@pytest.mark.parametrize(
    "text", ["task: x\n", "a: 2024-99-99\n", "[" * 3000, "a: !!int b", "? [a]\n: 1"], ids=lambda text: text[:9]
)
def test_a_yaml_without_few_shot_questions_is_an_error(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=r"x\.yaml: no few-shot questions under fewshot_config\.samples"):
        read_exam(exam(tmp_path / "x.yaml", format="mmlu_flan_cot"))


def test_examples_out_of_the_exam_are_not_scored(tmp_path):
    path = write_lines(tmp_path / "quiz.jsonl", *[question(number) for number in range(12)])

    reading = read_exam(exam(path, few_shot=5))

    assert len(reading.examples) == 5
    assert len(reading.items) == 7
    assert not {item.id for item in reading.items} & {item.id for item in reading.examples}
    assert reading.found == len(reading.items) + reading.not_drawn == 12
    with pytest.raises(DataError, match=r"quiz: few_shot=12 examples out of 12 questions leave none to score"):
        read_exam(exam(path, few_shot=12))


def test_a_question_of_the_exam_is_no_example_and_groups_have_their_own(tmp_path):
    path = write_lines(tmp_path / "quiz.jsonl", *[question(number, group="law") for number in range(6)])
    others = [question(number, group="tax" if number % 2 else "law") for number in range(4, 30)]
    pool = write_lines(tmp_path / "pool.jsonl", *others)

    reading = read_exam(exam(path, few_shot=3, few_shot_path=str(pool)))
    write_exams([exam(path, few_shot=3, few_shot_path=str(pool))], tmp_path / "out")

    assert len(reading.items) == 6
    assert not {item.question for item in reading.items} & {item.question for item in reading.examples}
    for group in ("law", "tax"):
        assert sum(item.group == group for item in reading.examples) >= 3
    assert list(read_items(tmp_path / "out" / ExamItem.EXAMPLES)) == list(reading.examples)
    with pytest.raises(DataError, match=r"quiz: 24 questions in .*pool\.jsonl are not scored themselves, few_shot needs 40"):
        read_exam(exam(path, few_shot=40, few_shot_path=str(pool)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"permutations": 2}, r"exam quiz: permutations=2 with style: cloze, whose prompt lists no choices"),
        ({"few_shot_path": "pool.jsonl"}, r"exam quiz: few_shot_path without effect, few_shot is 0"),
    ],
)
def test_settings_without_effect_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        exam("quiz.jsonl", **changes)


def test_an_answer_may_be_any_letter_of_26_choices(tmp_path):
    path = tmp_path / "long.jsonl"
    line = {"question": "Which?", "choices": [f"choice {n}" for n in range(26)]}
    path.write_text("".join(json.dumps({**line, "question": f"{letter}?", "answer": letter}) + "\n" for letter in "AKZ"))
    found = {item.question: item.right_choice for item in read_exam(exam(path)).items}
    assert found == {"A?": 0, "K?": 10, "Z?": 25}
