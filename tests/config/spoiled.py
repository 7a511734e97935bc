"""Break one thing in a study tree, and catch the refusal."""

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError


def refusal(tree):
    """Return the message with which a tree is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_study(tree, place="study.yaml")
    return str(caught.value)


def spoil(tree, key, value):
    """Set `a.b.0.c` in a tree of plain values."""
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[int(last) if isinstance(node, list) else last] = value
    return tree
