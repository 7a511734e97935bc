"""The questions: the ten that come first have commands that the parser takes, and every known problem has an answer."""

import re
import shlex
from pathlib import Path

import pytest

from cpt_ray.cli.main import make_parser

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "faq.md").read_text(encoding="utf-8")
THREADS = re.findall(r"^\| (\d+) \| (.+) \| \[(.+)\]\(#(.+)\) \|$", PAGE, re.MULTILINE)
"""Number, threads, question and section of the last table. The numbers are those of the problems that the threads show."""
ROWS = re.findall(r"^- \*\*(.+\?)\*\* (.+) \[More\]\((.+)\)$", PAGE, re.MULTILINE)
COMMANDS = re.findall(r"`cpt-ray ([^`]+)`", "\n".join(answer for _, answer, _ in ROWS))
pytestmark = pytest.mark.accept(practical=5)


def anchors(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_there_are_ten():
    assert len(ROWS) == 10
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_each_answer(command):
    options = make_parser().parse_args(shlex.split(command))
    assert options.verb == command.split()[0]


@pytest.mark.parametrize(("question", "link"), [(question, link) for question, _, link in ROWS])
def test_more_is_where_the_link_leads(question, link):
    page, _, anchor = link.partition("#")
    assert not anchor or anchor in anchors(page or "faq.md"), question


@pytest.mark.parametrize("verb", ["status", "extend", "plan", "export", "fetch", "logs"])
def test_the_first_screen_of_help_names_the_verb(verb):
    assert re.search(rf"^ +{verb} +\S", make_parser().format_help(), re.MULTILINE)


def answers() -> dict[tuple[str, str], str]:
    """(section, question) to the answer below it."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    return {
        (section.partition("\n")[0].lower().replace(" ", "-"), " ".join(question.split())): " ".join(answer.split())
        for section in sections
        for question, answer in re.findall(r"^\*\*(.+?[.?])\*\* (.+?)(?=\n\n|\Z)", section, re.DOTALL | re.MULTILINE)
    }


def test_each_of_the_49_known_problems_has_a_row():
    assert [int(number) for number, *_ in THREADS] == list(range(1, 50))


@pytest.mark.parametrize(
    ("number", "question", "section"), [(number, question, section) for number, _, question, section in THREADS]
)
def test_a_row_names_a_question_that_its_section_answers(number, question, section):
    assert len(answers()[section, question]) > 40, number


def test_no_question_stands_twice():
    questions = [question for _, question in answers()]
    assert len(questions) == len(set(questions)) > 45
