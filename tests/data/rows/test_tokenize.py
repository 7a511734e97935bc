import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from cpt_ray.data.rows import tokenize
from cpt_ray.data.rows.tokenize import Encoder, cuts_at_spaces, resolve_tokenizer, token_dtype
from cpt_ray.errors import DataError
from cpt_ray.records import TextTokens
from tests.data.conftest import SEPARATOR, VOCABULARY, document
from tests.data.prepared import model_tokenizer

NASTY = [
    "",
    " ",
    "\n\n\t  x ",
    f"a {SEPARATOR} inside",
    "naïve café — “quoted”",
    "漢字かな交じり文 한국어",
    "👩‍👩‍👧‍👦 \U0001f600",
    "\x00\x04\x7f\u200b\ufeff",
    "a" * 5000,
    "1234567890 " * 300,
    "e\u0301 vs é",
]
NORMALIZERS = {"none": None, "nfc": normalizers.NFC(), "nfd": normalizers.NFD()}
PATTERNS = {f"pattern {number}": pattern for number, pattern in enumerate(sorted(tokenize._WORD_PATTERNS))}
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
PRE_TOKENIZERS = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "GPT-2 with a space before": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "SmolLM2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]),
    "runs of digits": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(False)]
    ),
    "Metaspace": pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
    "Metaspace at the first word": pre_tokenizers.Metaspace(prepend_scheme="first", split=True),
    "DeepSeek": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre_tokenizers.ByteLevel(False)]
    ),
    "words": pre_tokenizers.Whitespace(),
    "BERT": pre_tokenizers.BertPreTokenizer(),
    **{
        f"punctuation, {behavior}": pre_tokenizers.Sequence(
            [pre_tokenizers.Punctuation(behavior), pre_tokenizers.ByteLevel(False), pre_tokenizers.Punctuation(behavior)]
        )
        for behavior in ("isolated", "merged_with_previous", "merged_with_next", "contiguous", "removed")
    },
    **{
        name: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])
        for name, pattern in PATTERNS.items()
    },
}
UNSAFE = {
    "none": None,
    "digits alone": pre_tokenizers.Digits(individual_digits=True),
    "Metaspace that does not split": pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
    "an unknown pattern": pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated"),
    "an unknown pattern beside a known one": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated"), pre_tokenizers.ByteLevel(False)]
    ),
}
NASTY_PIECES = [*"abAB ,.'\n\t\r19²ßé漢ـ👩_-", "\u0301", "\u200d", "\xa0", "▁", "'s", "  ", SEPARATOR]
BORDERS = ["a b", "b  a", "1 1", "漢 \u0301", "é 's", "ß \n", "A .", "b \xa0", f"a {SEPARATOR} b", "a ▁"]
BORDERS += [", b", ". .", "' s", "\u0301 \u0301", "▁ b", "- 1", "_ _", "\u200d a", ".\n a", ") '", "'s 's"]
"""Contexts of spaces at which a document may be cut."""
TEXT = st.lists(st.tuples(*map(st.sampled_from, (NASTY_PIECES, BORDERS, NASTY_PIECES))).map("".join), max_size=12).map("".join)


def train(pre_tokenizer: object, normalizer: object = None) -> Tokenizer:
    """A small BPE that merges across spaces if its pre-tokenizer allows it."""
    engine = Tokenizer(models.BPE(unk_token="<unk>"))
    if pre_tokenizer is not None:
        engine.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        engine.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", SEPARATOR],
        initial_alphabet=[*pre_tokenizers.ByteLevel.alphabet(), *"▁ ab1"],
        show_progress=False,
    )
    engine.train_from_iterator(["ab a b ab 1 11 a,b. " * 5, *(document(f"t{n}") for n in range(5))], trainer)
    return engine


def cutting(engine: Tokenizer, *, characters: int, may_cut: bool | None = None) -> Encoder:
    may = cuts_at_spaces(json.loads(engine.to_str())) if may_cut is None else may_cut
    return Encoder(engine, separator_id=1, bos_id=None, dtype="uint16", may_cut=may, batch_characters=characters)


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = tmp_path_factory.mktemp("resolved") / "tokenizer.json"
    resolved = resolve_tokenizer(model_tokenizer(tokenizer_folder))
    path.write_text(resolved.definition)
    return Encoder.load(path, separator_id=resolved.separator_id, bos_id=resolved.bos_id, dtype="uint16")


@pytest.fixture(scope="module")
def reference(tokenizer_folder: Path) -> object:
    return AutoTokenizer.from_pretrained(str(tokenizer_folder))


def check(encoder: Encoder, reference: object, texts: list[str]) -> None:
    ids, lengths = encoder.encode(texts)
    assert ids.dtype == np.uint16
    assert lengths.sum() == len(ids)
    ends = np.cumsum(lengths)
    for text, end, length in zip(texts, ends, lengths, strict=True):
        assert ids[end - length : end].tolist() == [
            *reference(text, add_special_tokens=False, split_special_tokens=True)["input_ids"],
            0,
        ]


def test_ids_of_adversarial_text_are_those_of_the_tokenizer_itself(encoder: Encoder, reference: object) -> None:
    check(encoder, reference, NASTY)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=5))
def test_ids_of_any_text_are_those_of_the_tokenizer_itself(encoder: Encoder, reference: object, texts: list[str]) -> None:
    check(encoder, reference, texts)


def test_one_separator_per_document_is_added(encoder: Encoder) -> None:
    ids, lengths = encoder.encode(["one", "two", "three"])
    assert (ids == 0).sum() == len(lengths) == 3


