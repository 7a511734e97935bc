"""The verb `doctor`: one table, a fix for each fault, exit code 0 or 2."""

from __future__ import annotations

from cpt_ray.cli.main import main


def test_this_machine_passes_without_a_study(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].endswith(", 0 fail")
    assert "C++ compiler" in said


def test_a_study_that_can_run_passes_and_nothing_is_made(tiny, capsys):
    assert main(["doctor", str(tiny.config)]) == 0
    said = capsys.readouterr().out
    for name in ("packages of the study", "device of the study", "study.root", "train.deepspeed", "bases", "source law"):
        assert f"ok    {name}" in said
    assert not tiny.root.exists()


def test_each_fault_of_a_study_is_a_row_with_its_fix_and_the_exit_code_is_two(tiny, tmp_path, capsys):
    (tiny.inputs / "news.jsonl").write_text("")
    overrides = [
        "study.root=/proc/study", "sources.law.path=/nowhere/*.jsonl", "train.deepspeed=none.json", "models.0.base=/nowhere",
        "evaluate.harness_tasks=[no_such_task_xyz]",
    ]  # fmt: skip
    assert main(["doctor", str(tiny.config), *overrides]) == 2
    caught = capsys.readouterr()
    for name in ("study.root", "train.deepspeed", "bases", "source law", "source news", "lm-eval tasks"):
        assert f"fail  {name}" in caught.out
    assert "set study.root to a folder that you can write to" in caught.out
    assert caught.out.count("fix: ") >= 6
    assert "checks failed: study.root, train.deepspeed, bases, source law, source news, lm-eval tasks" in caught.err


def test_a_study_file_that_is_wrong_is_its_own_error(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
