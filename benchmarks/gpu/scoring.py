"""Speed of scoring: `bits_per_byte` on documents of the study with a model of SmolLM2-135M's shape.

Run by `run.sh` as `python -m benchmarks.gpu.scoring SHARDS OUT`. Scored twice; the second time is measured.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.gpu.speed import DEVICE, LOAD, TINY, make_model, read_steps
from cpt_ray.evaluate.bits_per_byte import score_documents
from cpt_ray.model.scoring import EncodedDocument
from cpt_ray.records import DocumentKey

CONTEXT = 256 if TINY else 2048
DOCUMENTS = 8 if TINY else 512
BATCH_TOKENS = 2 * CONTEXT if TINY else 16 * CONTEXT


def main() -> None:
    """Score, and write the speed."""
    shards, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [row for step in read_steps(shards, LOAD) for row in step.rows]
    pieces = [
        row.tokens[start : start + length].tolist()
        for row in rows
        for start, length in zip(_starts(row.segment_lengths), row.segment_lengths, strict=True)
    ]
    documents = [
        EncodedDocument(DocumentKey(str(index), str(index)), piece[:CONTEXT], len(piece)) for index, piece in enumerate(pieces)
    ][:DOCUMENTS]
    model = make_model().eval()
    for _ in range(2):
        started = time.perf_counter()
        score_documents(model, documents, prefix=0, context=CONTEXT, batch_tokens=BATCH_TOKENS)
        seconds = time.perf_counter() - started
    tokens = sum(len(document.tokens) for document in documents)
    mean_keys = sum(len(document.tokens) ** 2 for document in documents) / (2 * tokens)
    result = {"device": DEVICE.type, "documents": len(documents), "tokens": tokens, "seconds": seconds,
              "tokens_per_s": round(tokens / seconds), "mean_keys": mean_keys, "batch_tokens": BATCH_TOKENS}  # fmt: skip
    print(result)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _starts(lengths: tuple[int, ...]) -> list[int]:
    return [sum(lengths[:index]) for index in range(len(lengths))]


if __name__ == "__main__":
    main()
