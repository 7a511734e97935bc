"""The grid that the page shows is one that a study takes."""

import re
from pathlib import Path

import yaml

from cpt_ray.config.load import load_study
from cpt_ray.study.graph import StudyGraph
from tests.integration.tiny_study import write_tiny_study

PAGE = Path(__file__).parents[2] / "docs" / "grids.md"


def test_the_cells_of_the_example_are_different_studies(tmp_path):
    tiny = write_tiny_study(tmp_path / "study")
    text = PAGE.read_text(encoding="utf-8")
    axes = yaml.safe_load(re.search(r"```yaml\n(axes:.*?)```", text, re.DOTALL)[1])["axes"]
    mixes = axes["share"]["values"]
    axes["share"]["values"] = {name: {"law": mix["legal"], "news": mix["news"]} for name, mix in mixes.items()}
    tiny.change(axes=axes)
    names = [graph.cell.name for graph in StudyGraph(load_study(tiny.config), tiny.config).grid]
    assert len(names) == 8
    assert re.search(r"A \*\*cell\*\* is one combination: `(.+?)`", text)[1] in names
