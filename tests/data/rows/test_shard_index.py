import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.data.rows.pack import pack, permute
from cpt_ray.data.rows.shard_index import pieces_of_document, pieces_of_row, write_index
from cpt_ray.data.rows.shards import write_shard
from cpt_ray.edges.storage import hash_file
from cpt_ray.records import DocumentKey, ShardEntry, ShardManifest, ShardTable

T = 16
SEPARATOR = 0


def unit_lengths(unit: int) -> np.ndarray:
    return np.random.default_rng(unit).integers(1, 40, 30)


def unit_tokens(unit: int) -> list[np.ndarray]:
    draw = np.random.default_rng(100 + unit)
    return [draw.integers(1, 1000, length).astype(np.uint16) for length in unit_lengths(unit)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShardManifest]:
    folder = tmp_path_factory.mktemp("shards")
    entries = []
    for unit, source in enumerate(("law", "law", "news")):
        lengths = unit_lengths(unit)
        pieces = permute(pack(lengths, T, "best_fit"), seed=0, source=source, unit=str(unit))
        flat, starts = np.concatenate(unit_tokens(unit)), np.cumsum(lengths) - lengths
        path, index = folder / f"{unit}.arrow", folder / f"{unit}.parquet"
        write_shard(path, pieces, flat, starts, sequence_length=T, separator_id=SEPARATOR)
        write_index(
            index,
            pieces,
            [DocumentKey(f"{source}/{unit:05d}/{number}", f"{source}_{unit}_{number}") for number in range(len(lengths))],
        )
        counts = dict.fromkeys(("cut_documents", "tokenizer_tokens", "separator_tokens"), 0)
        entries.append(
            ShardEntry(
                path=path.name,
                index_path=index.name,
                source=source,
                unit=f"{source}-{unit}",
                sha256=hash_file(path),
                size_bytes=path.stat().st_size,
                rows=pieces.num_rows,
                documents=len(lengths),
                tokens=len(flat),
                segments=len(pieces.tokens),
                padding=pieces.num_rows * T - len(flat),
                loss_tokens=len(flat) - len(pieces.tokens),
                **counts,
            )
        )
    head = {
        "format_version": 4,
        "sequence_length": T,
        "vocabulary_size": 1000,
        "token_dtype": "uint16",
        "separator_id": SEPARATOR,
    }
    return folder, ShardManifest(**head, tokenizer_sha256="", shards=ShardTable.of(entries), reports=(), task_pids={})


def test_every_document_is_found_from_its_id_and_its_rows_lead_back_to_it(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    several = 0
    for unit, source in enumerate(("law", "law", "news")):
        for number, length in enumerate(unit_lengths(unit).tolist()):
            name = f"{source}_{unit}_{number}"
            found = list(pieces_of_document(folder, manifest, name))
            assert sum(piece.tokens for piece in found) == length
            assert {(piece.source, piece.unit) for piece in found} == {(source, f"{source}-{unit}")}
            assert sorted(piece.part for piece in found) == list(range(len(found)))
            several += len(found) > 1
            for piece in found:
                assert piece in pieces_of_row(folder, manifest, source, piece.row)
    assert several > 5
    assert list(pieces_of_document(folder, manifest, "nobody")) == []


def test_the_pieces_of_a_row_follow_one_another(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    for source in ("law", "news"):
        for row in range(manifest.rows(source)):
            pieces = pieces_of_row(folder, manifest, source, row)
            ends = np.cumsum([piece.tokens for piece in pieces]).tolist()
            assert [piece.start for piece in pieces] == [0, *ends[:-1]]
            assert {piece.row for piece in pieces} == {row}
    for row in (-1, manifest.rows("law")):
        with pytest.raises(IndexError, match=rf"no row {row} in source law, which has {manifest.rows('law')} rows"):
            pieces_of_row(folder, manifest, "law", row)
    with pytest.raises(IndexError, match="no row 0 in source sport, which has 0 rows"):
        pieces_of_row(folder, manifest, "sport", 0)


PYARROW_ALONE = """
import sys
import pyarrow as pa, pyarrow.ipc, pyarrow.parquet as pq
shard, index, name = sys.argv[1:]
batch = pa.ipc.open_file(pa.memory_map(shard)).get_batch(0)
place, row, parts = 0, -1, {}
for piece in pq.read_table(index).to_pylist():
    place = place if piece["row"] == row else 0
    row = piece["row"]
    if piece["document_id"] == name:
        parts[piece["part"]] = batch["tokens"][row].as_py()[place : place + piece["tokens"]]
    place += piece["tokens"]
assert [len(lengths) for lengths in batch["segment_lengths"].to_pylist()]
assert "cpt_ray" not in sys.modules
print([token for part in sorted(parts) for token in parts[part]])
"""


def test_a_document_is_read_out_of_a_shard_and_its_index_with_pyarrow_alone(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    entry = manifest.shards[1]
    longest = int(unit_lengths(1).argmax())
    arguments = [str(folder / entry.path), str(folder / entry.index_path), f"law_1_{longest}"]
    done = subprocess.run([sys.executable, "-I", "-c", PYARROW_ALONE, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(unit_tokens(1)[longest].tolist())
