import random
import re
import subprocess
import sys
import unicodedata
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.data import words as module
from cpt_ray.data.invisible import remove_invisible
from cpt_ray.data.scripts import has_unspaced
from cpt_ray.data.words import (
    fold,
    hash_ngrams,
    hash_ngrams_batch,
    hash_words,
    hash_words_batch,
    seeded_share,
    word_spans,
    words,
)

ROOT = Path(__file__).parents[2]


INDIC = (
    "किरायेदार हर महीने के पहले दिन किराया देता है और मकान मालिक छत को अच्छी हालत में रखता है।",
    "ভাড়াটিয়া প্রতি মাসের প্রথম দিনে ভাড়া দেন এবং বাড়িওয়ালা ছাদ ভালো অবস্থায় রাখেন।",
    "குத்தகைதாரர் ஒவ்வொரு மாதமும் முதல் நாளில் வாடகை செலுத்துகிறார், கூரையை நன்றாக பராமரிக்கிறார்.",
    "అద్దెదారు ప్రతి నెల మొదటి రోజున అద్దె చెల్లిస్తాడు.",
    "مُسْتَأْجِر يَدْفَعُ الإيجار",
    "שָׁלוֹם עולם",
)


def test_case_punctuation_and_composition_do_not_matter() -> None:
    assert words("Don't STOP, Café!") == words("don t\nstop - cafe\u0301") == ["don", "t", "stop", "café"]
    assert hash_words("Don't STOP, Café!").tolist() == hash_words("don t\nstop - cafe\u0301").tolist()


def test_spans_point_at_the_words_of_the_text_itself() -> None:
    text = "Straße, ein CAFÉ und 42 ﬁsche"
    spans = word_spans(text)
    assert spans is not None
    assert [fold(text[start:end]) for start, end in spans] == words(text)
    assert "Straße" in [text[start:end] for start, end in spans]


def test_a_text_whose_folding_moves_characters_has_no_spans() -> None:
    assert word_spans("cafe\u0301 au lait") is None


@pytest.mark.parametrize(
    "alphabet",
    [
        "abc XY_9 ,.\n-",
        "abc ÉÀß\u2019\u201c\u0663\u0301 \U0001d49c_,.\n",
        "ab \u6cd5\u5f8b\u3002\u306e\u30ab\u30fc\u0e01\u0e34\u0e48\u0e51 \u1780\u17d2\U00020000\uff21\u00ad\u200b,",
    ],
)
def test_hashes_are_equal_exactly_where_words_are(alphabet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(alphabet, k=draw.choice([0, 1, 7, 80]))) for _ in range(400)]
    texts += ["", "a" * 500, "b " * 500, ""]
    together, offsets = hash_words_batch(texts)
    monkeypatch.setattr(module, "_WINDOW", 64)  # many windows, and words longer than one
    windowed, _ = hash_words_batch(texts)
    assert np.array_equal(together, windowed)
    hash_of: dict[str, int] = {}
    for text, start, end in zip(texts, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        assert end - start == len(words(text))
        for word, value in zip(words(text), together[start:end].tolist(), strict=True):
            assert hash_of.setdefault(word, value) == value
    assert len(set(hash_of.values())) == len(hash_of) > 100


def test_no_texts_have_no_words() -> None:
    hashes, offsets = hash_words_batch([])
    assert (len(hashes), offsets.tolist()) == (0, [0])


def test_an_ngram_hash_depends_on_order_length_and_words_alone() -> None:
    base = hash_words("a b c a b")
    grams = hash_ngrams(base, 2)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len(np.unique(grams)) == 3
    assert hash_ngrams(base, 1)[0] not in grams
    assert len(hash_ngrams(base, 6)) == 0


def test_no_ngram_of_a_batch_reaches_into_the_next_text() -> None:
    texts = ["a b c d", "", "e f", "g h i", "j"]
    hashes, offsets = hash_ngrams_batch(*hash_words_batch(texts), 3)
    assert offsets.tolist() == [0, 2, 2, 2, 3, 3]
    assert hashes.tolist() == [*hash_ngrams(hash_words("a b c d"), 3).tolist(), *hash_ngrams(hash_words("g h i"), 3).tolist()]


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from cpt_ray.data.words import *; print(hash_words('law')[0], seeded_share('a', 1))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(hash_words("law")[0]), str(seeded_share("a", 1))]


