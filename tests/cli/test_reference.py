"""The reference of all verbs."""

from __future__ import annotations

from cpt_ray.cli.catalog import VERBS
from cpt_ray.cli.reference import render


def test_every_verb_and_every_argument_is_in_it():
    page = render()
    for name, verb in VERBS.items():
        section = page.split(f"### {name}\n")[1].split("\n## ")[0].split("\n### ")[0]
        assert verb.summary in section
        for argument, settings in verb.arguments.items():
            assert settings["help"] in section, argument


def test_arguments_are_shown_as_they_are_typed():
    page = render()
    assert "`cpt-ray fetch ROOT_OR_CONFIG WHAT [TO]`" in page
    assert "- `--rows N`: " in page
    assert "`cpt-ray run CONFIG`" in page
    assert "- `--debug`" not in page
    assert "| `--debug`: print a traceback for every error | all verbs |" in page
