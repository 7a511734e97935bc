"""The cost of a study, before and after preparation."""

from __future__ import annotations

import pytest

from cpt_ray import Study
from tests.cli.said import said


def test_the_plan_of_an_unprepared_study_says_what_it_does_not_know(tiny, capsys):
    text = said(capsys, "plan", str(tiny.config))
    assert "tokens seen  4k by the model that sees the most" in text
    assert "tokens paid  8.5k of 10k (85 % of running each budget independently)" in text
    assert "FLOPs, attention over 32 keys on average" in text
    assert "unknown until prepared" in text
    assert "assumed until prepared" in text
    assert not tiny.root.exists()


@pytest.mark.ray
def test_the_plan_of_a_prepared_study_counts_tokens_epochs_and_steps_per_arm(prepared, capsys):
    text = said(capsys, "plan", str(prepared.config))
    assert "unknown until prepared" not in text
    assert "counted in the shards" in text
    rows = [line.split() for line in text.splitlines()]
    needs = {(row[0], row[1], row[3]): row for row in rows if len(row) == 8 and row[0] in ("legal", "control")}
    assert set(needs) == {
        ("legal", "law", "2k"),
        ("legal", "news", "2k"),
        ("legal", "law", "4k"),
        ("legal", "news", "4k"),
        ("control", "news", "4k"),
    }
    assert all(0 < float(row[6]) < 1 for row in needs.values())  # epochs
    runs = {row[0]: row for row in rows if row and row[0].startswith("tiny-")}
    assert runs["tiny-legal-trunk-seed0"][1:6] == ["trunk", "0", "3k", "-", "3k"]
    assert runs["tiny-legal-4000-seed0"][1:6] == ["cooldown", "3k", "4k", "3k", "1k"]
    assert all(row[6].startswith("~") and float(row[7]) > 0 for row in runs.values())
    assert "Memory, in GiB" in text


def test_a_plan_says_which_verb_is_next(tiny, capsys):
    config = str(tiny.config)
    assert said(capsys, "plan", config).splitlines()[-1] == f"next: cpt-ray run {config}"


@pytest.mark.ray
def test_a_budget_that_the_text_does_not_last_for_is_refused(prepared, capsys):
    text = said(capsys, "plan", str(prepared.config), "train.budgets=[2000, 4000000]", code=2)
    assert "max_epochs" in text


def test_a_plan_ends_with_its_time_its_memory_and_a_verdict(tiny, capsys):
    text = said(capsys, "plan", str(tiny.config))
    assert text.index("Time on cpu") < text.index("Memory, in GiB") < text.index("\nfits: tiny needs ")
    assert "takes: about " in text
    assert "largest micro-batch" not in text
    assert "memory of a worker, in bytes" not in text


def test_a_plan_for_other_hardware_has_its_time_money_and_arithmetic(tiny, capsys):
    options = ("--hardware", "h100", "--workers", "8", "--price", "2.5", "--currency", "EUR", "--explain", "--fit")
    text = said(capsys, "plan", str(tiny.config), *options)
    assert "Time on h100 (NVIDIA H100 SXM, 80 GB), 8 workers" in text
    assert "Price: 2.5 EUR per GPU hour on " in text
    assert "tiny: memory of a worker, in bytes" in text
    assert "largest micro-batch of tiny: train.micro_batch_size=" in text
    assert not tiny.root.exists()


@pytest.mark.parametrize(
    ("options", "problem", "fix"),
    [
        (("--hardware", "h1000"), "--hardware h1000: there is no such profile; the nearest is h100", "use one of a100-40"),
        (("--hardware", "own.yaml"), "own.yaml: no such hardware profile", "start from a copy of"),
        (("--workers", "0"), "--workers 0: not a number of workers", "a whole number of at least 1"),
        (("--workers", "many"), "--workers many: not a number of workers", "a whole number of at least 1"),
        (("--price", "free"), "--price free --currency USD: not a price of an hour", "such as --price 2.5"),
        (("--currency", "EUR"), "--currency EUR without a price", "give both"),
    ],
)
def test_what_cannot_be_assumed_is_refused_with_a_fix(tiny, capsys, options, problem, fix):
    text = said(capsys, "plan", str(tiny.config), *options, code=2)
    assert problem in text
    assert fix in text


