"""The page's part on filters: measures with intervals, yields, samples around the threshold, what arms share."""

from __future__ import annotations

import re

from cpt_ray.records import DomainFindings
from cpt_ray.report.domains import overlap_rows, yield_figure
from tests.report.made_up import make_contents
from tests.report.made_up_domains import DOMAINS
from tests.report.test_page import read, render_words


def words_of(contents) -> str:
    return " ".join(read(render_words(contents)).text.split())


def test_the_page_shows_classifiers_thresholds_selections_and_overlap():
    page = words_of(make_contents(domains=DOMAINS))
    for said in (
        "Domain filters",
        "480 + 960 200 + 400 0.9800.950 to 0.992 0.9700.936 to 0.986 0.9750.955 to 0.986 0.9910.983 to 0.996 0.021",
        "legal on web 0.0610.040 to 0.080 0.8 2,400 960,000 0.8400.710 to 0.930",
        "web_legal: 2 documents around the threshold of legal >= 0.8",
        "0.810 above a<b> (web/00000/7) <i>The</i> court",
        "special 2,400 960,000 general: 2,400 documents, 960,000 tokens (100.0 %)",
        "special: 2,400 documents, 960,000 tokens (4.8 %)",
    ):
        # The cells of a row stand next to one another.
        assert "".join(said.split()) in "".join(page.split()), said


def test_text_of_documents_is_escaped():
    page = render_words(make_contents(domains=DOMAINS))
    assert "<i>The</i>" not in page
    assert "&lt;i&gt;The&lt;/i&gt; court" in page


def test_a_study_without_filters_says_nothing_of_them():
    page = words_of(make_contents())
    assert "Domain filters" not in page
    assert "Derived sources" not in page
    assert "What arms share" not in page


def test_the_curve_has_a_line_per_classifier_and_a_dot_per_threshold_in_both_widths():
    contents = make_contents(domains=DOMAINS)
    for narrow in (False, True):
        drawn = yield_figure(contents, narrow=narrow)
        assert drawn is not None
        assert "documents found" in drawn
        assert "tokens found" in drawn
        assert drawn == yield_figure(contents, narrow=narrow)
    assert len(re.findall("#0072b2", drawn, flags=re.IGNORECASE)) >= 4
    assert yield_figure(make_contents()) is None


def test_arms_without_derived_sources_have_no_table():
    assert [row.arm for row in overlap_rows(DOMAINS)] == ["special", "general"]
    assert overlap_rows(DOMAINS.model_copy(update={"selections": ()})) == []
    assert overlap_rows(DomainFindings()) == []
