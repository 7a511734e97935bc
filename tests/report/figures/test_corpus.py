"""What the text looks like: histograms of sources, and what thresholds find."""

from cpt_ray.records import CorpusProfile
from cpt_ray.report.figures.corpus import profile_figure, yield_figure
from cpt_ray.report.index import Index
from tests.report.made_up import make_contents
from tests.report.made_up_domains import DOMAINS


def test_each_source_has_a_panel_of_length_and_of_repetition():
    found = profile_figure(Index(make_contents()))
    assert len(found.panels) == 4
    assert ">licences: length</text>" in found.panels[0]
    assert 'class="b"' in found.panels[0]  # what is kept is filled
    assert {row[2].text for row in found.table.rows} == {"read", "kept"}
    assert profile_figure(Index(make_contents(profile=CorpusProfile()))) is None


def test_the_yield_has_a_line_per_classifier_and_a_dot_per_threshold():
    found = yield_figure(Index(make_contents(domains=DOMAINS)))
    assert [">documents found<" in str(found.panels[0]), ">tokens found<" in str(found.panels[1])] == [True, True]
    assert "<title>legal on web: 2,400 documents from 0.8 on</title>" in found.panels[0]
    assert len(found.table.rows) == 4
    assert yield_figure(Index(make_contents())) is None
