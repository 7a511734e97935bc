"""Fingerprints of external inputs: they depend on the files' names and sizes, not on their folder."""

from __future__ import annotations

import os
import shutil

import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.study.inputs import base_fingerprint, listing, source_fingerprint


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


def test_a_model_folder_is_known_by_its_small_files_content_and_its_large_ones_size(tmp_path):
    base = tmp_path / "model"
    base.mkdir()
    (base / "config.json").write_text('{"a": 1}')
    (base / "model.safetensors").write_bytes(b"12345678")
    model = ModelConfig(name="m", base=str(base))
    before = base_fingerprint(model)
    moved = ModelConfig(name="n", base=str(shutil.copytree(base, tmp_path / "moved")))
    assert base_fingerprint(moved) == before
    (base / "model.safetensors").write_bytes(b"87654321")
    assert base_fingerprint(model) == before  # weights are not read for a plan; `verify` hashes the import
    (base / "config.json").write_text('{"a": 2}')
    assert base_fingerprint(model) != before


def test_a_gguf_file_is_known_by_its_content_and_a_hub_model_by_name_and_revision(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    before = base_fingerprint(ModelConfig(name="m", base=str(path)))
    path.write_bytes(b"two")
    assert base_fingerprint(ModelConfig(name="m", base=str(path))) != before
    one, two = (base_fingerprint(ModelConfig(name="m", base="nobody/nothing", revision=name)) for name in ("main", "v2"))
    assert one != two
