"""What a run holds already: when it is continued, and how values become parameters."""

from cpt_ray.edges.tracking.content import (
    CONTENT_TAG,
    PARAMS_TAG,
    RECORD_TAG,
    STEPS_TAG,
    continues,
    flatten,
    quoted,
    sha,
    steps_sha,
)
from tests.edges.tracking.test_store import steps


def test_a_run_continues_if_what_it_holds_is_the_beginning():
    tags = {PARAMS_TAG: sha({"a": "1"}), STEPS_TAG: "3", CONTENT_TAG: steps_sha(steps(3))}
    assert continues(tags, {"a": "1"}, steps(5), (), None)
    assert not continues(tags, {"a": "2"}, steps(5), (), None)
    assert not continues(tags, {"a": "1"}, steps(2), (), None)
    assert not continues(tags, {"a": "1"}, steps(5, loss=1.0), (), None)
    assert continues({**tags, RECORD_TAG: "r"}, {"a": "1"}, steps(3), (), "r")
    assert not continues({**tags, RECORD_TAG: "r"}, {"a": "1"}, steps(5), (), "r")


def test_a_tree_becomes_dotted_texts_without_what_is_missing():
    assert flatten({"a": {"b": 1, "c": None, "d": {}}, "e": "x" * 7000}) == {"a.b": "1", "a.d": "{}", "e": "x" * 6000}


def test_a_quote_does_not_end_a_filter():
    assert quoted("it's") == "it_s"
