"""Figures as files: SVG that stands alone, with everything that the page shows of them."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from cpt_ray.report.current import FIGURES, figures_of
from cpt_ray.report.figures.files import render_svg
from cpt_ray.report.figures.loss import loss_figure
from cpt_ray.report.figures.scaling import scaling_figure
from cpt_ray.report.index import Index
from cpt_ray.report.page import write_report
from tests.report.made_up import make_contents
from tests.report.made_up_sizes import make_sizes

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("contents", [make_contents(), make_sizes()], ids=["one model", "sizes"])
def test_a_file_has_the_panels_the_legend_and_the_caption_and_needs_nothing_else(contents):
    index = Index(contents)
    for figure in (loss_figure(index), scaling_figure(index, index.sets, title="Curves")):
        assert figure is not None
        text = render_svg(figure)
        root = ElementTree.fromstring(text)
        assert len(root.findall(f"{SVG}svg")) == len(figure.panels)
        words = " ".join(root.itertext())
        for said in (figure.title or figure.alt, *(entry.label for entry in figure.legend), *figure.caption.split()):
            assert said in words
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "--k0:" in text


def test_panels_stand_in_rows_of_three_inside_the_file():
    figure = loss_figure(Index(make_sizes()))
    assert figure is not None
    root = ElementTree.fromstring(render_svg(replace(figure, panels=(figure.panels * 2)[:4])))
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    places = [(int(panel.attrib["x"]), int(panel.attrib["y"])) for panel in root.findall(f"{SVG}svg")]
    assert len(set(places)) == 4
    assert {x for x, _ in places} == {0, 460, 920}
    assert all(x + 460 <= width and y + 320 <= height for x, y in places)


def test_names_from_outside_are_escaped():
    contents = make_contents()
    points = tuple(point.model_copy(update={"set_name": "<a&b>"}) for point in contents.comparison.points)
    index = Index(replace(contents, comparison=contents.comparison.model_copy(update={"points": points})))
    figure = scaling_figure(index, [("<a&b>", "domain")], title="<i>")
    assert figure is not None
    assert "domain: <a&b>" in "".join(ElementTree.fromstring(render_svg(figure)).itertext())


def test_a_page_has_its_figures_as_files_and_none_that_it_no_longer_shows(tmp_path):
    page = tmp_path / "report.html"
    (tmp_path / FIGURES).mkdir()
    (tmp_path / FIGURES / "old.svg").write_text("<svg/>", encoding="utf-8")
    write_report(page, make_contents())
    names = {path.stem for path in figures_of(page)}
    assert {"scaling", "forgetting", "efficiency", "loss"} <= names
    assert "old" not in names
    assert names == {part.split('"')[0] for part in page.read_text(encoding="utf-8").split('id="figure-')[1:]}
