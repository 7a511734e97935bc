"""Stage `profile`: histograms of length and repetition, and the words and phrases that set the domain apart.

Flow: a raw unit, the clean unit made of it and its duplicate verdicts in, one JSON file out; `merge_profiles` adds the files of
all units up. The text is not changed. Memory: one unit's documents, the n-grams of at most 200,000 words of it, and on the
driver 50,000 n-grams per role.

Guarantee: the same files give the same profile, whatever the number of workers.
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
import pyarrow.parquet as pq

from cpt_ray.data.clean.repetition import repetition
from cpt_ray.data.run.document_tasks import CleanUnit
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit, keep_bytes
from cpt_ray.data.words import seeded_uint64, words
from cpt_ray.records import CorpusProfile, Histogram, Term, UnitReport

BYTE_EDGES = tuple(2.0**power for power in range(6, 25))
REPETITION_EDGES = tuple(step / 20 for step in range(21))
SAMPLED_WORDS = 200_000
"""Words per unit whose n-grams are counted."""
LONGEST_NGRAM = 3
TERMS = 30
_UNIT_NGRAMS = 5_000
_MERGED_NGRAMS = 50_000
_PRIOR_WORDS = 500.0
_FEWEST = 5


class ProfileUnit(UnitTask):
    """Measure a unit: the files of its raw and its clean documents, and of the verdicts on these."""

    raw: str
    clean: str
    verdicts: str


def profile_tasks(
    cleans: Sequence[CleanUnit], cleaned: Sequence[UnitReport], decided: Sequence[UnitReport]
) -> list[ProfileUnit]:
    """The tasks of all clean units, from their reports and those of their verdicts."""
    return [
        ProfileUnit(unit=c.unit, source=c.source, raw=c.raw, clean=done.path("clean"), verdicts=verdict.path("verdicts"))
        for c, done, verdict in zip(cleans, cleaned, decided, strict=True)
    ]


def profile_unit(task: ProfileUnit, context: UnitContext) -> UnitReport:
    """Count a unit's documents by size and repetition, as read and as kept, and the n-grams of a sample of those kept."""
    read = pq.read_table(context.root / task.raw, columns=["text"])["text"].to_pylist()
    histograms = {"read": _histograms(read)}
    del read
    kept = pq.read_table(context.root / task.clean, columns=["id", "text"])
    kept = kept.filter(pq.read_table(context.root / task.verdicts, columns=["reason"])["reason"].is_null())
    texts = kept["text"].to_pylist()
    histograms["kept"] = _histograms(texts)
    sampled, counts = sample_ngrams(kept["id"].to_pylist(), texts, context.prepare.seed)
    content = json.dumps({"histograms": histograms, "words": sampled, "ngrams": counts}, ensure_ascii=False)
    entry = keep_bytes(context.root, f"profile/{task.unit}", ".json", content.encode())
    return finish_unit(task, context, "profile", {"profile": entry})


def _histograms(texts: Sequence[str]) -> dict[str, list[int]]:
    sizes = np.fromiter((len(text.encode()) for text in texts), dtype=np.float64, count=len(texts))
    return {"bytes": _classes(sizes, BYTE_EDGES), "repetition": _classes(repetition(texts), REPETITION_EDGES)}


def _classes(values: npt.NDArray[np.float64], edges: Sequence[float]) -> list[int]:
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [int(count) for count in np.bincount(places, minlength=len(edges) - 1)]


def sample_ngrams(ids: Sequence[str], texts: Sequence[str], seed: int) -> tuple[int, dict[str, int]]:
    """Count the n-grams of documents drawn by seed, until there are enough words.

    Args:
        ids: Of the documents.
        texts: Their texts.
        seed: Of the draw.

    Returns:
        Words in the sample, and the most frequent of its n-grams of one to three words; a document gives at most a tenth of the
        words.
    """
    order = sorted(range(len(ids)), key=lambda place: seeded_uint64("profile", seed, ids[place]))
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
    """The most frequent, in alphabetic order among equals."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit])


def merge_profiles(
    folder: Path, tasks: Sequence[UnitTask], units: Sequence[UnitReport], roles: Mapping[str, str]
) -> CorpusProfile:
    """Add up the files of all units.

    Args:
        folder: The artifact's folder.
        tasks: All units, in canonical order.
        units: Their reports.
        roles: Source to `domain` or `general`.

    Returns:
        The profile; without terms where there is no text of one of the roles.
    """
    totals: dict[tuple[str, str, str], list[int]] = {}
    ngrams: dict[str, dict[str, int]] = {"domain": {}, "general": {}}
    sampled = {"domain": 0, "general": 0}
    for task, report in zip(tasks, units, strict=True):
        source = task.source
        content: dict[str, Any] = json.loads((folder / report.path("profile")).read_bytes())
        for when, measures in content["histograms"].items():
            for measure, counts in measures.items():
                known = totals.setdefault((source, measure, when), [0] * len(counts))
                totals[source, measure, when] = [a + b for a, b in zip(known, counts, strict=True)]
        role = roles[source]
        sampled[role] += content["words"]
        merged = Counter(ngrams[role])
        merged.update(content["ngrams"])
        ngrams[role] = _most(merged, _MERGED_NGRAMS)
    edges = {"bytes": BYTE_EDGES, "repetition": REPETITION_EDGES}
    return CorpusProfile(
        histograms=tuple(
            Histogram.model_validate(
                {"source": source, "measure": measure, "when": when, "edges": edges[measure], "counts": counts}
            )
            for (source, measure, when), counts in totals.items()
        ),
        terms=rank_terms(ngrams["domain"], ngrams["general"], sampled["domain"], sampled["general"]),
        domain_words=sampled["domain"],
        background_words=sampled["general"],
    )


def rank_terms(
    domain: Mapping[str, int], background: Mapping[str, int], domain_words: int, background_words: int
) -> tuple[Term, ...]:
    """The n-grams that set the domain apart (Monroe, Colaresi and Quinn 2008, equations 16, 19, 20 and 22).

    The log-odds ratio of an n-gram in both samples, with a Dirichlet prior of 500 words that are spread as in both together,
    over its standard deviation. A phrase is left out where a longer one that holds it comes as often.
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
