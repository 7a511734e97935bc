"""Hugging Face datasets: folders and caches; what is found is of the pinned commit, or it is an error."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from cpt_ray.config.sections.prepare import DatasetConfig, SourceConfig
from cpt_ray.data.read import plan_reads, read_documents
from cpt_ray.edges.source_files.hub import NotReachableError, resolve_dataset
from cpt_ray.errors import DataError

NAME, COMMIT, OTHER = "Team/SomeTexts", "a" * 40, "b" * 40
ROWS = [{"text": f"document {number} of the set", "url": f"https://x.org/{number}", "score": number} for number in range(25)]
CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: "data/*.parquet"}]
- config_name: small
  data_files: [{split: train, path: "small/*"}, {split: test, path: "held/*"}]
---
# Texts
"""


def texts(unit_bytes: int = 500, **dataset: object) -> list[str]:
    config = SourceConfig.model_validate({"name": "edu", "role": "domain", "dataset": dataset, "origin_field": "url"})
    items = [item for task in plan_reads(config, unit_bytes) for item in read_documents(task, config)]
    assert all(item.origin and item.origin.startswith("https://x.org/") for item in items)
    return [item.text for item in items]


WANTED = [row["text"] for row in ROWS]


def write_repository(folder: Path) -> Path:
    """Write the files of a dataset repository: two configurations, one with two splits."""
    for name in ("data", "small", "held"):
        (folder / name).mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for number, at in enumerate((0, 15)):
        table = pa.Table.from_pylist(ROWS[at : at + 15])
        pq.write_table(table, folder / "data" / f"part-0000{number}.parquet", row_group_size=5)
    pq.write_table(pa.Table.from_pylist(ROWS[:4]), folder / "small" / "a.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[4:6]), folder / "held" / "a.parquet")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and empty caches under the returned folder."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def snapshot(cache: Path, commit: str = COMMIT) -> Path:
    return write_repository(cache / "hub" / "datasets--Team--SomeTexts" / "snapshots" / commit)


def test_what_save_to_disk_wrote_is_read_split_by_split(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict(train=whole, test=whole.select([3])).save_to_disk(tmp_path / "two")
    assert texts(name=str(tmp_path / "one")) == texts(name=str(tmp_path / "two")) == WANTED
    assert texts(name=str(tmp_path / "two"), split="test") == [WANTED[3]]
    found = resolve_dataset(DatasetConfig(name=str(tmp_path / "one")))
    assert (found.format, len(found.files), found.note) == ("arrow", 3, "a folder written by save_to_disk")
    with pytest.raises(DataError, match=r"dataset .*two \(split dev\): no such split; splits: train, test") as caught:
        texts(name=str(tmp_path / "two"), split="dev")
    assert caught.value.fix == "set dataset.split to one of these"


def test_a_folder_laid_out_like_a_repository_has_its_configurations_and_splits(tmp_path: Path) -> None:
    folder = str(write_repository(tmp_path / "repository"))
    assert texts(name=folder) == texts(name=folder, config="default") == WANTED
    assert texts(name=folder, config="small") == WANTED[:4]
    assert texts(name=folder, config="small", split="test") == WANTED[4:6]
    with pytest.raises(DataError, match=r"configuration large, split train\): BuilderConfig 'large' not found") as caught:
        texts(name=folder, config="large")
    assert caught.value.fix == "set dataset.config to one of its configurations"


def test_json_is_told_apart_as_a_list_or_as_lines(tmp_path: Path) -> None:
    for name, data in {"lines": "".join(json.dumps(row) + "\n" for row in ROWS), "list": json.dumps(ROWS, indent=1)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(data)
        assert texts(name=str(tmp_path / name)) == WANTED


def test_a_kind_of_file_that_is_not_read_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "train.xml").write_text("<text/>")
    with pytest.raises(DataError, match="its files have the format 'xml', which cpt-ray does not read") as caught:
        texts(name=str(tmp_path))
    assert caught.value.fix == "load it with `datasets`, write it with save_to_disk, and set dataset.name to that folder"


def test_a_folder_that_is_missing_or_a_name_without_a_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Team/SomeTexts: no such folder") as caught:
        texts(name=NAME)
    assert caught.value.fix == "give the folder of a dataset, or a name on the hub together with dataset.revision"
    with pytest.raises(ValueError, match="String should match pattern"):
        DatasetConfig(name=NAME, revision="main")


def test_offline_a_download_of_the_pinned_commit_is_read_and_of_another_is_not(offline: Path) -> None:
    snapshot(offline, OTHER)
    with pytest.raises(
        NotReachableError, match=rf"dataset Team/SomeTexts \(split train, revision {COMMIT[:12]}\): offline mode"
    ):
        texts(name=NAME, revision=COMMIT)
    snapshot(offline)
    assert texts(name=NAME, revision=COMMIT) == WANTED
    assert texts(name=NAME, revision=COMMIT, config="small") == WANTED[:4]
    note = resolve_dataset(DatasetConfig(name=NAME, revision=COMMIT)).note
    assert note.endswith("it cannot be verified that these are all files of the dataset")


def test_offline_without_a_copy_the_error_says_where_it_looked_and_what_to_do(offline: Path) -> None:
    with pytest.raises(NotReachableError, match=r"\(HF_HUB_OFFLINE\); and it is not cached") as caught:
        texts(name=NAME, revision=COMMIT, config="small")
    assert f"datasets--Team--SomeTexts/snapshots/{COMMIT}" in caught.value.problem
    assert f"Team___some_texts/small/*/{COMMIT}/some_texts-train*.arrow" in caught.value.problem
    assert caught.value.fix.startswith(f"with a network: hf download {NAME} --repo-type dataset --revision {COMMIT}")


def test_offline_what_load_dataset_prepared_is_found_by_its_commit(offline: Path) -> None:
    for config, commit, rows in [("default", COMMIT, ROWS), ("small", COMMIT, ROWS[:4]), ("default", OTHER, ROWS[:9])]:
        folder = offline / "datasets" / "Team___some_texts" / config / "0.0.0" / commit
        folder.mkdir(parents=True)
        names = (
            [f"some_texts-train-0000{n}-of-00002.arrow" for n in range(2)]
            if len(rows) == len(ROWS)
            else ["some_texts-train.arrow"]
        )
        for number, name in enumerate(names):
            table = pa.Table.from_pylist(rows[number * 10 : number * 10 + 10 if number + 1 < len(names) else None])
            with pa.ipc.new_stream(folder / name, table.schema) as writer:
                writer.write_table(table)
    assert texts(name=NAME, revision=COMMIT, config="default") == WANTED
    assert texts(name=NAME, revision=COMMIT, config="small") == WANTED[:4]
    assert texts(name=NAME, revision=OTHER) == WANTED[:9]
    with pytest.raises(DataError, match="the cache holds more than one configuration: default, small") as caught:
        texts(name=NAME, revision=COMMIT)
    assert caught.value.fix == "set dataset.config to one of these"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"_data_files": 5}', '{"_data_files": [{}]}', "[" * 100_000, "\xff"])
def test_a_damaged_description_of_a_dataset_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"state\.json: not what save_to_disk writes"):
        resolve_dataset(DatasetConfig(name=str(tmp_path)))