def test_a_model_that_does_not_fit_is_told_what_to_change(tiny, tmp_path, capsys):
    small = (
        "name: small\ndescription: a small card\npeak_bf16_flops: 1.0e12\nmemory: 700MB\nmemory_bandwidth: 1.0e10\n"
        "achieved_share: 0.5\nachieved_source: none\n"
    )
    (tmp_path / "small.yaml").write_text(small)
    rows = ("train.global_batch_size=4096", "train.micro_batch_size=4096", "train.budgets=[4M, 8M]")
    text = said(capsys, "plan", str(tiny.config), *rows, "--hardware", str(tmp_path / "small.yaml"))
    line = next(line for line in text.splitlines() if line.startswith("does not fit: tiny needs "))
    override = line.partition("try: ")[2].partition("  (")[0]
    assert override.startswith("train.micro_batch_size=")
    fitted = said(capsys, "plan", str(tiny.config), *rows, override, "--hardware", str(tmp_path / "small.yaml"))
    assert "\nfits: tiny needs " in fitted


@pytest.mark.slow
def test_a_measured_plan_rests_on_real_steps_and_later_plans_use_them(tiny, capsys):
    first = said(capsys, "plan", str(tiny.config), "--measure")
    assert "steps of this model measured by --measure" in first
    files = sorted(path.name for path in (tiny.root / "plan").iterdir())
    assert files[0] == "prepare.json"
    assert files[1].startswith("tiny-")
    later = said(capsys, "plan", str(tiny.config))
    assert "steps of this model measured by --measure" in later
    table = later.partition("Memory, in GiB")[2]
    row = next(line.split() for line in table.splitlines() if line.startswith("tiny  "))
    assert row[12][0] in "+-"
    assert len(row[12]) > 1
    assert "MB/s per core, measured" in later
    # Of other hardware a trial says nothing.
    other = said(capsys, "plan", str(tiny.config), "--hardware", "h100")
    assert "measured by --measure" not in other


GRID = "axes.rate={key: train.learning_rate, values: [1e-4, 2e-4]}"
ROWS = "axes.length={key: prepare.pack.sequence_length, values: [32, 64]}"


def test_a_grid_has_memory_hours_and_money_and_no_option_is_passed_over(tiny, capsys):
    options = ("--hardware", "h100", "--workers", "2", "--price", "2.5", "--currency", "EUR", "--fit", "--explain")
    text = said(capsys, "plan", str(tiny.config), GRID, ROWS, *options)
    assert "Grid of study tiny: 4 cells" in text
    assert "Time on h100 (NVIDIA H100 SXM, 80 GB), 2 workers" in text
    assert "Price: 2.5 EUR per GPU hour on " in text
    assert "Of cell rate-1e-4+length-64, which needs the most." in text
    assert "Arithmetic of cell rate-1e-4+length-64\ntiny: memory of a worker, in bytes" in text
    assert "largest micro-batch of tiny: train.micro_batch_size=" in text
    assert ", in all cells" in text
    assert "Disk, in GB, when all is done" in text
    assert "cell rate-1e-4+length-64, which needs the most memory:\nfits: tiny needs " in text
    verdict = text.partition("takes: about ")[2].splitlines()[0]
    assert verdict.endswith(" EUR")
    # One cell has less to pay, and the plan of its runs.
    one = said(capsys, "plan", str(tiny.config), GRID, ROWS, *options, "--only", "rate-1e-4+length-64")
    assert "Plan of study tiny" in one
    assert "Grid of study" not in one


def test_cells_that_do_not_fit_are_counted_and_the_worst_is_told_what_to_change(tiny, tmp_path, capsys):
    rows = ("train.global_batch_size=4096", "train.micro_batch_size=4096", "train.budgets=[4M, 8M]", ROWS)
    peaks = [cell.peak_bytes for cell in Study.load(tiny.config, *rows).plan(hardware="h100").plan.cells]
    assert peaks[0] < peaks[1]
    (tmp_path / "small.yaml").write_text(
        f"name: small\ndescription: a small card\npeak_bf16_flops: 1.0e12\nmemory: {sum(peaks) // 2}\n"
        "memory_bandwidth: 1.0e10\nachieved_share: 0.5\nachieved_source: none\n"
    )
    small = ("--hardware", str(tmp_path / "small.yaml"))
    text = said(capsys, "plan", str(tiny.config), *rows, *small)
    assert "1 of 2 cells do not fit: length-64" in text
    assert "cell length-64, which needs the most memory:\ndoes not fit: tiny needs " in text
    override = text.partition("try: ")[2].partition("  (")[0]
    assert override.startswith("train.micro_batch_size=")
    assert "do not fit" not in said(capsys, "plan", str(tiny.config), *rows, override, *small)
