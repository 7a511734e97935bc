"""The `prepare.clean` section: what is repaired in a document, and which rules may drop it.

Rules come in sets with published or customary thresholds. `rules` lists the active sets in the order they are applied; a
set's section overrides individual thresholds, and a threshold of null turns that rule off. In scripts without spaces (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) a character with its marks counts as a word; rules that do not apply to them say so.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from cpt_ray.config.values import Bytes, Count, Section

RuleSet = Literal["basic", "gopher_quality", "gopher_repetition", "c4", "fineweb", "education"]
Redacted = Literal["email", "phone", "ip", "key"]


class LanguageIdConfig(Section):
    """Language identification with py3langid's model (139 languages, offline)."""

    detect: Literal["never", "missing", "always"] = Field(
        default="never",
        description="`missing`: only where the source does not give a language; `always`: override what the source says",
    )
    min_probability: float = Field(
        default=0.5, ge=0, le=1, description="drop a document if the probability of its wanted language is below this"
    )
    characters: Count = Field(
        default=2000, ge=50, description="number of characters to classify, taken from the middle of the document"
    )


class RedactConfig(Section):
    """Personal data and secrets to replace with a placeholder in kept documents, counted by kind."""

    kinds: tuple[Redacted, ...] = Field(default=(), description="what to replace: email, phone, ip, key")
    placeholder: str = Field(default="<{kind}>", description="replacement text; `{kind}` becomes EMAIL, PHONE, IP or KEY")


class BasicRules(Section):
    """Loose bounds that ordinary text of any domain passes."""

    max_repeated_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="maximum share of non-empty lines that repeat an earlier line"
    )
    max_symbol_word_ratio: float | None = Field(
        default=0.1, ge=0, description="maximum `#` per word, and maximum ellipses per word"
    )
    min_alphabetic_word_share: float | None = Field(
        default=0.6, ge=0, le=1, description="minimum share of words that contain a letter; words are whitespace-separated"
    )
    mean_word_length: tuple[float, float] | None = Field(
        default=(3.0, 10.0),
        description="allowed range of mean characters per word; does not apply to scripts without spaces",
    )


class GopherQualityRules(Section):
    """Quality rules of Gopher (Rae et al. 2021, appendix A.1), with words and punctuation marks as tokens."""

    min_words: Count | None = Field(default=50, description="minimum number of words, punctuation not counted")
    max_words: Count | None = Field(default=100_000, description="maximum number of words, punctuation not counted")
    mean_word_length: tuple[float, float] | None = Field(
        default=(3.0, 10.0),
        description="allowed range of mean characters per word, punctuation not counted; does not apply to scripts without "
        "spaces",
    )
    max_symbol_word_ratio: float | None = Field(
        default=0.1, ge=0, description="maximum `#` per token, and maximum ellipses per token"
    )
    max_bullet_line_share: float | None = Field(
        default=0.9, ge=0, le=1, description="maximum share of lines that begin with a bullet"
    )
    max_ellipsis_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="maximum share of lines that end with an ellipsis"
    )
    min_alphabetic_word_share: float | None = Field(
        default=0.8, ge=0, le=1, description="minimum share of tokens that contain a letter"
    )
    min_stop_words: int | None = Field(
        default=2,
        ge=0,
        description="minimum number of `stop_words` found in the document; does not apply to a document "
        "in a script without spaces, unless a stop word is in one",
    )
    stop_words: tuple[str, ...] = Field(
        default=("the", "be", "to", "of", "and", "that", "have", "with"), description="frequent words of the corpus language"
    )


class GopherRepetitionRules(Section):
    """Repetition rules of Gopher (Rae et al. 2021, table A1). Character shares are relative to the document's length."""

    max_duplicate_paragraph_share: float | None = Field(
        default=0.3, ge=0, le=1, description="maximum share of paragraphs that repeat an earlier one"
    )
    max_duplicate_paragraph_character_share: float | None = Field(
        default=0.2, ge=0, le=1, description="maximum share of characters in repeated paragraphs"
    )
    max_duplicate_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="maximum share of lines that repeat an earlier one"
    )
    max_duplicate_line_character_share: float | None = Field(
        default=0.2, ge=0, le=1, description="maximum share of characters in repeated lines"
    )
    max_top_ngram_share: dict[int, float] | None = Field(
        default={2: 0.2, 3: 0.18, 4: 0.16},
        description="n to maximum share of characters covered by all occurrences of the most frequent n-gram; in scripts "
        "without spaces, of 2n characters",
    )
    max_duplicate_ngram_share: dict[int, float] | None = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
        description="n to maximum share of characters covered by n-grams that occurred earlier, each character counted once; "
        "in scripts without spaces, of 2n characters",
    )


