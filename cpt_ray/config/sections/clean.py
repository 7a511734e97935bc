"""The section `prepare.clean`: what is mended in a document, and which rules may drop it.

Rules come in sets with published or customary thresholds. `rules` lists the sets that are on, in their order; a set's own
section changes single thresholds, and a threshold of null is off.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from cpt_ray.config.values import Bytes, Count, Section

RuleSet = Literal["basic", "gopher_quality", "gopher_repetition", "c4", "fineweb", "education"]
Redacted = Literal["email", "phone", "ip", "key"]


class LanguageIdConfig(Section):
    """Which language a document is in, by py3langid's model (139 languages, offline)."""

    detect: Literal["never", "missing", "always"] = Field(
        default="never", description="`missing`: where the source does not say; `always`: against the source's word, too"
    )
    min_probability: float = Field(
        default=0.5, ge=0, le=1, description="drop a document whose wanted language is less probable than this"
    )
    characters: Count = Field(default=2000, ge=50, description="look at so many characters from the document's middle")


class RedactConfig(Section):
    """Personal data and secrets that a placeholder replaces in kept documents; counted by kind."""

    kinds: tuple[Redacted, ...] = Field(default=(), description="what to replace: email, phone, ip, key")
    placeholder: str = Field(default="<{kind}>", description="what stands in its place; `{kind}` is EMAIL, PHONE, IP or KEY")


class BasicRules(Section):
    """Loose bounds that ordinary text of any domain passes."""

    max_repeated_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="largest share of non-empty lines that stood there before"
    )
    max_symbol_word_ratio: float | None = Field(default=0.1, ge=0, description="most `#`, and most ellipses, per word")
    min_alphabetic_word_share: float | None = Field(
        default=0.6, ge=0, le=1, description="smallest share of words with a letter; words are what white space parts"
    )
    mean_word_length: tuple[float, float] | None = Field(default=(3.0, 10.0), description="allowed mean characters per word")


class GopherQualityRules(Section):
    """Quality rules of Gopher (Rae et al. 2021, appendix A.1), with words and punctuation as tokens."""

    min_words: Count | None = Field(default=50, description="fewest words that are not punctuation")
    max_words: Count | None = Field(default=100_000, description="most words that are not punctuation")
    mean_word_length: tuple[float, float] | None = Field(
        default=(3.0, 10.0), description="allowed mean characters of words that are not punctuation"
    )
    max_symbol_word_ratio: float | None = Field(default=0.1, ge=0, description="most `#`, and most ellipses, per token")
    max_bullet_line_share: float | None = Field(
        default=0.9, ge=0, le=1, description="largest share of lines that begin with a bullet"
    )
    max_ellipsis_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="largest share of lines that end with an ellipsis"
    )
    min_alphabetic_word_share: float | None = Field(
        default=0.8, ge=0, le=1, description="smallest share of tokens with a letter"
    )
    min_stop_words: int | None = Field(default=2, ge=0, description="how many of `stop_words` must occur")
    stop_words: tuple[str, ...] = Field(
        default=("the", "be", "to", "of", "and", "that", "have", "with"), description="frequent words of the language"
    )


class GopherRepetitionRules(Section):
    """Repetition rules of Gopher (Rae et al. 2021, table A1). Character shares are of the document's characters."""

    max_duplicate_paragraph_share: float | None = Field(
        default=0.3, ge=0, le=1, description="paragraphs that stood there before"
    )
    max_duplicate_paragraph_character_share: float | None = Field(
        default=0.2, ge=0, le=1, description="characters in such paragraphs"
    )
    max_duplicate_line_share: float | None = Field(default=0.3, ge=0, le=1, description="lines that stood there before")
    max_duplicate_line_character_share: float | None = Field(default=0.2, ge=0, le=1, description="characters in such lines")
    max_top_ngram_share: dict[int, float] | None = Field(
        default={2: 0.2, 3: 0.18, 4: 0.16}, description="words per n-gram: characters in all copies of the most frequent one"
    )
    max_duplicate_ngram_share: dict[int, float] | None = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
        description="words per n-gram: characters in n-grams that stood there before, none counted twice",
    )


