"""The start-up proof of isolation passes if documents are isolated, and fails for each way in which they are not."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention import self_test
from cpt_ray.model.attention.cpu import SDPA, SDPA_BLOCKS
from cpt_ray.model.attention.isolation import head_shape, hidden_states, kernel_name, use_document_attention
from cpt_ray.model.attention.self_test import gradient_at_first, require_isolation, run_self_test
from cpt_ray.model.loss import token_nats
from tests.evaluate.tiny import build_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    model = build_model(200)
    use_document_attention(model)
    return model


def scorer(model):
    def score(ids, lengths, mask):
        labels = torch.cat([ids[1:], ids[:1]])
        with torch.no_grad():
            return token_nats(hidden_states(model, ids, lengths, mask=mask), model.get_output_embeddings().weight, labels)

    return score


def differentiator(model):
    def gradient(ids, lengths, mask):
        found = []

        def keep(_module, _args, output):
            found.append(output)

        hook = model.get_input_embeddings().register_forward_hook(keep)
        hidden = hidden_states(model, ids, lengths, mask=mask)[sum(lengths[:-1]) :].float()
        hook.remove()
        weight = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0)).to(hidden)
        return torch.autograd.grad((hidden * weight).sum(), found)[0][0].abs().amax(-1)

    return gradient


def proof(model, score, gradient=None, *, precision: str = "fp32", kernel: str = SDPA):
    return run_self_test(
        score,
        gradient or differentiator(model),
        vocabulary_size=200,
        heads=head_shape(model.config),
        kernel=kernel,
        precision=precision,
        device=model.device,
    )


def test_it_passes_with_the_mask_and_measures_the_leak_without(model):
    result = proof(model, scorer(model))
    assert result.passed
    assert result.masked_difference <= 1e-4 < result.unmasked_difference
    assert result.gradient_leak == 0 < result.gradient_control
    require_isolation(result)


def test_it_passes_in_bf16_on_the_kernel_of_training():
    model = build_model(200).to(torch.bfloat16)
    use_document_attention(model)
    result = proof(model, scorer(model), precision="bf16", kernel=kernel_name(model.device, model.dtype, 16))
    assert result.passed
    assert result.kernel == SDPA_BLOCKS


def test_it_passes_in_fp16_and_fails_with_the_mask_off():
    model = build_model(200).to(torch.float16)
    use_document_attention(model)
    score, kernel = scorer(model), kernel_name(model.device, model.dtype, 16)
    result = proof(model, score, precision="fp16", kernel=kernel)
    assert result.passed
    assert result.dtype == "fp16"
    assert result.masked_difference <= result.allowed_difference == pytest.approx(0.1 * result.unmasked_difference)
    assert not proof(model, lambda ids, lengths, mask: score(ids, lengths, False), precision="fp16", kernel=kernel).passed


def test_it_fails_when_the_mask_is_off(model):
    leaking = scorer(model)
    result = proof(model, lambda ids, lengths, mask: leaking(ids, lengths, False))
    assert not result.passed
    with pytest.raises(
        TrainingError, match="isolation self-test failed on sdpa per document, fp32: packed and alone differ by"
    ) as error:
        require_isolation(result)
    assert "train.isolation=none" in error.value.fix


def test_it_fails_when_its_control_shows_nothing(model):
    blind = scorer(model)
    result = proof(model, lambda ids, lengths, mask: blind(ids, lengths, True))
    assert result.masked_difference <= 1e-4
    assert not result.passed


def test_it_fails_when_only_gradients_leak(model, monkeypatch):
    real = self_test.attend

    def leaking_backward(query, key, value, segments, scale):
        whole = self_test.make_segments((query.shape[2],), device=CPU, kernel=SDPA)
        open_, closed = real(query, key, value, whole, scale), real(query, key, value, segments, scale)
        return open_ + (closed - open_).detach()  # the right values, the gradients of an unmasked row

    monkeypatch.setattr(self_test, "attend", leaking_backward)
    result = proof(model, scorer(model))
    assert result.masked_difference <= 1e-4
    assert result.gradient_leak > 0
    assert not result.passed
    with pytest.raises(TrainingError, match=r"crossing gradients: [0-9.e-]+ \(allowed 0\)"):
        require_isolation(result)


def test_it_fails_when_only_gradients_of_the_whole_model_leak(model):
    gradient = differentiator(model)
    result = proof(model, scorer(model), lambda ids, lengths, mask: gradient(ids, lengths, False))
    assert result.masked_difference <= 1e-4
    assert result.gradient_leak > 0
    assert not result.passed


def test_it_fails_when_the_control_of_its_gradients_shows_nothing(model):
    gradient = differentiator(model)
    result = proof(model, scorer(model), lambda ids, lengths, mask: gradient(ids, lengths, True))
    assert result.gradient_control == 0
    assert not result.passed


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kernel", [SDPA, SDPA_BLOCKS])
def test_gradients_are_measured_on_the_kernel_itself(kernel, precision):
    assert gradient_at_first((40, 150), (4, 2, 16), kernel, precision, CPU) == 0
    assert gradient_at_first(None, (4, 2, 16), kernel, precision, CPU) > 0


@pytest.mark.gpu
def test_it_passes_on_a_gpu():
    model = build_model(200).to("cuda", torch.bfloat16)
    use_document_attention(model)
    result = proof(model, scorer(model), precision="bf16", kernel=kernel_name(model.device, model.dtype, 16))
    assert result.passed
    assert result.kernel.startswith("varlen flash")
