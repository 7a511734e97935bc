"""How a benchmark records its measurements: `benchmarks/results/THEME.json`, and the same as a table.

In: claims. Out: a list of `{id, claim, value, unit, spread, target, judgement, compared_with, processor, hardware, versions,
commit, date, raw}`, one entry for each claim and kind of processor. A claim that misses its target is written like any other:
disappointing results are not left out. An impossible value is an error: the others are printed, and nothing is written.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure.claims import Claim, ImpossibleError

RESULTS = Path(__file__).parents[1] / "results"
DISTRIBUTIONS = ("cpt-ray", "torch", "deepspeed", "ray", "transformers", "datasets", "pyarrow", "lm-eval", "mlflow", "numpy")
_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""CPU features that decide the speed of a bf16 matrix product, the most capable first."""


def write_results(
    theme: str, claims: Sequence[Claim], *, folder: Path = RESULTS, merge: bool = False, commit: str | None = None
) -> list[dict[str, Any]]:
    """Write `folder/THEME.json`, print it as a table and return the entries of these claims.

    Args:
        theme: The file's name.
        claims: The measurements.
        folder: Output folder.
        merge: Keep the file's claims with other ids, for a benchmark that runs in parts. Entries of other processors
            are always kept.
        commit: The commit that was measured, where git cannot say it.

    Raises:
        ValueError: If there are no claims, two have the same id, or a target cannot be judged.
        ImpossibleError: If values are outside the range that their claims name; names each.
    """
    ids = [claim.id for claim in claims]
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"benchmark {theme}: every claim needs a unique id, got {ids}")
    impossible = [problem for claim in claims if (problem := claim.problem()) is not None]
    shared = {
        "processor": describe_processor(),
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "commit": commit or describe_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results = [{**_entry(claim), **shared, "raw": claim.raw} for claim in claims if claim.problem() is None]
    if impossible:
        if results:
            print(render_table(results))
        raise ImpossibleError("\n".join([*impossible, "nothing was written"]))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{theme}.json"
    others = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    here = shared["processor"]
    others = [one for one in others if one["processor"] != here or (merge and one["id"] not in ids)]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([*others, *results], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(render_table(results))
    for claim in claims:
        if claim.judge() == "not judged":
            print(f"{claim.id} is not judged: {claim.value:.4g} ± {2 * claim.spread:.2g}, {claim.need()}")
    print(f"\nwritten: {path}")
    return results


def _entry(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "claim": claim.claim,
        "value": claim.value,
        "unit": claim.unit,
        "spread": claim.spread,
        "target": claim.target,
        "judgement": claim.judge(),
        "compared_with": claim.compared_with,
    }


def render_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as aligned columns, with the machine below."""
    header = ("id", "value", "unit", "target", "judgement", "claim")
    words = {"met": "met", "missed": "MISSED", "not judged": "not judged", "no target": "-"}
    rows = [
        (
            str(one["id"]),
            f"{one['value']:.4g}" if isinstance(one["value"], float) else str(one["value"]),
            str(one["unit"]),
            one["target"] or "-",
            words[one["judgement"]],
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


def describe_processor() -> str:
    """The kind of processor: its name (which clouds shorten to the vendor's), family and model, and its best feature."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    best = next((name for name in _FEATURES if name in found.get("flags", "").split()), "no avx2")
    name = found.get("model name", platform.machine())
    return f"{name}, family {found.get('cpu family', '?')} model {found.get('model', '?')}, {best}"


def describe_hardware() -> str:
    """CPU, cores, memory, and GPUs where there are any."""
    cpu = describe_processor()
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
    """Versions of Python and of the distributions that decide speed and results."""
    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_commit() -> str:
    """The commit that was measured, with `+changes` if the tree differs from it; `unknown` outside git."""
    try:
        folder = Path(__file__).parents[1]
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
