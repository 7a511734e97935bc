"""configs/README.md matches the schema, for every key."""

import re
from pathlib import Path

import pytest
import yaml

from cpt_ray.config.load import load_study
from cpt_ray.config.reference.render import render_reference, schema_keys

CONFIGS = Path(__file__).parents[3] / "configs"


def test_the_committed_reference_is_the_generated_one():
    committed = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert committed == render_reference(), "run: python -m cpt_ray.config.reference > configs/README.md"


def test_every_leaf_of_the_demo_is_a_documented_key():
    def leaves(node, path):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from leaves(value, f"{path}.{key}" if path else key)
        elif isinstance(node, list) and node and isinstance(node[0], dict):
            for item in node:
                yield from leaves(item, f"{path}[]")
        else:
            yield path

    keys = schema_keys()
    found = set()
    for leaf in leaves(yaml.safe_load((CONFIGS / "demo.yaml").read_text(encoding="utf-8")), ""):
        plain = re.sub(r"^(\w+)\[\]", r"\1", leaf)
        plain = re.sub(r"^arms\.\w+", "arms", plain)
        plain = re.sub(r"^arms\.mix\..*", "arms.mix", plain)
        assert plain in keys, leaf
        found.add(plain)
    assert len(found) > 30


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_study_is_accepted(path):
    assert load_study(path).study.name


@pytest.mark.parametrize(
    "entry",
    [
        "- `unit_bytes` (bytes, default 64MB): bytes of text per unit,",
        "- `budgets` (list of count or null, default null): token budgets (loss-bearing tokens), ascending;",
        "- `learning_rate` (number or `base_peak` or `base_final`, **required**): peak learning rate: a number,",
        "- `chain.optimizer` (`kept` or `fresh`, **required**): AdamW moments at the start of each later stage:",
        "- `export_precision` (`bf16` or `fp32`, default bf16): precision of exported weights;",
        "- `collective_timeout` (duration, default 600): timeout of a collective operation, in seconds",
        "- `exams[].limit` (count or null, default null): maximum number of items, sampled by hash",
        "- `mix` (mapping of text to number, **required**): source name to weight; weights add up to 1",
    ],
)
def test_an_entry_says_type_default_and_meaning(entry):
    assert f"\n{entry}" in render_reference()


def test_every_key_has_a_description():
    listed = render_reference().split("## Every key")[1]
    entries = re.findall(r"^- `(\S+)` \((?:.|\n)*?\):\s*(\S)", listed, re.MULTILINE)
    assert len(entries) == listed.count("\n- `") > 100


def test_no_line_is_wider_than_a_screen():
    assert max(map(len, render_reference().splitlines())) <= 140
