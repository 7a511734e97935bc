"""Every command of docs/variations.md is accepted, and every block of docs/python.md runs."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

from cpt_ray.cli.main import main
from tests.cli.said import said
from tests.integration.tiny_study import study_tree, write_tiny_study

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"^cpt-ray (.*)$", (ROOT / "docs" / "variations.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which the demo's study file is a tiny study, with the repository's DeepSpeed files."""
    study = write_tiny_study(tmp_path / "study", kind="local")
    (tmp_path / "configs").mkdir()
    (tmp_path / "ds_configs").symlink_to(ROOT / "ds_configs")
    (tmp_path / "configs" / "demo.yaml").write_text(study.config.read_text())
    monkeypatch.chdir(tmp_path)
    return study


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("check")])
def test_each_override_passes_check(here, capsys, command):
    words = shlex.split(command)
    # The larger model is on the hub, which a test does not ask: another copy of the tiny one stands for it.
    words = [f"models.0.base={here.model}" if word.startswith("models.0.base=") else word for word in words]
    assert "check passed" in said(capsys, *words)


def test_extend_and_export_are_accepted_and_say_what_they_would_do(here, capsys):
    dry = [shlex.split(one) for one in COMMANDS if one.endswith("--dry-run")]
    assert [words[0] for words in dry] == ["extend", "export"]
    assert "the study would have train.budgets=[2k,4k,28k]" in said(capsys, *dry[0])
    assert "has not been built yet" in said(capsys, *[word.replace("24k", "4k") for word in dry[1]], code=2)
    assert len(COMMANDS) >= 7


@pytest.mark.slow
@pytest.mark.accept(practical=3)
def test_the_blocks_of_the_python_page_run(here, monkeypatch):
    import webbrowser

    tree = study_tree(here.config.parent, "local")
    train = {**tree["train"], "budgets": [1500]}
    small = {**tree, "arms": {"legal": tree["arms"]["legal"]}, "train": train, "tracking": {"enabled": False}}
    Path("configs/demo.yaml").write_text(yaml.safe_dump(small))
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(ast.parse(block), "docs/python.md", "exec"), scope)
    assert scope["study"].config.train.learning_rate == 1e-4  # type: ignore[attr-defined]
    assert len(scope["losses"]) > 3  # type: ignore[arg-type]
    assert main(["check", "configs/demo.yaml"]) == 0
