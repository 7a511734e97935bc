"""Keys under which duplicates meet: a hash of the whole text, and MinHash bands of its word n-grams.

Flow: part of stage `clean`; texts in, `exact` (16 bytes per document) and a key table out, partitioned by key for the
exchange. Memory: 4 bytes per word of a batch while hashing, then 32 bytes per key and `bands + 1` keys per document of the
unit; nothing is kept from one unit to the next.

MinHash is Broder 1997, the banding Leskovec et al., Mining of Massive Datasets, section 3.4; the engine is rensa.

Guarantee: keys depend on the text and the settings only, not on the unit, its neighbours or the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rensa import RMinHash

from cpt_ray.config.prepare import NearDuplicateConfig
from cpt_ray.data.words import Hashes, hash_ngrams, hash_words, mix, words

_EXACT_BYTES = 16
_BATCH = 1000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

KEY_SCHEMA = pa.schema([("key", pa.uint64()), ("document", pa.uint64()), ("exact", pa.binary(_EXACT_BYTES))])
"""One row per key: its value, the document's reference (unit number << 32 | row), the document's exact hash."""


def exact_hash(text: str) -> bytes:
    """Hash the casefolded text with its white space collapsed: equal for texts that differ in nothing else."""
    normalised = " ".join(text.casefold().split())
    return hashlib.blake2b(normalised.encode(), digest_size=_EXACT_BYTES).digest()


def threshold(config: NearDuplicateConfig) -> float | None:
    """The similarity at which two documents meet about half the time: (1/bands)^(1/rows); None where switched off."""
    return float((1 / config.bands) ** (1 / config.rows)) if config.enabled else None


def band_keys(texts: Sequence[str], config: NearDuplicateConfig, seed: int) -> tuple[npt.NDArray[np.int64], Hashes]:
    """Compute the MinHash band keys of documents.

    Args:
        texts: Texts of the documents.
        config: Words per shingle, bands and rows.
        seed: Seed of the permutations.

    Returns:
        Positions of the documents that have at least `ngram_words` words, int64[n], and their keys, uint64[n, bands].
    """
    shingles = [hash_ngrams(hash_words(words(text)), config.ngram_words) for text in texts]
    long_enough = np.array([i for i, hashes in enumerate(shingles) if len(hashes)], dtype=np.int64)
    if not len(long_enough):
        return long_enough, np.empty((0, config.bands), dtype=np.uint64)
    chosen = [shingles[i] for i in long_enough]
    offsets = np.concatenate([[0], np.cumsum([len(hashes) for hashes in chosen])]).astype(np.uint64)
    permutations = config.bands * config.rows
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(chosen), offsets, permutations, seed & (2**63 - 1))
    digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(chosen), config.bands, config.rows)
    keys = np.broadcast_to(np.arange(1, config.bands + 1, dtype=np.uint64), (len(chosen), config.bands))
    for row in range(config.rows):
        keys = mix(keys * _FACTOR + digests[:, :, row])
    return long_enough, keys


def key_table(texts: Sequence[str], exact: Sequence[bytes], first: int, config: NearDuplicateConfig, seed: int) -> pa.Table:
    """All keys of a unit's documents: the exact key of each, and the band keys of those that are long enough.

    Args:
        texts: Texts of the documents, in the unit's order.
        exact: `exact_hash` of each.
        first: Reference of the unit's first document.
        config: Words per shingle, bands and rows; with `enabled: false` there are exact keys only.
        seed: Seed of the permutations.

    Returns:
        A table of `KEY_SCHEMA`, in no particular order.
    """
    keys = [np.frombuffer(b"".join(value[:8] for value in exact), dtype="<u8").astype(np.uint64)]
    owners = [np.arange(len(texts), dtype=np.int64)]
    if config.enabled:
        for start in range(0, len(texts), _BATCH):
            position, bands = band_keys(texts[start : start + _BATCH], config, seed)
            keys.append(bands.reshape(-1))
            owners.append(np.repeat(position + start, config.bands))
    owner = np.concatenate(owners)
    hashes = pa.array(exact, type=pa.binary(_EXACT_BYTES))
    return pa.table(
        [np.concatenate(keys), owner.astype(np.uint64) + np.uint64(first), hashes.take(pa.array(owner))], schema=KEY_SCHEMA
    )


def write_keys(table: pa.Table, path: Path, partitions: int) -> None:
    """Write a unit's keys as one Arrow file with a record batch per partition of the key space."""
    partition = table["key"].to_numpy() % np.uint64(partitions)
    order = np.argsort(partition, kind="stable")
    borders = np.searchsorted(partition[order], np.arange(partitions + 1, dtype=np.uint64))
    table = table.take(pa.array(order)).combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, KEY_SCHEMA) as writer:
        for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            batches = table.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=KEY_SCHEMA))


def read_keys(path: Path, partition: int) -> pa.Table:
    """Read one partition of a file that `write_keys` wrote."""
    with pa.memory_map(str(path)) as source:
        return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(partition)])
