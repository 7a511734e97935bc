"""A Hugging Face folder out: safetensors, config, tokenizer, generation config and a model card with the study's facts.

The folder appears whole: it is written under a temporary name and renamed. DeepSpeed's own converters are not used, because
they fail on tied embeddings.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from cpt_ray.edges.storage import remove_tree
from cpt_ray.model.base import copy_tokenizer


def export_model(model: PreTrainedModel, state: Mapping[str, Tensor], *, tokenizer: Path, folder: Path, card: str) -> None:
    """Write `state` as the weights of `model` into `folder`.

    Args:
        model: Gives class and config; its own weights are not read.
        state: Parameter name to whole (unsharded) tensor, names as in `model.state_dict()`.
        tokenizer: Folder whose tokenizer files are copied.
        folder: Replaced if it exists.
        card: Text of the model card.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_tree(temporary)
    temporary.mkdir(parents=True)
    model.save_pretrained(temporary, state_dict=dict(state))
    copy_tokenizer(tokenizer, temporary)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    remove_tree(folder)
    os.replace(temporary, folder)


def model_card(facts: Mapping[str, object]) -> str:
    """A model card: a table of facts, and what the weights are not."""
    lines = [
        f"# {facts['name']}",
        "",
        "Continued pretraining with cpt-ray. Base and training text keep their own licences.",
        "",
    ]
    lines += ["| fact | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items() if key != "name"]
    return "\n".join(lines) + "\n"
