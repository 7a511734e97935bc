"""Stage `profile`: histograms of length and repetition, and the words and phrases that distinguish the domain.

Flow: a raw unit, the clean unit made from it and its duplicate verdicts in, one JSON file out; the files of all units are
merged by a tree of tasks. The text is not changed. Memory: one unit's documents and the n-grams of at most 200,000 of its
words; where files are merged, 50,000 n-grams per role.

Guarantee: the same files give the same profile, regardless of the number of workers.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpt_ray.data.clean.repetition import repetition
from cpt_ray.data.run.document_tasks import CleanUnit
from cpt_ray.data.run.duplicates import RunStage
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit, keep_bytes, read_columns
from cpt_ray.data.words import seeded_uint64, words
from cpt_ray.edges import store
from cpt_ray.records import CorpusProfile, Histogram, Term, UnitReport

BYTE_EDGES = tuple(2.0**power for power in range(6, 25))
REPETITION_EDGES = tuple(step / 20 for step in range(21))
SAMPLED_WORDS = 200_000
"""Number of words per unit whose n-grams are counted."""
LONGEST_NGRAM = 3
TERMS = 30
FAN_IN = 64
"""Profiles merged by one task: a merge with 50,000 n-grams takes up to 70 ms."""
MERGED = "merged"
"""Folder of merged profiles, which are scratch."""
_COMPARED = ("domain", "general")
_UNIT_NGRAMS = 5_000
_MERGED_NGRAMS = 50_000
_PRIOR_WORDS = 500.0
_FEWEST = 5


class MergeUnit(UnitTask):
    """Merge profiles into one."""

    stage: str
    profiles: tuple[str, ...]


class ProfileUnit(UnitTask):
    """Profile a unit: the files of its raw documents, its clean documents, and the verdicts on the latter."""

    raw: str
    clean: str
    verdicts: str


def profile_tasks(cleans: Sequence[CleanUnit], cleaned: UnitReports, decided: UnitReports) -> list[ProfileUnit]:
    """The tasks for all clean units, from what was reported of them and of their verdicts."""
    return [
        ProfileUnit(unit=c.unit, source=c.source, raw=c.raw, clean=clean, verdicts=verdicts)
        for c, clean, verdicts in zip(cleans, cleaned.paths("clean"), decided.paths("verdicts"), strict=True)
    ]


def profile_unit(task: ProfileUnit, context: UnitContext) -> UnitReport:
    """Count a unit's documents by size and repetition, as read and as kept, and the n-grams in a sample of the kept ones."""
    read = read_columns(context.file(task.raw), columns=["text"])["text"].to_pylist()
    histograms = {"read": _histograms(read)}
    del read
    kept = read_columns(context.file(task.clean), columns=["identity", "text"])
    kept = kept.filter(read_columns(context.file(task.verdicts), columns=["reason"])["reason"].is_null())
    texts = kept["text"].to_pylist()
    histograms["kept"] = _histograms(texts)
    sampled, counts = sample_ngrams(kept["identity"].to_pylist(), texts, context.prepare.seed)
    role = context.source(task.source).role
    roles = {role: {"words": sampled, "ngrams": counts}} if role in _COMPARED else {}
    content = json.dumps({"histograms": {task.source: histograms}, "roles": roles}, ensure_ascii=False)
    entry = keep_bytes(context.root, f"profile/{task.unit}", ".json", content.encode())
    return finish_unit(task, context, "profile", {"profile": entry})


def _histograms(texts: Sequence[str]) -> dict[str, list[int]]:
    sizes = np.fromiter((len(text.encode()) for text in texts), dtype=np.float64, count=len(texts))
    return {"bytes": _classes(sizes, BYTE_EDGES), "repetition": _classes(repetition(texts), REPETITION_EDGES)}


def _classes(values: npt.NDArray[np.float64], edges: Sequence[float]) -> list[int]:
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [int(count) for count in np.bincount(places, minlength=len(edges) - 1)]


