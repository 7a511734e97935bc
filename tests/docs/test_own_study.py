"""The README's own study is complete: it passes `check` as pasted, and runs to a report on folders of text files."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from tests.docs.own_study import README, write_own_study

SMALL = (
    "prepare.pack.sequence_length=64",
    "prepare.held_out.share=0.1",
    "train.budgets=[2k,4k]",
    "train.global_batch_size=4",
    "train.checkpoint_every=1k",
    "evaluate.document_tokens=96",
    "evaluate.context=64",
    "runtime.kind=local",
)
"""What fits the made-up text; everything else is as pasted."""

pytestmark = pytest.mark.accept(inputs=5)


def test_it_passes_check_as_pasted(tmp_path, capsys):
    assert main(["check", str(write_own_study(tmp_path, documents=40))]) == 0
    said = capsys.readouterr()
    assert "source contracts: 40 files" in said.out
    assert said.out.count("separator") == 1
    assert "check passed" in said.out


@pytest.mark.full
@pytest.mark.slow
def test_it_runs_to_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = write_own_study(tmp_path, documents=160)
    assert main(["run", str(study), *SMALL, f"train.deepspeed={README.parent / 'ds_configs' / 'zero2_bf16.json'}"]) == 0
    assert (tmp_path / "runs" / "contracts" / "report.html").is_file()
    assert "bits per byte" in capsys.readouterr().out
