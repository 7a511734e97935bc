"""`cpt-ray init` writes a study that passes `check` in one go, and says what is wrong with every answer that is."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys

import jsonschema
import pytest
import yaml

from cpt_ray.cli.init.fill import TITLES
from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from cpt_ray.config.reference.schema import FILE, HEADER
from cpt_ray.plan.hardware import PROFILES
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.evaluate import EVALUATE
from tests.cli.init.messy import write_base, write_general, write_messy
from tests.cli.said import read_until, said

pytestmark = pytest.mark.accept(practical=1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A messy folder, general text and a base."""
    folder = tmp_path_factory.mktemp("inputs") / "in"
    write_messy(folder / "own")
    write_general(folder / "general")
    write_base(folder / "base")
    return folder


@pytest.fixture
def here(inputs, tmp_path, monkeypatch):
    """An empty working directory, with the inputs beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("own", "general", "base"):
        (tmp_path / name).symlink_to(inputs / name)
    return tmp_path


FLAGS = ("--base", "base", "--hours", "0.5")


def test_a_messy_folder_becomes_a_study_that_passes_check(here, capsys):
    text = said(capsys, "init", "own", *FLAGS, "--general", "general")
    assert "text own: 40 html, 1 jsonl, 80 text: " in text
    assert "text_field: data.body, id_field: meta.id, language_field: meta.lang" in text
    assert all(f"left out: {here}/own/{name}" in text for name in ("scan.pdf: pdf", "empty.txt: empty", "also a scan.txt: pdf"))
    assert "probe: " in text
    assert text.splitlines()[-1] == "next: cpt-ray plan study.yaml"
    assert sorted(path.name for path in here.iterdir()) == ["base", FILE, "general", "own", "study.yaml"]
    assert "check passed" in said(capsys, "check", "study.yaml")
    written = (here / "study.yaml").read_text(encoding="utf-8")
    assert written.startswith(f"{HEADER}\n")
    jsonschema.validate(yaml.safe_load(written), json.loads((here / FILE).read_text(encoding="utf-8")))
    study = load_study(here / "study.yaml")
    assert {source.name: source.role for source in study.sources} == {"own": "domain", "general": "general", "books": "probe"}
    assert study.arms["own"].mix["general"] in (0.05, 0.25)
    assert study.arms["control"].mix == {"general": 1.0}


def test_every_choice_has_a_reason_beside_it(here, capsys):
    said(capsys, "init", "own", *FLAGS, "--general", "general")
    written = (here / "study.yaml").read_text(encoding="utf-8")
    for key in (
        "role",
        "format",
        "share",
        "sequence_length",
        "mix",
        "budgets",
        "learning_rate",
        "global_batch_size",
        "deepspeed",
    ):
        line = next(line for line in written.splitlines() if line.lstrip(" -").startswith(f"{key}:"))
        assert len(line.partition("#")[2]) > 10, line


@pytest.mark.parametrize("template", TITLES)
@pytest.mark.parametrize("hardware", ["cpu", "2xh100"])
def test_every_template_passes_check(here, capsys, template, hardware):
    text = said(
        capsys, "init", "own", "--base", "base", "--budget", "16k", "--general", "general",
        "--hardware", hardware, "--template", template, "--name", "trial", "--output", f"{template}.yaml", "--yes",
    )  # fmt: skip
    assert f"template: {template}: {TITLES[template]}" in text
    assert "check passed" in text
    study = load_study(here / f"{template}.yaml")
    assert study.study.name == "trial"
    scored = StudyGraph(study, here / f"{template}.yaml").of(EVALUATE)
    assert f"for {len(scored)} models\n" in (here / f"{template}.yaml").read_text()
    assert study.runtime.gpus_per_worker == (1 if hardware == "2xh100" else 0)
    if template == "education":
        assert (study.train.budget_mode, study.prepare.clean.rules) == ("chain", ("education",))
    if template == "legal-scaling":
        assert [source.name for source in study.derived_sources] == ["filtered", "matched"]


def test_without_general_text_what_is_lost_is_said_and_a_study_is_written(here, capsys):
    text = said(capsys, "init", "own", *FLAGS)
    assert "no general text: no control arm, no replay; the report cannot say what other text would have gained" in text
    assert "No general text: there is no control arm and no replay" in (here / "study.yaml").read_text()
    assert list(load_study(here / "study.yaml").arms) == ["own"]
    assert "check passed" in said(capsys, "check", "study.yaml")


def test_one_long_file_is_cut_so_that_some_of_it_can_be_held_out(here, capsys):
    (here / "book.txt").write_text("\n\n".join(path.read_text() for path in sorted((here / "own").glob("plain*.txt"))) * 40)
    said(capsys, "init", "book.txt", *FLAGS)
    study = load_study(here / "study.yaml")
    assert (study.study.name, study.prepare.clean.max_bytes) == ("book", 6000)


def test_a_study_may_be_checked_from_any_folder(here, capsys, monkeypatch):
    said(capsys, "init", "own", *FLAGS)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert "check passed" in said(capsys, "check", "../study.yaml")


PROFILE = (PROFILES / "h100.yaml").read_text("utf-8")
BAD = [
    (("", *FLAGS), "PATH is empty", "give a file or folder"),
    (("own", *FLAGS, "--general", " "), "--general is empty", "give a file or folder"),
    (("own", *FLAGS, "--output", "own/study.yaml"), "PATH own contains --output own/study.yaml", "in another folder"),
    (("nothing", *FLAGS), "PATH nothing: no such file", "give a file or folder with text"),
    (("scans", *FLAGS), "PATH scans: none of its files has a format that is known", "give a file or folder with text"),
    (("own", "--base", "own", "--hours", "1"), "--base own: .* has no config.json", "use a folder with config.json"),
    (("own", "--base", "nonsense", "--hours", "1"), "--base nonsense: is neither a folder nor a file here", "--parameters"),
    (("own", "--base", "base", "--base", "base", "--hours", "1"), "two bases are called base", "give each base once"),
    (("own", "--base", "x/y", "--parameters", "big", "--hours", "1"), "--parameters big: expected a quantity", "400M"),
    (("own", "--base", "base", "--budget", "lots"), "--budget lots: expected a quantity such as 400M", "--budget 400M"),
    (("own", "--base", "base", "--budget", "-5"), "--budget -5: expected at least 1", "--budget 400M"),
    (("own", "--base", "base", "--budget", "0"), "--budget 0: expected at least 1", "--budget 400M"),
    (("own", "--base", "base", "--budget", "9B"), "a budget of 9B tokens is .* epochs over", "or more text"),
    (("own", "--base", "base", "--budget", "100"), "--budget 100 is too little", "or --budget"),
    (("own", "--base", "base", "--budget", "1M", "--hours", "1"), "are two answers to one question", "give one of them"),
    (
        ("own", "--base", "base", "--hours", "soon"),
        "'soon' is neither a time nor a number of tokens",
        "2h, 30min or 1d, or 400M",
    ),
    (("own", "--base", "base", "--hours", "400000000"), "'400000000' is more hours than a year has", "unit: 400M"),
    (("own", "--base", "base", "--hours", "0"), "'0' is no time to train for", "such as 2h"),
    (("own", "--base", "base", "--hours", "90000h"), "'90000h' is no time to train for", "such as 2h"),
    (("own", *FLAGS, "--hardware", "v100"), "'v100' is no hardware that is known here", "8xh100"),
    (("own", *FLAGS, "--general", "nothing"), "--general nothing: no such file", "give a file or folder with text"),
    (("own", *FLAGS, "--general", "own"), "--general is .*/own, which PATH contains or is itself", "give --general text that"),
    (("own", *FLAGS, "--probe", "scans"), "--probe scans: none of its files has a format", "give a file or folder with text"),
    (("own", *FLAGS, "--name", "two words"), "--name two words: a name has only the letters", "--name two-words"),
    (("own", *FLAGS, "--output", "old.yaml"), "--output old.yaml exists", "give another --output, or --force"),
    (("own", *FLAGS, "--output", "scans"), "--output scans is a folder", "give a file in it"),
    (("own", *FLAGS, "--output", "no/study.yaml"), "--output no/study.yaml: there is no folder no", "make it first"),
    (("own", *FLAGS, "--template", "legal-scaling"), "legal-scaling filters general text", "give --general FOLDER"),
    (("own", "--base", "x/y-1B", "--hours", "3min"), "--hours 0.05 is too little", "a smaller base"),
    (
        ("own", "--base", "x/y-900B", "--hours", "9d", "--hardware", "l4"),
        "does not fit on l4, 24 GB, not even as adapters",
        "a smaller base",
    ),
    (("own", *FLAGS, "--output", "/proc/study.yaml"), "--output /proc/study.yaml: /proc cannot be written to: ", "of your own"),
    (("own", *FLAGS, "--hardware", "none.yaml"), "none.yaml", "start from a copy of cpt_ray/plan/profiles/h100.yaml"),
    (("own", *FLAGS, "--hardware", "2xold.yaml"), "old.yaml: expected keys and values", "start from a copy of cpt_ray/plan/"),
    (("own", *FLAGS, "--hardware", "card.yaml"), "card.yaml: unknown key memry", "did you mean memory?"),
    ((), "PATH is missing, and this is no terminal, so nobody can be asked", "give PATH"),
    (("own", "--hours", "1"), "--base is missing, and this is no terminal", "give --base"),
    (("own", "--base", "base"), "--hours is missing, and this is no terminal", "give --hours, or --yes for 1h"),
    (("--yes",), "PATH is missing, and --yes has no default for it", "give PATH"),
]


@pytest.mark.parametrize(("arguments", "problem", "fix"), BAD, ids=[" ".join(case[0]) or "nothing" for case in BAD])
def test_a_bad_answer_is_refused_with_a_fix_and_writes_nothing(here, capsys, arguments, problem, fix):
    (here / "scans").mkdir()
    (here / "scans" / "a.pdf").write_bytes(b"%PDF-1.4")
    (here / "old.yaml").write_text("mine")
    (here / "card.yaml").write_text(PROFILE.replace("memory:", "memry:"))
    before = sorted(path.name for path in here.iterdir())
    text = said(capsys, "init", *arguments, code=2)
    assert re.search(problem, text), text
    assert fix in text.partition("fix: ")[2], text
    assert sorted(path.name for path in here.iterdir()) == before
    assert (here / "old.yaml").read_text() == "mine"


def test_a_template_that_is_none_is_refused_with_those_that_are(here, capsys):
    with pytest.raises(SystemExit) as end:
        main(["init", "own", *FLAGS, "--template", "desktop"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert re.search(r"argument --template: invalid choice: 'desktop' \(choose from", said)
    assert all(name in said for name in TITLES)
    assert not (here / "study.yaml").exists()


def test_hardware_may_be_a_profile_of_ones_own(here, capsys):
    (here / "card.yaml").write_text(re.sub(r"(?m)^memory: .*$", "memory: 12GB", PROFILE))
    said(capsys, "init", "own", *FLAGS, "--hardware", "2xcard.yaml")
    study = load_study(here / "study.yaml")
    assert (study.runtime.gpu_memory, study.runtime.workers.max) == (12 * 10**9, 2)


def test_what_check_refuses_is_not_written(here, capsys):
    (here / "few").mkdir()
    for number in range(2):
        shutil.copy(here / "own" / f"plain {number}.txt", here / "few")
    (here / "few" / "rows.jsonl").write_text('{"text": "%s"}\n' % ("some text " * 30) + "not JSON\n" * 3)
    text = said(capsys, "init", "few", *FLAGS[:2], "--budget", "100", code=2)
    assert "fix: " in text
    assert not (here / "study.yaml").exists()


def test_a_study_is_not_written_among_its_text(here, inputs, capsys, monkeypatch):
    monkeypatch.chdir(inputs / "own")
    before = sorted(inputs.rglob("*"))
    text = said(capsys, "init", ".", "--base", str(inputs / "base"), "--hours", "0.5", code=2)
    assert "PATH . contains study.root=runs/own: the study would read its own files as text" in text
    assert "fix: run cpt-ray init in another folder" in text
    assert sorted(inputs.rglob("*")) == before


def test_hardware_that_was_named_is_planned_with_next(here, capsys):
    assert said(capsys, "init", "own", *FLAGS, "--hardware", "8xh100", "--general", "None").splitlines()[-1] == (
        "next: cpt-ray plan study.yaml --hardware h100"
    )


def test_what_to_type_next_is_written_as_a_shell_reads_it(here, capsys):
    assert (
        said(capsys, "init", "own", *FLAGS, "--output", "my study.yaml").splitlines()[-1]
        == "next: cpt-ray plan 'my study.yaml'"
    )
    assert "Next: `cpt-ray plan 'my study.yaml'`" in (here / "my study.yaml").read_text(encoding="utf-8")


def test_force_replaces_the_file(here, capsys):
    (here / "study.yaml").write_text("old")
    said(capsys, "init", "own", *FLAGS, "--force")
    assert (here / "study.yaml").read_text().startswith(HEADER)


def test_in_a_terminal_every_wrong_answer_is_explained_and_asked_again(here):
    answers = [
        ("Your text", ["nothing", "", "'own'"]),
        ("Base", ["???", "base"]),
        ("General text", ["nothing", '"general"']),
        ("Hardware", ["abacus", "cpu"]),
        ("How long", ["soon", "-1", "30min"]),
    ]
    leader, follower = pty.openpty()
    command, environment = [sys.executable, "-m", "cpt_ray.cli.main", "init", "--name", "trial"], {**os.environ, "TERM": "dumb"}
    child = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=here, env=environment)
    os.close(follower)
    seen = ""
    for question, given in answers:
        for answer in given:
            seen += read_until(leader, rf"{question}[^\n]*: $")
            os.write(leader, f"{answer}\n".encode())
    seen += read_until(leader, r"next: cpt-ray plan study\.yaml")
    assert child.wait(timeout=60) == 0
    os.close(leader)
    for explained in (
        "PATH nothing: no such file", "nothing was answered, and there is no default", r"no name on the hub either",
        "--general nothing: no such file", "'abacus' is no hardware", "'soon' is neither a time", "'-1' is neither a time",
    ):  # fmt: skip
        assert explained in seen
    assert seen.count("fix: ") == 7
    assert load_study(here / "study.yaml").study.name == "trial"


@pytest.mark.slow
@pytest.mark.full
def test_the_study_runs_to_a_report(here, capsys):
    said(capsys, "init", "own", "--base", "base", "--budget", "14k", "--general", "general")
    assert "report:" in said(
        capsys, "run", "study.yaml", "train.learning_rate=3e-3", "compare.subsets=200", "tracking.enabled=false"
    )
    assert (here / "runs" / "own" / "report.html").is_file()
