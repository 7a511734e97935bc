"""A learned tokenizer: the same bytes for the same text, digits one by one, and what transformers loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from cpt_ray.config.sections.models.init import END_OF_TEXT
from cpt_ray.data.rows.learn_tokenizer import learn_tokenizer, save_tokenizer
from cpt_ray.errors import DataError
from tests.evaluate.tiny import make_text
from tests.integration.tiny_study import document

TEXTS = [make_text(seed, 20) for seed in range(20)] + [document("law", number) for number in range(60)]


def test_neither_order_nor_threads_nor_process_change_a_byte(tmp_path):
    here = learn_tokenizer(TEXTS, 600).to_str()
    assert learn_tokenizer(reversed(TEXTS), 600).to_str() == here
    program = (
        "from tests.data.rows.test_learn_tokenizer import TEXTS, learn_tokenizer, save_tokenizer; import sys, pathlib; "
        "save_tokenizer(learn_tokenizer(TEXTS, 600), pathlib.Path(sys.argv[1]))"
    )
    save_tokenizer(learn_tokenizer(TEXTS, 600), tmp_path / "here")
    for threads in ("1", "4"):
        folder = tmp_path / threads
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=environment, timeout=300)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_transformers_loads_it_as_it_was_learned(tmp_path):
    learned = learn_tokenizer(TEXTS, 600)
    save_tokenizer(learned, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "In 1984 she paid 20 € for naïve  code:\n\tx = 3\r\n東京 👍🏽"
    assert loaded(text).input_ids == learned.encode(text).ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert loaded.eos_token == END_OF_TEXT
    assert loaded.convert_tokens_to_ids(END_OF_TEXT) == 0
    assert (loaded.bos_token, len(loaded)) == (None, 600)


def test_digits_are_split_one_by_one_and_frequent_words_are_one_token():
    tokens = learn_tokenizer(["In 1984 the license of 1984 is the license"] * 50, 272).encode("the license of 1984").tokens
    assert tokens[-4:] == ["1", "9", "8", "4"]
    assert "Ġlicense" in tokens


def test_too_little_text_for_the_vocabulary_is_refused_with_one_that_works():
    with pytest.raises(DataError) as caught:
        learn_tokenizer(["a short text"], 2000)
    found = int(str(caught.value.fix).split("at most ")[1].split(",")[0])
    assert 256 < found < 2000
    assert f"the text gives a vocabulary of {found} tokens, not 2000" in caught.value.problem
    assert learn_tokenizer(["a short text"], found).get_vocab_size() == found


def test_the_folder_has_what_an_import_reads(tmp_path: Path):
    save_tokenizer(learn_tokenizer(TEXTS, 600), tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
