"""The list of verbs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from cpt_ray.cli.catalog import VERBS


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_has_a_module_in_its_room_and_a_summary(name):
    verb = VERBS[name]
    module = importlib.import_module(f"cpt_ray.cli.verbs.{verb.room}.{name.replace('-', '_')}")
    assert callable(module.main)
    assert verb.summary
    assert not verb.summary.endswith(".")
    assert all(settings.get("help") for settings in verb.arguments.values())


def test_the_room_says_whether_a_study_file_is_given():
    assert VERBS["run"].takes_study
    assert not VERBS["fetch"].takes_study


def test_listing_them_imports_nothing_of_the_package():
    code = "import sys, cpt_ray.cli.catalog; print(sorted(m for m in sys.modules if m.startswith('cpt_ray')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "['cpt_ray', 'cpt_ray.cli', 'cpt_ray.cli.catalog']"
