"""The table of findings."""

from __future__ import annotations

from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor.table import render_findings


def test_a_table_has_a_line_a_check_and_a_fix_below_it_that_is_not_broken():
    long = "word " * 40
    text = render_findings([Finding("a", "fine"), Finding("longer", long, "fail", "x" * 150)])
    lines = text.splitlines()
    assert lines[0] == "ok    a       fine"
    assert lines[1].startswith("fail  longer  word word")
    assert lines[-2] == f"              fix: {'x' * 150}"
    assert lines[-1] == "1 ok, 0 warn, 1 fail"
