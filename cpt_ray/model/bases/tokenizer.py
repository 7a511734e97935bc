"""The tokenizer that packs is the one that the base was trained with: it gives the ids of its own `tokenizer.json`.

transformers builds some tokenizers anew from the class that `tokenizer_config.json` names, and ignores parts of the file (how
digits are split, for one). In: a tokenizer as transformers loads it, and the file. Out: one that encodes as the file does,
proven on a fixed text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.tokens import DEFINITION

FUZZ = (
    "In 1900 they paid 3777 euros, 1,234,567.89 in all; 0x1F4A9, 2026-11-28.",
    "def f(x):\n\tif x >= 10:\n\t\treturn {'a': x**2}  # don't\n\n\n    pass\r\n",
    "  two  three   four    spaces \t\t tabs\n \n\n\n trailing   ",
    "他们在1900年支付了3777欧元。東京は遠い。한국어 문장입니다.",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽 naïve café: e\u0301 a\u0308 n\u0303, Ω≈ç√∫ ﬁ Å",
    "\u0627\u0644\u0633\u0644\u0627\u0645 שלום नमस्ते สวัสดี "
    "\u041c\u0438\u0440\u00a0\u043c\u0438\u0440\u0443\u2009thin\u200bzero\u00adsoft",
    "I'm we'll THEY'RE it's John's 'quoted' “curly” — dash… http://a.b/c?d=e&f=1#g <b>x</b>",
    "a<|endoftext|>b</s><s>[INST]<|im_start|>user\n<|im_end|><unk><pad>",
)
"""Digits, code, runs of whitespace, scripts without spaces, emoji, combining marks, other scripts, control tokens."""
_SPELLED_TOKENS = 4000
"""Tokens of the vocabulary that are compared, evenly spaced."""


def exact_tokenizer(tokenizer: PreTrainedTokenizerBase, definition: Path | None, key: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer whose ids are those of the base's `tokenizer.json`.

    Args:
        tokenizer: As transformers loads it.
        definition: The base's `tokenizer.json`; None if it has none, and nothing to compare with.
        key: The key of the study file that names the base.

    Returns:
        The same tokenizer if it agrees, else one made of the file and the tokenizer's named tokens.

    Raises:
        ConfigError: If neither agrees.
    """
    if definition is None:
        return tokenizer
    engine = Tokenizer.from_file(str(definition))
    if first_difference(tokenizer, engine) is None:
        return tokenizer
    named: dict[str, Any] = dict(tokenizer.special_tokens_map)
    exact = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(definition)),
        model_max_length=tokenizer.model_max_length,
        chat_template=tokenizer.chat_template,
        **named,
    )
    require_same_ids(exact, engine, key)
    return exact


def require_saved_exactly(folder: Path, key: str) -> None:
    """Refuse a saved tokenizer that transformers would load as another one than its `tokenizer.json`.

    Raises:
        ConfigError: With the text on which they differ.
    """
    loaded = AutoTokenizer.from_pretrained(folder)
    require_same_ids(loaded, Tokenizer.from_file(str(folder / DEFINITION)), key)


def require_same_ids(tokenizer: PreTrainedTokenizerBase, engine: Tokenizer, key: str) -> None:
    """Refuse a tokenizer whose ids differ from the engine's.

    Raises:
        ConfigError: With the text on which they differ.
    """
    text = first_difference(tokenizer, engine)
    if text is not None:
        ours, theirs = (len(ids) for ids in (_ids(tokenizer, text), engine.encode(text, add_special_tokens=False).ids))
        raise ConfigError(
            f"{key}: transformers encodes {text[:40]!r} as {ours} ids where the base's tokenizer.json gives {theirs} or others",
            fix="set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config.json, if tokenizer.json is right",
        )


def first_difference(tokenizer: PreTrainedTokenizerBase, engine: Tokenizer) -> str | None:
    """The first text that they encode differently: of `FUZZ`, and of what the engine's own tokens spell, alone and joined."""
    texts = [*FUZZ, *_spelled(engine)]
    ours = tokenizer(texts, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    theirs = (encoding.ids for encoding in engine.encode_batch(texts, add_special_tokens=False))
    return next((text for text, one, other in zip(texts, ours, theirs, strict=True) if one != other), None)


def keep_text_as_text(tokenizer: PreTrainedTokenizerBase, control: tuple[str, ...]) -> None:
    """Let the tokenizer treat `control` as special, so that `split_special_tokens=True` spells them out."""
    known = [token for token in control if tokenizer.backend_tokenizer.token_to_id(token) is not None]
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in known])


def _spelled(engine: Tokenizer) -> list[str]:
    # A fixed text shows a difference only if the vocabulary has tokens for its words; a vocabulary's own tokens always do.
    ids = sorted(engine.get_vocab().values())
    words = engine.decode_batch([[number] for number in ids[:: max(1, len(ids) // _SPELLED_TOKENS)]], skip_special_tokens=False)
    return [*words, *("".join(words[start : start + 8]) for start in range(0, len(words), 8))]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    return ids
