"""The ten questions that come first: each answer is a command that the parser takes, and a link that leads to more."""

import re
import shlex
from pathlib import Path

import pytest

from cpt_ray.cli.main import make_parser

DOCS = Path(__file__).parents[2] / "docs"
ROWS = re.findall(r"^- \*\*(.+\?)\*\* (.+) \[More\]\((.+)\)$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
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
