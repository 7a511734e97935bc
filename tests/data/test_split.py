import functools
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.config.sections.prepare import HeldOutConfig
from cpt_ray.data.split import ContainmentIndex, document_ngrams, fill_test_set, held_out_part, held_out_share
from cpt_ray.data.words import hash_ngrams, hash_words
from tests.data.conftest import sentence

HELD = [sentence(40, seed="held_1"), sentence(60, seed="held_2"), "nine words make a short one that counts too"]


@pytest.fixture
def index(tmp_path: Path) -> ContainmentIndex:
    ContainmentIndex.build([document_ngrams(text, 13) for text in [*HELD, "..."]]).save(tmp_path)
    return ContainmentIndex.load(tmp_path)


def contains(index: ContainmentIndex, text: str, share: float = 0.5) -> bool:
    return index.contains(hash_words(text), share)


def test_a_whole_held_out_document_is_found_in_a_longer_one(index: ContainmentIndex) -> None:
    assert contains(index, f"{sentence(30, seed=1)} {HELD[1].upper().replace(' ', ', ')} {sentence(30, seed=2)}")


def test_half_of_the_ngrams_is_the_border(index: ContainmentIndex) -> None:
    sequence = HELD[0].split()  # 40 words: 28 n-grams of 13 words, and 14 of them need 26 words
    assert contains(index, " ".join(sequence[:26]))
    assert not contains(index, " ".join(sequence[:25]))
    assert contains(index, " ".join(sequence[:25]), share=0.4)


def test_parts_of_two_held_out_documents_do_not_add_up(index: ContainmentIndex) -> None:
    halves = [" ".join(text.split()[:24]) for text in HELD[:2]]
    assert not contains(index, "\n\n".join(halves))


def test_a_short_held_out_document_is_one_ngram_of_all_its_words(index: ContainmentIndex) -> None:
    assert contains(index, f"before {HELD[2]} after")
    assert not contains(index, f"before {HELD[2].rsplit(' ', 1)[0]} after")


SHORT = ["Yes.", "The law", "1", "we do not know what this is", "他说他不知道我们去哪里。", "ไม่ทราบครับ"]


@pytest.mark.parametrize("held", SHORT)
def test_a_held_out_document_of_few_words_is_found_only_where_it_is_all_there_is(held: str) -> None:
    index = ContainmentIndex.build([document_ngrams(held, 13)])
    assert contains(index, held)
    assert contains(index, f"  {held.upper()} !", share=1.0)
    for text in (f"{held} indeed", f"so {held}", f"{sentence(50, seed=1)} {held} {sentence(50, seed=2)}", f"{held} {held}"):
        assert not contains(index, text, share=0.01)


def test_eight_words_are_found_inside_and_seven_are_not() -> None:
    for count, inside in ((8, True), (7, False)):
        held = sentence(count, seed="held")
        index = ContainmentIndex.build([document_ngrams(held, 13)])
        assert contains(index, f"before {held} after") is inside
    # Where shorter n-grams are asked for, so are shorter documents.
    assert contains(ContainmentIndex.build([document_ngrams("four words it is", 3)]), "before four words it is after")
    characters = "每个租户必须在月底之前支付租金和水电费用"
    for count, inside in ((16, True), (15, False)):
        index = ContainmentIndex.build([document_ngrams(characters[:count], 13)])
        assert contains(index, f"按照合同。{characters[:count]}。") is inside


