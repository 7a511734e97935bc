"""What is said of bases: of those in folders by their proof, of others once they are imported, and of frozen weights."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.study.preflight.bases import say_frozen, say_separators
from cpt_ray.study.stages.models import MODELS
from tests.study.planned import BareSession, Lines, graph_of


def test_a_base_imported_from_one_file_is_warned_about_once_it_is_there(tiny):
    graph = graph_of(tiny)
    MODELS.build(graph.of(MODELS), BareSession(graph.root))
    node = graph.one(MODELS)
    (node.folder / "chat_template.jinja").write_text("{{ messages }}")
    node.work.__dict__["base"] = "no/folder"  # as for a name on the hub
    console = Lines()
    say_separators(graph, console, {})
    assert any("models.tiny: the base carries a chat template" in line for line in console.said)


def said(graph) -> list[str]:
    lines = Lines()
    say_frozen(graph, lines)
    return lines.said


def test_an_imported_base_says_how_much_of_it_is_frozen_and_another_that_plan_will(tiny):
    graph = graph_of(tiny, "train.freeze=['*.layers.0.*']")
    assert said(graph) == ["model tiny: train.freeze is checked by plan, which builds the base's layers"]
    MODELS.build(graph.of(MODELS), BareSession(graph.root))
    (line,) = said(graph)
    assert line.startswith("model tiny: ")
    assert line.endswith(" parameters stay the base's")
    assert said(graph_of(tiny)) == []
    with pytest.raises(ConfigError, match="matches no parameter"):
        said(graph_of(tiny, "train.freeze=['*.layers.99.*']"))
