"""The table of all peers, from the results files into `benchmarks/README.md`, and a short one into `README.md`.

Every row is made of claims that a benchmark has written; nothing here measures. A peer that was not measured has no row. The
newest entry of a claim counts, on whatever processor; its letter stands in the row. Ratios are turned so that more is better.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure.claims import Claim
from benchmarks.measure.record import RESULTS, replace_between

BENCHMARKS = Path(__file__).parents[1] / "README.md"
README = Path(__file__).parents[2] / "README.md"
MARKS = ("<!-- peers: begin -->", "<!-- peers: end -->")
SHORT_MARKS = ("<!-- peers -->", "<!-- /peers -->")
DATATROVE, LITDATA = "datatrove 0.10.1", "litdata 0.2.76"
"""The versions in `benchmarks/data/bench.py`, which a test compares."""

Entry = Mapping[str, Any]
Entries = Mapping[str, Entry]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A peer and one thing that both do.

    Args:
        peer: Name and version.
        what: What is compared.
        ours: Our figure, in `unit`.
        theirs: The peer's.
        unit: Of both.
        times: How many times as fast ours is; None where it is no speed.
        goal: What was aimed at.
        verdict: Whether it was met.
        entry: The claim it is from.
    """

    peer: str
    what: str
    ours: float
    theirs: float
    unit: str
    times: float | None
    goal: str
    verdict: str
    entry: Entry


def newest(folder: Path = RESULTS) -> Entries:
    """The newest entry of each claim of all results files."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.glob("*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            if entry["date"] >= found.get(entry["id"], entry)["date"]:
                found[entry["id"]] = entry
    return found


def all_rows(entries: Entries) -> list[Row]:
    """All rows whose claims are there, in the order in which a study meets them."""
    rows = []
    for makes in (*_PREPARATION, *_TRAINING, *_peer_ids(entries)):
        needed, make = makes
        if all(name in entries for name in needed):
            rows.append(make(*(entries[name] for name in needed)))
    return rows


def _by_rate(peer: str, what: str, unit: str) -> Callable[[Entry, Entry], Row]:
    """From a claim of our rate and one of the ratio."""

    def make(rate: Entry, ratio: Entry) -> Row:
        return _row(ratio, peer, what, rate["value"], rate["value"] / ratio["value"], unit, ratio["value"])

    return make


def _by_rates(peer: str) -> Callable[[Entry, Entry], Row]:
    """From claims of both rates."""

    def make(ours: Entry, theirs: Entry) -> Row:
        name = peer or f"datasets {theirs['versions']['datasets']}, run_clm.py's map"
        times = ours["value"] / theirs["value"]
        return _row(theirs, name, "tokenize, pack, write", ours["value"], theirs["value"], "MB per core-second", times)

    return make


def _by_steps(peer: str, version: str, what: str) -> Callable[[Entry], Row]:
    """From the seconds of each side's steps."""

    def make(entry: Entry) -> Row:
        ours, theirs = (statistics.median(entry["raw"][side]["step_s"]) for side in ("ours", "other"))
        return _row(entry, f"{peer} {_version(entry, version)}", what, ours, theirs, "s a step", entry["value"])

    return make


def _version(entry: Entry, name: str) -> str:
    return str(entry["versions"][name]).partition("+")[0]  # without the suffix of torch's build


def _scoring(entry: Entry) -> Row:
    turns = entry["raw"]["seconds_scoring_forward_tokens"]
    ours, theirs = (sum(turn[side] for turn in turns) for side in (0, 1))
    what = "scoring, against the forward passes alone"
    return _row(entry, f"torch {_version(entry, 'torch')}", what, ours, theirs, "CPU s", entry["value"])


def _beside(entry: Entry) -> Row:
    raw = entry["raw"]
    value, unit = entry["value"], raw["unit"]
    times = {"s": 1 / value if value else None, "tokens/s": value}.get(unit)
    return _row(entry, raw["peer"], raw["what"], raw["ours"], raw["theirs"], unit, times)


def _row(entry: Entry, peer: str, what: str, ours: float, theirs: float, unit: str, times: float | None) -> Row:
    judgement, goal = entry["judgement"], entry["target"]
    if times is None:
        goal = "equal"
    elif goal is None:
        goal, judgement = ">= 1", _judge(times)
    elif goal.startswith("<="):
        goal = f">= {1 / float(goal.split()[1]):g}"
    else:
        goal = f">= {float(goal.split()[1]):g}"
    verdict = {"missed": "**missed**"}.get(judgement, judgement)
    return Row(
        peer=peer, what=what, ours=ours, theirs=theirs, unit=unit, times=times, goal=goal, verdict=verdict, entry=entry
    )  # fmt: skip


def _judge(times: float) -> str:
    return Claim(id="", claim="", value=times, unit="", possible=None, target=">= 1").judge()


