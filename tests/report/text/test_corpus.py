"""What `prepare` prints about a corpus."""

import pytest

from cpt_ray.report.text.corpus import at_quantile, describe_exam_scans, describe_profile
from tests.report.made_up import exam_hit, exam_scan
from tests.report.text.corpus_record import DOCUMENTS, histogram


def test_quantiles_are_linear_within_a_class() -> None:
    wide = histogram("read", "bytes", (0, 100, 200), (8, 2))
    assert at_quantile(wide, 0.4) == pytest.approx(50)
    assert at_quantile(wide, 0.9) == pytest.approx(150)
    assert at_quantile(histogram("read", "bytes", (0, 100, 200), (0, 0)), 0.5) == 0


def test_the_terminal_gets_languages_length_repetition_terms_and_a_sample_of_each_rule() -> None:
    said = "\n".join(describe_profile(DOCUMENTS))
    assert "languages of law: en 2\n" in said
    assert "languages of news" not in said
    assert "redacted in law: email 3\n" in said
    assert "10 read" in said
    assert "'the licensee' (12)" in said
    assert "too short" in said
    assert "not shown" not in said


def test_an_exam_found_in_packed_text_is_not_said_to_be_taken_out() -> None:
    early, quoted, late = describe_exam_scans(
        [exam_scan("bar", late=False), exam_scan("piqa", late=True)], [exam_hit("bar", "the answer")]
    )
    assert early.startswith("exam bar: ")
    assert early.endswith("removed") or "removed" in early
    assert "the answer" in quoted
    assert "ALREADY PACKED, so they are trained on" in late


def test_ids_that_repeat_and_invisible_characters_are_said_per_source() -> None:
    said = describe_profile(DOCUMENTS)
    assert "ids of law: 2 repeat, on 5 documents; identities tell these apart" in said
    assert "invisible characters removed from law: soft_hyphen 4, tag 1" in said
