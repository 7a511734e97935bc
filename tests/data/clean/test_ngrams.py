from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.clean.ngrams import TokenNgrams

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", ",", "the", "longer"]), max_size=40)


def top(words: list[str], size: int) -> int:
    """The definition, with tuples."""
    counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    if not counts:
        return 0
    ngram, count = counts.most_common(1)[0]
    return len(" ".join(ngram)) * count


def duplicates(words: list[str], size: int) -> int:
    """The definition, with tuples."""
    seen: set[tuple[str, ...]] = set()
    characters = place = 0
    while place < len(words) - size + 1:
        ngram = tuple(words[place : place + size])
        if ngram in seen:
            characters += len("".join(ngram))
            place += size
        else:
            seen.add(ngram)
            place += 1
    return characters


@given(WORDS, st.integers(2, 5))
def test_top_ngrams_are_those_of_a_plain_count(words: list[str], size: int) -> None:
    assert TokenNgrams(words).top_characters(size) == top(words, size)


@given(WORDS, st.integers(2, 5))
def test_duplicate_ngrams_are_those_of_a_plain_count(words: list[str], size: int) -> None:
    ngrams, wanted = TokenNgrams(words), duplicates(words, size)
    assert not ngrams.duplicates_exceed(size, wanted)
    assert ngrams.duplicates_exceed(size, wanted - 0.5)
    assert ngrams.any_repeats(size) == (wanted > 0)


def test_the_count_without_overlap_is_asked_where_the_bound_is_too_wide() -> None:
    words = ["a", "a", "a", "a"]
    assert duplicates(words, 2) == 2  # the upper bound, everything the copies cover, is 3
    assert not TokenNgrams(words).duplicates_exceed(2, 2)
    assert TokenNgrams(words).duplicates_exceed(2, 1.9)
