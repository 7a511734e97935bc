"""A model of a study is found by what it is, and loads with transformers."""

from __future__ import annotations

import pytest

from cpt_ray import Study
from cpt_ray.errors import ConfigError
from tests.integration.finished import LARGE, SMALL


@pytest.fixture
def study(finished_study) -> Study:
    return Study.load(finished_study.study.config)


@pytest.mark.ray
def test_a_model_is_found_by_budget_arm_and_seed_and_is_one_of_transformers(study, finished_study):
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = study.model()
    export = AutoModelForCausalLM.from_pretrained(finished_study.study.root / "exports" / LARGE)
    assert torch.equal(model.get_input_embeddings().weight, export.get_input_embeddings().weight)
    assert model.generate(**tokenizer("Bada", return_tensors="pt"), max_new_tokens=1).shape[0] == 1
    small = study.model("2k", arm="legal", seed=0).model
    assert not torch.equal(small.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert torch.equal(study.model(SMALL).model.get_input_embeddings().weight, small.get_input_embeddings().weight)
    assert study.model("base").tokenizer.get_vocab() == tokenizer.get_vocab()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"budget": "3k"}, f"no model with budget 3k\n  fix: choose one of {SMALL}, {LARGE}.* \\(budgets 2k, 4k\\)"),
        ({"budget": "2k", "arm": "control"}, "no model with budget 2k, arm control\n"),
        ({"seed": 7}, f"no model with seed 7\n  fix: choose one of {SMALL}"),
        ({"budget": "latest"}, f"'latest' is no budget and no run of the study\n  fix: choose one of {SMALL}, .*, or base"),
        ({"name": "large"}, "the study has no model 'large'\n  fix: name one of tiny"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_those_that_are(study, asked, problem):
    with pytest.raises(ConfigError, match=problem):
        study.model(**asked)


def test_a_model_of_a_study_that_is_not_trained_names_the_verb(tiny):
    with pytest.raises(ConfigError, match=r"has not been built yet.*\n  fix: run cpt-ray train first"):
        Study.load(tiny.config).model()
