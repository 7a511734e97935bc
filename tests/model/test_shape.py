"""Descriptions of a model and its tokenizer."""

from __future__ import annotations

from tokenizers.processors import TemplateProcessing

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.model.layers.adapter import add_adapters
from cpt_ray.model.parameters import trained_shape
from cpt_ray.model.shape import describe_base, describe_model
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer


def test_the_shape_of_a_folder_counts_tied_embeddings_once(tmp_path):
    model = build_model(200)
    model.save_pretrained(tmp_path)
    found = describe_base(tmp_path)
    assert found.shape.parameters == sum(p.numel() for p in model.parameters())
    assert found.shape.body_parameters == found.shape.parameters - 200 * 64
    assert (found.shape.tied, found.shape.num_heads, found.shape.head_dim) == (True, 4, 16)
    assert (found.architecture, found.end_of_text) == ("LlamaForCausalLM", None)


def test_without_weights_a_model_says_the_same_as_with_them(tmp_path):
    build_model(200).save_pretrained(tmp_path)
    assert describe_base(tmp_path) == describe_model(build_model(200), None)


def test_adapters_have_as_many_parameters_as_the_shape_says():
    for lora in (LoraSection(rank=4, alpha=8, target_modules=("q_proj", "down_proj")), LoraSection(rank=2, alpha=2)):
        model = build_model(200)
        planned = trained_shape(describe_model(model, None), lora=lora, freeze=())
        add_adapters(model, lora)
        assert planned.adapter_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_the_bos_is_what_the_tokenizer_does_and_not_what_it_says():
    tokenizer = build_tokenizer()
    tokenizer.bos_token = SEPARATOR
    assert describe_model(build_model(len(tokenizer)), tokenizer).added_bos is None
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{SEPARATOR} $A", pair=f"{SEPARATOR} $A $B", special_tokens=[(SEPARATOR, 0)]
    )
    found = describe_model(build_model(len(tokenizer)), tokenizer)
    assert (found.added_bos, found.end_of_text) == (SEPARATOR, SEPARATOR)
    assert SEPARATOR in found.special_tokens
