"""From the result files of a GPU host to `gpu.json`: claims with targets, and what could not be measured.

Run by `run.sh` as `python -m benchmarks.gpu.results FOLDER COMMIT`, on the host, whose hardware and versions are recorded.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.bundle import REPOSITORY
from benchmarks.gpu.shapes import SMOLLM2_135M, TINY_SHAPE, Shape, seconds_per_token
from benchmarks.measure.claims import POSITIVE, SHARE, Claim
from benchmarks.measure.record import write_results
from cpt_ray.model.parameters import flops_per_token
from cpt_ray.records import ModelShape

SAME_LOSS = 0.01
"""Relative: sides whose losses differ by more did other work. bf16 and the order of sums shift a loss by 1e-3."""


def claims(folder: Path) -> Iterator[Claim]:
    """The claims for which there are results.

    Sides that did other work are not compared, which is said.
    """
    speed, peers, scoring = (_read(folder / f"{name}.json") for name in ("speed", "peers", "scoring"))
    if speed is not None and peers is not None:
        speed["sides"].update(peers["sides"])
    if speed is not None:
        yield from _speed_claims(speed)
    if speed is not None and scoring is not None:
        yield _scoring_claim(speed, scoring)
    waits = [json.loads(line) for path in sorted(folder.glob("metrics/*.jsonl")) for line in path.read_text().splitlines()]
    if waits:
        share = statistics.median(one["data_wait_s"] / one["step_s"] for one in waits)
        yield Claim(
            id="gpu.host_wait_share", possible=SHARE, claim="waiting for the batch, of a step of the study", value=share,
            unit="share", target="< 0.01", raw={"steps": len(waits)},
        )  # fmt: skip


def _speed_claims(speed: dict[str, Any]) -> Iterator[Claim]:
    sides = {name: side for name, side in speed["sides"].items() if "error" not in side}
    ours = max((name for name in sides if name.startswith("zero")), key=lambda name: sides[name]["tokens_per_s"], default=None)
    if ours is None:
        return
    load = speed["load"]
    text = (
        f"{ours}, SmolLM2-135M's shape, bf16, micro-batches of {load['rows']} rows of {load['length']} tokens with padding, "
        f"documents isolated, {speed['device']}"
    )
    value = sides[ours]["tokens_per_s"]
    yield Claim(
        id="gpu.tokens_per_s", possible=POSITIVE, claim=text, value=value, unit="tokens/s", target=">= 310000", raw=speed
    )
    flops = _flops_per_token(_shape(speed), speed["mean_keys"])
    yield Claim(
        id="gpu.peak_share", possible=SHARE, claim=f"model FLOPs a second, {text}",
        value=value * flops / speed["matmul_flops_per_s"], unit="share", target=">= 0.39",
        compared_with="the measured peak of a bf16 product of 8192 x 8192 matrices",
    )  # fmt: skip
    peers = {"gpu.bare_compiled_ratio": ("bare compiled", ">= 0.97", "a bare compiled loop with the same kernels")}
    fastest = max((name for name in sides if name.startswith("hf")), key=lambda name: sides[name]["tokens_per_s"], default="")
    peers["gpu.hf_trainer_ratio"] = (fastest, ">= 1.5", f"the fastest of Hugging Face's Trainer: {fastest}")
    for name, (other, target, against) in peers.items():
        if other not in sides:
            continue
        try:
            require_same_losses(ours, sides[ours]["losses"], other, sides[other]["losses"])
        except ValueError as error:
            print(f"{name} is not claimed: {error}")
            continue
        yield Claim(
            id=name, possible=POSITIVE, claim=text, value=value / sides[other]["tokens_per_s"], unit="ratio of tokens/s",
            target=target, compared_with=against, raw={"ours": value, "other": sides[other]["tokens_per_s"]},
        )  # fmt: skip


def _scoring_claim(speed: dict[str, Any], scoring: dict[str, Any]) -> Claim:
    roof_s = seconds_per_token(
        _shape(speed),
        mean_keys=scoring["mean_keys"],
        tokens=scoring["batch_tokens"],
        flops_per_s=speed["matmul_flops_per_s"],
        bytes_per_s=speed["copy_bytes_per_s"],
        training=False,
    )
    return Claim(
        id="gpu.scoring_share", possible=POSITIVE, claim=f"scoring {scoring['documents']} documents, tokens per second",
        value=scoring["tokens_per_s"] * roof_s, unit="share", target=">= 0.6",
        compared_with="the roof of a forward pass, from the measured peak and bandwidth", raw=scoring,
    )  # fmt: skip


def require_same_losses(ours: str, losses: list[float], other: str, others: list[float]) -> None:
    """Refuse a comparison of sides that did other work.

    Raises:
        ValueError: With the first step that differs.
    """
    for step, (one, two) in enumerate(zip(losses, others, strict=True), 1):
        if abs(one - two) > SAME_LOSS * abs(two):
            raise ValueError(f"step {step}: {ours} has loss {one:.4f}, {other} {two:.4f}: they did other work")


def _shape(speed: dict[str, Any]) -> Shape:
    return TINY_SHAPE if speed["device"] == "cpu" else SMOLLM2_135M


def _flops_per_token(shape: Shape, mean_keys: float) -> float:
    head = shape.hidden // shape.heads
    layer = shape.hidden * (2 * shape.hidden + 2 * shape.key_heads * head + 3 * shape.intermediate)
    body = shape.layers * layer
    model = ModelShape(
        parameters=body + shape.vocabulary * shape.hidden,
        body_parameters=body,
        hidden_size=shape.hidden,
        num_layers=shape.layers,
        num_heads=shape.heads,
        head_dim=head,
        vocabulary_size=shape.vocabulary,
        tied=True,
    )
    return flops_per_token(model, mean_keys)


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> None:
    """Write `gpu.json` beside the result files."""
    folder, commit = Path(sys.argv[1]), sys.argv[2]
    found = list(claims(folder))
    if not found:
        sys.exit(f"{folder}: no results to claim anything from")
    write_results("gpu", found, folder=folder, commit=commit)
    print(f"copy it to {REPOSITORY / 'benchmarks' / 'results'}")


if __name__ == "__main__":
    main()
