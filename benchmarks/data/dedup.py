"""Near-duplicate removal versus datasketch: documents per core-second, recall and precision on planted near-duplicates.

The corpus is generated: documents of Zipf-distributed words with web-like lengths, plus copies of some of them with a share of
the words replaced. Both sides get the same texts, word 5-grams, 128 permutations and the same threshold, and run interleaved,
one process and one thread each; CPU seconds count from text to pairs. datasketch runs in a separate environment under the
user's cache folder.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.measure.claims import DIFFERENCE, POSITIVE, SHARE, Claim
from benchmarks.measure.environments import CACHE, python_with
from benchmarks.measure.record import write_results
from cpt_ray.config.sections.prepare import NearDuplicateConfig
from cpt_ray.data.dedup.buckets import duplicates
from cpt_ray.data.dedup.signatures import exact_hash, signatures, similarity, threshold
from cpt_ray.data.words import hash_ngrams, hash_words

CONFIG = NearDuplicateConfig()
DATASKETCH = "2.0.0"
EDITED_SHARES = (0.005, 0.01, 0.02, 0.03, 0.05)
REPETITIONS = 3


@dataclass(frozen=True)
class Corpus:
    """Texts, the planted pairs as (original, copy) positions, and the exact similarity of their shingles."""

    texts: list[str]
    planted: list[tuple[int, int]]
    similarity: list[float]


def build_corpus(documents: int = 10_000, copies: int = 2_000, *, seed: int = 0) -> Corpus:
    """Generate the corpus.

    Args:
        documents: Originals; lengths are log-normal with a median of 280 words.
        copies: Edited copies of distinct originals, in equal parts for each of `EDITED_SHARES`.
        seed: Seed of all random draws.
    """
    draw = random.Random(seed)
    numbers = np.random.default_rng(seed)
    vocabulary = np.array(["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(30_000)])
    weights = 1 / np.arange(10, len(vocabulary) + 10)
    lengths = np.clip(numbers.lognormal(np.log(280), 1.0, documents), 30, 8_000).astype(int)
    drawn = vocabulary[numbers.choice(len(vocabulary), lengths.sum(), p=weights / weights.sum())].tolist()
    ends = np.cumsum(lengths)
    originals = [drawn[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    texts = [" ".join(words) for words in originals]
    planted = []
    for number, original in enumerate(draw.sample(range(documents), copies)):
        share = EDITED_SHARES[number % len(EDITED_SHARES)]
        words = [draw.choice(vocabulary) if draw.random() < share else word for word in originals[original]]
        planted.append((original, len(texts)))
        texts.append(" ".join(words))
    return Corpus(texts, planted, [_jaccard(texts[a], texts[b]) for a, b in planted])


def _jaccard(first: str, second: str) -> float:
    a, b = (set(hash_ngrams(hash_words(text), CONFIG.ngram_words).tolist()) for text in (first, second))
    return len(a & b) / len(a | b)


def find_ours(texts: Sequence[str], *, compare: bool = True) -> tuple[set[tuple[int, int]], float]:
    """Duplicate pairs as the pipeline finds them, and the CPU seconds from texts to pairs.

    Args:
        texts: All documents, as one unit.
        compare: False joins all pairs that share a band.
    """
    at_least = (threshold(CONFIG) or 0.0) if compare else -1.0
    started = time.process_time()
    keys, sketches = signatures(texts, [exact_hash(text) for text in texts], first=0, salt=0, config=CONFIG, seed=0)
    found = duplicates(keys, lambda _: lambda a, b: similarity(sketches[a], sketches[b]) >= at_least)
    spent = time.process_time() - started
    return {(int(a), int(b)) for a, b in found.pairs}, spent


_DATASKETCH_SCRIPT = r"""
import json, re, sys, time
from datasketch import MinHash, MinHashLSH
texts = json.load(open(sys.argv[1]))
n, threshold = int(sys.argv[2]), float(sys.argv[3])
word = re.compile(r"\w+")
started = time.process_time()
lsh = MinHashLSH(threshold=threshold, num_perm=128)
pairs = []
for number, text in enumerate(texts):
    words = word.findall(text.casefold())
    shingles = {" ".join(words[i : i + n]).encode() for i in range(len(words) - n + 1)}
    minhash = MinHash(num_perm=128)
    minhash.update_batch(list(shingles))
    pairs += [(other, number) for other in lsh.query(minhash)]
    lsh.insert(number, minhash)
