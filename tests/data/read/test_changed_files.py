"""Raw files that change, and a full disk: reported by name, nothing half-written, and the same command resumes."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cpt_ray.data.run.document_tasks import read_unit
from cpt_ray.data.run.units import finished_unit
from cpt_ray.errors import ArtifactError
from cpt_ray.records import UnitReport
from tests.data.read.test_bad_files import LINES, unit
from tests.data.read.test_formats import source

pytestmark = pytest.mark.accept(data=4)


def test_a_unit_of_a_changed_file_is_done_again_and_of_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    config = source(path, "jsonl")
    tasks, context = unit(config, tmp_path / "out", 10**6)
    report = read_unit(tasks[0], context)
    assert finished_unit(unit(config, tmp_path / "out", 10**6)[0][0], context, "read") == report
    path.write_bytes(LINES.replace(b"law_7", b"law_X"))  # the same size
    os.utime(path, ns=(1, 1))
    assert finished_unit(unit(config, tmp_path / "out", 10**6)[0][0], context, "read") is None


FILL = """
import sys
from pathlib import Path
from tests.data.read.test_changed_files import full_disk
print(full_disk(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def full_disk(path: Path, folder: Path) -> str:
    """Read a source into a folder that fills up; return the message."""
    tasks, context = unit(source(path, "jsonl"), folder, 10**7)
    try:
        read_unit(tasks[0], context)
    except ArtifactError as error:
        return f"{error} {finished_unit(tasks[0], context, 'read')} {sorted(p.name for p in folder.rglob('*') if p.is_file())}"
    return "it fitted"


def incompressible(path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": os.urandom(1500).hex()}) + "\n" for _ in range(400)))
    return path


def after(path: Path, folder: Path) -> UnitReport:
    tasks, context = unit(source(path, "jsonl"), folder, 10**7)
    return read_unit(tasks[0], context)


def test_a_file_that_the_system_refuses_to_grow_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = incompressible(tmp_path / "a.jsonl")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [sys.executable, "-c", FILL, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True)
    assert "raw/law-read-00000-00000.parquet: cannot be written: " in done.stdout
    assert "fix: set study.root to a folder that this user can write to, with free disk space" in done.stdout
    assert done.stdout.rstrip().endswith(" None []")  # no report, no file, not even a temporary one
    assert after(path, tmp_path / "out").files == after(path, tmp_path / "elsewhere").files


def test_a_full_disk_is_named_leaves_nothing_behind_and_the_same_command_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = incompressible(tmp_path / "a.jsonl")
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=300k tmpfs {small} && {sys.executable} -c '{FILL}' {path} {small} "
        f"&& mount -o remount,size=30m {small} && {sys.executable} -c '{FILL}' {path} {small}"
    )
    done = subprocess.run(["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    full, roomy = done.stdout.strip().rsplit("\n", 1)
    assert "cannot be written: " in full
    assert "No space left on device" in full
    assert full.endswith(" None []")
    assert roomy == "it fitted"
