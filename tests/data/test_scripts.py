"""Scripts without spaces are recognized, and cut into characters."""

import pytest

from cpt_ray.data.scripts import has_no_full_stop, has_unspaced, is_unspaced, line_width, split_unspaced

CHINESE = "\u6cd5\u5f8b\u9762\u524d\u4eba\u4eba\u5e73\u7b49\u3002"
JAPANESE = "\u3059\u3079\u3066\u56fd\u6c11\u306f\u3001\u6cd5\u306e\u4e0b\u306b\u5e73\u7b49\u3067\u3042\u308b\u3002"
THAI = (
    "\u0e1a\u0e38\u0e04\u0e04\u0e25\u0e22\u0e48\u0e2d\u0e21\u0e40\u0e2a\u0e21\u0e2d\u0e01"
    "\u0e31\u0e19\u0e43\u0e19\u0e01\u0e0e\u0e2b\u0e21\u0e32\u0e22"
)
LAO = "\u0e9e\u0ebb\u0e99\u0ea5\u0eb0\u0ec0\u0ea1\u0eb7\u0ead\u0e87"
KHMER = "\u1785\u17d2\u1794\u17b6\u1794\u17cb\u17d4"
BURMESE = "\u1025\u1015\u1012\u1031\u104b"
KOREAN = "\ubc95 \uc55e\uc5d0 \ubaa8\ub450 \ud3c9\ub4f1\ud558\ub2e4."


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI, LAO, KHMER, BURMESE, f"{CHINESE} GPL"])
def test_a_text_in_such_a_script_is_recognized(text: str) -> None:
    assert has_unspaced(text)
    assert is_unspaced(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Equal before the law.",
        "\u2018\u00e9gal\u2019 \u2014 \u0440\u0430\u0432\u043d\u044b",
        KOREAN,
        "\u0928\u093f\u092f\u092e",
        "\u3002\u3001",
    ],
)
def test_others_are_not(text: str) -> None:
    assert not has_unspaced(text)
    assert not is_unspaced(text)


def test_a_mixed_text_counts_as_what_says_more() -> None:
    assert not is_unspaced(f"The character {CHINESE[0]} means law in Chinese.")
    assert not is_unspaced(f"{CHINESE} All are equal before the law, says the law.")
    assert is_unspaced(f"{CHINESE} says the law")


def test_only_thai_and_lao_have_no_full_stop() -> None:
    assert [text for text in (CHINESE, JAPANESE, THAI, LAO, KHMER, BURMESE, KOREAN, "law") if has_no_full_stop(text)] == [
        THAI,
        LAO,
    ]


def test_punctuation_stays_with_what_it_follows() -> None:
    assert split_unspaced("\u6cd5\u5f8b\u3002 Python 3\uff01\u5e74") == [
        "\u6cd5",
        "\u5f8b\u3002",
        "Python",
        "3\uff01",
        "\u5e74",
    ]
    assert split_unspaced("\u0e17\u0e35\u0e48 a-b, c") == ["\u0e17\u0e35\u0e48", "a-b,", "c"]


def test_ideographs_and_kana_are_wide() -> None:
    assert line_width("law") == 3
    assert line_width("na\u00efve") == 5
    assert line_width("\u6cd5\u306ea") == 5
    assert line_width(THAI) == len(THAI)