spent = time.process_time() - started
print(json.dumps({"pairs": pairs, "cpu_s": spent, "bands": lsh.b, "rows": lsh.r}))
"""


def datasketch_python() -> Path:
    """The interpreter of an environment with datasketch and without cpt-ray."""
    return python_with(f"datasketch-{DATASKETCH}", [f"datasketch=={DATASKETCH}"])


def find_datasketch(path: Path) -> dict[str, Any]:
    """Pairs as datasketch finds them in a JSON list of texts, and its CPU seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    arguments = [str(path), str(CONFIG.ngram_words), str(threshold(CONFIG))]
    command = [str(datasketch_python()), "-c", _DATASKETCH_SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def recall(corpus: Corpus, pairs: set[tuple[int, int]]) -> float:
    """Share of the planted pairs at or above the threshold that were found."""
    wanted = [pair for pair, alike in zip(corpus.planted, corpus.similarity, strict=True) if alike >= (threshold(CONFIG) or 0)]
    return sum(pair in pairs for pair in wanted) / len(wanted)


def precision(corpus: Corpus, pairs: set[tuple[int, int]]) -> float:
    """Share of the found pairs whose texts are at or above the threshold."""
    alike = [_jaccard(corpus.texts[a], corpus.texts[b]) for a, b in pairs]
    return sum(value >= (threshold(CONFIG) or 0) for value in alike) / max(1, len(alike))


def recall_by_similarity(corpus: Corpus, pairs: set[tuple[int, int]]) -> dict[str, list[float]]:
    """Planted pairs found, by class of exact similarity: [found, planted]."""
    classes: dict[str, list[float]] = {}
    for pair, alike in zip(corpus.planted, corpus.similarity, strict=True):
        counts = classes.setdefault(f"{int(alike * 20) / 20:.2f}", [0, 0])
        counts[0] += pair in pairs
        counts[1] += 1
    return dict(sorted(classes.items()))


def measure(documents: int = 10_000, copies: int = 2_000) -> list[Claim]:
    """Run both sides, interleaved, and compare them."""
    corpus = build_corpus(documents, copies)
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / "near-duplicates.json"
    path.write_text(json.dumps(corpus.texts))
    find_ours(corpus.texts[:500])  # tables and imports
    ours_s, theirs_s = [], []
    for _ in range(REPETITIONS):
        ours, spent = find_ours(corpus.texts)
        ours_s.append(spent)
        theirs = find_datasketch(path)
        theirs_s.append(float(theirs["cpu_s"]))
    their_pairs = {(int(a), int(b)) for a, b in theirs["pairs"]}
    count, size = len(corpus.texts), sum(len(text) for text in corpus.texts)
    bands = f"{CONFIG.bands} bands of {CONFIG.rows}, threshold {threshold(CONFIG):.3f}"
    name = f"datasketch {DATASKETCH}, MinHashLSH at the same threshold ({theirs['bands']} bands of {theirs['rows']})"
    unverified, _ = find_ours(corpus.texts, compare=False)
    raw = {
        "documents": count,
        "bytes": size,
        "cpu_s": ours_s,
        "datasketch_cpu_s": theirs_s,
        "recall": recall(corpus, ours),
        "datasketch_recall": recall(corpus, their_pairs),
        "precision": precision(corpus, ours),
        "datasketch_precision": precision(corpus, their_pairs),
        "by_similarity": recall_by_similarity(corpus, ours),
        "datasketch_by_similarity": recall_by_similarity(corpus, their_pairs),
    }
    return _claims(raw, name=name, bands=bands, unverified=precision(corpus, unverified))


def _claims(raw: dict[str, Any], *, name: str, bands: str, unverified: float) -> list[Claim]:
    count, size, ours_s, theirs_s = raw["documents"], raw["bytes"], raw["cpu_s"], raw["datasketch_cpu_s"]
    ratio = statistics.median(theirs_s) / statistics.median(ours_s)
    return [
        Claim(
            id="data.neardup_ratio",
            possible=POSITIVE,
            claim=f"near-duplicates: documents per core-second over those of the other side ({bands})",
            value=ratio,
            unit="times",
            target=">= 4.0",
            compared_with=name,
            raw=raw,
        ),
        Claim(
            id="data.neardup_documents_per_core_s",
            possible=POSITIVE,
            claim=f"near-duplicates: documents per core-second, {size / count:.0f} bytes each, text to pairs",
            value=count / statistics.median(ours_s),
            unit="documents per core-second",
            raw=ours_s,
        ),
        Claim(
            id="data.neardup_recall_difference",
            possible=DIFFERENCE,
            claim="near-duplicates: recall on planted pairs of at least the threshold, minus that of the other side",
            value=raw["recall"] - raw["datasketch_recall"],
            unit="share of pairs",
            target=">= 0.0",
            compared_with=name,
            raw=raw["by_similarity"],
        ),
        Claim(
            id="data.neardup_precision_difference",
            possible=DIFFERENCE,
            claim="near-duplicates: share of found pairs that are at least at the threshold, minus that of the other side",
            value=raw["precision"] - raw["datasketch_precision"],
            unit="share of pairs",
            target=">= 0.0",
            compared_with=name,
            raw={key: raw[key] for key in ("precision", "datasketch_precision")},
        ),
        Claim(
            id="data.neardup_precision_without_comparison",
            possible=SHARE,
            claim="near-duplicates: the same share if a shared band were enough (the control)",
            value=unverified,
            unit="share of pairs",
        ),
    ]


if __name__ == "__main__":
    write_results("data", measure(*map(int, sys.argv[1:])), merge=True)
