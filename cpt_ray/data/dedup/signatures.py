"""Keys that bring candidate duplicates together, and sketches that verify them.

Flow: part of stage `clean`. Texts in; a table of keys (a hash of the whole text, and one per MinHash band of its word
n-grams), partitioned by key for the exchange, and a sketch per document out. Memory: 8 bytes per word of a batch while
hashing, then per document of the unit `bands + 1` keys of 24 bytes and a sketch of `bands x rows` bytes; nothing is kept
between units.

MinHash follows Broder 1997, the banding Leskovec et al., Mining of Massive Datasets, section 3.4; the engine is rensa. A
sketch keeps 8 bits of each minimum (b-bit minwise hashing, Li and König 2010): a quarter of the size at nearly the same error.

Guarantee: keys and sketches depend only on the text and the settings, not on the unit, its neighbors or the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.config.sections.prepare import NearDuplicateConfig
from cpt_ray.data.words import Hashes, fold, hash_ngrams_batch, hash_words_batch, mix
from cpt_ray.edges.packages import needed_for

Digests: TypeAlias = npt.NDArray[np.uint32]
Sketches: TypeAlias = npt.NDArray[np.uint8]

_EXACT_BYTES = 16
_BATCH = 256
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SKETCH_FACTOR = np.uint32(0x9E3779B1)
_SKETCH_VALUES = 256

KEY_SCHEMA = pa.schema([("key", pa.uint64()), ("document", pa.uint64()), ("exact", pa.uint64())])
"""One row per key: its value, the document's reference, and 64 bits of its exact hash, which are the key of the exact row."""


def exact_hash(text: str) -> bytes:
    """Hash the folded text with whitespace collapsed: equal for texts that differ in nothing else."""
    normalized = " ".join(fold(text).split())
    return hashlib.blake2b(normalized.encode(), digest_size=_EXACT_BYTES).digest()


def threshold(config: NearDuplicateConfig) -> float | None:
    """The similarity at which two documents share a band about half the time; at or above it they count as duplicates.

    (1/bands)^(1/rows), from Leskovec et al.; None if near-duplicate removal is disabled.
    """
    return float((1 / config.bands) ** (1 / config.rows)) if config.enabled else None


def digests(texts: Sequence[str], config: NearDuplicateConfig, seed: int) -> tuple[npt.NDArray[np.int64], Digests]:
    """Compute the MinHash digests of documents.

    Args:
        texts: The texts.
        config: Words per shingle, bands and rows.
        seed: Seed of the permutations.

    Returns:
        Positions of the documents that have at least `ngram_words` words, int64[n], and their digests, uint32[n, bands x rows].
    """
    with needed_for("prepare.near_duplicates.enabled"):
        from rensa import RMinHash

    permutations = config.bands * config.rows
    positions, rows = [np.empty(0, dtype=np.int64)], [np.empty((0, permutations), dtype=np.uint32)]
    for start in range(0, len(texts), _BATCH):
        shingles, offsets = hash_ngrams_batch(*hash_words_batch(texts[start : start + _BATCH]), config.ngram_words)
        long_enough = np.flatnonzero(np.diff(offsets))
        if not len(long_enough):
            continue
        borders = np.unique(offsets).astype(np.uint64)  # equal offsets are documents without shingles: left out
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, borders, permutations, seed & (2**63 - 1))
        flat = np.fromiter(chain.from_iterable(matrix.to_rows()), dtype=np.uint32, count=len(long_enough) * permutations)
        positions.append(long_enough + start)
        rows.append(flat.reshape(-1, permutations))
    return np.concatenate(positions), np.concatenate(rows)


def band_keys(values: Digests, config: NearDuplicateConfig) -> Hashes:
    """Hash each band of digests: uint64[n, bands]."""
    bands = values.reshape(len(values), config.bands, config.rows)
    keys = np.broadcast_to(np.arange(1, config.bands + 1, dtype=np.uint64), (len(values), config.bands))
    for row in range(config.rows):
        keys = mix(keys * _FACTOR + bands[:, :, row])
    return keys


def sketches(values: Digests) -> Sketches:
    """Eight bits of each digest, mixed from all of its bits: the minimum of many hashes has few high bits set."""
    # The multiplication mixes all bits into the top ones, which are mostly 0 in a minimum of many hashes.
    return ((values * _SKETCH_FACTOR) >> np.uint32(24)).astype(np.uint8)


def similarity(first: Sketches, second: Sketches) -> npt.NDArray[np.float64]:
    """Estimate the Jaccard similarity of documents from their sketches, pair by pair.

    The share of equal values, corrected for chance agreement. Unbiased; standard error sqrt(J(1 - J) / permutations).

    Args:
        first: uint8[n, permutations].
        second: The same for the other documents.
    """
    equal = np.count_nonzero(first == second, axis=1) / first.shape[1]
    return np.asarray((equal - 1 / _SKETCH_VALUES) / (1 - 1 / _SKETCH_VALUES))


def signatures(
    texts: Sequence[str], exact: Sequence[bytes], *, first: int, salt: int, config: NearDuplicateConfig, seed: int
) -> tuple[pa.Table, Sketches]:
    """Compute the keys and sketches of a unit's documents.

    Args:
        texts: The texts, in the unit's order.
        exact: `exact_hash` of each.
        first: Reference of the unit's first document.
        salt: Mixed into every key, so documents with different salts are never compared. 0 leaves keys unchanged.
        config: Words per shingle, bands and rows; with `enabled: false`, only exact keys.
        seed: Seed of the permutations.

    Returns:
        A table of `KEY_SCHEMA`, in no particular order, and uint8[texts, bands x rows], zero for documents without shingles.
    """
    hashes = np.frombuffer(b"".join(value[:8] for value in exact), dtype="<u8").astype(np.uint64) ^ np.uint64(salt)
    keys, owners = [hashes], [np.arange(len(texts), dtype=np.int64)]
    sketch = np.zeros((len(texts), config.bands * config.rows if config.enabled else 0), dtype=np.uint8)
    if config.enabled:
        positions, values = digests(texts, config, seed)
        sketch[positions] = sketches(values)
        keys.append((band_keys(values, config) ^ np.uint64(salt)).reshape(-1))
        owners.append(np.repeat(positions, config.bands))
    owner = np.concatenate(owners)
    columns = [np.concatenate(keys), owner.astype(np.uint64) + np.uint64(first), hashes[owner]]
    return pa.table(columns, schema=KEY_SCHEMA), sketch
