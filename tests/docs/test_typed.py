"""What a reader would type from any page: command lines, overrides and blocks of YAML are taken as they stand there."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex

import pytest
import yaml

from cpt_ray.cli.main import make_parser
from cpt_ray.config.load import load_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.plan.hardware import parse_hardware
from tests.docs.pages import BASE, ROOT, blocks, code_of, documents, study_with

COMMAND = re.compile(r"\bcpt-ray (?=[a-z])((?:'[^']*'|[^'\n|>&)#\"`])+)")
"""Up to a comment, a pipe, a redirection or the end of a substitution."""
OVERRIDES = re.compile(r"(?:[a-z_]+(?:\.\w+)+=(?:'[^']*'|\S)+ ?)+")
PAGES = [path for path in documents() if path.name not in ("CHANGELOG.md", "log.md", "cli.md")]
"""Without history, and without the page of verbs, which is written from the parser."""
STUDIES = {"education.md": "configs/education_135m.yaml", "legal_scaling.md": "configs/legal_scaling.yaml"}
"""Pages whose overrides are of a study of their own."""
pytestmark = pytest.mark.accept(practical=3)


def commands(text):
    """The arguments of each command line; a verb that is only named is none. N and I stand for a number."""
    lines = [shlex.split(found) for found in COMMAND.findall(code_of(text.replace("\\\n", " ")))]
    return [["1" if word in ("N", "I") else word for word in words] for words in lines if len(words) > 1]


def refused(words):
    """What the parser says against a command line, or None."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            make_parser().parse_args(words)
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1]
    return None


def test_the_command_line_takes_every_command_of_every_page():
    found = [(path.name, words) for path in PAGES for words in commands(path.read_text("utf-8"))]
    assert len(found) > 70
    assert len({words[0] for _, words in found}) > 15
    assert {(page, " ".join(words)): said for page, words in found if (said := refused(words))} == {}


def test_a_wrong_command_is_found():
    text = "Type `cpt-ray run a.yaml 'train.lora={rank: 4}' --frobnicate`, or\n\n    eval \"$(cpt-ray completion fish)\" # x\n"
    assert commands(text) == [["completion", "fish"], ["run", "a.yaml", "train.lora={rank: 4}", "--frobnicate"]]
    assert all(refused(words) for words in commands(text))


def test_a_study_takes_every_override_of_every_page(tmp_path):
    (tmp_path / "study.yaml").write_text(BASE, encoding="utf-8")
    taken = 0
    for path in PAGES:
        text = path.read_text("utf-8")
        spans = [span for span in code_of(text).splitlines() if OVERRIDES.fullmatch(span) and span != "section.key=value"]
        own = [[STUDIES.get(path.name, ""), *shlex.split(span)] for span in spans]
        typed = [words[1:] for words in commands(text) if words[0] not in ("init", "fetch", "completion")]
        for study, *words in (*own, *typed):
            overrides = tuple(word for word in words if re.match(r"[a-z_]+\.[a-z_.0-9]+=", word))
            if overrides:
                taken += len(overrides)
                here = ROOT / study
                load_study(here if here.is_file() else tmp_path / "study.yaml", overrides)
    assert taken > 30


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(path.name, block, id=f"{path.parent.name}/{path.name}-{number}")
        for path in PAGES
        for number, block in enumerate(blocks(path.read_text("utf-8"), "yaml"))
    ],
)
def test_a_block_of_yaml_is_part_of_a_valid_study_or_a_profile(page, block):
    if "peak_bf16_flops" in yaml.safe_load(block):
        assert parse_hardware(block, page).name
    else:
        StudyConfig.model_validate(study_with(block))


def test_a_wrong_block_is_found():
    with pytest.raises(ValueError, match="budgetz"):
        StudyConfig.model_validate(study_with("train: {budgetz: [1]}"))


def test_every_block_of_python_can_be_read():
    code = [block for path in PAGES for block in blocks(path.read_text("utf-8"), "python")]
    assert len(code) > 2
    for block in code:
        ast.parse(block)
