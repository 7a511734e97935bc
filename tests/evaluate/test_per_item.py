"""Per-document and per-item scores round-trip through their files; damaged files are named."""

from __future__ import annotations

import json

import pytest

from cpt_ray.errors import DataError
from cpt_ray.evaluate.per_item import ScoredDocument, ScoredItem, format_scores, read_document_scores, read_item_scores


def test_document_scores_survive_the_round_trip_to_the_last_bit(tmp_path):
    scores = [ScoredDocument("law/00000/0", "é", 1 / 3, 2, 5), ScoredDocument("law/00000/0", "b", 2.5e-17, 1, 1)]
    (tmp_path / "scores.jsonl").write_text(format_scores(scores))
    assert read_document_scores(tmp_path / "scores.jsonl") == scores


def test_item_scores_survive_the_round_trip(tmp_path):
    scores = [ScoredItem("a", 1.0, None, (-1.5, -2.0)), ScoredItem("b", 0.0, 1.0, (-0.1, -7.25, -3.0))]
    (tmp_path / "quiz.jsonl").write_text(format_scores(scores))
    assert read_item_scores(tmp_path / "quiz.jsonl") == scores


def test_a_file_that_is_missing_or_damaged_is_named_with_its_line(tmp_path):
    path = tmp_path / "scores.jsonl"
    with pytest.raises(DataError, match=r"scores\.jsonl: per-document scores cannot be read: No such file"):
        read_document_scores(path)
    with pytest.raises(DataError, match=r"scores\.jsonl: per-item scores cannot be read: No such file"):
        read_item_scores(path)
    path.write_text(format_scores([ScoredDocument("law/00000/0", "a", 1.0, 1, 1)]) + '{"id": "a", "nats": 1}\n')
    with pytest.raises(DataError, match=r"scores\.jsonl, line 2: not a per-document score"):
        read_document_scores(path)
    with pytest.raises(DataError, match=r"scores\.jsonl, line 1: not a per-item score"):
        read_item_scores(path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("nats", "12.5", "nats is '12.5', not a number"),
        ("nats", None, "nats is None, not a number"),
        ("nats", True, "nats is True, not a number"),
        ("bytes", -1, "bytes is -1, not a count"),
        ("tokens", 1.5, "tokens is 1.5, not a count"),
    ],
)
def test_a_document_score_whose_numbers_are_none_is_named_with_its_line(tmp_path, name, value, says):
    fields = {"identity": "law/00000/0", "id": "a", "nats": 1.0, "tokens": 1, "bytes": 1}
    (tmp_path / "scores.jsonl").write_text(f"{json.dumps(fields)}\n{json.dumps(fields | {name: value})}\n")
    with pytest.raises(DataError, match=rf"scores\.jsonl, line 2: {says}"):
        read_document_scores(tmp_path / "scores.jsonl")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"accuracy": "1"}, "accuracy is '1', not a number"),
        ({"log_p": [-1, "-2"]}, r"log_p\[1\] is '-2', not a number"),
    ],
)
def test_an_item_score_whose_numbers_are_none_is_named_with_its_line(tmp_path, change, says):
    fields = {"id": "a", "accuracy": 1.0, "accuracy_norm": None, "log_p": [-1.0, -2.0], **change}
    (tmp_path / "quiz.jsonl").write_text(json.dumps(fields) + "\n")
    with pytest.raises(DataError, match=rf"quiz\.jsonl, line 1: {says}"):
        read_item_scores(tmp_path / "quiz.jsonl")
