"""The study as an object: tables, models, the report, and what stops it; the command line is built on the same object."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpt_ray import Study
from cpt_ray.edges.lease import FILE, read_lease
from cpt_ray.errors import ConfigError
from cpt_ray.study import store
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.study import StudyDriver
from tests.cli.said import said
from tests.integration.finished import LARGE, SMALL


@pytest.fixture
def study(finished_study) -> Study:
    return Study.load(finished_study.study.config, {"train.micro_batch_size": 3})


def test_importing_the_package_loads_nothing_and_an_unknown_name_is_an_attribute_error():
    code = "import cpt_ray, sys; print(cpt_ray.__version__, sorted({'pyarrow', 'pydantic', 'torch', 'ray'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+ \[\]\n", ran.stdout)
    code = (
        "import sys; from cpt_ray import Study; print(sorted({'torch', 'ray', 'deepspeed', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
    import cpt_ray

    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        cpt_ray.Studdy  # noqa: B018


def test_overrides_are_strings_or_mappings(tiny):
    study = Study.load(tiny.config, "train.learning_rate=1e-4", {"train.budgets": [500, "1k"], "study.name": "yes"})
    assert study.config.train.learning_rate == 1e-4
    assert study.config.train.budgets == (500, 1000)
    assert study.config.study.name == "yes"
    with pytest.raises(ConfigError, match=r"unknown key train\.larning_rate"):
        Study.load(tiny.config, {"train.larning_rate": 1})


def test_check_and_plan_say_what_the_command_line_says_and_write_nothing(tiny, capsys):
    study = Study.load(tiny.config)
    study.check()
    checked = capsys.readouterr().out
    assert checked == said(capsys, "check", str(tiny.config)).removesuffix(f"next: cpt-ray plan {tiny.config}\n")
    plan = study.plan()
    assert isinstance(plan, Cost)
    assert plan.plan.study == "tiny"
    assert "Plan of study tiny" in capsys.readouterr().out
    assert not tiny.root.exists()


@pytest.mark.ray
def test_a_study_is_opened_from_its_root(finished_study, capsys):
    opened = Study.open(finished_study.study.root)
    opened.dry_run("prepare", "train", "evaluate")
    assert "  make   " not in capsys.readouterr().out
    assert opened.config.study.name == "tiny"


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path} holds no study: there is no study.yaml\n  fix: give the study.root of"):
        Study.open(tmp_path)


@pytest.mark.ray
def test_a_root_written_by_a_newer_version_is_refused_everywhere_before_anything_changes(finished_study, tmp_path, capsys):
    study = finished_study.study.copy(tmp_path / "study")
    path = study.root / store.STUDY_FILE
    assert path.read_text().startswith(f"# written by cpt-ray 0.1.0, format {store.FORMAT}\n")
    newer = f"# written by cpt-ray 9.1.0, format {store.FORMAT + 1}\nstudy: {{unheard_of: 1}}\n"
    path.write_text(newer)
    before = study.files()
    message = (
        rf"was written by cpt-ray 9.1.0 in format {store.FORMAT + 1}, and this is 0.1.0, which reads formats up to "
        rf"{store.FORMAT}"
        "\n  fix: install cpt-ray 9.1.0 or newer, or set study.root to another folder"
    )
    with pytest.raises(ConfigError, match=message):
        Study.open(study.root)
    for verb in ("check", "plan", "run", "report", "verify"):
        assert re.search(message, said(capsys, verb, str(study.config), code=2)), verb
    assert re.search(message, said(capsys, "fetch", str(study.root), "report", str(tmp_path / "to"), code=2))
    assert re.search(message, said(capsys, "compare", f"{study.root}:{LARGE}", f"{study.root}:{SMALL}", code=2))
    assert study.files() == before


def test_an_interrupt_is_said_with_the_call_that_resumes_and_the_study_is_free(tiny, capsys, monkeypatch):
    def interrupted(study, verb):
        raise KeyboardInterrupt

    monkeypatch.setattr(StudyDriver, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Study.load(tiny.config).prepare()
    warned = capsys.readouterr().err
    assert (
        "warning: interrupted: what is finished is kept, and the study is free; call study.prepare() again to resume" in warned
    )
    assert read_lease(tiny.root / FILE).released


SCRIPT = """
from cpt_ray import Study
from cpt_ray.errors import TrainingStopped

print("the script begins")
study = Study.load(
    "{config}",
    {{
        "train.budgets": [30_000],  # long after the first checkpoint, on a fast machine too
        "train.checkpoint_every": 500,
        "arms": {{"legal": {{"role": "domain", "mix": {{"law": 1.0}}}}}},
        "evaluate.exams": [],
        "prepare.decontaminate.enabled": False,
    }},
)
study.prepare()
try:
    study.train()
except TrainingStopped as stopped:
    print("stopped:", stopped)
study.train()
"""


@pytest.mark.slow
@pytest.mark.full
def test_a_script_that_guards_nothing_is_interrupted_keeps_a_checkpoint_and_resumes(tiny, tmp_path):
    """As in a notebook, whose kernel is interrupted by the same signal, and which has no main guard either."""
    script, out = tmp_path / "script.py", tmp_path / "out.txt"
    script.write_text(SCRIPT.format(config=tiny.config))
    environment = {**os.environ, "GLIBC_TUNABLES": ""}
    del environment["GLIBC_TUNABLES"]
    with out.open("w") as stream:
        ran = subprocess.Popen([sys.executable, str(script)], stdout=stream, stderr=subprocess.STDOUT, env=environment)
    try:
        run = _wait(lambda: next(iter(tiny.root.glob("train/tiny-legal-*/checkpoints/step-*/manifest.json")), None), ran)
        ran.send_signal(signal.SIGINT)
        assert ran.wait(timeout=300) == 0, out.read_text()
    finally:
        if ran.poll() is None:
            ran.kill()
    text = out.read_text()
    assert text.count("the script begins") == 1
    assert "fix: call study.train() again to resume" in text
    assert "steps on a CPU take up to a fifth longer" in text
    assert "\r" not in text
    assert "\x1b" not in text
    assert "continues from" in text
    assert read_lease(tiny.root / FILE).released
    assert (run.parents[2] / "run.json").is_file()


def _wait(look, process) -> Path:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if (found := look()) is not None:
            return found
        assert process.poll() is None, "the script ended before its first checkpoint"
        time.sleep(0.05)
    raise AssertionError("no checkpoint")
