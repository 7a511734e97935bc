"""Held-out sets: which documents belong to them, and which training documents overlap too much with one.

Flow: stage `held_out`. Membership: component id in, `validation`, `test` or None out. Containment: held-out texts in, an
index out; then a training document's word hashes in, verdict out (`held_out_overlap`). Memory: none for membership; the index
takes 14 to 16 bytes per word of held-out text, memory-mapped and thus shared by the processes of a node. Held-out documents are
never compared with one another.

A held-out document of fewer than eight words (`FEWEST_WORDS`) is found only where it is the whole training document: its words
stand in any text.

Guarantee: membership depends only on the component's id and the seed (and, in a source too small for a test set otherwise, on
its other components), so it is drawn before any arm and independently of it; the containment rule is exact (up to 64-bit hash
collisions) for the given n-gram length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from cpt_ray.config.sections.prepare import HeldOutConfig
from cpt_ray.data.scripts import CHARACTERS_PER_WORD, is_unspaced
from cpt_ray.data.words import FEWEST_WORDS, Hashes, hash_ngrams, hash_words, seeded_share, seeded_uint64

Part = Literal["validation", "test"]
PARTS: tuple[Part, Part] = ("validation", "test")
REASON = "held_out"
FEWEST_TEST_DOCUMENTS = 2
"""One document says nothing of another; an interval needs ten (`evaluate.intervals`)."""
OVERLAP_REASON = "held_out_overlap"
_EDGE: Hashes = np.array([seeded_uint64("edge of a document")], dtype=np.uint64)
"""Stands before the first word and after the last one, where a document matches only as a whole."""
_SLICE = 1 << 20


def held_out_share(documents: int, config: HeldOutConfig, *, whole: bool = False) -> float:
    """The share of a source's components that is held out: as configured, and less where that would be too many.

    Args:
        documents: Documents of the source.
        config: Share, and the number of documents that are enough.
        whole: Whether all would be held out: of a probe.
    """
    return min(1.0 if whole else config.share, config.max_documents / max(documents, 1))


def held_out_part(
    component: str, config: HeldOutConfig, seed: int, *, share: float, floor: Collection[str] = ()
) -> Part | None:
    """The held-out half that a component belongs to, or None for training.

    Args:
        component: Id of the near-duplicate component.
        config: How the halves are drawn.
        seed: `prepare.seed`.
        share: `held_out_share` of its source.
        floor: Components that `fill_test_set` added to the test half.
    """
    if component in floor:
        return "test"
    if seeded_share("held_out", seed, component) >= share:
        return None
    return "validation" if seeded_share("validation", seed, component) < config.validation_share else "test"


def fill_test_set(documents: Mapping[str, int], config: HeldOutConfig, seed: int, *, share: float) -> tuple[str, ...]:
    """The components to add to a small source's test half, so that it has the two documents that an interval needs.

    They are the next ones in the order of the draw, which a larger share would have taken first. At least one document is left
    to train on.

    Args:
        documents: Documents of the source by component.
        config: How the halves are drawn.
        seed: `prepare.seed`.
        share: `held_out_share` of the source.

    Returns:
        Components; none if the test half is large enough, or the source is too small for one.
    """
    parts = {component: held_out_part(component, config, seed, share=share) for component in documents}
    test = sum(count for component, count in documents.items() if parts[component] == "test")
    left, added = sum(count for component, count in documents.items() if parts[component] is None), []
    rest = (component for component in documents if parts[component] != "test")
    # From training first; from the validation half, which may be empty, where training has no second document to give.
    for component in sorted(rest, key=lambda name: (parts[name] is not None, seeded_share("held_out", seed, name), name)):
        count = documents[component] if parts[component] is None else 0
        if test < FEWEST_TEST_DOCUMENTS and (count < left or count == 0):
            added.append(component)
            test, left = test + documents[component], left - count
    return tuple(added) if test >= FEWEST_TEST_DOCUMENTS else ()


def held_out_order(component: str, seed: int) -> float:
    """Sort key of a held-out document within its set: any prefix of the set is a fair sample of it."""
    return seeded_share("order", seed, component)


def document_ngrams(text: str, length: int) -> tuple[Hashes, int]:
    """Distinct n-grams of a held-out document.

    Args:
        text: The document.
        length: Words per n-gram; a shorter document is one n-gram of all its words. One of fewer than 8 words (16 characters in
            a script without spaces) is ordinary language, which any text may contain: its n-gram begins and ends with the edge
            of a document, so it is found only in a document that has its words and no others.

    Returns:
        Sorted distinct hashes, and the number of words per n-gram used, edges included (0 for a text without words).
    """
    sequence = hash_words(text)
    fewest = min(FEWEST_WORDS, length) * (CHARACTERS_PER_WORD if is_unspaced(text) else 1)
    if 0 < len(sequence) < fewest:
        sequence = _with_edges(sequence)
        length = len(sequence)
    used = min(length, len(sequence))
    return np.unique(hash_ngrams(sequence, used)) if used else sequence, used


def _with_edges(word_hashes: Hashes) -> Hashes:
    return np.concatenate([_EDGE, word_hashes, _EDGE])


@dataclass(frozen=True)
class ContainmentIndex:
    """Map from n-grams to the held-out documents that contain them.

    Attributes:
        hashes: Sorted n-gram hashes, uint64[n].
        owners: Number of the held-out document that each n-gram belongs to, uint32[n].
        totals: Number of distinct n-grams of each held-out document, uint32[documents].
        lengths: N-gram lengths in use, int64: the configured one, and those of shorter documents.
        slots: A bitmap over hash prefixes, set where an n-gram has that prefix: 16 to 32 bits per n-gram, uint8.
    """

    hashes: Hashes
    owners: npt.NDArray[np.uint32]
    totals: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    slots: npt.NDArray[np.uint8]

    @classmethod
    def build(cls, documents: Iterable[tuple[Hashes, int]]) -> ContainmentIndex:
        """Build the index from `document_ngrams` of every held-out document."""
        grams = [entry for entry in documents if entry[1]]
        totals = np.array([len(hashes) for hashes, _ in grams], dtype=np.uint32)
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(hashes for hashes, _ in grams)])
        owners = np.repeat(np.arange(len(grams), dtype=np.uint32), totals)
        order = np.argsort(hashes, kind="stable")
        lengths = np.array(sorted({used for _, used in grams}), dtype=np.int64)
        return cls(hashes[order], owners[order], totals, lengths, _mark_slots(hashes))

    def save(self, folder: Path) -> None:
        """Write the arrays as `.npy` files."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in dataclasses.fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> ContainmentIndex:
        """Memory-map what `save` wrote."""
        # Mapped, not read: all worker processes of a node share one copy in the page cache.
        return cls(
            *(np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False) for field in dataclasses.fields(cls))
        )

    def contains(self, word_hashes: Hashes, share: float) -> bool:
        """Whether a document contains at least `share` of some held-out document's distinct n-grams.

        Args:
            word_hashes: `hash_words` of the training document.
            share: `prepare.held_out.containment_share`.
        """
        sequence = _with_edges(word_hashes)
        owners = [
            self._owners(np.unique(self._perhaps(hash_ngrams(sequence, length))))
            for length in self.lengths.tolist()
            if length <= len(sequence)
        ]
        found = np.concatenate([np.empty(0, dtype=np.uint32), *owners])
        if not len(found):
            return False
        documents, counts = np.unique(found, return_counts=True)
        # Exact counts of distinct n-grams on both sides: repeated text in the document does not raise its share.
        return bool(np.any(counts >= share * self.totals[documents]))

    def _perhaps(self, grams: Hashes) -> Hashes:
        """The n-grams that may be in the index; 19 of 20 that are not skip the search, whose cost grows with the index."""
        places = grams >> np.uint64(64 - _slot_bits(self.hashes))
        taken: npt.NDArray[np.uint8] = self.slots[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8) & 1
        found: Hashes = grams[taken.astype(np.bool_)]
        return found

    def _owners(self, grams: Hashes) -> npt.NDArray[np.uint32]:
        low = np.searchsorted(self.hashes, grams, side="left")
        # Most n-grams are in no held-out document: look up the end of the run only for those that are.
        hit = low < len(self.hashes)
        hit[hit] = self.hashes[low[hit]] == grams[hit]
        low = low[hit]
        sizes = np.searchsorted(self.hashes, grams[hit], side="right") - low
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.asarray(self.owners[np.repeat(low, sizes) + offsets])


def _slot_bits(hashes: Hashes) -> int:
    return len(hashes).bit_length() + 4


def _mark_slots(hashes: Hashes) -> npt.NDArray[np.uint8]:
    bits = _slot_bits(hashes)
    slots = np.zeros(1 << max(bits - 3, 0), dtype=np.uint8)
    # In slices, and never a byte per slot: at 10^8 n-grams there are 2^31 of them.
    for start in range(0, len(hashes), _SLICE):
        places = hashes[start : start + _SLICE] >> np.uint64(64 - bits)
        bit = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        np.bitwise_or.at(slots, places >> np.uint64(3), bit)
    return slots
