r"""Characters that nobody sees: which of them leave the training text, and which never count when texts are compared.

Used by stage `clean` (`remove_invisible`) and by `words` (`IGNORABLE`). Comparing ignores every character that Unicode calls
default-ignorable (UAX #44), whatever the settings: a soft hyphen must not hide a leak or a copy. Training text loses those
that carry nothing: soft hyphens, zero-width characters, bidirectional controls, stray variation selectors, tag characters.

What a script needs stays (UAX #31, section 2.3, and UTS #51): joiners after letters of Arabic, Indic and related scripts and
inside emoji, a zero-width space between letters of Southeast Asian scripts, one variation selector after a symbol or an
ideograph, the tags of the three regional flags. Letters that only look alike (Cyrillic and Latin `a`) are different letters:
homoglyphs are not handled. Memory: the current document.

Guarantee: text without such characters is returned unchanged, and a second removal removes nothing.
"""

from __future__ import annotations

import re
from collections import Counter

import regex

from cpt_ray.data.scripts import CharacterSet

IGNORABLE_RUNS = (
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""First and last code points of the default-ignorable characters."""
IGNORABLE = "".join(f"{chr(first)}-{chr(last)}" for first, last in IGNORABLE_RUNS)
"""The same as the inside of a character class."""
_KINDS = {
    "soft_hyphen": "\u00ad",
    "zero_width": "\u200b-\u200d\u2060-\u2065\u3164\ufeff\uffa0\ufff0-\ufff8",
    "bidi_control": "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f",
    "variation_selector": "\ufe00-\ufe0f\U000e0100-\U000e01ef",
    "tag": "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff",
}
_ANY = CharacterSet(IGNORABLE_RUNS)
_KIND = re.compile("|".join(f"(?P<{kind}>[{members}])" for kind, members in _KINDS.items()))
_JOINING = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Arabic", "Syriac", "Mongolian", "Nko", "Mandaic", "Adlam", "Hanifi_Rohingya", "Devanagari", "Bengali", "Gurmukhi"),
        *("Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Tibetan", "Khmer", "Myanmar"),
    )
)
_FLAGS = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in name) for name in ("gbeng", "gbsct", "gbwls"))
_NEEDED = regex.compile(
    rf"(?<=\U0001f3f4)(?:{_FLAGS})\U000e007f"
    r"|(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})"
    rf"|(?<=[{_JOINING}])[\u200c\u200d](?![\u200c\u200d])"
    r"|(?<=[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\u200b(?=[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
    r"|(?<=[[\p{S}--\p{ASCII}]\p{Han}\p{Myanmar}\u203c\u2049\u3001\u3002\u3030\u303d\uff01\uff0c\uff0e\uff1a\uff1b\uff1f])[\ufe00-\ufe0f]"
    r"|(?<=\p{Han})[\U000e0100-\U000e01ef]"
    r"|(?<=[0-9#*])\ufe0f(?=\u20e3)",
    regex.VERSION1,
)


def remove_invisible(text: str) -> tuple[str, dict[str, int]]:
    """Remove invisible characters that carry nothing.

    Args:
        text: The text.

    Returns:
        The text, and the number of characters removed by kind; kinds that were not found are left out.
    """
    if not _ANY.found_in(text):
        return text, {}
    needed = {place for match in _NEEDED.finditer(text) for place in range(*match.span())}
    counts: Counter[str] = Counter()

    def replace(match: re.Match[str]) -> str:
        if match.start() in needed:
            return match[0]
        counts[str(match.lastgroup)] += 1
        return ""

    text = _KIND.sub(replace, text)
    return text, dict(counts)
