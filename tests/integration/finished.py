"""A tiny finished study, and the command line to query it."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from cpt_ray.cli.main import main
from cpt_ray.records import RunRecord, ShardManifest
from tests.integration.tiny_study import BUDGETS, TinyStudy

TRUNK, SMALL, LARGE, CONTROL = (
    "tiny-legal-trunk-seed0",
    f"tiny-legal-{BUDGETS[0]}-seed0",
    f"tiny-legal-{BUDGETS[1]}-seed0",
    f"tiny-control-{BUDGETS[1]}-seed0",
)


@dataclass(frozen=True)
class FinishedStudy:
    """A finished study, and its output on stdout and stderr."""

    study: TinyStudy
    said: str
    warned: str

    def folder(self, stage: str, name: str = "tiny") -> Path:
        """The folder of the only artifact of that name."""
        found = [path for path in (self.study.root / stage).glob(f"{name}-*") if re.fullmatch(r".*-[0-9a-f]{8}", path.name)]
        found = [path for path in found if path.name[:-9] == name]
        assert len(found) == 1, found
        return found[0]

    def manifest(self) -> ShardManifest:
        """The manifest of the shards."""
        return ShardManifest.of(self.folder("shards"))

    def run(self, name: str) -> RunRecord:
        """The record of a run."""
        return RunRecord.of(self.folder("train", name))


def cpt_ray(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process; return exit code and stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(list(arguments))
    return code, out.getvalue()