def test_a_bos_token_stands_before_every_document_even_one_that_is_cut(encoder: Encoder) -> None:
    texts = ["one two three four", "", "five"]
    bare, lengths = encoder.encode(texts)
    for characters in (1 << 20, 4):
        dressed = Encoder(encoder.engine, 0, 7, "uint16", may_cut=True, batch_characters=characters)
        ids, longer = dressed.encode(texts)
        assert (longer == lengths + 1).all()
        starts = np.cumsum(longer) - longer
        assert (ids[starts] == 7).all()
        assert np.delete(ids, starts).tolist() == bare.tolist()


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_documents_are_cut_into_words_and_stretches_without_changing_a_single_id(name: str, normalizer: str) -> None:
    engine = train(PRE_TOKENIZERS[name], NORMALIZERS[normalizer])
    encoder, words = cutting(engine, characters=2), cutting(engine, characters=1 << 20)
    assert encoder.may_cut
    pieces = 0

    @settings(max_examples=40, deadline=None)
    @given(text=TEXT)
    def same_ids(text: str) -> None:
        nonlocal pieces
        pieces += len(list(encoder._pieces(text))) - 1
        expected = [*engine.encode(text, add_special_tokens=False).ids, 1]
        assert encoder.encode([text])[0].tolist() == expected
        assert words.encode([text, text])[0].tolist() == expected * 2

    same_ids()
    assert pieces > 60  # cuts were made
    assert len(words.known) > 20
    assert encoder.encode(["ab ab, ab  ab. ab's ab"])[0].tolist()[:-1] == engine.encode("ab ab, ab  ab. ab's ab").ids


@pytest.mark.parametrize("name", UNSAFE)
def test_where_no_cut_is_known_to_be_safe_documents_are_encoded_whole(name: str) -> None:
    engine = train(UNSAFE[name])
    text = "ab a b ab 1 11 a,b. " * 5
    encoder = cutting(engine, characters=3)
    assert not encoder.may_cut
    assert list(encoder._pieces(text)) == [(0, len(text))]
    assert encoder.encode([text])[0].tolist()[:-1] == engine.encode(text).ids
    # Control: cuts would change the ids.
    assert cutting(engine, characters=3, may_cut=True).encode([text])[0].tolist()[:-1] != engine.encode(text).ids


def test_a_cut_is_never_made_where_an_added_token_may_reach_across_it() -> None:
    engine = train(pre_tokenizers.ByteLevel(False))
    assert cuts_at_spaces(json.loads(engine.to_str()))
    for added in ({"content": "a b"}, {"content": "x", "rstrip": True}, {"content": "x", "single_word": True}):
        tree = json.loads(engine.to_str())
        tree["added_tokens"].append({**tree["added_tokens"][0], **added})
        assert not cuts_at_spaces(tree)
    tree = json.loads(engine.to_str())
    tree["model"]["dropout"] = 0.1
    assert not cuts_at_spaces(tree)


def test_a_document_without_a_safe_place_is_encoded_whole() -> None:
    encoder = cutting(train(pre_tokenizers.ByteLevel(False)), characters=3)
    for text in ("aaaaaaaa", "\n \n \n \n", "漢字漢字漢字"):
        assert list(encoder._pieces(text)) == [(0, len(text))]
    assert list(encoder._pieces("aaaaaa aa aaa")) == [(0, 6), (6, 9), (9, 13)]


def test_words_whose_ids_are_known_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "_KNOWN_WORDS", 4)
    engine = train(pre_tokenizers.ByteLevel(False))
    encoder = cutting(engine, characters=1)
    long = "b" * (tokenize._LONGEST_KNOWN + 1)
    texts = [f"a {'ab' * n} {long} 1" for n in range(20)]
    ids, _ = encoder.encode(texts)
    assert ids.tolist() == [one for text in texts for one in [*engine.encode(text).ids, 1]]
    assert len(encoder.known) <= 4 + 3
    assert long not in encoder.known


def test_the_narrowest_type_holds_every_id() -> None:
    assert [token_dtype(size) for size in (512, 65536, 65537)] == ["uint16", "uint16", "uint32"]


def test_a_vocabulary_that_is_too_small_is_refused(tokenizer_folder: Path) -> None:
    with pytest.raises(DataError, match=r"the tokenizer has ids up to \d+, but the model's vocabulary is 100") as caught:
        resolve_tokenizer(replace(model_tokenizer(tokenizer_folder), vocabulary_size=100))
    assert caught.value.fix == "use the tokenizer that came with the model"
    resolve_tokenizer(replace(model_tokenizer(tokenizer_folder), vocabulary_size=VOCABULARY + 64))


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("separator", TextTokens(separator="<|x|>", bos=None)), ("bos", TextTokens(separator=SEPARATOR, bos="<|x|>"))],
)
def test_a_separator_or_bos_that_is_not_one_token_is_refused(tokenizer_folder: Path, name: str, tokens: TextTokens) -> None:
    with pytest.raises(DataError, match=rf"the {name} '<\|x\|>' is not a single token of this tokenizer") as caught:
        resolve_tokenizer(replace(model_tokenizer(tokenizer_folder), tokens=tokens))
    assert caught.value.fix == f"set the model's {name} to a special token that tokenizer_config.json or config.json names"


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fast tokenizer") as caught:
        resolve_tokenizer(model_tokenizer(tmp_path))
    assert "tokenizer.json" in caught.value.fix
