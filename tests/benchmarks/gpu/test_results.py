"""Claims from the result files of a host, of which any may be missing; with made-up figures."""

import json

import pytest

from benchmarks.gpu.results import claims
from benchmarks.gpu.shapes import SMOLLM2_135M, seconds_per_token


def side(tokens_per_s: int, losses=(10.0, 9.0)) -> dict:
    return {"tokens_per_s": tokens_per_s, "losses": list(losses), "step_s": [1.0]}


def write(folder, sides, **others):
    speed = {
        "device": "NVIDIA H100", "load": {"rows": 16, "length": 2048}, "mean_keys": 672.0, "matmul_flops_per_s": 790e12,
        "copy_bytes_per_s": 3e12, "sides": sides,
    }  # fmt: skip
    for name, tree in {"speed": speed, **others}.items():
        (folder / f"{name}.json").write_text(json.dumps(tree))


def test_ours_is_compared_with_the_fastest_peer(tmp_path):
    sides = {
        "zero1 compiled": side(300_000), "zero3 compiled": side(200_000), "bare compiled": side(310_000),
        "hf sdpa": side(100_000), "hf flex_attention": side(150_000), "hf flash_attention_2": {"error": "ImportError"},
    }  # fmt: skip
    write(tmp_path, sides)
    found = {claim.id: claim for claim in claims(tmp_path)}
    assert found["gpu.tokens_per_s"].value == 300_000
    assert found["gpu.bare_compiled_ratio"].value == pytest.approx(300 / 310)
    assert found["gpu.hf_trainer_ratio"].value == 2.0
    assert found["gpu.peak_share"].value == pytest.approx(300_000 * 9.46e8 / 790e12, rel=0.01)


def test_a_side_that_did_other_work_is_no_peer(tmp_path, capsys):
    write(tmp_path, {"zero1 compiled": side(3), "bare compiled": side(3, losses=(10.0, 8.0)), "hf sdpa": side(2)})
    assert [claim.id for claim in claims(tmp_path)] == ["gpu.tokens_per_s", "gpu.peak_share", "gpu.hf_trainer_ratio"]
    said = capsys.readouterr().out
    assert "gpu.bare_compiled_ratio is not claimed: step 2: zero1 compiled has loss 9.0000, bare compiled 8.0000" in said


def test_parts_that_failed_cost_only_their_claims(tmp_path):
    assert list(claims(tmp_path)) == []
    write(tmp_path, {"zero1 compiled": side(300_000), "bare compiled": {"error": "OutOfMemoryError"}})
    assert [claim.id for claim in claims(tmp_path)] == ["gpu.tokens_per_s", "gpu.peak_share"]


def test_scoring_is_a_share_of_the_forward_roof(tmp_path):
    scoring = {"mean_keys": 672.0, "batch_tokens": 32768, "tokens_per_s": 642_000, "documents": 512}
    write(tmp_path, {"zero1": side(1)}, scoring=scoring)
    assert {claim.id: claim.value for claim in claims(tmp_path)}["gpu.scoring_share"] == pytest.approx(0.5, abs=0.01)


def test_the_roof_of_training_is_that_of_the_papers_arithmetic():
    """By hand for one H100 at 790 TFLOP/s and 3 TB/s: 2.29 microseconds a token."""
    settings = {"mean_keys": 672.0, "tokens": 32768, "flops_per_s": 790e12, "bytes_per_s": 3e12}
    assert seconds_per_token(SMOLLM2_135M, training=True, **settings) == pytest.approx(2.29e-6, rel=0.02)
    assert seconds_per_token(SMOLLM2_135M, training=False, **settings) < 1e-6
