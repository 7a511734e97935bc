"""Packed rows as text, with document boundaries.

Reads shards, their indices and the tokenizer stored with them. Memory: the rows shown.

Guarantee: text is decoded from the shard's own tokens, after its hash was checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from cpt_ray.data.rows.shard_index import Placed, pieces_of_row
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.edges.store import fetched
from cpt_ray.errors import ConfigError
from cpt_ray.records import Made, ShardManifest


@dataclass(frozen=True)
class DecodedRow:
    """A row of a source: its pieces with their text, and the padding slots after them."""

    source: str
    row: int
    pieces: tuple[tuple[Placed, str], ...]
    padding: int


def decode_rows(shards: Made[ShardManifest], source: str, rows: range) -> Iterator[DecodedRow]:
    """Decode rows of a source.

    Args:
        shards: Packed for one model's tokenizer.
        source: The source.
        rows: Row numbers; those past the last row are left out.

    Raises:
        ConfigError: If there is no such source, or no row of it.
    """
    folder, manifest = shards
    if source not in manifest.shards.sources:
        raise ConfigError(
            f"there are no rows of source {source!r}", fix=f"name one of {', '.join(manifest.shards.sources)} with --source"
        )
    engine = Tokenizer.from_file(str(fetched(folder / "inputs" / f"tokenizer-{manifest.tokenizer_sha256[:12]}.json")))
    reader = ShardReader(folder, manifest)
    for number in range(rows.start, min(rows.stop, reader.num_rows(source)), rows.step):
        tokens = reader.rows(source, [number])[0].tokens.tolist()
        placed = pieces_of_row(folder, manifest, source, number)
        texts = [engine.decode(tokens[piece.start : piece.start + piece.tokens], skip_special_tokens=False) for piece in placed]
        padding = len(tokens) - sum(piece.tokens for piece in placed)
        yield DecodedRow(source, number, tuple(zip(placed, texts, strict=True)), padding)
