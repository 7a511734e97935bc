"""Values derived from a model's sizes and from the tokens around its documents."""

import pytest

from cpt_ray.records import ModelShape, TextTokens


def shape(adapter_parameters: int | None) -> ModelShape:
    return ModelShape(
        parameters=1000, body_parameters=700, hidden_size=8, num_layers=2, num_heads=2, head_dim=4, vocabulary_size=30,
        tied=True, adapter_parameters=adapter_parameters,
    )  # fmt: skip


@pytest.mark.parametrize(("adapters", "trained"), [(None, 1000), (12, 12), (0, 0)])
def test_adapters_are_all_that_trains_where_there_are_any(adapters, trained):
    assert shape(adapters).trained_parameters == trained


def test_a_document_that_is_scored_alone_begins_as_in_training():
    assert TextTokens(separator="</s>", bos="<s>").prefix == "<s>"
    assert TextTokens(separator="</s>", bos=None).prefix == "</s>"