_SPEED = "data.tokenize_pack_speed_"
_PREPARATION: tuple[tuple[tuple[str, ...], Callable[..., Row]], ...] = (
    ((f"{_SPEED}ours", f"{_SPEED}datatrove"), _by_rates(DATATROVE)),
    ((f"{_SPEED}ours", f"{_SPEED}litdata"), _by_rates(LITDATA)),
    ((f"{_SPEED}ours", f"{_SPEED}datasets"), _by_rates("")),
    (
        ("data.pack_speed", "data.pack_ratio"),
        _by_rate("trl 1.16.0, bfd_split", "packing alone", "million tokens per CPU second"),
    ),
    (
        ("data.clean_documents_per_core_s", "data.clean_ratio"),
        _by_rate(DATATROVE, "four sets of cleaning rules", "documents per core-second"),
    ),
    (
        ("data.neardup_documents_per_core_s", "data.neardup_ratio"),
        _by_rate("datasketch 2.0.0", "near-duplicates", "documents per core-second"),
    ),
)
_TRAINING: tuple[tuple[tuple[str, ...], Callable[..., Row]], ...] = (
    (("train.bare_ratio",), _by_steps("bare loop, torch", "torch", "training, ZeRO-2, rows of 512")),
    (("train.zero3_bare_ratio",), _by_steps("bare loop, torch", "torch", "training, ZeRO-3, rows of 512")),
    (("train.hf_trainer_ratio",), _by_steps("HF Trainer + DeepSpeed", "deepspeed", "training, ZeRO-2, rows of 2,048")),
    (("evaluate.scoring_share",), _scoring),
)
_ORDER = ("run_clm", "litgpt", "ray_template", "resume", "lm_eval")
_SHORT = (
    f"{_SPEED}datatrove", f"{_SPEED}litdata", "train.bare_ratio", "train.hf_trainer_ratio",
    "peers.run_clm_whole_ratio", "peers.litgpt_speed_ratio", "peers.ray_template_speed_ratio",
    "peers.resume_ratio", "peers.lm_eval_ratio",
)  # fmt: skip
"""The rows of the short table."""
_SHORT_LEAD = (
    "Ours over theirs in speed, on the same text, tokens, cores and threads, misses included (`make bench-peers`); "
    "[benchmarks](benchmarks/README.md) has both figures, more peers, all targets."
)


def _peer_ids(entries: Entries) -> list[tuple[tuple[str, ...], Callable[..., Row]]]:
    def place(name: str) -> tuple[int, str]:
        part = name.removeprefix("peers.")
        return next((at for at, one in enumerate(_ORDER) if part.startswith(one)), len(_ORDER)), part

    names = (name for name, entry in entries.items() if name.startswith("peers.") and not isinstance(entry["value"], str))
    return [((name,), _beside) for name in sorted(names, key=place)]


def table(folder: Path = RESULTS) -> str:
    """The table of all peers."""
    entries = newest(folder)
    rows = all_rows(entries)
    letters = _letters(rows)
    lines = [
        "| peer | what both do | ours | theirs | times as fast | goal | | on | date |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.peer} | {row.what} | {row.ours:.4g} {row.unit} | {row.theirs:.4g} {row.unit} | {_times(row)} | {row.goal} "
            f"| {row.verdict} | {letters[row.entry['processor']]} | {row.entry['date'][:10]} |"
            for row in rows
        ),
    ]
    failed = [f"- {entry['claim']}: {entry['value']}" for _, entry in sorted(entries.items()) if _did_not_run(entry)]
    return "\n".join([*lines, "", *failed, *([""] if failed else []), _legend(letters)])


def short_table(folder: Path = RESULTS) -> str:
    """The short table: a row a peer."""
    every = all_rows(newest(folder))
    rows = [row for row in every if row.entry["id"] in _SHORT]
    used, letters = {str(row.entry["processor"]) for row in rows}, _letters(every)
    lines = [
        f"| {row.peer} | {row.what} | {_times(row)} | {row.goal} | {row.verdict} | {letters[row.entry['processor']]}, "
        f"{row.entry['date'][:10]} |"
        for row in rows
    ]
    head = ["| beside | what both do | times as fast | goal | | measured on |", "|---|---|---|---|---|---|"]
    legend = _legend({one: letter for one, letter in letters.items() if one in used})
    return "\n".join([*head, *lines, "", f"{_SHORT_LEAD} {legend}"])


def _times(row: Row) -> str:
    return "-" if row.times is None else f"{row.times:.2f}"


def _did_not_run(entry: Entry) -> bool:
    return str(entry["id"]).startswith("peers.") and isinstance(entry["value"], str)


def _letters(rows: Sequence[Row]) -> dict[str, str]:
    processors = sorted({str(row.entry["processor"]) for row in rows})
    return dict(zip(processors, "abcdefgh", strict=False))


def _legend(letters: Mapping[str, str]) -> str:
    return (
        "On " + "; ".join(f"({letter}) {processor}" for processor, letter in letters.items()) + "; two cores, 24 GiB, no GPU."
    )


def rewritten(text: str) -> str:
    """`benchmarks/README.md` with its table of peers rewritten."""
    return replace_between(text, MARKS, table())


def rewritten_short(text: str) -> str:
    """`README.md` with the short table rewritten."""
    return replace_between(text, SHORT_MARKS, short_table())


def write() -> None:
    """Rewrite both documents."""
    for path, rewrite in ((BENCHMARKS, rewritten), (README, rewritten_short)):
        path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8")
