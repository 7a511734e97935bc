"""A tiny real tokenizer, a tiny real model, and the records around them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cpt_ray.records import ExamItem, RunRecord

SEPARATOR = "<|endoftext|>"

SENTENCES = [
    "The licensee may redistribute copies of the work under the terms of this license.",
    "Warranty is disclaimed to the extent that the law permits.",
    "The minister said on Tuesday that the harvest had been better than expected.",
    "A spokesman for the airline declined to name the passengers.",
    "Naïve café owners in Zürich paid 5 € for it; 東京 is far away.",
]


def make_text(seed: int, sentences: int) -> str:
    """Deterministic text with multi-byte characters."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(SENTENCES), (sentences,), generator=generator).tolist()
    return " ".join(f"{SENTENCES[pick]} ({seed}.{place})" for place, pick in enumerate(picks))


def build_tokenizer(
    texts: Iterable[str] | None = None, *, vocabulary: int = 400, separator: str = SEPARATOR
) -> PreTrainedTokenizerFast:
    """A byte-level BPE, learned from the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[separator],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or [make_text(seed, 40) for seed in range(3)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=separator)


def build_model(vocabulary: int, seed: int = 0, *, longest: int = 256) -> LlamaForCausalLM:
    """A Llama of two layers with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocabulary,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        initializer_range=0.2,  # at the usual 0.02 an untrained model hardly depends on its context
    )
    return LlamaForCausalLM(config).eval()


def make_run(export: Path, run: str = "tiny-base", **changes: object) -> RunRecord:
    fields: dict[str, object] = {"run": run, "kind": "base", "model": "tiny", "export_path": str(export), "annealed": True}
    return RunRecord(**{**fields, **changes})


def make_items(count: int) -> list[ExamItem]:
    """Questions of an exam `quiz` with two to four choices."""
    draw = random.Random(3)
    return [
        ExamItem(
            task="quiz",
            id=f"q{number}",
            question=draw.choice(SENTENCES) + f" {number}?",
            choices=tuple(draw.sample([*SENTENCES, "yes", "no", "perhaps so"], 2 + number % 3)),
            answer=number % 2,
        )
        for number in range(count)
    ]
