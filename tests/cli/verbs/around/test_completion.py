"""The shells that the script is for read it, and complete what a user has begun."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpt_ray.cli.catalog import VERBS
from cpt_ray.cli.main import main
from cpt_ray.cli.verbs.around.completion import study_values
from cpt_ray.cli.verbs.around.demo import STUDY as DEMO
from cpt_ray.config.reference.render import schema_keys
from tests.cli.said import read_until, said

STUDY = """\
study: {name: own, root: runs/own}
models:
  - name: small
    base: one
  - {name: "large", base: two}
sources:
  - {name: law, role: domain, path: a}
  - {role: general, name: news, path: b}
arms:
  legal:
    mix: {law: 1.0}
train:
  budgets: [1k]
"""


@pytest.fixture
def bash(tmp_path, capsys):
    """Complete the last of some words in a real bash, cut as readline cuts them, in a folder with a study."""
    script = tmp_path / "completion.bash"
    script.write_text(said(capsys, "completion", "bash"))
    (tmp_path / "own study.yaml").write_text(STUDY)
    (tmp_path / "own.yaml").write_text(STUDY)
    (tmp_path / "notes.txt").write_text("no study")
    (tmp_path / "folder").mkdir()

    def complete(*words: str) -> list[str]:
        array = " ".join(f"'{word}'" for word in words)
        typed = f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}"
        command = f"source {script}; {typed}; _cpt_ray; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ran = subprocess.run(["bash", "-u", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ran.stderr == ""
        return sorted(ran.stdout.split("\n")[:-1])

    return complete


def test_verbs_options_and_studies_are_completed(bash):
    assert bash("cpt-ray", "") == sorted(VERBS)
    assert bash("cpt-ray", "pl") == ["plan"]
    assert {"--only", "--rows", "--help"} <= set(bash("cpt-ray", "inspect", "--"))
    assert "--rows" not in bash("cpt-ray", "run", "--")
    assert "--dry-run" in bash("cpt-ray", "run", "--")
    assert bash("cpt-ray", "run", "own") == ["own study.yaml", "own.yaml"]
    assert bash("cpt-ray", "run", "") == ["folder", "own study.yaml", "own.yaml"]
    assert bash("cpt-ray", "completion", "") == ["bash", "zsh"]


def test_keys_are_completed_with_the_names_of_the_study(bash):
    assert bash("cpt-ray", "run", "own.yaml", "train.learning_rate") == ["train.learning_rate=", "train.learning_rate_factor="]
    assert bash("cpt-ray", "run", "own.yaml", "sources.news.f") == ["sources.news.format=", "sources.news.from="]
    assert {"models.small.base=", "models.large.base="} <= set(bash("cpt-ray", "run", "own.yaml", "models."))
    assert "arms.legal.mix=" in bash("cpt-ray", "run", "own.yaml", "--dry-run", "arms.")
    assert not [key for key in bash("cpt-ray", "run", "own.yaml", "") if "*" in key]


@pytest.mark.parametrize("verb", ["doctor", "status", "logs"])
def test_studies_and_folders_are_completed_for_verbs_that_read_one(bash, verb):
    assert bash("cpt-ray", verb, "") == ["folder", "own study.yaml", "own.yaml"]
    assert bash("cpt-ray", verb, "own.") == ["own.yaml"]
    keys = bash("cpt-ray", verb, "own.yaml", "train.prec")
    assert keys == (["train.precision="] if verb == "doctor" else [""])


def test_doctor_and_demo_complete_keys_with_the_names_of_their_study(bash):
    assert "models.small.base=" in bash("cpt-ray", "doctor", "own.yaml", "models.")
    assert bash("cpt-ray", "demo", "models.") == bash("cpt-ray", "run", str(DEMO), "models.")
    assert "models.smollm2-135m.base=" in bash("cpt-ray", "demo", "models.")
    assert bash("cpt-ray", "demo", "train.precision", "=", "") == ["bf16", "fp16", "fp32"]
    assert "own.yaml" not in bash("cpt-ray", "demo", "")


def test_values_are_completed_behind_an_equals_sign(bash):
    assert bash("cpt-ray", "run", "own.yaml", "train.precision", "=", "") == ["bf16", "fp16", "fp32"]
    assert bash("cpt-ray", "run", "own.yaml", "train.precision", "=") == ["bf16", "fp16", "fp32"]
    assert bash("cpt-ray", "run", "own.yaml", "sources.news.role", "=", "ge") == ["general"]
    assert bash("cpt-ray", "run", "own.yaml", "train.lora.rank", "=", "") == [""]
    assert bash("cpt-ray", "run", "own.yaml", "train.gradient_checkpointing=t") == ["train.gradient_checkpointing=true"]


needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed here")
ZSH = "autoload -U compinit; compinit -u -D; "


@pytest.mark.parametrize(
    ("shell", "options", "first"),
    [
        ("bash", ["--norc", "--noprofile", "-i"], ""),
        pytest.param("zsh", ["-f", "-i"], ZSH, marks=needs_zsh),
    ],
)
def test_a_tab_in_a_terminal_completes_a_key_and_its_value(tmp_path, capsys, shell, options, first):
    (tmp_path / "own.yaml").write_text(STUDY)
    (tmp_path / "script").write_text(said(capsys, "completion", shell))
    leader, follower = pty.openpty()
    environment = {**os.environ, "PS1": "READY ", "TERM": "dumb" if shell == "bash" else "xterm"}
    running = subprocess.Popen(
        [shell, *options],
        stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        os.write(leader, f"cpt-ray() {{ echo \"got:$*\"; }}; {first}source ./script; PS1='DO''NE '\n".encode())
        read_until(leader, "DONE ")
        os.write(leader, b"cpt-ray ru\town.y\ttrain.prec\tb\t\n")
        read_until(leader, r"got:run own\.yaml train\.precision=bf16")
    finally:
        running.kill()
        running.wait()
        os.close(leader)
        os.close(follower)


@needs_zsh
def test_zsh_reads_its_script_and_lists_the_same_keys(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(STUDY)
    script = tmp_path / "completion.zsh"
    script.write_text(said(capsys, "completion", "zsh"))
    command = f"compdef() {{ :; }}; source {script}; _cpt_ray_keys own.yaml; _cpt_ray_values sources.law.role"
    ran = subprocess.run(["zsh", "-f", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert {"models.small.base=", "arms.legal.mix=", "train.precision="} <= set(ran.stdout.split("\n"))
    assert "domain general probe seed derived" in ran.stdout


def test_the_keys_are_those_of_the_reference():
    known = {re.sub(r"\[\]|\.NAME", "", key) for key in schema_keys()}
    plain = {key.replace(".*", "") for key in study_values()}
    assert known <= plain
    assert plain - known == {"evaluate.harness_tasks", "runtime.workers.min", "runtime.workers.max"}


def test_a_shell_that_is_none_is_refused_with_those_that_are(capsys):
    with pytest.raises(SystemExit) as end:
        main(["completion", "fish"])
    assert end.value.code == 2
    assert re.search(r"argument SHELL: invalid choice: 'fish' \(choose from '?bash'?, '?zsh'?\)", capsys.readouterr().err)


def test_the_script_is_printed_alone(capsys):
    assert Path(said(capsys, "completion", "bash").splitlines()[-1]).name == "complete -F _cpt_ray cpt-ray"
