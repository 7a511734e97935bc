"""Bases and tokenizers as people have them, from the command line: refused in `check`, said, or right."""

from __future__ import annotations

import json
import os

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.cli.main import main
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.records import ShardManifest
from cpt_ray.study import store
from cpt_ray.study.stages.models import MODELS
from tests.cli.said import said
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer
from tests.integration.tiny_study import document, law_documents, write_lines
from tests.model.bases.damage import POINTER, WEIGHTS, change_json, prefix
from tests.study.planned import BareSession, graph_of

pytestmark = pytest.mark.accept(inputs=1)


def quantize(folder):
    change_json(folder, "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


@pytest.mark.parametrize("verb", ["check", "prepare", "run"])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: prefix(folder, "_orig_mod."), "hold 20 tensors that the model does not have, including _orig_mod."),
        (lambda folder: (folder / WEIGHTS).write_text(POINTER), "is a Git LFS pointer"),
        (quantize, "is quantized (bitsandbytes)"),
    ],
    ids=["prefixed_weights", "pointer_weights", "quantised_base"],
)
def test_a_base_that_cannot_be_trained_is_refused_before_anything_is_prepared(tiny, capsys, verb, change, problem):
    change(tiny.model)
    assert problem in said(capsys, verb, str(tiny.config), code=2)
    assert not list(tiny.root.glob("*/*/artifact.json"))


def save_gpt2(tiny, positions):
    tokenizer = build_tokenizer()
    for path in tiny.model.iterdir():
        path.unlink()
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=positions, vocab_size=len(tokenizer))
    ).save_pretrained(tiny.model)
    tokenizer.save_pretrained(tiny.model)


@pytest.mark.parametrize("key", ["prepare.pack.sequence_length", "evaluate.context", "evaluate.exam_context"])
def test_rows_longer_than_learned_positions_are_refused_by_the_key_to_change(tiny, capsys, key):
    save_gpt2(tiny, 128)
    said(capsys, "check", str(tiny.config), f"{key}=128")
    text = said(capsys, "check", str(tiny.config), f"{key}=129", code=2)
    assert f"{key} is 129 tokens, but the base has learned 128 positions" in text


def test_rows_longer_than_a_rotary_base_was_made_for_are_warned_about(tiny, capsys):
    assert main(["check", str(tiny.config), "prepare.pack.sequence_length=512"]) == 0
    assert "the base was made for 256 (max_position_embeddings)" in capsys.readouterr().err


def give_chat_tokenizer(tiny):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    build_model(len(tokenizer)).save_pretrained(tiny.model)
    tokenizer.save_pretrained(tiny.model)


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_the_separator_is_said_and_the_end_of_a_chat_turn_is_warned_about(tiny, capsys, verb):
    give_chat_tokenizer(tiny)
    assert main([verb, str(tiny.config)]) == 0
    captured = capsys.readouterr()
    assert "separator <|im_end|>" in captured.out
    assert "set models.tiny.separator to it" in captured.err
    assert main([verb, str(tiny.config), f"models.0.separator={SEPARATOR}"]) == 0
    captured = capsys.readouterr()
    assert f"separator {SEPARATOR}" in captured.out
    assert "warning" not in captured.err


@pytest.mark.accept(grid=5)
@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_base_with_a_chat_template_is_warned_about_with_two_remedies(tiny, capsys, place):
    assert main(["check", str(tiny.config)]) == 0
    assert "chat template" not in capsys.readouterr().err
    if place == "tokenizer_config.json":
        change_json(tiny.model, place, chat_template="{{ messages }}")
    else:
        (tiny.model / place).write_text("{{ messages }}")
    assert main(["check", str(tiny.config)]) == 0
    warned = capsys.readouterr().err
    assert "models.tiny: the base carries a chat template; if it was tuned for chat, training it on plain text wears" in warned
    assert "merges with interpolate" in warned
    assert "merges with instruction_residual" in warned
    # A study that has a remedy is not told of it; an average of its cooldown is none.
    assert main(["check", str(tiny.config), "merges=[{name: averaged, average: {last: 2, every: 400}}]"]) == 0
    assert "chat template" in capsys.readouterr().err
    assert main(["check", str(tiny.config), "merges=[{name: frontier, interpolate: {}}]"]) == 0
    assert "chat template" not in capsys.readouterr().err


def test_a_separator_that_is_no_token_is_refused_in_check(tiny, capsys):
    text = said(capsys, "check", str(tiny.config), "models.0.separator=<|nope|>", code=2)
    assert "models.tiny.separator is '<|nope|>', which is not a single token of the tokenizer" in text


