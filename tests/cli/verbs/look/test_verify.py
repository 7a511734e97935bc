"""Artifacts and raw files are hashed again, and whatever has changed is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from cpt_ray.records import Artifact, ShardManifest
from tests.integration.tiny_study import TinyStudy

pytestmark = pytest.mark.ray


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def shards_of(study: TinyStudy):
    return next((study.root / "shards").iterdir())


def test_verify_hashes_every_artifact_and_changes_nothing(prepared, capsys):
    before = prepared.files()
    code, said, _ = run(capsys, "verify", str(prepared.config))
    assert code == 0
    files = len(Artifact.load(shards_of(prepared) / "artifact.json").files)
    assert re.search(rf"^  same     shards/tiny-\w+  \({files} files, \d", said, re.MULTILINE)
    assert re.search(
        r"^verified: 6 of \d+ artifacts exist; none has changed, and neither have the raw files$",
        said,
        re.MULTILINE,
    )
    assert prepared.files() == before


@pytest.mark.parametrize(
    "pattern", ["shards/*/shards/*.arrow", "shards/*/shards/*.parquet", "documents/*/clean/*.parquet", "models/*/*.safetensors"]
)
def test_verify_names_a_file_of_which_one_bit_has_changed_at_the_same_size(prepared, capsys, pattern):
    path = sorted(prepared.root.glob(pattern))[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, said, error = run(capsys, "verify", str(prepared.config))
    assert code == 2
    assert said.count("CHANGED") == 1
    assert f"{path}: sha256 " in error
    assert "1 of what was checked differ" in error
    assert "re-run the same command; it will be rebuilt" in error


def test_verify_names_a_raw_file_whose_bytes_changed_and_nothing_else(prepared, capsys):
    source = load_study(str(prepared.config)).sources[0]
    (path,) = (Path(name) for name in source.path)
    times = path.stat()
    path.write_text(path.read_text().replace("e", "a", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    code, said, error = run(capsys, "verify", str(prepared.config))
    assert code == 2
    assert re.findall(r"^  CHANGED  ([^(]+)", said, re.MULTILINE) == [f"raw files of {source.name}  "]
    assert f"{path} has changed since " in error


def test_verify_names_a_missing_file_and_a_cut_manifest(prepared, capsys):
    folder = shards_of(prepared)
    entry = ShardManifest.load(folder / "manifest.json").shards[0]
    (folder / entry.path).unlink()
    held_out = next((prepared.root / "held_out").iterdir()) / "artifact.json"
    held_out.write_text(held_out.read_text()[:100])
    code, said, error = run(capsys, "verify", str(prepared.config))
    assert code == 2
    assert f"{folder / entry.path}: missing, but its manifest names it" in said
    assert f"{held_out}: not an artifact record" in error
    assert "2 of what was checked differ" in error
