"""Bits per byte: hand-computed windows, lm-eval as the reference, and independence of packing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate import packed as passes
from cpt_ray.evaluate.bits_per_byte import (
    aggregate,
    read_documents,
    rolling_windows,
    score_documents,
)
from cpt_ray.evaluate.per_item import ScoredDocument
from cpt_ray.model.attention.isolation import use_document_attention
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.scoring import EncodedDocument, encode_document
from cpt_ray.records import DocumentKey, HeldOutSet
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer, make_text

LAW = HeldOutSet(source="law", role="domain", part="test", path="law.jsonl", documents=2, bytes=10)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    model = build_model(len(tokenizer))
    install_loss_head(model)
    use_document_attention(model)
    return model


def test_rolling_windows_of_five_tokens_at_context_two_are_these_three():
    windows = list(rolling_windows([1, 2, 3, 4, 5], prefix=9, context=2))

    assert windows == [([9, 1], [1, 2]), ([2, 3], [3, 4]), ([3, 4], [5])]


@pytest.mark.parametrize("length", [1, 2, 6, 7, 8, 13, 14, 15, 50])
def test_rolling_windows_are_those_of_lm_eval_and_score_every_token_once(length):
    tokens = list(range(100, 100 + length))
    theirs = list(get_rolling_token_windows(tokens, prefix_token=9, max_seq_len=7, context_len=1))

    ours = list(rolling_windows(tokens, prefix=9, context=7))

    assert ours == [tuple(window) for window in theirs]
    assert [token for _, labels in ours for token in labels] == tokens
    for window in theirs:  # lm-eval's next step does not change the inputs: context + continuation[:-1]
        context, continuation = make_disjoint_window(window)
        assert context + continuation[:-1] == list(window[0])


@pytest.mark.accept(answer=3)
def test_scores_equal_lm_evals_rolling_log_likelihood_in_fp32(tokenizer, model):
    texts = {f"doc_{seed}": make_text(seed, 1 + 2 * seed) for seed in range(6)}
    documents = [
        encode_document(tokenizer, DocumentKey(key, key), text, document_tokens=100_000) for key, text in texts.items()
    ]
    context = 48
    assert max(len(document.tokens) for document in documents) > 3 * context  # several windows
    assert min(len(document.tokens) for document in documents) < context  # and a single one
    reference = HFLM(
        pretrained=build_model(len(tokenizer)),
        tokenizer=tokenizer,
        batch_size=4,
        max_length=context,
        prefix_token_id=tokenizer.convert_tokens_to_ids(SEPARATOR),
        add_bos_token=False,
    )
    requests = [Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(texts.values())]
    theirs = [-value for value in reference.loglikelihood_rolling(requests, disable_tqdm=True)]

    ours = score_documents(model, documents, prefix=reference.prefix_token_id, context=context, batch_tokens=200)

    assert [score.nats for score in ours] == pytest.approx(theirs, rel=1e-4)
    assert all(score.nats > score.tokens for score in ours)  # an untrained model: far from 0


@pytest.mark.parametrize("batch_tokens", [17, 100, 1000])
def test_a_score_does_not_depend_on_what_it_is_packed_with(tokenizer, model, batch_tokens):
    documents = [
        encode_document(tokenizer, DocumentKey(f"law/00000/{seed}", str(seed)), make_text(seed, seed), document_tokens=60)
        for seed in range(1, 7)
    ]
    alone = [score_documents(model, [d], prefix=0, context=32, batch_tokens=1)[0] for d in documents]

    packed = score_documents(model, documents, prefix=0, context=32, batch_tokens=batch_tokens)
    turned = score_documents(model, documents[::-1], prefix=0, context=32, batch_tokens=batch_tokens)[::-1]

    assert [(score.identity, score.id) for score in packed] == [document.key for document in documents]
    assert [score.nats for score in packed] == pytest.approx([score.nats for score in alone], rel=1e-5)
    assert [score.nats for score in turned] == pytest.approx([score.nats for score in alone], rel=1e-5)


def test_passes_filled_up_to_one_size_score_the_same(tokenizer, model, monkeypatch):
    documents = [
        encode_document(tokenizer, DocumentKey(f"law/00000/{seed}", str(seed)), make_text(seed, seed), document_tokens=60)
        for seed in range(1, 7)
    ]
    sizes = []
    real = passes.hidden_states
    monkeypatch.setattr(
        passes, "hidden_states", lambda model, ids, lengths: sizes.append(len(ids)) or real(model, ids, lengths)
    )
    expected = score_documents(model, documents, prefix=0, context=32, batch_tokens=100)
    assert len(set(sizes)) > 1
    sizes.clear()
    filled = score_documents(model, documents, prefix=0, context=32, batch_tokens=100, row_tokens=100)
    assert set(sizes) == {100}
    assert [score.nats for score in filled] == pytest.approx([score.nats for score in expected], rel=1e-5)


def test_the_first_token_is_scored_from_the_prefix_alone(tokenizer, model):
    with torch.no_grad():
        plain = build_model(len(tokenizer))
        expected = -torch.log_softmax(plain(torch.tensor([[5]])).logits[0, 0], dim=-1)[7].item()

    [score] = score_documents(
        model, [EncodedDocument(DocumentKey("law/00000/0", "one"), [7], 3)], prefix=5, context=8, batch_tokens=8
    )

    assert score == ScoredDocument("law/00000/0", "one", pytest.approx(expected, rel=1e-5), 1, 3)


def test_the_aggregate_pools_documents_by_bytes():
    scores = [
        ScoredDocument("law/00000/0", "short", 2 * math.log(2), 1, 2),
        ScoredDocument("law/00000/0", "long", 4 * math.log(2), 5, 8),
    ]

    total = aggregate(scores, held_out=LAW, documents_path="d.jsonl", compare=CompareConfig())

    assert total.bits_per_byte == pytest.approx(6 / 10)  # the mean of ratios would be 0.75
    assert total.perplexity == pytest.approx(2.0)
    assert (total.documents, total.scored_tokens, total.scored_bytes) == (2, 6, 10)
    assert (total.bits_per_byte_interval, total.perplexity_interval) == (None, None)  # two documents


def test_the_interval_is_that_of_the_ratio_over_documents():
    random = np.random.default_rng(4)
    scores = [
        ScoredDocument(f"law/00000/{i}", str(i), float(nats) * length, length // 4, length)
        for i, (nats, length) in enumerate(zip(random.gamma(20, 0.03, 40), random.integers(100, 2000, 40), strict=True))
    ]

    total = aggregate(scores, held_out=LAW, documents_path="d.jsonl", compare=CompareConfig())

    interval, perplexity = total.bits_per_byte_interval, total.perplexity_interval
    assert interval.kind == perplexity.kind == "over documents"
    assert interval.low < total.bits_per_byte < interval.high
    assert perplexity.low < total.perplexity < perplexity.high


def test_intervals_are_seeded_and_move_with_the_seed():
    random = np.random.default_rng(0)
    scores = [
        ScoredDocument(f"law/00000/{i}", str(i), float(nats), 10, 30) for i, nats in enumerate(random.gamma(20, 1, size=40))
    ]

    def interval(seed):
        config = CompareConfig(seed=seed, subsets=200)
        return aggregate(scores, held_out=LAW, documents_path="d", compare=config).bits_per_byte_interval

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_a_score_that_is_not_finite_is_an_error():
    scores = [ScoredDocument("law/00000/0", "fine", 1.0, 1, 1), ScoredDocument("law/00000/0", "broken", math.nan, 1, 1)]
    with pytest.raises(DataError, match=r"document 'broken' \(law/00000/0\) of law scored nan nats"):
        aggregate(scores, held_out=LAW, documents_path="d", compare=CompareConfig())


def test_documents_are_the_first_ones_of_the_file(tmp_path):
    path = tmp_path / "law.jsonl"
    path.write_text(
        "".join(
            json.dumps({"identity": f"law/00000/{i}", "id": "same", "text": f"text {i}", "more": 1}) + "\n" for i in range(5)
        )
    )

    assert read_documents(path, 3) == [(DocumentKey(f"law/00000/{i}", "same"), f"text {i}") for i in range(3)]
    assert len(read_documents(path, 99)) == 5


def test_a_bad_line_of_a_held_out_set_is_named(tmp_path):
    path = tmp_path / "law.jsonl"
    path.write_text('{"identity": "law/00000/0", "id": "a", "text": "b"}\n{"id": "c"}\n')
    with pytest.raises(DataError, match=r"law\.jsonl, line 2: not a JSON object with identity, id and text"):
        read_documents(path, 9)


def test_a_held_out_set_that_is_missing_or_too_small_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: held-out set cannot be read: No such file"):
        read_documents(tmp_path / "none.jsonl", 9)
    (tmp_path / "one.jsonl").write_text('{"identity": "law/00000/0", "id": "a", "text": "b"}\n')
    with pytest.raises(DataError, match="1 held-out documents; scores need at least 2"):
        read_documents(tmp_path / "one.jsonl", 9)
