"""Whatever is in a study file or its DeepSpeed JSON, reading it ends in a study or a refusal, within ten seconds and 1 GB."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.config.mutations import mutate

pytestmark = pytest.mark.accept(inputs=2)

_GIB = 1 << 30


def read_mutations(folder: Path, first: int, count: int) -> list[str]:
    """The outcomes of some mutations, read in a child that may not have more than 1 GB of memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.config.mutations", str(folder), str(first), str(count)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_GIB, _GIB)),
        check=False,
    )
    assert done.returncode == 0, f"mutation {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    return [line.split()[1] for line in done.stdout.splitlines()]


def test_forty_mutations_are_read_or_refused(tmp_path):
    outcomes = read_mutations(tmp_path, 0, 40)
    assert len(outcomes) == 40
    assert set(outcomes) == {"accepted", "refused"}


@pytest.mark.full
def test_three_hundred_mutations_are_read_or_refused(tmp_path):
    outcomes = read_mutations(tmp_path, 1000, 300)
    assert len(outcomes) == 300
    assert outcomes.count("refused") > 150
    assert outcomes.count("accepted") > 10


def test_mutations_differ_and_repeat():
    assert len({mutate(seed) for seed in range(200)}) > 150
    assert mutate(7) == mutate(7)
