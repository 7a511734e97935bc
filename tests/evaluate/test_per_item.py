"""Per-document and per-item scores round-trip through their files; damaged files are named."""

from __future__ import annotations

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