def test_other_text_and_an_empty_index_hold_nothing(index: ContainmentIndex) -> None:
    assert not contains(index, sentence(200, seed="other"))
    assert not contains(ContainmentIndex.build([]), HELD[0])


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.7, 1.0])
def test_verdicts_are_those_of_counting_document_by_document(share: float) -> None:
    # Documents with a few common phrases, so that n-grams have many owners and verdicts fall on both sides of the threshold.
    draw = np.random.default_rng(int(100 * share))
    phrases = [sentence(int(draw.integers(3, 30)), seed=f"phrase_{number}") for number in range(30)]

    def document() -> str:
        own = [sentence(int(draw.integers(1, 40)), seed=int(draw.integers(10**9))) for _ in range(2)]
        parts = [*own, *(phrases[number] for number in draw.integers(0, len(phrases), draw.integers(0, 12)))]
        return " ".join(parts[number] for number in draw.permutation(len(parts)))

    held = [document() for _ in range(60)] + [sentence(4, seed=f"short_{number}") for number in range(5)]
    texts = [document() for _ in range(150)] + held[-3:] + [f"{held[-1]} {document()}"]
    texts += [f"{document()} {text[: int(draw.integers(1, len(text)))]} {document()}" for text in held]
    index = ContainmentIndex.build([document_ngrams(text, 13) for text in held])

    def counted(text: str) -> bool:
        words = hash_words(text)
        if any(len(short) < 8 and short.tolist() == words.tolist() for short in map(hash_words, held)):
            return True
        for grams, used in (document_ngrams(other, 13) for other in held):
            if len(np.intersect1d(grams, hash_ngrams(words, used))) >= share * len(grams):
                return True
        return False

    verdicts = [counted(text) for text in texts]
    assert [index.contains(hash_words(text), share) for text in texts] == verdicts
    assert 0 < sum(verdicts) < len(verdicts)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 1000])
def test_the_quick_look_passes_every_ngram_of_the_index_and_few_others(size: int) -> None:
    draw = np.random.default_rng(size)
    held, others = (draw.integers(0, 2**64, count, dtype=np.uint64) for count in (size, 20_000))
    index = ContainmentIndex.build([(np.unique(held), 13)])
    assert index._perhaps(held).tolist() == held.tolist()
    assert len(index._perhaps(others)) < 0.1 * len(others)


def test_shares_are_met_and_membership_follows_component_and_seed_alone() -> None:
    config = HeldOutConfig(validation_share=0.25)
    parts = [held_out_part(f"component-{number}", config, 0, share=0.1) for number in range(20_000)]
    assert parts == [held_out_part(f"component-{number}", config, 0, share=0.1) for number in range(20_000)]
    assert parts != [held_out_part(f"component-{number}", config, 1, share=0.1) for number in range(20_000)]
    held = [part for part in parts if part]
    assert len(held) / len(parts) == pytest.approx(0.1, abs=0.01)
    assert held.count("validation") / len(held) == pytest.approx(0.25, abs=0.04)


def test_a_small_source_gets_its_two_test_documents_and_keeps_one_to_train_on() -> None:
    config = HeldOutConfig()
    for size in range(3, 60):
        for seed in range(5):
            documents = {f"component-{number}": 1 for number in range(size)}
            floor = fill_test_set(documents, config, seed, share=0.1)
            parts = [held_out_part(name, config, seed, share=0.1, floor=floor) for name in documents]
            plain = [held_out_part(name, config, seed, share=0.1) for name in documents]
            assert parts.count("test") == max(2, plain.count("test")), (size, seed)
            assert parts.count(None) >= 1
            assert size < 9 or parts.count("validation") == plain.count("validation")
            assert floor == fill_test_set(dict(reversed(documents.items())), config, seed, share=0.1)


def test_a_source_too_small_for_a_test_set_gets_none() -> None:
    fill = functools.partial(fill_test_set, config=HeldOutConfig(), seed=0, share=1e-9)
    assert fill({"a": 1, "b": 1}) == ()
    assert fill({"a": 9}) == ()
    assert fill({"a": 1, "b": 5}) != fill({"a": 5, "b": 5})
    assert len(fill({"a": 2, "b": 1})) == 1


@pytest.mark.parametrize(
    ("documents", "whole", "share"),
    [(0, False, 0.02), (250_000, False, 0.02), (1_000_000, False, 0.005), (900, True, 1.0), (50_000, True, 0.1)],
)
def test_of_a_large_source_a_smaller_share_is_held_out(documents: int, whole: bool, share: float) -> None:
    assert held_out_share(documents, HeldOutConfig(), whole=whole) == pytest.approx(share)


def test_the_smaller_share_is_part_of_the_larger() -> None:
    names = [f"component-{number}" for number in range(5000)]
    few, many = ({name for name in names if held_out_part(name, HeldOutConfig(), 0, share=s)} for s in (0.01, 0.1))
    assert few < many
