"""Cleaning rules versus datatrove's filters with the same definitions: agreement of verdicts, and documents per core-second.

Run as `python -m benchmarks.data clean`. The corpus is the demo's: license texts and news articles of at least 400 characters,
normalized, every n-th of them. Both sides judge the same texts with the published thresholds, one process and one thread each,
interleaved; CPU seconds count from text to verdict, with words split once per document on both sides. datatrove runs in a
separate environment under the user's cache folder.
"""

import json
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measure.claims import POSITIVE, SHARE, Claim
from benchmarks.measure.environments import CACHE, python_with
from cpt_ray.config.load import load_study
from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import RULE_SETS
from cpt_ray.data.clean import normalize as normalize
from cpt_ray.data.clean.view import TextView
from cpt_ray.data.read import Rejected, plan_reads, read_documents
from cpt_ray.records import Document, Dropped

DATATROVE = "0.10.1"
PACKAGES = (f"datatrove=={DATATROVE}", "spacy>=3.8,<3.9", "regex", "xxhash<4")
SETS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
LEAST_CHARACTERS = 400
REPETITIONS = 3

Verdicts = list[dict[str, str | None]]
"""Per document: rule set to the reason for dropping it, None where it is kept."""


def build_corpus(documents: int) -> list[str]:
    """About `documents` texts of the demo's sources, evenly spaced."""
    study = load_study(Path(__file__).parents[2] / "configs" / "demo.yaml")
    texts = []
    for source in study.sources:
        for task in plan_reads(source, 10**9):
            read = (item for item in read_documents(task, source) if not isinstance(item, Rejected))
            texts += [text for text in (normalize(item.text) for item in read) if len(text) >= LEAST_CHARACTERS]
    return texts[:: max(1, len(texts) // documents)]


def judge_ours(texts: Sequence[str], sets: Sequence[str] = SETS) -> tuple[Verdicts, float]:
    """Our verdicts, and the CPU seconds from text to verdict."""
    config = CleanConfig(rules=SETS)
    started = time.process_time()
    verdicts: Verdicts = []
    for text in texts:
        view = TextView(Document("", text, ""))
        judged = {name: RULE_SETS[name](view, getattr(config, name)) for name in sets}
        verdicts.append({name: value.reason if isinstance(value, Dropped) else None for name, value in judged.items()})
    return verdicts, time.process_time() - started


def judge_with_plain_words(texts: Sequence[str]) -> Verdicts:
    """Our verdicts on whitespace-separated words: the control for word segmentation."""
    with (
        mock.patch("cpt_ray.data.clean.view.tokens", str.split),
        mock.patch("cpt_ray.data.clean.c4.tokens", str.split),
    ):
        return judge_ours(texts)[0]


_DATATROVE_SCRIPT = r"""
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.text import split_into_words
texts = json.load(open(sys.argv[1]))
filters = {"gopher_quality": GopherQualityFilter(), "gopher_repetition": GopherRepetitionFilter(), "c4": C4QualityFilter(),
           "fineweb": FineWebQualityFilter()}
wanted = sys.argv[2].split(",")
split_into_words("The first call loads the tokenizer.")
started = time.process_time()
verdicts = []
for text in texts:
    row = {}
    for name in wanted:
        result = filters[name].filter(Document(text=text, id=""))
        row[name] = None if result is True else result[1]
    verdicts.append(row)
print(json.dumps({"verdicts": verdicts, "cpu_s": time.process_time() - started}))
"""


def datatrove_python() -> Path:
    """The interpreter of an environment with datatrove and without cpt-ray."""
    return python_with(f"datatrove-{DATATROVE}", PACKAGES)


def judge_datatrove(path: Path, sets: Sequence[str] = SETS) -> tuple[Verdicts, float]:
    """Verdicts of datatrove on a JSON list of texts, and its CPU seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(datatrove_python()), "-c", _DATATROVE_SCRIPT, str(path), ",".join(sets)]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    return done["verdicts"], float(done["cpu_s"])


def differences(ours: Verdicts, theirs: Verdicts) -> list[dict[str, Any]]:
    """Every verdict that differs: document, rule set, and both reasons."""
    return [
        {"document": number, "set": name, "ours": one[name], "theirs": other[name]}
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True))
        for name in one
        if (one[name] is None) != (other[name] is None)
    ]


def agreement(found: Sequence[dict[str, Any]], documents: int) -> float:
    """Share of documents on which all rule sets agree."""
    return 1 - len({one["document"] for one in found}) / documents


def measure(documents: int = 4_000) -> list[Claim]:
    """Run both sides, interleaved, and compare them."""
    texts = build_corpus(documents)
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / "clean.json"
    path.write_text(json.dumps(texts))
    judge_ours(texts[:200])  # tables and imports
    ours_s, theirs_s = [], []
    for _ in range(REPETITIONS):
        ours, spent = judge_ours(texts)
        ours_s.append(spent)
        theirs, spent = judge_datatrove(path)
        theirs_s.append(spent)
    single = {name: (judge_ours(texts, [name])[1], judge_datatrove(path, [name])[1]) for name in SETS}
    found = differences(ours, theirs)
    plain = agreement(differences(judge_with_plain_words(texts), theirs), len(texts))
    ratio = statistics.median(theirs_s) / statistics.median(ours_s)
    name = f"datatrove {DATATROVE}, the filters of the same names, spaCy's English tokenizer"
    raw = {
        "documents": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
        "dropped": {one: sum(row[one] is not None for row in ours) for one in SETS},
        "dropped_by_datatrove": {one: sum(row[one] is not None for row in theirs) for one in SETS},
        "differences_by_set": dict(Counter(one["set"] for one in found)),
        "differences": [{**one, "begins": texts[one["document"]][:60]} for one in found],
        "agreement_with_white_space_words": plain,
    }
    return [
        Claim(
            id="data.clean_agreement",
            possible=SHARE,
            claim=f"cleaning: share of documents on which all of {', '.join(SETS)} have the same verdict",
            value=agreement(found, len(texts)),
            unit="share of documents",
            target=">= 0.995",
            compared_with=name,
            raw=raw,
        ),
        Claim(
            id="data.clean_ratio",
            possible=POSITIVE,
            claim="cleaning: documents per core-second through all four sets over those of the other side",
            value=ratio,
            unit="times",
            compared_with=name,
            raw={"cpu_s": ours_s, "datatrove_cpu_s": theirs_s, "each_set_alone_cpu_s": single},
        ),
        Claim(
            id="data.clean_documents_per_core_s",
            possible=POSITIVE,
            claim=f"cleaning: documents per core-second of {raw['bytes'] / len(texts):.0f} bytes, text to verdict",
            value=len(texts) / statistics.median(ours_s),
            unit="documents per core-second",
            raw=ours_s,
        ),
    ]
