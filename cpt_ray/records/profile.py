"""Records of a corpus profile: what the documents of a study look like, before and after preparation."""

from __future__ import annotations

from typing import Literal

from cpt_ray.records.base import Record


class Histogram(Record):
    """Documents of one source by size or by repetition.

    `edges` has one more number than `counts`; the first and last bins also hold what is beyond them.
    """

    source: str
    measure: Literal["bytes", "repetition"]
    when: Literal["read", "kept"]
    """As read, or as kept after cleaning and duplicate removal."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Term(Record):
    """A word or phrase that sets the domain's text apart."""

    text: str
    domain: int
    """Its count in the sample of domain text."""
    background: int
    z: float
    """Log-odds ratio with an informative Dirichlet prior, over its standard deviation (Monroe et al. 2008)."""


class CorpusProfile(Record):
    """Histograms of every source, and what sets domain text apart from general text."""

    histograms: tuple[Histogram, ...] = ()
    terms: tuple[Term, ...] = ()
    domain_words: int = 0
    """Words in the sample in which terms were counted."""
    background_words: int = 0