def test_ordinary_text_has_the_words_that_it_always_had() -> None:
    """English and other spaced text: runs of word characters and marks in casefolded NFC text, and nothing else."""
    marks = "".join(chr(code) for code in range(0x20000) if unicodedata.category(chr(code)).startswith("M"))
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("cpt_ray/**/*.py")]
    files += [file.locate() for name in ("numpy", "torch") for file in distribution(name).files or () if "LICENSE" in file.name]
    texts = [Path(file).read_text(encoding="utf-8", errors="replace") for file in files]
    texts += [
        "Straße, Αθήνα and Москва: x² costs ½ €, naïve ﬁsh…",
        "한국어는 띄어쓰기를 한다.",
        "नियम और कानून",
        "العقد شريعة المتعاقدين",
    ]
    plain = [text for text in texts if not has_unspaced(text) and text == remove_invisible(text)[0]]
    assert sum(map(len, plain)) > 500_000
    assert any(not text.isascii() for text in plain)
    for text in plain:
        assert words(text) == re.findall(rf"(?:\w|[{marks}])+", unicodedata.normalize("NFC", text.casefold()))


@pytest.mark.parametrize("text", INDIC)
@pytest.mark.accept(inputs=1)
def test_vowel_signs_and_points_belong_to_their_word(text: str) -> None:
    assert words(text) == [word.strip(".,।") for word in text.casefold().split()]
    assert [text[start:end] for start, end in word_spans(text) or []] == [word.strip(".,।") for word in text.split()]
    hashes, offsets = hash_words_batch([text, f"{text}\n{text}", "漢字 और कानून"])
    assert np.diff(offsets).tolist() == [len(text.split()), 2 * len(text.split()), 4]
    assert len(set(hashes[: offsets[1]].tolist())) == len(set(words(text)))


@pytest.mark.parametrize(
    "hidden",
    [
        "un\u00adeven sta\u00adtute",
        "u\u200bn\u2060even stat\u200cu\u200dte",
        "\ufeffuneven \u202dstatute\u202c",
        "un\ufe0feven sta\U000e0100tute",
        "uneven sta\U000e0041\U000e0042tute\U000e007f",
        "\uff35\uff2e\uff25\uff36\uff25\uff2e statute",
        "\U0001d42e\U0001d427\U0001d41e\U0001d42f\U0001d41e\U0001d427 statute",
        "uneven\u3000statute",
    ],
)
def test_invisible_characters_widths_and_fonts_do_not_hide_a_word(hidden: str) -> None:
    assert words(hidden) == ["uneven", "statute"]
    assert hash_words(hidden).tolist() == hash_words("Uneven statute").tolist()
    spans = word_spans(hidden)
    assert spans is not None
    assert [words(hidden[start:end]) for start, end in spans] == [["uneven"], ["statute"]]


def test_letters_that_only_look_alike_are_other_letters() -> None:
    assert words("l\u0430w") != words("law")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u6cd5\u5f8b\u3002\u6cd5", ["\u6cd5", "\u5f8b", "\u6cd5"]),
        ("\u4f7f\u7528Python\u7f16\u7a0b 3\u5e74", ["\u4f7f", "\u7528", "python", "\u7f16", "\u7a0b", "3", "\u5e74"]),
        ("\u6cd5\u306e\u30ab\u30fc\u30c9", ["\u6cd5", "\u306e", "\u30ab", "\u30fc", "\u30c9"]),
        ("\uff76\uff9e\uff70", ["\u30ac", "\u30fc"]),
        (
            "\u0e01\u0e0e\u0e2b\u0e21\u0e32\u0e22 2\u0e51",
            ["\u0e01", "\u0e0e", "\u0e2b", "\u0e21", "\u0e32", "\u0e22", "2\u0e51"],
        ),
        ("\u0e17\u0e35\u0e48", ["\u0e17\u0e35\u0e48"]),
        ("\u1785\u17d2\u1794\u17b6\u200b\u1794", ["\u1785\u17d2", "\u1794\u17b6", "\u1794"]),
    ],
)
def test_a_character_with_its_marks_is_a_word_where_words_are_not_spaced(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert hash_words(text).tolist() == [value for word in expected for value in hash_words(word).tolist()]
