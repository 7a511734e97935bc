"""How a benchmark writes down what it measured: `benchmarks/results/THEME.json`, and the same as a table.

In: claims. Out: a list of `{id, claim, value, unit, target, met, compared_with, hardware, versions, commit, date, raw}`.
A claim that misses its target is written like any other, with `met: false`: nothing is left out because it disappoints.
"""

import importlib.metadata
import json
import operator
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DISTRIBUTIONS = ("cpt-ray", "torch", "deepspeed", "ray", "transformers", "datasets", "pyarrow", "lm-eval", "mlflow", "numpy")
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that a benchmark says.

    Args:
        id: Stable name, unique within its theme.
        claim: The sentence that `value` supports.
        value: What was measured, in `unit`.
        unit: The unit, written out.
        target: A comparison such as `<= 1.0`, or None where there is nothing to reach.
        compared_with: What stands on the other side: a baseline, a reference implementation, a published figure.
        raw: The single measurements behind `value`, or the path of a file that holds them.
    """

    id: str
    claim: str
    value: float | int | bool | str
    unit: str
    target: str | None = None
    compared_with: str | None = None
    raw: Any = field(default=None)

    def met(self) -> bool | None:
        """Whether the target is reached; None without one.

        Raises:
            ValueError: If the target is not a comparison with a number, or the value is no number.
        """
        if self.target is None:
            return None
        sign, _, bound = self.target.partition(" ")
        if sign not in _COMPARISONS or isinstance(self.value, str):
            raise ValueError(f"claim {self.id}: target {self.target!r} must read like '<= 1.0', and its value be a number")
        return _COMPARISONS[sign](self.value, float(bound))


def write_results(theme: str, claims: Sequence[Claim], *, folder: Path = RESULTS, merge: bool = False) -> list[dict[str, Any]]:
    """Write `folder/THEME.json`, print it as a table and return what these claims came to.

    Args:
        theme: The file's name.
        claims: What was measured.
        folder: Where it goes.
        merge: Keep claims of the file that have other ids: a benchmark that is run in parts.

    Raises:
        ValueError: If there are no claims, two have the same id, or a target cannot be judged.
    """
    ids = [claim.id for claim in claims]
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"benchmark {theme}: every claim needs an id of its own, saw {ids}")
    shared = {
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "commit": describe_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results = [
        {
            "id": claim.id,
            "claim": claim.claim,
            "value": claim.value,
            "unit": claim.unit,
            "target": claim.target,
            "met": claim.met(),
            "compared_with": claim.compared_with,
            **shared,
            "raw": claim.raw,
        }
        for claim in claims
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{theme}.json"
    others = json.loads(path.read_text(encoding="utf-8")) if merge and path.exists() else []
    others = [one for one in others if one["id"] not in ids]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([*others, *results], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(render_table(results))
    print(f"\nwritten: {path}")
    return results


def render_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as aligned columns, and the machine they come from below."""
    header = ("id", "value", "unit", "target", "met", "claim")
    words = {True: "yes", False: "NO", None: "-"}
    rows = [
        (
            str(one["id"]),
            f"{one['value']:.4g}" if isinstance(one["value"], float) else str(one["value"]),
            str(one["unit"]),
            one["target"] or "-",
            words[one["met"]],
            one["claim"] + (f" (against {one['compared_with']})" if one["compared_with"] else ""),
        )
        for one in results
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in [header, *rows]
    ]
    return "\n".join([*lines, "", f"hardware: {results[0]['hardware']}; commit {results[0]['commit']}"])


def replace_between(text: str, marks: tuple[str, str], new: str) -> str:
    """Replace the lines between two marks of a document; the marks stay."""
    begin, end = (text.index(mark) for mark in marks)
    return f"{text[: begin + len(marks[0])]}\n{new}\n{text[end:]}"


def describe_hardware() -> str:
    """CPU, cores, memory, and GPUs where there are any."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB memory"
    try:
        gpus = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"{text}, no GPU"
    return f"{text}, {', '.join(gpus.stdout.split(chr(10))[:-1])}"


def describe_versions() -> dict[str, str]:
    """Python and the distributions that decide speed and results."""
    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_commit() -> str:
    """The commit that was measured, with `+changes` where the tree differs from it; `unknown` outside of git."""
    try:
        folder = Path(__file__).parent
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", "..", ":!results"],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
