"""Rules on token ids, with hand-made cases: both sides of every threshold, and tokens between documents ignored."""

import json

import numpy as np
import pytest

from cpt_ray.config.sections.clean import TokenRulesConfig
from cpt_ray.data.rows.token_rules import judge_tokens, unknown_ids

BOS, END, UNKNOWN = 1, 2, 0


def judge(documents: list[list[int]], sizes: list[int] | None = None, **rules: object) -> list[str | None]:
    flat = [token for document in documents for token in (BOS, *document, END)]
    return judge_tokens(
        np.array(flat, dtype=np.uint16),
        np.array([len(document) + 2 for document in documents], dtype=np.int64),
        sizes or [4 * len(document) for document in documents],
        TokenRulesConfig.model_validate(rules),
        unknown=frozenset({UNKNOWN}),
        before=1,
        after=1,
    )


@pytest.mark.parametrize(
    ("key", "setting", "kept", "dropped"),
    [
        ("max_unknown_share", 0.25, [5, 0, 6, 7], [5, 0, 6]),
        ("max_token_run", 3, [5, 7, 7, 7, 5], [7, 7, 7, 7]),
        ("min_unique_share", 0.5, [5, 6, 5, 6], [5, 6, 5, 6, 5]),
    ],
)
def test_each_rule_keeps_at_its_border_and_drops_beyond(key: str, setting: float, kept: list[int], dropped: list[int]) -> None:
    assert judge([kept, dropped, kept], **{key: setting}) == [None, f"token_rules.{key}", None]
    assert judge([kept, dropped, kept]) == [None, None, None]


def test_bytes_per_token_are_of_the_documents_own_tokens() -> None:
    assert judge([[5, 6], [5, 6]], [4, 3], min_bytes_per_token=2) == [None, "token_rules.min_bytes_per_token"]
    assert judge([[5, 6], [5, 6]], [4, 5], max_bytes_per_token=2) == [None, "token_rules.max_bytes_per_token"]


def test_what_stands_between_documents_is_nobodys() -> None:
    assert judge([[BOS], [END, END]], max_token_run=2) == [None, None]
    assert judge([[END, END, END]], max_token_run=2) == ["token_rules.max_token_run"]
    assert judge([[7, 7], [7, 7]], max_token_run=2) == [None, None]


def test_only_the_first_thousand_tokens_are_asked_to_differ() -> None:
    long = [*range(3, 1003), *([5] * 100_000)]
    assert judge([long], min_unique_share=1) == [None]
    assert judge([[5, *long[:999]]], min_unique_share=1) == ["token_rules.min_unique_share"]


def test_an_empty_document_and_no_document_are_no_trouble() -> None:
    every = {"max_unknown_share": 0, "max_token_run": 1, "min_unique_share": 0, "min_bytes_per_token": 0}
    assert judge([[], [5]], **every) == [None, None]
    assert judge([], **every) == []


def test_unknown_ids_are_the_unknown_token_and_bytes_of_a_fallback() -> None:
    assert unknown_ids(json.dumps({"model": {"vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"}})) == {1}
    fallback = {"vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2}, "unk_token": "<unk>", "byte_fallback": True}
    assert unknown_ids(json.dumps({"model": fallback})) == {0, 1}
    assert unknown_ids(json.dumps({"model": {**fallback, "byte_fallback": False}})) == {0}
    unigram = {"vocab": [["<unk>", 0.0], ["a", -1.0]], "unk_id": 0}
    assert unknown_ids(json.dumps({"model": unigram})) == {0}
    assert unknown_ids(json.dumps({"model": {"vocab": {"a": 0}, "unk_token": None}})) == frozenset()
