"""Settings of a peer's process, handed over as a JSON file, and the file in which it counts its steps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What a peer trains.

    Args:
        model: Folder of the base, as transformers writes it.
        text: The text, in the peer's layout.
        out: Folder for its caches and the model.
        length: Tokens of a row.
        rows: Rows of a step.
        precision: `bf16` or `fp32`.
        num_steps: Steps in all.
        threads: Cores.
        learning_rate: Peak.
        deepspeed: DeepSpeed's JSON; empty without it.
        worker_environment: Variables of a worker under Ray.
        steps: A file that gets a line at the end of each step: the tokens that bore loss.
    """

    model: str
    text: str
    out: str
    length: int
    rows: int
    precision: str
    num_steps: int
    threads: int
    learning_rate: float
    steps: str
    deepspeed: dict[str, Any]
    worker_environment: dict[str, str]

    def save(self, path: Path) -> Path:
        """Write the settings."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str) -> TrainSettings:
        """Read the settings."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


def append_step(path: str, tokens: int) -> None:
    """Say that a step has ended."""
    with Path(path).open("a", encoding="utf-8") as stream:
        stream.write(f"{tokens}\n")


def tokens_of_steps(path: Path) -> list[int]:
    """Loss-bearing tokens of each step so far."""
    return [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []
