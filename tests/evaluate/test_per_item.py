"""Per-document and per-item scores round-trip through their files; damaged files are named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cpt_ray.errors import DataError
from cpt_ray.evaluate.per_item import (
    ScoredDocument,
    ScoredItem,
    format_scores,
    read_document_scores,
    read_item_scores,
    sum_by_group,
)


def test_document_scores_survive_the_round_trip_to_the_last_bit(tmp_path):
    scores = [ScoredDocument("law/00000/0", "é", 1 / 3, 2, 5), ScoredDocument("law/00000/0", "b", 2.5e-17, 1, 1)]
    (tmp_path / "scores.jsonl").write_text(format_scores(scores))
    assert read_document_scores(tmp_path / "scores.jsonl") == scores


def test_item_scores_survive_the_round_trip(tmp_path):
    scores = [
        ScoredItem("a", 1.0, None, (-1.5, -2.0)),
        ScoredItem("b", 0.0, 1.0, (-0.1, -7.25, -3.0), 1, "law", "validation", 0.5, 1.0),
    ]
    (tmp_path / "quiz.jsonl").write_text(format_scores(scores))
    assert read_item_scores(tmp_path / "quiz.jsonl") == scores


@pytest.mark.accept(answer=2)
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


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"identity": "i", "id": "a", "nats": NaN, "tokens": 1, "bytes": 1}', "nats: Input should be a finite number"),
        (
            '{"identity": "i", "id": "a", "nats": "7", "tokens": 1, "bytes": 1}',
            r"nats: Input should be a valid number",
        ),
        ('{"identity": "i", "id": "a", "nats": 7, "tokens": 1, "bytes": -1}', "bytes: Input should be greater.*saw -1"),
        ('{"identity": "i", "id": "a", "nats": 7, "tokens": 1}', "bytes: Field required"),
        ('{"identity": "i", "id": "a", "nats": 7, "tokens": 1, "bytes": 1, "note": 1}', "note: Unexpected keyword argument"),
        ("[1]", "not a per-document score"),
    ],
)
def test_a_score_that_was_edited_by_hand_is_refused_with_its_line(tmp_path, line, message):
    path = tmp_path / "scores.jsonl"
    path.write_text(format_scores([ScoredDocument("law/00000/0", "a", 1.0, 1, 1)]) + line + "\n")
    with pytest.raises(DataError, match=rf"scores\.jsonl, line 2: not a per-document score.*{message}|{message}") as caught:
        read_document_scores(path)
    assert "run `cpt-ray evaluate` again" in caught.value.fix


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": 9}, "right is 9, of 2 choices"),
        ({"right": -1}, "right: Input should be greater than or equal to 0"),
        ({"accuracy": 1.5}, "accuracy: Input should be less than or equal to 1"),
        ({"accuracy_norm": -0.5}, "accuracy_norm.*: Input should be greater than or equal to 0"),
        ({"order_changes": 2.0}, "order_changes.*: Input should be less than or equal to 1"),
        ({"log_p": [-1.0, math.inf]}, "log_p.*: Input should be a finite number"),
        ({"half": "train"}, "half: Input should be 'validation' or 'test'"),
    ],
)
def test_an_item_outside_of_its_range_is_refused_with_its_line(tmp_path, change, message):
    fine = {"id": "a", "accuracy": 1.0, "accuracy_norm": 0.0, "log_p": [-1.0, -2.0], "right": 1, "order_changes": 0.0}
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps(fine) + "\n")
    assert read_item_scores(path)[0].right == 1
    path.write_text(json.dumps(fine) + "\n" + json.dumps({**fine, **change}) + "\n")
    with pytest.raises(DataError, match=rf"quiz\.jsonl, line 2: not a per-item score: {message}") as caught:
        read_item_scores(path)
    assert "run `cpt-ray evaluate` again" in caught.value.fix


@pytest.mark.accept(answer=2)
def test_an_empty_file_of_scores_is_refused(tmp_path):
    (tmp_path / "scores.jsonl").write_text("")
    with pytest.raises(DataError, match=r"scores\.jsonl: no per-item scores") as caught:
        read_item_scores(tmp_path / "scores.jsonl")
    assert "run `cpt-ray evaluate` again" in caught.value.fix


def test_values_are_summed_over_groups_and_an_item_without_one_stands_alone():
    items = [ScoredItem(str(n), 1.0, None, (-1.0, -2.0), group=group) for n, group in enumerate(["a", "", "a", "", "b"])]
    sums, counts, unit = sum_by_group(np.array([[1.0, 2.0, 4.0, 8.0, 16.0]]), items)
    assert sums.tolist() == [[5.0, 2.0, 8.0, 16.0]]
    assert counts.tolist() == [2, 1, 1, 1]
    assert unit == "groups of items"
    by_seed = sum_by_group(np.arange(20.0).reshape(2, 2, 5), items)[0]
    assert by_seed.shape == (2, 2, 4)
    assert by_seed[1, 1].tolist() == [15 + 17, 16, 18, 19]
    plain = [ScoredItem("x", 1.0, None, (-1.0,))] * 2
    assert sum_by_group(np.array([[1.0, 2.0]]), plain)[2] == "items"


@pytest.mark.parametrize(("right", "margin"), [(0, 1.5), (1, -1.5), (None, None)])
def test_the_margin_is_the_correct_choice_minus_the_best_other_one(right, margin):
    assert ScoredItem("a", 1.0, None, (-0.5, -2.0, -3.0), right=right).margin == margin
