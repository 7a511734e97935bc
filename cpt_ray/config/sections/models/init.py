"""What a model that starts from random weights needs besides `models[].config`: a tokenizer, given or learned from the text."""

from pydantic import Field

from cpt_ray.config.values import Bytes, Count, Name, Section

INIT = "init"
"""The base of a model that starts from random weights."""
END_OF_TEXT = "<|endoftext|>"
"""The only special token of a learned tokenizer, and its separator."""
_LEAST_VOCABULARY = 300
"""The 256 bytes, the end of a text, and some merges."""


class TrainTokenizerConfig(Section):
    """A byte-level BPE tokenizer learned from the study's own text, without its held-out documents.

    Digits are split one by one and words as GPT-2 does. Models with the same settings share one tokenizer and its shards.
    """

    vocabulary: Count = Field(
        ge=_LEAST_VOCABULARY, description="tokens of the vocabulary: 256 bytes, the end of a text, and learned merges"
    )
    sources: tuple[Name, ...] = Field(min_length=1, description="sources to learn from, in proportion to their text")
    text_bytes: Bytes = Field(
        default=200_000_000, ge=10_000, description="bytes of text to learn from; of more, documents are drawn at random"
    )
