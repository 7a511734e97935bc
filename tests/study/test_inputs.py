"""Fingerprints of external inputs: they depend on the files' names and sizes, not on their folder."""

from __future__ import annotations

import os
import shutil

import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.storage import FileHashes
from cpt_ray.records import KnownInputs
from cpt_ray.study.inputs import (
    base_fingerprint,
    known_name,
    listing,
    read_known,
    source_fingerprint,
    tokenizer_fingerprint,
)


@pytest.fixture
def folder(tmp_path):
    for name, text in (("a/one.jsonl", "1"), ("a/two.jsonl", "22"), ("b/one.jsonl", "333")):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "raw"


def source(*paths):
    return SourceConfig(name="law", role="domain", path=[str(path) for path in paths], format="jsonl")


def test_a_listing_does_not_depend_on_the_folder_but_on_names_below_it_and_sizes(folder, tmp_path):
    before = listing(f"{folder}/**/*.jsonl")
    moved = shutil.copytree(folder, tmp_path / "else" / "where" / "it" / "lies")
    assert listing(f"{moved}/**/*.jsonl") == before
    (moved / "b").rename(moved / "c")
    assert listing(f"{moved}/**/*.jsonl") != before
    os.truncate(folder / "a" / "two.jsonl", 1)
    assert listing(f"{folder}/**/*.jsonl") != before


def test_folders_whose_names_begin_alike_have_only_their_parent_in_common(folder, tmp_path):
    (folder / "a").rename(folder / "law-1")
    (folder / "b").rename(folder / "law-2")
    before = listing(f"{folder}/*/*.jsonl")
    (folder / "law-1").rename(folder / "abc-1")
    (folder / "law-2").rename(folder / "abc-2")
    assert listing(f"{folder}/*/*.jsonl") != before


def test_a_single_file_is_known_by_its_own_name(folder, tmp_path):
    elsewhere = shutil.copy(folder / "a" / "one.jsonl", str(tmp_path / "one.jsonl"))
    assert listing(str(folder / "a" / "one.jsonl")) == listing(elsewhere)
    assert listing(shutil.copy(elsewhere, str(tmp_path / "two.jsonl"))) != listing(elsewhere)


def test_a_sources_paths_count_one_by_one(folder):
    one, two = folder / "a" / "one.jsonl", folder / "b" / "one.jsonl"
    assert source_fingerprint(source(one, two)) != source_fingerprint(source(two, one))
    assert source_fingerprint(source(one)) != source_fingerprint(source(one, two))


def test_a_pinned_dataset_of_the_hub_is_known_without_asking_it():
    def pinned(revision):
        dataset = {"name": "nobody/nothing", "revision": revision}
        return SourceConfig(name="law", role="domain", dataset=dataset, format="parquet")

    assert source_fingerprint(pinned("a" * 40)) != source_fingerprint(pinned("b" * 40))


def base_in(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes(b"12345678")
    (folder / "README.md").write_text("for people")
    return ModelConfig(name="m", base=str(folder))


def test_a_base_is_known_by_the_content_of_what_an_import_reads_wherever_it_is(tmp_path):
    model, base = base_in(tmp_path / "model"), tmp_path / "model"
    before = base_fingerprint(model, FileHashes(None))
    moved = ModelConfig(name="n", base=str(shutil.copytree(base, tmp_path / "moved")))
    assert base_fingerprint(moved, FileHashes(None)) == before
    (base / "README.md").write_text("changed")
    assert base_fingerprint(model, FileHashes(None)) == before
    (base / "model.safetensors").write_bytes(b"87654321")
    replaced = base_fingerprint(model, FileHashes(None))
    (base / "own.py").write_text("x = 1")
    with_code = base_fingerprint(model, FileHashes(None))
    (base / "config.json").write_text('{"a": 2}')
    assert len({before, replaced, with_code, base_fingerprint(model, FileHashes(None))}) == 4


def test_a_tokenizers_folder_is_known_by_content_too(tmp_path):
    model = base_in(tmp_path / "model")
    assert tokenizer_fingerprint(model, FileHashes(None)) is None
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    with_own = model.model_copy(update={"tokenizer": str(folder)})
    before = tokenizer_fingerprint(with_own, FileHashes(None))
    (folder / "tokenizer.json").write_text("[]")
    assert tokenizer_fingerprint(with_own, FileHashes(None)) != before


def test_a_gguf_file_is_known_by_its_content_and_a_hub_model_by_name_and_revision(tmp_path):
    def known(base, revision=None):
        return base_fingerprint(ModelConfig(name="m", base=base, revision=revision), FileHashes(None))

    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    before = known(str(path))
    path.write_bytes(b"two")
    assert known(str(path)) != before
    assert known("nobody/nothing", "main") != known("nobody/nothing", "v2")


def test_an_input_has_the_same_name_in_a_study_file_and_in_its_copy_without_secrets():
    names = [known_name(f'source {{"path": ["https://{user}host/law.jsonl?{key}"]}}') for user, key in (
        ("me:pw@", "token=abc"), ("***@", "token=***"), ("***@", "page=2"),
    )]  # fmt: skip
    assert names[0] == names[1] != names[2]
    assert known_name("files s3://a:b@bucket/x") == known_name("files s3://***@bucket/x")
    assert known_name("files x") != known_name("base x")


def test_a_root_that_says_nothing_of_its_inputs_knows_none(tmp_path):
    assert read_known(tmp_path) == {}
    (tmp_path / KnownInputs.FILE).write_text('{"found": 1}')
    assert read_known(tmp_path) == {}
    (tmp_path / KnownInputs.FILE).write_text(KnownInputs(found={"a": "1", "b": None}).to_json())
    assert read_known(tmp_path) == {"a": "1", "b": None}