def sample_ngrams(identities: Sequence[str], texts: Sequence[str], seed: int) -> tuple[int, dict[str, int]]:
    """Count the n-grams of documents drawn by seed, until there are enough words.

    Args:
        identities: Identities of the documents; equal ones would be drawn together.
        texts: Their texts.
        seed: Seed of the draw.

    Returns:
        Number of words in the sample, and the counts of its most frequent n-grams of one to three words; a document contributes
        at most a tenth of the words.
    """
    order = sorted(range(len(identities)), key=lambda place: seeded_uint64("profile", seed, identities[place]))
    counts: Counter[str] = Counter()
    sampled = 0
    for place in order:
        if sampled >= SAMPLED_WORDS:
            break
        found = words(texts[place])[: SAMPLED_WORDS // 10]
        sampled += len(found)
        for length in range(1, LONGEST_NGRAM + 1):
            counts.update(map(" ".join, zip(*(found[start:] for start in range(length)), strict=False)))
    return sampled, _most(counts, _UNIT_NGRAMS)


def _most(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """The most frequent n-grams; ties are in alphabetical order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit])


def profile_corpus(stage: RunStage, folder: Path, tasks: Sequence[ProfileUnit]) -> CorpusProfile:
    """Profile all units, and merge what they found: up to `FAN_IN` files at a time in tasks, the last ones here.

    Args:
        stage: Runs a stage.
        folder: The artifact's folder.
        tasks: All units, in canonical order.

    Returns:
        The profile, without terms if there is no text of role `domain` or none of role `general`.
    """
    paths, step = stage("profile", profile_unit, tasks).paths("profile"), 0
    while len(paths) > FAN_IN:
        name = f"profile_merge_{step}"
        groups = [paths[start : start + FAN_IN] for start in range(0, len(paths), FAN_IN)]
        merges = [
            MergeUnit(unit=f"{name}-{number:05d}", source="", stage=name, profiles=tuple(group))
            for number, group in enumerate(groups)
        ]
        paths, step = stage(name, merge_unit, merges).paths("merged"), step + 1
    merged = _merged(store.fetched_files(folder / path for path in paths))
    domain, background = (merged["roles"].get(role, {"words": 0, "ngrams": {}}) for role in _COMPARED)
    edges = {"bytes": BYTE_EDGES, "repetition": REPETITION_EDGES}
    return CorpusProfile(
        histograms=tuple(
            Histogram.model_validate(
                {"source": source, "measure": measure, "when": when, "edges": edges[measure], "counts": counts}
            )
            for source in dict.fromkeys(task.source for task in tasks)
            for when, measures in merged["histograms"][source].items()
            for measure, counts in measures.items()
        ),
        terms=rank_terms(domain["ngrams"], background["ngrams"], domain["words"], background["words"]),
        domain_words=domain["words"],
        background_words=background["words"],
    )


def merge_unit(task: MergeUnit, context: UnitContext) -> UnitReport:
    """Merge the profiles of some units, or groups of units, into one."""
    content = json.dumps(_merged([context.file(path) for path in task.profiles]), ensure_ascii=False)
    entry = keep_bytes(context.root, f"{MERGED}/{task.unit}", ".json", content.encode())
    return finish_unit(task, context, task.stage, {"merged": entry})


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Sum histograms by source, and the n-grams of each role, of which the most frequent are kept."""
    histograms: dict[str, dict[str, dict[str, list[int]]]] = {}
    roles: dict[str, dict[str, Any]] = {}
    for content in (json.loads(path.read_bytes()) for path in paths):
        for source, by_time in content["histograms"].items():
            for when, measures in by_time.items():
                known = histograms.setdefault(source, {}).setdefault(when, {})
                for measure, counts in measures.items():
                    before = known.get(measure, [0] * len(counts))
                    known[measure] = [a + b for a, b in zip(before, counts, strict=True)]
        for role, found in content["roles"].items():
            into = roles.setdefault(role, {"words": 0, "ngrams": {}})
            merged = Counter(into["ngrams"])
            merged.update(found["ngrams"])
            into["words"] += found["words"]
            into["ngrams"] = _most(merged, _MERGED_NGRAMS)
    return {"histograms": histograms, "roles": roles}


def rank_terms(
    domain: Mapping[str, int], background: Mapping[str, int], domain_words: int, background_words: int
) -> tuple[Term, ...]:
    """The n-grams that distinguish the domain (Monroe, Colaresi and Quinn 2008, equations 16, 19, 20 and 22).

    The score is the log-odds ratio of an n-gram between the samples, with a Dirichlet prior of 500 words distributed as in both
    samples combined, divided by its standard deviation. A phrase is left out if a longer one that contains it is as frequent.
    """
    if not domain_words or not background_words:
        return ()
    together = domain_words + background_words
    found = []
    for text, count in domain.items():
        other = background.get(text, 0)
        prior = _PRIOR_WORDS * (count + other) / together
        if count < _FEWEST:
            continue
        odds = _log_odds(count, domain_words, prior) - _log_odds(other, background_words, prior)
        z = odds / math.sqrt(1 / (count + prior) + 1 / (other + prior))
        if z > 0:
            found.append(Term(text=text, domain=count, background=other, z=round(z, 2)))
    found.sort(key=lambda term: (-term.z, -len(term.text), term.text))
    shown: list[Term] = []
    for term in itertools.islice(found, 20 * TERMS):
        if len(shown) < TERMS and not any(f" {term.text} " in f" {one.text} " and term.domain <= one.domain for one in shown):
            shown.append(term)
    return tuple(shown)


def _log_odds(count: int, total: int, prior: float) -> float:
    return math.log((count + prior) / (total + _PRIOR_WORDS - count - prior))