class C4Rules(Section):
    """Rules of C4 (Raffel et al. 2020). They take lines out of a document, and drop it if too few sentences are left."""

    terminal_punctuation: bool = Field(default=True, description="keep only lines that end like a sentence")
    min_line_words: int | None = Field(default=3, ge=0, description="keep only lines of so many words")
    max_word_characters: Count | None = Field(default=1000, ge=1, description="take out lines with a longer word")
    citations: bool = Field(default=True, description="take `[1]`, `[edit]` and `[citation needed]` out of lines")
    javascript: bool = Field(default=True, description="take out lines that say JavaScript")
    policy: bool = Field(default=True, description="take out lines on cookies, privacy policy and terms of use")
    lorem_ipsum: bool = Field(default=True, description="drop documents with lorem ipsum in a line that stays")
    curly_bracket: bool = Field(default=True, description="drop documents with a `{` in a line that stays")
    min_sentences: int | None = Field(default=5, ge=1, description="drop documents with fewer sentences in the lines that stay")


class FineWebRules(Section):
    """The own rules of FineWeb (Penedo et al. 2024, section 3.6)."""

    min_punctuated_line_share: float | None = Field(
        default=0.12, ge=0, le=1, description="smallest share of lines that end like a sentence"
    )
    max_short_line_share: float | None = Field(default=0.67, ge=0, le=1, description="largest share of short lines")
    short_line_characters: int = Field(default=30, ge=1, description="a line of at most so many characters is short")
    max_duplicate_line_character_share: float | None = Field(
        default=0.01, ge=0, le=1, description="characters in lines that stood there before"
    )
    max_line_word_ratio: float | None = Field(default=0.3, ge=0, description="most line breaks per token")


class EducationRules(Section):
    """What is known of the rules of Faroz 2025; it names no thresholds but three lines, the others are ours."""

    min_lines: int | None = Field(default=3, ge=0, description="fewest non-empty lines")
    max_short_line_share: float | None = Field(default=0.5, ge=0, le=1, description="largest share of short lines")
    short_line_characters: int = Field(default=20, ge=1, description="a line of fewer characters is short")
    max_repeated_line_share: float | None = Field(
        default=0.3, ge=0, le=1, description="largest share of lines that stood there before"
    )
    max_repetition: float | None = Field(
        default=0.3, ge=0, le=1, description="largest share of 5-word sequences that stood there before"
    )


class CleanConfig(Section):
    """What is mended in a document, and which rules may drop it. A drop is counted under the key of its rule.

    In this order: normalize, language, `min_bytes` and `max_bytes`, the rule sets of `rules`, redaction.
    """

    normalize: bool = Field(default=True, description="repair mojibake, NFC, drop control characters, trim lines")
    languages: tuple[str, ...] | None = Field(default=None, description="keep only these; unknown languages are kept")
    language_id: LanguageIdConfig = LanguageIdConfig()
    min_bytes: Bytes | None = Field(default=200, description="shortest document, UTF-8 bytes")
    max_bytes: Bytes | None = Field(default=10_000_000, description="longest document, UTF-8 bytes")
    rules: tuple[RuleSet, ...] = Field(
        default=("basic",),
        description="sets of rules, in their order: basic, gopher_quality, gopher_repetition, c4, fineweb, education",
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
                raise ValueError(f"{name} has settings of its own, but rules is [{', '.join(self.rules)}]: add {name} to rules")
        return self


class TokenRulesConfig(Section):
    """Rules on a document's token ids, after tokenization. All off by default."""

    min_bytes_per_token: float | None = Field(
        default=None, ge=0, description="fewest bytes of text per token: text that the tokenizer does not know falls apart"
    )
    max_bytes_per_token: float | None = Field(default=None, ge=0, description="most bytes of text per token")
    max_unknown_share: float | None = Field(
        default=None, ge=0, le=1, description="largest share of unknown tokens, and of bytes where the tokenizer falls back"
    )
    max_token_run: Count | None = Field(default=None, ge=1, description="longest run of one token")
    min_unique_share: float | None = Field(
        default=None, ge=0, le=1, description="smallest share of different tokens among the first 1,000 of a document"
    )
