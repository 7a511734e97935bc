"""Every ZeRO stage, precision and offload trains to the losses of plain torch, and exports what it trained.

Tolerances. fp32: losses within 1e-5 of the reference, gradient norms within 1e-5 and weights within 1e-4 of how far they moved:
sums have a different order. bf16: activations are rounded the same way, but gradients of micro-batches are summed in another
order and type, so losses agree within 1e-2, norms within 3 %, and weights within half of how far they moved (measured: 0.23 to
0.28; Adam turns tiny gradients into whole steps, so their rounding shows).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.train.engine.zero_cases import RATE, Case, T, engine_trains, reference_trains, rows, write_model

WAYS = [(0, "none"), *((stage, offload) for stage in (1, 2, 3) for offload in ("none", "optimizer")), (3, "parameters")]
PRECISIONS = ("fp32", "bf16")
CASES = [Case(stage, precision, offload, tied) for stage, offload in WAYS for precision in PRECISIONS for tied in (True, False)]
LOSS = {"fp32": 1e-5, "bf16": 1e-2}
NORM = {"fp32": 1e-5, "bf16": 3e-2}
WEIGHT = {"fp32": 1e-4, "bf16": 0.5}
NATS = {"fp32": 1e-4, "bf16": 0.15}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("matrix")
    return {tied: write_model(root / f"tied-{tied}", tied=tied) for tied in (True, False)}


@pytest.fixture(scope="module")
def reference(folders):
    return cache(lambda precision, tied: reference_trains(folders[tied], precision))


def marked(case: Case):
    """Cases that only add breadth run in the long suite: untied weights below stage 3, offload in fp32."""
    breadth = (not case.tied and case.stage < 3) or (
        case.offload == "optimizer" and (case.precision == "fp32" or not case.tied)
    )
    return pytest.param(case, marks=pytest.mark.full if breadth else (), id=str(case))


@pytest.mark.accept(training=3)
@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_it_trains_like_plain_torch_and_its_exports_reload(zero_groups, folders, reference, record_property, tmp_path, case):
    results = zero_groups.of(2).run(engine_trains, str(folders[case.tied]), case, str(tmp_path))
    expected, master = reference(case.precision, case.tied)
    assert results[0] == results[1], "the ranks disagree"
    for (loss, norm), (expected_loss, expected_norm) in zip(results[0]["losses"], expected, strict=True):
        assert loss == pytest.approx(expected_loss, abs=LOSS[case.precision])
        assert norm == pytest.approx(expected_norm, rel=NORM[case.precision])

    initial = load_file(folders[case.tied] / "model.safetensors")
    exact, rounded = (load_file(tmp_path / name / "model.safetensors") for name in ("fp32", "bf16"))
    assert set(exact) == set(rounded) == set(master), "a tied weight is written once, an untied one twice"
    assert ("lm_head.weight" in exact) == (not case.tied)
    for name, weight in exact.items():
        assert weight.dtype == torch.float32
        assert torch.equal(rounded[name], weight.bfloat16())
        moved = master[name] - initial[name].float()
        assert moved.abs().max() > RATE, "the steps changed nothing"
        assert (weight - master[name]).norm() <= WEIGHT[case.precision] * moved.norm()

    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / case.precision)
    assert reloaded.dtype == (torch.float32 if case.precision == "fp32" else torch.bfloat16)
    assert (reloaded.lm_head.weight is reloaded.model.embed_tokens.weight) == case.tied
    ids = rows(99)[0][0]
    with torch.no_grad():
        log_p = torch.log_softmax(reloaded(ids[None]).logits[0].float(), -1)
    nats = -log_p[: T - 1].gather(1, ids[1:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(results[0]["nats"]), nats, atol=NATS[case.precision], rtol=0)
    worst = max(abs(loss - expected_loss) for (loss, _), (expected_loss, _) in zip(results[0]["losses"], expected, strict=True))
    record_property(
        f"zero {case.stage} {case.offload} {case.precision} {'tied' if case.tied else 'untied'}",
        f"losses within {worst:.1e} of plain torch; the export scores within {NATS[case.precision]} nats of the engine",
    )
