"""The data benchmark's peers, in a separate environment: `python peers.py PEER ARGUMENTS`.

    datasets|datatrove|litdata FOLDER TOKENIZER OUT WORKERS   Parquet files -> tokens on disk, an end-of-text token per document
    trl LENGTHS ROW_TOKENS      pack documents of the given lengths, with position ids; prints CPU seconds

Each is set up as its documentation says, with the fast options open to its users: ids only, no attention masks, no shuffle.
Imports nothing from cpt-ray, which is not installed in this environment.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEPARATOR = "<|endoftext|>"
ROW_TOKENS = 2048


def run_datasets(folder: str, tokenizer: str, out: str, workers: int) -> None:
    """`datasets.map` and `group_texts`, as in transformers' run_clm.py."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    engine = AutoTokenizer.from_pretrained(tokenizer)
    separator = engine.convert_tokens_to_ids(SEPARATOR)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids = engine(batch["text"], add_special_tokens=False, return_attention_mask=False)["input_ids"]
        for one in ids:
            one.append(separator)
        return {"input_ids": ids}

    def group(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        joined = list(itertools.chain.from_iterable(batch["input_ids"]))
        whole = len(joined) // ROW_TOKENS * ROW_TOKENS
        return {"input_ids": [joined[start : start + ROW_TOKENS] for start in range(0, whole, ROW_TOKENS)]}

    data = load_dataset("parquet", data_files=sorted(map(str, Path(folder).glob("*.parquet"))), split="train", cache_dir=out)
    data = data.map(encode, batched=True, num_proc=workers, remove_columns=data.column_names)
    data.map(group, batched=True, num_proc=workers)


def run_datatrove(folder: str, tokenizer: str, out: str, workers: int) -> None:
    """The DocumentTokenizer of datatrove."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    write = DocumentTokenizer(f"{out}/tokens", f"{tokenizer}/tokenizer.json", eos_token=SEPARATOR, shuffle_documents=False)
    LocalPipelineExecutor(
        [ParquetReader(folder, glob_pattern="*.parquet"), write], tasks=workers, workers=workers, logging_dir=f"{out}/logs"
    ).run()


def litdata_rows(path: str) -> Iterator[Any]:
    """The documents of a Parquet file as tensors of ids."""
    import os

    import pyarrow.parquet as pq
    import torch
    from tokenizers import Tokenizer

    engine = Tokenizer.from_file(os.environ["BENCH_TOKENIZER"] + "/tokenizer.json")
    separator = engine.token_to_id(SEPARATOR)
    for batch in pq.ParquetFile(path).iter_batches(batch_size=256, columns=["text"]):
        for encoding in engine.encode_batch_fast(batch["text"].to_pylist(), add_special_tokens=False):
            yield torch.tensor([*encoding.ids, separator], dtype=torch.uint16)


def run_litdata(folder: str, tokenizer: str, out: str, workers: int) -> None:
    """The `optimize` of litdata with its token loader."""
    import os

    from litdata import TokensLoader, optimize

    os.environ["BENCH_TOKENIZER"] = tokenizer
    optimize(
        fn=litdata_rows,
        inputs=sorted(map(str, Path(folder).glob("*.parquet"))),
        output_dir=f"{out}/tokens",
        chunk_size=ROW_TOKENS * 4096,
        item_loader=TokensLoader(block_size=ROW_TOKENS),
        num_workers=workers,
        verbose=False,
    )


def run_trl(lengths: str, row_tokens: int) -> None:
    """The `pack_dataset` of trl with `bfd_split`: tokens moved; position ids from its lengths, as its collator does."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset, disable_caching, disable_progress_bars
    from trl import pack_dataset

    disable_caching()
    disable_progress_bars()
    sizes = np.load(lengths)
    flat = pa.array(np.random.default_rng(0).integers(0, 49000, int(sizes.sum()), dtype=np.int32))
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    data = Dataset(pa.table({"input_ids": pa.LargeListArray.from_arrays(offsets, flat)}))
    pack_dataset(data.select(range(100)), row_tokens, strategy="bfd_split")  # imports
    started = time.process_time()
    packed = pack_dataset(data, row_tokens, strategy="bfd_split", map_kwargs={"batch_size": None})
    moved = time.process_time()
    column = packed.data.column("seq_lengths")
    pieces = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    ends = np.cumsum(pieces)
    positions = np.arange(ends[-1], dtype=np.int32) - np.repeat((ends - pieces).astype(np.int32), pieces)
    spent = time.process_time() - started
    tokens = int(pieces.sum())
    result = {"cpu_s": spent, "without_positions_s": moved - started, "rows": len(packed), "tokens": tokens}
    print(json.dumps({**result, "positions": len(positions)}))


if __name__ == "__main__":
    peer, *rest = sys.argv[1:]
    if peer == "trl":
        run_trl(rest[0], int(rest[1]))
    else:
        {"datasets": run_datasets, "datatrove": run_datatrove, "litdata": run_litdata}[peer](*rest[:3], int(rest[3]))
