"""What users see of a study, built from its records: summary, preparation, report, and exams found in the text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.findings.outcome import exam_scans, summarize, summarize_preparation, write_study_report
from cpt_ray.study.study import StudyDriver
from tests.integration.finished import FinishedStudy
from tests.integration.tiny_study import EXAM_LEAKED
from tests.study.planned import Lines

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def study_of(tiny, *overrides):
    return StudyDriver(load_study(tiny.config, overrides), tiny.config, Lines())


@pytest.fixture
def finished(finished_study, tmp_path) -> FinishedStudy:
    """A copy that a test may modify."""
    return replace(finished_study, study=finished_study.study.copy(tmp_path / "study"))


def test_the_planted_exam_question_is_found(prepared_study):
    scans, hits = exam_scans(study_of(prepared_study).graph, "tiny")
    assert [(scan.task, scan.items, scan.items_found, scan.late) for scan in scans] == [("tiny_exam", 8, 1, False)]
    assert {hit.document for hit in hits} == {f"leaks_exam_{EXAM_LEAKED}"}


def test_a_prepared_study_says_what_became_of_its_text(prepared_study):
    said = summarize_preparation(study_of(prepared_study))
    assert "near_duplicate" in said
    assert "tiny_exam" in said
    with pytest.raises(ConfigError, match="has not been built yet"):
        study_of(prepared_study).comparison()


def test_the_summary_ends_with_the_verdict(finished_study):
    study = study_of(finished_study.study)
    comparison = study.comparison()
    said = summarize(study, comparison)
    assert comparison.verdict in said
    assert all(record.run in said for record in study.evaluations())


def test_a_report_is_drawn_again_only_if_what_it_shows_has_changed(finished):
    study = study_of(finished.study)
    comparison = study.comparison()
    path = write_study_report(study, comparison)
    drawn = path.stat().st_mtime_ns
    assert write_study_report(study_of(finished.study), comparison).stat().st_mtime_ns == drawn
    (said,) = comparison.conclusions
    changed = comparison.model_copy(update={"conclusions": (said.model_copy(update={"verdict": "Nothing was bought."}),)})
    assert write_study_report(study, changed).stat().st_mtime_ns > drawn
    assert "Nothing was bought." in path.read_text()
