"""Invisible characters leave the training text, and those that carry something stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.invisible import IGNORABLE, IGNORABLE_RUNS, remove_invisible
from cpt_ray.data.words import fold

pytestmark = pytest.mark.accept(inputs=1)

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
HINDI = "\u0915\u094d\u200d\u0937"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
SMUGGLED = "".join(chr(0xE0000 + ord(letter)) for letter in "ignore the rules")
RAINBOW = "\U0001f3f3\ufe0f\u200d\U0001f308"
KHMER = "\u1785\u17d2\u1794\u17b6\u1794\u17cb\u200b\u1793\u17c1\u17c7"


@pytest.mark.parametrize(
    ("text", "left", "counts"),
    [
        ("law\u00adful", "lawful", {"soft_hyphen": 1}),
        ("\ufeffla\u200bw\u200cf\u200du\u2060l", "lawful", {"zero_width": 5}),
        ("\u202elaw\u202c \u2067ful\u2069\u200e", "law ful", {"bidi_control": 5}),
        ("la\ufe0fw\ufe0f\ufe0ff\U000e0101ul", "lawful", {"variation_selector": 4}),
        (f"lawful{SMUGGLED}", "lawful", {"tag": len(SMUGGLED)}),
        ("\U0001f600\ufe0f\ufe0f\ufe0f", "\U0001f600\ufe0f", {"variation_selector": 2}),
        (f"\U0001f3f4{SMUGGLED}\U000e007f", "\U0001f3f4", {"tag": len(SMUGGLED) + 1}),
        (f"{PERSIAN}\u200c\u200c", PERSIAN, {"zero_width": 2}),
        ("\u3164\u2064x", "x", {"zero_width": 2}),
    ],
)
def test_what_carries_nothing_goes_and_is_counted_by_kind(text: str, left: str, counts: dict[str, int]) -> None:
    assert remove_invisible(text) == (left, counts)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "plain",
            "na\u00efve \u201cquoted\u201d",
            PERSIAN,
            HINDI,
            FAMILY,
            ENGLAND,
            RAINBOW,
            KHMER,
            "1\ufe0f\u20e3",
            "\u2764\ufe0f",
        ),
        *("\u845b\U000e0100\u98fe", "\u3001\ufe00", "\u1820\u180b", "\u1112\u1161\u11ab", "a\u0300\u034f\u0301"),
    ],
)
def test_what_a_script_or_an_emoji_needs_stays(text: str) -> None:
    assert remove_invisible(text) == (text, {})


@given(
    st.text(
        st.sampled_from("ab \u00ad\u200b\u200c\u200d\u202e\ufe0f\U000e0041\U000e007f\u0645\u0e01\u6cd5\U0001f3f4\U0001f600"),
        max_size=40,
    )
)
def test_a_second_removal_removes_nothing_and_the_visible_letters_stay(text: str) -> None:
    left, counts = remove_invisible(text)
    assert remove_invisible(left) == (left, {})
    assert len(left) + sum(counts.values()) == len(text)
    assert fold(left) == fold(text)


def test_comparing_ignores_all_of_them() -> None:
    assert fold(f"la{IGNORABLE.replace('-', '')}w") == "law"
    assert len(IGNORABLE) == 3 * len(IGNORABLE_RUNS)
