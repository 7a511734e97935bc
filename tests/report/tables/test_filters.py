"""Tables of filters: measures with intervals, yields, samples around the threshold, what arms share."""

from cpt_ray.records import DomainFindings
from cpt_ray.report.page import render_report
from cpt_ray.report.tables.filters import classifier_tables, selection_tables
from tests.report.html import read
from tests.report.made_up import make_contents
from tests.report.made_up_domains import DOMAINS


def words_of(contents) -> str:
    return "".join(read(render_report(contents)).text.split())


def test_the_page_shows_classifiers_thresholds_selections_and_overlap():
    page = words_of(make_contents(domains=DOMAINS))
    for said in (
        "Domain filters",
        "480 + 960 200 + 400 0.9800.950 to 0.992 0.9700.936 to 0.986 0.9750.955 to 0.986 0.9910.983 to 0.996 0.021",
        "legal on web 0.0610.040 to 0.080 0.8 2,400 960,000 0.8400.710 to 0.930",
        "web_legal: 2 documents around the threshold of legal >= 0.8",
        "0.810 above a<b> (web/00000/7) <i>The</i> court",
        "general: 2,400 documents, 960,000 tokens (100.0 %) 2,400 960,000",
        "special: 2,400 documents, 960,000 tokens (4.8 %)",
    ):
        # The cells of a row stand next to one another.
        assert "".join(said.split()) in page, said


def test_text_of_documents_is_escaped():
    page = render_report(make_contents(domains=DOMAINS))
    assert "<i>The</i>" not in page
    assert "&lt;i&gt;The&lt;/i&gt; court" in page


def test_a_study_without_filters_has_no_table_of_them():
    assert classifier_tables(DomainFindings()) == selection_tables(DomainFindings()) == []


def test_a_threshold_that_nothing_uses_is_said():
    unused = DOMAINS.model_copy(update={"yields": tuple(y.model_copy(update={"used": ()}) for y in DOMAINS.yields)})
    assert classifier_tables(unused)[1].rows[0][2].text == "none used"


def test_arms_without_derived_sources_have_no_table():
    assert [table.name for table in selection_tables(DOMAINS)] == ["derived", "around_web_legal", "shared"]
    assert selection_tables(DOMAINS.model_copy(update={"selections": ()})) == []
