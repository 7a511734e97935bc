"""The JSON Schema takes what a study file may say, and marks what it may not."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cpt_ray.config.load import parse_study, set_key
from cpt_ray.config.reference.render import schema_keys
from cpt_ray.config.reference.schema import FILE, HEADER, render_schema, study_schema
from cpt_ray.config.yaml_text import parse_yaml
from cpt_ray.errors import ConfigError

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DEMO = next(path for path in CONFIGS if path.name == "demo.yaml")


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(path: Path) -> Any:
    return parse_yaml(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_of_the_repository_is_valid(validator, path):
    assert len(CONFIGS) > 5
    assert [error.message for error in validator.iter_errors(read(path))] == []


def test_every_study_file_of_the_repository_names_the_schema_that_set_up_writes_beside_it():
    files = [*CONFIGS, *(ROOT / "examples").glob("*.yaml")]
    assert len(files) > 7
    assert [path.name for path in files if path.read_text(encoding="utf-8").splitlines()[0] != HEADER] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"{folder}/{FILE}" in makefile for folder in {path.parent.name for path in files})
    assert FILE in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.budgets", [12_000, "24k", "1.5M", "1e9"]),
        ("prepare.unit_bytes", "64MB"),
        ("prepare.unit_bytes", 64_000_000),
        ("runtime.collective_timeout", "2h"),
        ("runtime.workers", {"min": 1, "max": 4}),
        ("runtime.prepare_workers", "auto"),
        ("train.micro_batch_size", "auto"),
        ("train.learning_rate", "base_peak"),
        ("train.compile", True),
        ("sources.news.path", ["a.txt", "b.txt"]),
        ("evaluate.harness_tasks", ["preset:legal", {"task": "logiqa", "limit": 10}]),
        ("axes.rate", {"key": "train.learning_rate", "values": [1.0e-4, 2.0e-4]}),
        ("axes.rate", {"key": "train.learning_rate", "values": {"low": 1.0e-4, "high": 2.0e-4}}),
    ],
)
def test_every_notation_that_a_study_file_may_use_is_valid(validator, key, value):
    tree = read(DEMO)
    tree["models"][0]["peak_learning_rate"] = 3.0e-3
    set_key(tree, key, value, said="test")
    parse_study(copy.deepcopy(tree), place="test")
    assert [error.message for error in validator.iter_errors(tree)] == []


def test_a_derived_source_needs_no_role_and_any_other_does(validator):
    tree = read(DEMO)
    tree["sources"].append({"name": "some", "from": "news", "sample": {"like": "news"}})
    assert validator.is_valid(tree)
    tree["sources"][-1] = {"name": "some", "path": "some.txt"}
    assert not validator.is_valid(tree)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learnin_rate", 1.0e-4),
        ("train.precision", "bf17"),
        ("train.budgets", ["many"]),
        ("train.budgets", []),
        ("train.global_batch_size", 0),
        ("train.micro_batch_size", 0),
        ("prepare.unit_bytes", "64 megs"),
        ("prepare.held_out.share", 0.7),
        ("runtime.workers", 0),
        ("runtime.workers", {"min": 1}),
        ("runtime.collective_timeout", "2 weeks"),
        ("sources.news.role", "generic"),
        ("sources.news.format", "docx"),
        ("models.0.base", None),
        ("study.name", "two words"),
        ("arms.has spaces", {"role": "control", "mix": {"news": 1.0}}),
        ("evaluate.exams.0.few_shot", 65),
    ],
)
def test_a_mistake_is_marked_as_check_marks_it(validator, key, value):
    tree = read(DEMO)
    set_key(tree, key, value, said="test")
    with pytest.raises(ConfigError):
        parse_study(copy.deepcopy(tree), place="test")
    assert not validator.is_valid(tree)


def test_every_key_and_section_has_a_description():
    schema = study_schema()
    silent = [
        f"{name}.{key}"
        for name, model in {**schema["$defs"], "": schema}.items()
        for key, value in model.get("properties", {}).items()
        if not value.get("description") and not _described(value, schema)
    ]
    assert len(schema["$defs"]) > 25
    assert [key for key in silent if not re.match(r"Workers\.", key)] == []
    assert len(schema_keys()) > 150


def _described(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether the section that a value refers to has a description."""
    references = re.findall(r"#/\$defs/(\w+)", str(value))
    return bool(references) and all(schema["$defs"][name].get("description") for name in references)


def test_a_study_names_its_schema_in_the_form_that_editors_read():
    assert HEADER == "# yaml-language-server: $schema=cpt-ray.schema.json"
    assert render_schema().endswith("}\n")
