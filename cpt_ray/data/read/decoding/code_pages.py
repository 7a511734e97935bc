"""Tell the code pages of Latin scripts apart: by whose alphabet the characters come from.

Part of stage `read`. In these code pages a byte above 127 is one character, and nearly every byte is some character in each of
them, so a text can be read in all. Read in the right one, its characters are letters of one language, and marks where marks
stand. Alphabets are the main exemplar characters of CLDR, the most frequent first. Memory: the sample, once per code page.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

CODE_PAGES = ("cp1252", "iso8859-15", "cp1250", "iso8859-2", "cp1254", "cp1257", "mac_roman", "cp850", "cp852")
"""The first of those that fit equally is taken."""
_ALPHABETS = {
    "Catalan": "àèíóéçòúïü·",
    "Croatian, Slovenian": "čšžćđ",
    "Czech": "íáéěřčžýšůúňóťď",
    "Danish, Norwegian": "åøæéòô",
    "Dutch": "ëéïöüèóáí",
    "English": "éèêñçôöü",
    "Estonian": "äõüöšž",
    "Finnish": "äöåšž",
    "French": "éàèêçôûîâœùïëüæÿ",
    "German": "üäßö",
    "Hungarian": "éáöóőíüúű",
    "Icelandic": "ðáíþóöéæúý",
    "Irish": "íáéúó",
    "Italian": "èàùòìé",
    "Latvian": "āīēūšžļčņģķ",
    "Lithuanian": "ėųšžūįąčę",
    "Polish": "łąęóżśćńź",
    "Portuguese": "ãáçéíóêõâàúôüªº",
    "Romanian": "ășîțâşţ",
    "Slovak": "áíéčýšžľťúňôóäďŕĺ",
    "Spanish": "óíáéñú¿¡üºª",
    "Swedish": "äåöéà",
    "Turkish": "\u0131üşğçöİâîû",
}
_RARE = 0.2
"""What the rarest letter of an alphabet counts less than the most frequent: French with three accents is not Slovak."""
_WEIGHTS = [{letter: 1 - _RARE * rank / len(all_) for rank, letter in enumerate(all_)} for all_ in _ALPHABETS.values()]
_INSIDE = frozenset("\u2018\u2019\u2013—·\u00a0\u00ad")
_MARKS = _INSIDE | frozenset("“”„…•€£§°©®™«»\u201a\u2039\u203a")
_SURE = 0.85
_MARGIN = 0.03


class Fit(NamedTuple):
    """A code page, the share of characters beyond ASCII that it explains, and whether no other explains them as well."""

    name: str
    share: float
    is_sure: bool


def best_code_page(sample: bytes) -> Fit | None:
    """The code page in which a sample reads like a language with a Latin alphabet; None if it is text in none of them."""
    found: list[tuple[float, str, str]] = []
    for name in CODE_PAGES:
        try:
            text = sample.decode(name)
        except UnicodeDecodeError:
            continue
        found.append((_share(text), name, text))
    if not found:
        return None
    share, name, text = max(found, key=lambda item: item[0])
    rivals = [other for other, _, decoded in found if decoded != text]
    return Fit(name, share, share >= _SURE and max(rivals, default=0.0) < share - _MARGIN)


def _share(text: str) -> float:
    """The share of characters beyond ASCII that are letters of one alphabet, or marks in their places; rare ones count less."""
    letters: dict[str, int] = {}
    total = marks = 0
    for before, here, after in zip(itertools.chain(" ", text), text, itertools.chain(text[1:], " "), strict=False):
        if here < "\x80":
            continue
        total += 1
        if here.isalpha() or here in "ªº¿¡":
            # A capital behind a small letter is the mark of another code page.
            if not (here.isupper() and before.islower()):
                letter = here if here == "İ" else here.lower()
                letters[letter] = letters.get(letter, 0) + 1
        elif here in _MARKS:
            marks += here in _INSIDE or not (before.isalpha() and after.isalpha())
    best = max(sum(weights.get(letter, 0.0) * count for letter, count in letters.items()) for weights in _WEIGHTS)
    return (best + marks) / max(total, 1)
