"""Jobs of process groups about compiled layers; rows are longer than the self-test's, as in any real run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from cpt_ray.model.attention.self_test import run_self_test
from cpt_ray.model.layers import compiled
from tests.train.engine import zero_cases
from tests.train.engine.zero_cases import VOCABULARY, Case, train_config, train_steps

T = 192
_CUTS = ((120, 48, 24), (90, 90, 12), (186, 6), (30, 132, 30))


def long_rows(step: int) -> list[tuple[torch.Tensor, tuple[int, ...]]]:
    """The rows of a step."""
    generator = torch.Generator().manual_seed(100 + step)
    return [(torch.randint(VOCABULARY, (T,), generator=generator), cut) for cut in _CUTS]


def build(folder: str, case: Case, **changes: Any) -> Any:
    """An engine whose rows have T tokens."""
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine

    zero_cases.rows = long_rows
    return Engine(
        load_model(folder, precision=case.precision),
        train=train_config(case.precision, **changes),
        deepspeed=case.deepspeed(),
        accumulation_steps=len(_CUTS) // dist.get_world_size(),
        device=torch.device("cpu"),
        row_tokens=T,
    )


def prove(engine: Any, precision: str) -> Any:
    """The self-test of a worker."""
    return run_self_test(
        engine.score,
        engine.input_gradient,
        vocabulary_size=VOCABULARY,
        heads=engine.heads,
        kernel=engine.kernel,
        precision=precision,
        device=engine.device,
    )


def train_both(folder: str, case: Case, changes: dict[str, Any]) -> dict[str, Any]:
    """Compiled, then eager: the first so that nothing is compiled for an engine that ran before."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    before = zero_cases.rows
    try:
        engine = build(folder, case, compile=True, compile_limit=900, **changes)
        graphs = counters["stats"]["unique_graphs"]
        proof = prove(engine, case.precision)
        whole = engine.whole_state()
        losses = train_steps(engine, 0, 4)
        later = counters["stats"]["unique_graphs"] - graphs
        result, weights = engine.compiled, engine.whole_state()
        engine.close()
        plain = build(folder, case, compile=False, **changes)
        expected, expected_weights = train_steps(plain, 0, 4), plain.whole_state()
        plain.close()
    finally:
        zero_cases.rows = before
    moved = [float((expected_weights[name] - whole[name]).norm()) for name in whole]
    apart = [float((expected_weights[name] - weights[name]).norm()) for name in whole]
    return {
        "compiled": result.to_json(),
        "proof": proof.to_json(),
        "losses": losses,
        "expected": expected,
        "graphs after warm-up": later,
        "weights apart": max(apart, default=0.0) / max(moved, default=1.0),
    }


def one_cannot_compile(folder: str) -> tuple[str, bool]:
    """The last worker's compiler fails; what every worker says, and whether any of its layers runs a graph."""

    def broken(forward: Any) -> Any:
        if dist.get_rank() == dist.get_world_size() - 1:
            raise RuntimeError("no compiler on this machine\nsecond line")
        return forward

    real, compiled._compiled, before = compiled._compiled, broken, zero_cases.rows
    try:
        engine = build(folder, Case(2, "fp32"), compile=True)
        train_steps(engine, 0, 1)
        found = engine.compiled.reason, any("forward" in layer.__dict__ for layer in compiled.decoder_layers(engine.lm))
        engine.close()
    finally:
        compiled._compiled, zero_cases.rows = real, before
    return found
