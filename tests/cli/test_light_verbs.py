"""Verbs that only read records load no framework, and are quick."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cpt_ray.cli.catalog import VERBS

HEAVY = ("torch", "transformers", "ray", "deepspeed", "lm_eval", "datasets")
READERS = ("check", "plan", "inspect", "trace", "verify", "status", "logs", "compare", "report")
MEASURE = f"""
import json, resource, sys
sys.argv = ["cpt-ray", *sys.argv[1:]]
from cpt_ray.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"code": code, "heavy": heavy}}), file=sys.stderr)
"""


def loaded(*arguments: str) -> list[str]:
    """Frameworks that a command line loads in a separate process."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, timeout=300, check=True)
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["code"] in (0, None), done.stderr
    return said["heavy"]


@pytest.mark.parametrize("verb", READERS)
def test_importing_a_reading_verb_loads_no_framework(verb):
    code = f"import sys, cpt_ray.cli.verbs.{VERBS[verb].room}.{verb}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_a_framework_nor_the_schema_of_studies():
    code = (
        "import sys; from cpt_ray.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {(*HEAVY, 'pydantic', 'yaml', 'numpy')!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.ray
@pytest.mark.slow
def test_whole_commands_on_a_finished_study_load_no_framework(finished_study, tmp_path):
    study = finished_study.study.copy(tmp_path / "study")
    config = str(study.config)
    questions = {
        "check": (),
        "plan": (),
        "inspect": (),
        "trace": ("--document", "law_20"),
        "verify": (),
        "status": (),
        "logs": (),
        "compare": (),
        "report": (),
        "run": ("--dry-run",),
    }
    assert {verb: loaded(verb, config, *options) for verb, options in questions.items()} == {verb: [] for verb in questions}
