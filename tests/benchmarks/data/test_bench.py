"""The data benchmark counts what it claims to count, and compares equal work."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import ours
from benchmarks.data.corpora import synthetic
from cpt_ray.records import UnitReport
from tests.evaluate.tiny import SEPARATOR, build_tokenizer, make_text

BURN = "import time\nend = time.process_time() + 1.5\nwhile time.process_time() < end: pass"
ORPHAN = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BURN!r}], start_new_session=True)"


def in_a_process_of_its_own(code: str) -> str:
    """Run code in a separate process: `watch` makes its process a subreaper and kills all of its children."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_cpu_seconds_of_a_process_that_outlives_its_parent_are_counted():
    said = in_a_process_of_its_own(
        "import sys, time\nfrom benchmarks.data.watch import watch\nstarted = time.perf_counter()\n"
        f"usage = watch([sys.executable, '-c', {ORPHAN!r}])\n"
        "print(usage.cpu_s, usage.wall_s, time.perf_counter() - started)"
    )
    cpu, wall, elapsed = map(float, said.split())
    assert cpu > 1.0
    assert wall < elapsed - 0.5  # the command itself had ended long before


def test_commands_that_are_compared_take_turns_and_each_is_counted_alone():
    said = in_a_process_of_its_own(
        "import sys\nfrom benchmarks.data.watch import watch_together\n"
        f"commands = {{'one': [sys.executable, '-c', {BURN!r}], 'orphan': [sys.executable, '-c', {ORPHAN!r}]}}\n"
        "found = watch_together(commands, slice_s=0.1)\n"
        "print(*(found[name].cpu_s for name in ('one', 'orphan')), found['one'].wall_s)"
    )
    one, orphan, wall = map(float, said.split())
    # Clocks are read five times a second, so the last moments of a process are missed; both commands together would be 3.
    assert 1.0 < one < 2.5
    assert 1.0 < orphan < 2.5
    assert wall > 1.0


def test_a_command_that_fails_is_an_error_with_what_it_said():
    said = in_a_process_of_its_own(
        "import sys\nfrom benchmarks.data.watch import watch\n"
        "try:\n    watch([sys.executable, '-c', 'print(1 + 2); sys.exit(1)'])\nexcept RuntimeError as error:\n    print(error)"
    )
    assert "exit code 1" in said
    assert "3\n" in said


def test_the_corpus_never_repeats_itself(monkeypatch):
    words = [f"w{number}" for number in range(400)]
    texts = [" ".join(np.random.default_rng(seed).choice(words, 300)) for seed in range(5)]
    monkeypatch.setattr(synthetic, "real_texts", lambda: texts)
    made = list(synthetic.unique_texts(40_000))
    assert made[:5] == texts
    assert len(made) == len(set(made)) > 20
    kept = [
        np.mean([a == b for a, b in zip(one.split(), texts[place % 5].split(), strict=True)]) for place, one in enumerate(made)
    ]
    assert all(0.8 < share < 0.97 for share in kept[5:])


def test_tasks_without_ray_pack_every_document_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "SEPARATOR", SEPARATOR)
    monkeypatch.setattr(ours, "VOCABULARY", 400)
    build_tokenizer().save_pretrained(tmp_path / "tokenizer")
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.parquet")
        ids = [f"doc_{number}_{place}" for place in range(10)]
        pq.write_table(pa.table({"id": ids, "text": [make_text(number, 3) for _ in ids]}), files[-1])
    ours.make_units(tmp_path / "units", files)
    for which in range(2):
        ours.pack_plainly(tmp_path / "units", tmp_path / "tokenizer", tmp_path / "out", which, 2)
    reports = [UnitReport.load(path) for path in sorted((tmp_path / "out" / "units" / "pack").glob("*.json"))]
    assert [report.counts["documents"] for report in reports] == [10, 10, 10]
    index = pq.read_table(tmp_path / "out" / reports[1].files[1].path)
    assert set(index["document_id"].to_pylist()) == {f"doc_1_{place}" for place in range(10)}
