"""What is said of bases: of those in folders by their proof, of others once they are imported."""

from __future__ import annotations

from cpt_ray.study.preflight.bases import say_separators
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
