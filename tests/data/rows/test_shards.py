from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.data.rows import shards
from cpt_ray.data.rows.shards import COLUMNS, ShardReader, save_manifest, write_shard
from cpt_ray.edges.storage import hash_file
from cpt_ray.errors import ArtifactError
from cpt_ray.records import PackedPieces, ShardEntry, ShardManifest, ShardTable

T = 6


def packed(*rows: list[tuple[int, int, int, int]]) -> PackedPieces:
    """Rows given as lists of (document, offset, tokens, part)."""
    columns = np.array([piece for row in rows for piece in row]).T
    return PackedPieces(*columns, borders=np.cumsum([0, *map(len, rows)]))


PIECES = [packed([(0, 0, 4, 0), (1, 0, 2, 0)], [(2, 0, 6, 0)]), packed([(2, 6, 3, 1)])]
TOKENS = np.arange(1, 16, dtype=np.uint16)
STARTS = np.array([0, 4, 6])


@pytest.fixture
def manifest(tmp_path: Path) -> ShardManifest:
    entries = []
    for number, rows in enumerate(PIECES):
        path = tmp_path / f"{number}.arrow"
        write_shard(path, rows, TOKENS, STARTS, sequence_length=T, separator_id=0)
        tokens, segments = int(rows.tokens.sum()), len(rows.tokens)
        entries.append(
            ShardEntry(
                path=path.name,
                index_path="",
                source="law",
                unit=f"law-{number}",
                sha256=hash_file(path),
                size_bytes=path.stat().st_size,
                rows=rows.num_rows,
                documents=3,
                cut_documents=1,
                tokenizer_tokens=tokens,
                separator_tokens=0,
                tokens=tokens,
                segments=segments,
                padding=rows.num_rows * T - tokens,
                loss_tokens=tokens - segments,
            )
        )
    return ShardManifest(
        format_version=1,
        sequence_length=T,
        vocabulary_size=16,
        token_dtype="uint16",
        separator_id=0,
        tokenizer_sha256="",
        shards=ShardTable.of(entries),
        reports=(),
        task_pids={},
    )


def test_rows_come_back_by_number_across_shards(tmp_path: Path, manifest: ShardManifest) -> None:
    reader = ShardReader(tmp_path, manifest)
    last, first, middle = reader.rows("law", [2, 0, 1])
    assert first.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert (first.segment_lengths, first.loss_tokens) == ((4, 2), 4)
    assert middle.tokens.tolist() == [7, 8, 9, 10, 11, 12]
    assert last.tokens.tolist() == [13, 14, 15, 0, 0, 0]
    assert (last.segment_lengths, last.loss_tokens) == ((3,), 2)
    assert first.tokens.dtype == np.int64
    assert reader.loss_tokens("law", [2, 0, 1]).tolist() == [2, 4, 5]
    assert reader.num_rows("law") == manifest.rows("law") == 3
    assert int(reader.loss_tokens("law", range(3)).sum()) == manifest.loss_tokens("law")


@pytest.mark.parametrize("index", [-1, 3])
def test_a_row_outside_the_source_is_an_index_error(tmp_path: Path, manifest: ShardManifest, index: int) -> None:
    with pytest.raises(IndexError, match=f"no row {index} in source law, which has 3 rows"):
        ShardReader(tmp_path, manifest).rows("law", [index])


def test_a_changed_shard_is_refused_when_first_read(tmp_path: Path, manifest: ShardManifest) -> None:
    path = tmp_path / "1.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    reader = ShardReader(tmp_path, manifest)
    reader.rows("law", [0])
    with pytest.raises(ArtifactError, match=r"1\.arrow: sha256 .* but its manifest says") as caught:
        reader.rows("law", [2])
    assert "re-run the same command" in caught.value.fix
    ShardReader(tmp_path, manifest, verify=False).loss_tokens("law", [0])


def test_a_missing_shard_is_refused_when_a_row_of_it_is_asked_for(tmp_path: Path, manifest: ShardManifest) -> None:
    (tmp_path / "1.arrow").unlink()
    reader = ShardReader(tmp_path, manifest)
    reader.rows("law", [0, 1])
    with pytest.raises(ArtifactError, match=r"1\.arrow: missing, but its manifest names it"):
        reader.rows("law", [0, 2])


def test_no_more_shards_are_open_than_allowed(tmp_path: Path, manifest: ShardManifest, monkeypatch) -> None:
    monkeypatch.setattr(shards, "_OPEN_SHARDS", 1)
    reader = ShardReader(tmp_path, manifest)
    rows = reader.rows("law", [2, 0, 1, 2])
    assert [row.tokens[0] for row in rows] == [13, 1, 7, 13]
    assert len(reader._open) == 1


def test_mean_keys_count_segments_and_padding_of_evenly_spaced_shards(
    tmp_path: Path, manifest: ShardManifest, monkeypatch
) -> None:
    reader = ShardReader(tmp_path, manifest)
    # Rows of 4 + 2, of 6, and of 3 with 3 slots of padding: half of the squared lengths, over 18 slots.
    assert reader.mean_keys("law") == (16 + 4 + 36 + 9 + 9) / 2 / 18
    assert reader.mean_keys("nothing") == 0
    monkeypatch.setattr(shards, "_MEASURED_SHARDS", 1)
    assert ShardReader(tmp_path, manifest).mean_keys("law") == (16 + 4 + 36) / 2 / 12


def test_columns_are_plain_arrow(tmp_path: Path, manifest: ShardManifest) -> None:
    schema = pa.ipc.open_file(pa.memory_map(str(tmp_path / "0.arrow"))).schema
    assert schema.field("tokens").type == pa.list_(pa.uint16(), T)
    assert schema.field("segment_lengths").type == pa.list_(pa.int32())
    assert schema.field("loss_tokens").type == pa.int32()
    assert schema.metadata is None


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path, manifest: ShardManifest) -> None:
    save_manifest(tmp_path / "manifest.json", manifest)
    again = ShardManifest.load(tmp_path / "manifest.json")
    assert again == manifest
    assert list(again.shards) == list(manifest.shards)
    assert again.shards[1].unit == "law-1"
    assert (tmp_path / "manifest.json").stat().st_size < 1000
    assert ShardReader(tmp_path, again).rows("law", [2])[0].tokens.tolist() == [13, 14, 15, 0, 0, 0]


def test_columns_that_the_head_does_not_name_are_refused(tmp_path: Path, manifest: ShardManifest) -> None:
    save_manifest(tmp_path / "manifest.json", manifest)
    columns = tmp_path / COLUMNS
    ShardTable.of(list(manifest.shards)[:1]).write(columns)
    with pytest.raises(ArtifactError, match=r"shards\.arrow: sha256 .*, but manifest\.json says") as caught:
        ShardManifest.load(tmp_path / "manifest.json")
    assert "re-run the same command" in caught.value.fix
    columns.unlink()
    with pytest.raises(ArtifactError, match=r"shards\.arrow: missing, but manifest\.json names it"):
        ShardManifest.load(tmp_path / "manifest.json")
