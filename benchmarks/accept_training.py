"""Run every box of the training's acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-training`, or with the numbers of some boxes: `python benchmarks/accept_training.py 1 2`. Boxes 1 to 5 are
tests: those marked `accept(training=N)` are box N's evidence, and the figures that they record with pytest's `record_property`
are printed. A box fails if one of its tests fails or is skipped, and if a figure that the list asks for was not recorded, so
that a case cannot fall out of a test unnoticed. Box 6 reads `benchmarks/results/train.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path

from evidence import check, run_boxes

REPOSITORY = Path(__file__).parents[1]
PRECISIONS = ("fp32", "bf16")
RESUMES = ((2, 1), (1, 2), (2, 4), (3, 6))
CLAIMS = tuple(
    f"train.{name}"
    for name in (
        "tokens_per_second", "bare_ratio", "zero3_bare_ratio", "ray_ratio", "peak_share", "hf_trainer_ratio", "data_wait_share",
        "checkpoint_stall_share", "position_seconds", "tokens_paid_ratio",
    )
)  # fmt: skip
WAYS = ("0 none", "1 none", "1 optimizer", "2 none", "2 optimizer", "3 none", "3 optimizer", "3 parameters")


def evidence_of(box: int, *, figures: Iterable[str], tests: Path = REPOSITORY / "tests") -> list[str]:
    """Run the tests of a box and return what they recorded.

    Args:
        box: Its number; its tests carry `@pytest.mark.accept(training=box)`.
        figures: Names that must have been recorded, each by some test of the box.
        tests: Where the tests lie.

    Returns:
        Two lines about the tests, then `name: value` for each figure.

    Raises:
        AssertionError: If no test has the marker, one failed or was skipped, or a figure is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", str(tests), "-m", f"accept(training={box})", f"--junitxml={report}"]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        check(
            report.exists() and ran.returncode in (0, 1),
            f"{' '.join(command)} ended with {ran.returncode}: {ran.stdout[-800:]}",
        )
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = [
        f"{case.get('classname')}::{case.get('name')} {found.tag}: {(found.get('message') or '').splitlines()[:1]}"
        for case in cases
        for found in case
        if found.tag in ("failure", "error", "skipped")
    ]
    check(not bad, "; ".join(bad))
    seen = {item.get("name", ""): item.get("value", "") for case in cases for item in case.iterfind("properties/property")}
    missing = sorted(set(figures) - set(seen))
    check(not missing, f"nothing was recorded for: {', '.join(missing)}")
    names = sorted({f"{case.get('classname')}::{str(case.get('name')).partition('[')[0]}" for case in cases})
    return [f"{len(cases)} tests passed: {', '.join(names)}", *[f"{name}: {value}" for name, value in seen.items()]]


def box_1_bitwise() -> list[str]:
    """N steps straight = k, kill -9, resume, N - k: bitwise on CPU in fp32 and bf16 for ZeRO 0 to 3, same worker count."""
    return evidence_of(1, figures=[f"zero {stage} {precision}" for stage in range(4) for precision in PRECISIONS])


def box_2_any_worker_count() -> list[str]:
    """Another worker count: same sample ids, loss within 1e-5 (fp32) and 5e-4 (bf16), ten times closer than without moments."""
    resumes = [f"{before} to {after} workers {precision}" for before, after in RESUMES for precision in PRECISIONS]
    divisions = [f"{what} {precision}" for what in ("accumulation", "micro-batch", "worker count") for precision in PRECISIONS]
    return evidence_of(2, figures=[*resumes, "resume without optimizer moments", *divisions])


def box_3_matrix() -> list[str]:
    """Stage x precision x offload on tiny models, tied and untied; each export reloads with equal logits."""
    ties = ("tied", "untied")
    return evidence_of(3, figures=[f"zero {way} {precision} {tie}" for way in WAYS for precision in PRECISIONS for tie in ties])


def box_4_chaos() -> list[str]:
    """20 random kills (worker, raylet, driver) over a tiny study on two simulated nodes."""
    return evidence_of(4, figures=["kills", "starts of training above step 0", "positions", "held-out scores"])


def box_5_one_writer() -> list[str]:
    """Of two drivers on one study the second is refused; so is a commit from an older attempt."""
    return evidence_of(5, figures=["second driver", "commit of an older attempt"])


def box_6_benchmarks() -> list[str]:
    """`make bench-train` is committed, with every claim; those that miss their target are named."""
    path = REPOSITORY / "benchmarks" / "results" / "train.json"
    check(path.exists(), f"{path.relative_to(REPOSITORY)} is not there: run make bench-train")
    listed = subprocess.run(["git", "ls-files", "--error-unmatch", str(path)], cwd=REPOSITORY, capture_output=True)
    check(listed.returncode == 0, f"{path.relative_to(REPOSITORY)} is not committed")
    claims = {claim["id"]: claim for claim in json.loads(path.read_text())}
    missing = sorted(set(CLAIMS) - set(claims))
    check(not missing, f"claims without a result: {', '.join(missing)}")
    missed = [claim for claim in claims.values() if claim["met"] is False]
    return [
        f"{len(claims)} claims, {len(missed)} of them miss their target; commit {next(iter(claims.values()))['commit']}",
        *[f"missed: {claim['id']}: {claim['value']} {claim['unit']}, target {claim['target']}" for claim in missed],
    ]


BOXES: tuple[Callable[[], list[str]], ...] = (
    box_1_bitwise,
    box_2_any_worker_count,
    box_3_matrix,
    box_4_chaos,
    box_5_one_writer,
    box_6_benchmarks,
)

if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
