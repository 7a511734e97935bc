"""The training acceptance list: figures are printed, and a box without its tests or figures does not pass."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLANTED = """
import pytest


@pytest.mark.accept(training=1)
@pytest.mark.parametrize("stage", [0, 1])
def test_stage(record_property, stage):
    record_property(f"zero {stage}", f"gap 0 of 1e-{stage}")


@pytest.mark.accept(training=2)
def test_wrong(record_property):
    record_property("zero 0", "gap 7")
    raise AssertionError("far off")


@pytest.mark.accept(training=3)
@pytest.mark.skip(reason="not today")
def test_skipped():
    pass
"""


@pytest.fixture
def accept():
    return importlib.import_module("benchmarks.acceptance.training")


@pytest.fixture
def planted(tmp_path) -> Path:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    return tmp_path


def test_a_box_prints_the_figures_of_its_own_tests(accept, planted):
    lines = accept.evidence_of(1, figures=["zero 0", "zero 1"], tests=planted)
    assert lines[0].startswith("2 tests passed: ")
    assert lines[0].endswith("test_planted::test_stage")
    assert lines[1:] == ["zero 0: gap 0 of 1e-0", "zero 1: gap 0 of 1e-1"]


@pytest.mark.parametrize(
    ("box", "figures", "problem"),
    [
        (1, ["zero 0", "zero 2"], r"^no figure recorded for: zero 2$"),
        (2, ["zero 0"], r"test_planted::test_wrong failure: \['AssertionError: far off"),
        (3, [], r"test_planted::test_skipped skipped: \['not today'\]"),
        (9, [], r"accept\(training=9\) .* exited with code 5"),
    ],
    ids=["a case is missing", "a test fails", "a test is skipped", "no test"],
)
def test_a_box_fails_where(accept, planted, box, figures, problem):
    with pytest.raises(AssertionError, match=problem):
        accept.evidence_of(box, figures=figures, tests=planted)


def test_boxes_are_printed_with_their_verdict_and_one_that_breaks_does_not_stop_the_rest(accept, capsys):
    def breaks() -> Iterator[str]:
        """Breaks."""
        yield "gap 2"
        raise OSError("gone\nfor good")

    def holds() -> list[str]:
        """Holds."""
        return ["gap 0"]

    assert accept.run_boxes((breaks, holds), []) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  box 1: Breaks.", "        gap 2", "        OSError: gone", "        for good",
        "PASS  box 2: Holds.", "        gap 0",
    ]  # fmt: skip
    assert accept.run_boxes((breaks, holds), ["2"]) == 0
