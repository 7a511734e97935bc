"""Shard tables count by source, and a manifest is read with the columns that it names."""

import hashlib

import numpy as np
import pytest

from cpt_ray.errors import ArtifactError
from cpt_ray.records import FileEntry, PackedPieces, ShardEntry, ShardManifest, ShardTable


def shard(source, rows):
    return ShardEntry(
        path=f"{source}.arrow", index_path=f"{source}.index", source=source, unit=f"{source}-00000", sha256="0" * 64,
        size_bytes=1, rows=rows, documents=rows, cut_documents=0, tokenizer_tokens=9 * rows,
        separator_tokens=rows, tokens=10 * rows, segments=rows, padding=0, loss_tokens=9 * rows,
    )  # fmt: skip


def test_a_manifest_counts_by_source_in_canonical_order():
    shards = (shard("law", 3), shard("news", 5), shard("law", 4))
    manifest = ShardManifest(
        format_version=1, sequence_length=10, vocabulary_size=64, token_dtype="uint16", separator_id=0,
        tokenizer_sha256="0" * 64, shards=shards, reports=(), task_pids={},
    )  # fmt: skip
    assert list(manifest.of_source("law")) == [shards[0], shards[2]]
    assert manifest.shards.sources == ("law", "news")
    assert (len(manifest.shards), manifest.shards[-1], list(manifest.shards[1:])) == (3, shards[2], [shards[1], shards[2]])
    assert manifest.shards.total("rows") == 12
    assert (manifest.rows("law"), manifest.rows("news"), manifest.rows("none")) == (7, 5, 0)
    assert manifest.loss_tokens("law") == 63


def test_a_table_of_shards_holds_the_entries_that_it_was_made_of():
    entries = [shard(source, rows) for source, rows in (("law", 3), ("news", 5), ("law", 0))]
    table = ShardTable.of(entries)
    assert list(table) == entries
    assert table == ShardTable.of(iter(entries))
    assert table != ShardTable.of(entries[:2])
    assert table.places("law").tolist() == [0, 2]
    assert table.places("none").tolist() == []
    assert len(ShardTable.of([])) == 0
    with pytest.raises(IndexError, match="entry 3 of 3"):
        table[3]


def manifest(*shards: ShardEntry, **changes) -> ShardManifest:
    fields = {
        "format_version": 1, "sequence_length": 10, "vocabulary_size": 64, "token_dtype": "uint16", "separator_id": 0,
        "tokenizer_sha256": "0" * 64, "shards": ShardTable.of(shards), "reports": (), "task_pids": {},
    }  # fmt: skip
    return ShardManifest(**{**fields, **changes})


def write(folder, written: ShardManifest) -> None:
    columns = folder / "shards.arrow"
    written.shards.write(columns)
    digest = hashlib.sha256(columns.read_bytes()).hexdigest()
    entry = FileEntry(path=columns.name, size_bytes=columns.stat().st_size, sha256=digest)
    (folder / "manifest.json").write_text(written.head(entry).to_json())


def test_a_manifest_reads_back_with_its_columns(tmp_path):
    written = manifest(shard("law", 3), shard("news", 5), bos_id=7)
    write(tmp_path, written)
    assert ShardManifest.of(tmp_path) == written
    assert "rows" not in (tmp_path / "manifest.json").read_text()  # shard counts are columns, not JSON


def test_columns_that_are_missing_or_of_another_manifest_are_refused(tmp_path):
    write(tmp_path, manifest(shard("law", 3)))
    manifest(shard("law", 4)).shards.write(tmp_path / "shards.arrow")
    with pytest.raises(ArtifactError, match=r"shards\.arrow: sha256"):
        ShardManifest.of(tmp_path)
    (tmp_path / "shards.arrow").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        ShardManifest.of(tmp_path)


def test_the_prefix_is_the_bos_if_there_is_one():
    assert manifest(bos_id=None).prefix_id == 0
    assert manifest(bos_id=7, separator_id=3).prefix_id == 7
    assert manifest(bos_id=0, separator_id=3).prefix_id == 0  # 0 is a valid id


def test_shares_of_a_table_are_over_all_its_shards():
    padded = shard("law", 1).model_copy(update={"padding": 10})
    table = ShardTable.of([padded, shard("news", 3)])
    assert table.padding_share == 10 / (10 + 30 + 10)
    assert table.segments_per_row == 1.0
    assert (ShardTable.of([]).padding_share, ShardTable.of([]).segments_per_row) == (0.0, 0.0)


def test_pieces_know_their_row():
    pieces = PackedPieces(
        document=np.array([0, 1, 1]), offset=np.array([0, 0, 6]), tokens=np.array([4, 6, 9]), part=np.array([0, 0, 1]),
        borders=np.array([0, 2, 3, 3]),
    )  # fmt: skip
    assert pieces.num_rows == 3
    assert pieces.row.tolist() == [0, 0, 1]  # the last row is empty
    assert [column.tolist() for column in pieces.columns()] == [[0, 1, 1], [0, 0, 6], [4, 6, 9], [0, 0, 1]]
