import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.clean.segment import count_sentences, is_mark, is_punctuation, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello | , | world | !"),
        ('("so")...', '( | " | so | " | ) | ...'),
        ("the U.S. and e.g. this.", "the | U.S. | and | e.g. | this | ."),
        ("by Dr. No in 1.5 days.", "by | Dr. | No | in | 1.5 | days | ."),
        ("don't, it's John’s", "do | n't | , | it | 's | John | ’s"),  # noqa: RUF001
        ("well-known and/or not/so", "well | - | known | and/or | not | / | so"),
        ("see https://x.org/a-b?c=d, or a@b.co.uk.", "see | https://x.org/a-b?c=d | , | or | a@b.co.uk | ."),
        ("over 10km at 5% ($3)", "over | 10 | km | at | 5 | % | ( | $ | 3 | )"),
        ("GPLv3+, INC.'S St.'s", "GPLv3 | + | , | INC | . | 'S | St. | 's"),
        ('He left".).', 'He | left | " | . | ) | .'),
        ("v1+.) Dr... etc.)", "v1 | + | . | ) | Dr | ... | etc | . | )"),
        ("M\ufffdller 20°", "M | \ufffd | ller | 20 | °"),
        ("a. b) end.Start", "a. | b | ) | end | . | Start"),
        ("一个句子。", "一 | 个 | 句 | 子 | 。"),
    ],
)
def test_marks_are_tokens_and_what_belongs_together_stays(text: str, expected: str) -> None:
    assert " | ".join(tokens(text)) == expected


@given(st.text(max_size=200))
def test_no_character_but_white_space_is_lost(text: str) -> None:
    assert "".join(tokens(text)) == "".join(text.split())


@given(st.text(st.sampled_from("ab.,'()-/…1 "), max_size=60))
def test_no_character_is_lost_among_marks(text: str) -> None:
    assert "".join(tokens(text)) == "".join(text.split())


@pytest.mark.parametrize(
    "run",
    [
        *(mark * 300_000 for mark in ".(a"),
        *(two * 150_000 for two in ("a.", "a-", "'s", ").", "_.", '".', "1+", "-.", "a@", "…。")),
        *("Dr" + three * 100_000 for three in (").+", "...)", "1+.")),
    ],
    ids=lambda run: run[:5],
)
def test_long_runs_take_no_quadratic_time(run: str) -> None:
    assert "".join(tokens(run)) == run


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("No end", 1),
        ("One. Two! Three?", 3),
        ("At 3.5 by Dr. No.", 1),
        ('He said "so." Then he went.', 2),
        ("Wait... what?", 1),
        ("Done.)", 1),
    ],
)
def test_sentences_end_where_something_follows(text: str, count: int) -> None:
    assert count_sentences(tokens(text)) == count


def test_marks_and_punctuation_are_told_apart() -> None:
    assert is_punctuation("?)")
    assert not is_punctuation("$")
    assert is_mark("$")
    assert not is_mark("c3")
