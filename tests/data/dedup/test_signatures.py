import numpy as np
import pytest

from cpt_ray.config.sections.prepare import NearDuplicateConfig
from cpt_ray.data.dedup.signatures import band_keys, digests, exact_hash, signatures, similarity, sketches, threshold
from cpt_ray.data.words import hash_ngrams, hash_words

from ..conftest import sentence

CONFIG = NearDuplicateConfig()


def bands(texts: list[str], seed: int = 0) -> np.ndarray:
    return band_keys(digests(texts, CONFIG, seed)[1], CONFIG)


def shared_bands(first: str, second: str) -> int:
    keys = bands([first, second])
    return int((keys[0] == keys[1]).sum())


def edited(text: str, every: int) -> str:
    return " ".join(f"edit{place}" if place % every == 0 else word for place, word in enumerate(text.split()))


def jaccard(first: str, second: str) -> float:
    a, b = (set(hash_ngrams(hash_words(text), CONFIG.ngram_words).tolist()) for text in (first, second))
    return len(a & b) / len(a | b)


def test_case_and_white_space_do_not_change_the_exact_hash() -> None:
    assert exact_hash("A  b\nC ") == exact_hash("a b c") != exact_hash("a b. c")


def test_near_duplicates_share_bands_and_strangers_do_not() -> None:
    text = sentence(300, seed=1)
    assert shared_bands(text, text.upper().replace(" ", ", ")) == CONFIG.bands
    assert shared_bands(text, text + " one more") >= 1
    assert shared_bands(text, sentence(300, seed=2)) == 0


def test_bands_do_not_depend_on_neighbors_and_do_depend_on_the_seed() -> None:
    texts = [sentence(50, seed=number) for number in range(5)]
    together = bands(texts)
    for number, text in enumerate(texts):
        assert np.array_equal(bands([text])[0], together[number])
    assert not (bands(texts, 1) == together).any()


def test_sketches_estimate_the_similarity_without_bias_and_within_the_stated_error() -> None:
    texts = [sentence(120, seed=number) for number in range(150)]
    others = [edited(text, 8 + number % 40) for number, text in enumerate(texts)]
    first, second = (sketches(digests(side, CONFIG, 0)[1]) for side in (texts, others))
    true = np.array([jaccard(a, b) for a, b in zip(texts, others, strict=True)])
    assert true.min() < 0.4
    assert true.max() > 0.75
    errors = similarity(first, second) - true
    stated = np.sqrt(true * (1 - true) / first.shape[1])
    assert abs(errors.mean()) < 3 * stated.mean() / np.sqrt(len(texts))
    assert 0.7 < np.sqrt((errors**2).mean()) / np.sqrt((stated**2).mean()) < 1.3


def test_documents_shorter_than_a_shingle_have_the_exact_key_only() -> None:
    texts = ["four words are here", sentence(9, seed=1), ""]
    exact = [exact_hash(text) for text in texts]
    table, sketch = signatures(texts, exact, first=1 << 32, salt=0, config=CONFIG, seed=0)
    owners = [reference - (1 << 32) for reference in table["document"].to_pylist()]
    assert [owners.count(number) for number in range(3)] == [1, 1 + CONFIG.bands, 1]
    assert sketch.shape == (3, CONFIG.bands * CONFIG.rows)
    assert not sketch[[0, 2]].any()
    off, _ = signatures(texts, exact, first=0, salt=0, config=CONFIG.model_copy(update={"enabled": False}), seed=0)
    assert off.num_rows == 3
    assert off["key"].equals(off["exact"])


def test_another_salt_shares_no_key() -> None:
    texts = [sentence(30, seed=1)]
    keys = [
        signatures(texts, [exact_hash(texts[0])], first=0, salt=salt, config=CONFIG, seed=0)[0]["key"].to_pylist()
        for salt in (0, 0, 7)
    ]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


def test_the_threshold_is_that_of_the_bands() -> None:
    assert threshold(CONFIG) == pytest.approx((1 / 16) ** (1 / 8))
    assert threshold(NearDuplicateConfig(enabled=False)) is None