def test_ids_beyond_the_embedding_that_no_text_produces_are_no_reason_to_refuse(tiny, capsys):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|reserved_{number}|>" for number in range(20)]})
    tokenizer.save_pretrained(tiny.model)
    said(capsys, "check", str(tiny.config))
    assert "ids up to" in said(capsys, "check", str(tiny.config), "models.0.separator=<|reserved_3|>", code=2)
    tokenizer.add_tokens(["usufruct"])
    tokenizer.save_pretrained(tiny.model)
    assert "the tokenizer has ids up to 420" in said(capsys, "check", str(tiny.config), code=2)


def imported(tiny):
    """Import the base as `prepare` does."""
    graph = graph_of(tiny)
    MODELS.build(graph.of(MODELS), BareSession(graph.root))
    graph.hashes.save()
    return graph.one(MODELS)


def replace_in_place(path):
    """Other content of the same size and modification time, in the same file."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_base_replaced_in_place_is_noticed_by_the_next_command_and_by_verify(tiny, capsys):
    node = imported(tiny)
    assert "base of tiny" in said(capsys, "verify", str(tiny.config))
    replace_in_place(tiny.model / WEIGHTS)
    assert graph_of(tiny).one(MODELS).fingerprint != node.fingerprint
    assert main(["check", str(tiny.config)]) == 0
    assert f"{WEIGHTS} of {tiny.model} is not the file that was imported into {node.folder.name}" in capsys.readouterr().err
    assert f"models.tiny.base: {WEIGHTS} of" in said(capsys, "verify", str(tiny.config), code=2)
    assert "has not been built yet" in said(capsys, "train", str(tiny.config), code=2)


def test_a_base_is_read_once_and_verify_reads_it_again(tiny, capsys, monkeypatch):
    for path in tiny.model.iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr("cpt_ray.edges.storage.FileHashes.SETTLED_S", -1.0)  # files written just now are known at once
    imported(tiny)
    read = []

    def counting(path):
        read.append(path.name)
        return real(path)

    from cpt_ray.edges import storage

    real = storage.hash_file
    monkeypatch.setattr(storage, "hash_file", counting)
    said(capsys, "check", str(tiny.config))
    assert WEIGHTS not in read
    said(capsys, "verify", str(tiny.config))
    assert read.count(WEIGHTS) == 2  # the base, and what was made of it


@pytest.mark.ray
def test_text_that_spells_a_control_token_stays_text(tiny, capsys, ray_session_2cpu):
    rows = [{**row, "text": f"{row['text']}\nThe manual says that {SEPARATOR} ends it. {document('law', 7000 + n)}"}
            for n, row in enumerate(law_documents())]  # fmt: skip
    write_lines(tiny.inputs / "law.jsonl", rows)
    text = said(capsys, "prepare", str(tiny.config))
    manifest = ShardManifest.of(store.require(graph_of(tiny).one(_shards())))
    documents = manifest.of_source("law").total("documents")
    assert documents > 100
    assert manifest.of_source("law").total("control_spellings") == documents
    assert f"{documents} times a text spells a control token; it was encoded as text" in text
    assert text.count(f"separator {SEPARATOR}") + text.count("documents end with") == 1
    assert manifest.around.separator == SEPARATOR
    folder = graph_of(tiny).one(_shards()).folder
    reader = ShardReader(folder, manifest, verify=True)
    for source in ("law", "news"):
        shards = manifest.of_source(source)
        found = sum(
            int((row.tokens[: sum(row.segment_lengths)] == manifest.separator_id).sum())
            for row in reader.rows(source, list(range(shards.total("rows"))))
        )
        assert found == shards.total("separator_tokens")


def _shards():
    from cpt_ray.study.stages.shards import SHARDS

    return SHARDS


def test_an_export_ends_on_the_separator(tmp_path):
    from cpt_ray.model.exports.export import export_model

    tokenizer, model = build_tokenizer(), build_model(400)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    model.generation_config.eos_token_id = [2, 7]
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    export_model(model, state, tokenizer=tmp_path / "tokenizer", folder=tmp_path / "export", card="", end_id=0)
    trees = [json.loads((tmp_path / "export" / name).read_text()) for name in ("generation_config.json", "config.json")]
    assert [tree["eos_token_id"] for tree in trees] == [0, 0]
    assert trees[0]["bos_token_id"] == 1
