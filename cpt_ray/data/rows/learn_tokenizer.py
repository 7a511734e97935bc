"""Learn a byte-level BPE tokenizer from text (Sennrich et al. 2016; over bytes, Radford et al. 2019).

In: texts. Out: a tokenizer as `tokenizers` writes it, which splits digits one by one and words as GPT-2 does, like SmolLM2's.
Memory: the distinct words of the text with their counts.

Guarantee: a function of the texts, the vocabulary and the version of `tokenizers`: neither the order of texts nor the number of
threads changes a byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from cpt_ray.config.sections.models.init import END_OF_TEXT
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import DataError

_FEWEST = 2
"""A pair that occurs once is no pattern."""


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn a tokenizer.

    Args:
        texts: The documents.
        vocabulary: Number of tokens.

    Raises:
        DataError: If the texts give fewer.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=_FEWEST,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    found = tokenizer.get_vocab_size()
    if found != vocabulary:
        raise DataError(
            f"the text gives a vocabulary of {found} tokens, not {vocabulary}",
            fix=f"set train_tokenizer.vocabulary to at most {found}, or give it more text",
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that transformers loads as this tokenizer."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
    }
    write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_atomic(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