class C4Rules(Section):
    """Rules of C4 (Raffel et al. 2020). They remove lines, and drop the document if too few sentences remain."""

    terminal_punctuation: bool = Field(
        default=True,
        description="keep only lines that end with terminal punctuation, also of CJK, Burmese and Khmer; does not "
        "apply to Thai and Lao",
    )
    min_line_words: int | None = Field(default=3, ge=0, description="keep only lines with at least this many words")
    max_word_characters: Count | None = Field(default=1000, ge=1, description="remove lines that contain a longer word")
    citations: bool = Field(default=True, description="remove `[1]`, `[edit]` and `[citation needed]` from lines")
    javascript: bool = Field(default=True, description="remove lines that mention JavaScript")
    policy: bool = Field(default=True, description="remove lines about cookies, privacy policy and terms of use")
    lorem_ipsum: bool = Field(default=True, description="drop documents with lorem ipsum in a remaining line")
    curly_bracket: bool = Field(default=True, description="drop documents with a `{` in a remaining line")
    min_sentences: int | None = Field(
        default=5,
        ge=1,
        description="drop documents with fewer sentences in the remaining lines; does not apply to Thai and Lao",
    )


class FineWebRules(Section):
    """FineWeb's custom filters (Penedo et al. 2024, section 3.6)."""

    min_punctuated_line_share: float | None = Field(
        default=0.12,
        ge=0,
        le=1,
        description="minimum share of lines that end with terminal punctuation; does not apply to Thai and Lao",
    )
    max_short_line_share: float | None = Field(default=0.67, ge=0, le=1, description="maximum share of short lines")
    short_line_characters: int = Field(
        default=30, ge=1, description="a line of at most this many characters is short; an ideograph or kana counts as two"
    )
    max_duplicate_line_character_share: float | None = Field(
        default=0.01, ge=0, le=1, description="maximum share of characters in lines that repeat an earlier one"
    )
    max_line_word_ratio: float | None = Field(default=0.3, ge=0, description="maximum line breaks per token")


class EducationRules(Section):
    """The rules of Faroz 2025. The paper states only the three-line minimum; the other thresholds are ours."""

    min_lines: int | None = Field(default=3, ge=0, description="minimum number of non-empty lines")
    max_short_line_share: float | None = Field(default=0.5, ge=0, le=1, description="maximum share of short lines")
    short_line_characters: int = Field(
        default=20, ge=1, description="a line with fewer characters is short; an ideograph or kana counts as two"
    )
    max_repeated_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="maximum share of lines that repeat an earlier line"
    )
    max_repetition: float | None = Field(
        default=0.3,
        ge=0,
        le=1,
        description="maximum share of 5-word sequences that occurred earlier in the document; in scripts without spaces, of "
        "ten characters",
    )


class CleanConfig(Section):
    """What is repaired in a document, and which rules may drop it. Each drop is counted under the key of its rule.

    Order of application: normalize, remove_invisible, language, `min_bytes` and `max_bytes`, the rule sets of `rules`,
    redaction.
    """

    normalize: bool = Field(
        default=True, description="repair mojibake, normalize to NFC, remove control characters, trim lines"
    )
    remove_invisible: bool = Field(
        default=True,
        description="remove soft hyphens, zero-width characters, bidirectional controls, stray variation selectors and tag "
        "characters, counted by kind; joiners that a script or an emoji needs stay; comparing texts ignores them all anyway",
    )
    languages: tuple[str, ...] | None = Field(
        default=None,
        description="keep only documents in these languages, ISO codes; documents of unknown language are kept; null keeps all",
    )
    language_id: LanguageIdConfig = LanguageIdConfig()
    min_bytes: Bytes | None = Field(default=200, description="minimum document size in UTF-8 bytes; null is off")
    max_bytes: Bytes | None = Field(default=10_000_000, description="maximum document size in UTF-8 bytes; null is off")
    rules: tuple[RuleSet, ...] = Field(
        default=("basic",),
        description="active rule sets, in order of application: basic, gopher_quality, gopher_repetition, c4, fineweb, "
        "education",
    )
    basic: BasicRules = BasicRules()
    gopher_quality: GopherQualityRules = GopherQualityRules()
    gopher_repetition: GopherRepetitionRules = GopherRepetitionRules()
    c4: C4Rules = C4Rules()
    fineweb: FineWebRules = FineWebRules()
    education: EducationRules = EducationRules()
    redact: RedactConfig = RedactConfig()

    @model_validator(mode="after")
    def _no_idle_thresholds(self) -> Self:
        for name in ("basic", "gopher_quality", "gopher_repetition", "c4", "fineweb", "education"):
            given, default = getattr(self, name), type(self).model_fields[name].default
            if name not in self.rules and given != default:
                raise ValueError(f"{name} has settings, but rules is [{', '.join(self.rules)}]: add {name} to rules")
        return self


class TokenRulesConfig(Section):
    """Filters on a document's token ids, applied after tokenization. All are off by default."""

    min_bytes_per_token: float | None = Field(
        default=None,
        ge=0,
        description="minimum bytes of text per token; text that is foreign to the tokenizer splits into many short tokens",
    )
    max_bytes_per_token: float | None = Field(default=None, ge=0, description="maximum bytes of text per token")
    max_unknown_share: float | None = Field(
        default=None, ge=0, le=1, description="maximum share of unknown tokens, byte-fallback tokens included"
    )
    max_token_run: Count | None = Field(default=None, ge=1, description="maximum number of consecutive repeats of one token")
    min_unique_share: float | None = Field(
        default=None, ge=0, le=1, description="minimum share of distinct tokens among the first 1,000 of a document"
    )
