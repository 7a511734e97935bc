"""Export to a Hugging Face folder: safetensors, config, tokenizer, generation config and a model card with the study's facts.

The folder appears atomically: it is written under a temporary name and renamed. DeepSpeed's converters are not used, because
they fail on tied embeddings.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from cpt_ray.edges.redaction import redact_uris
from cpt_ray.edges.storage import remove_tree
from cpt_ray.model.base import copy_tokenizer

MAX_SHARD_SIZE = "5GB"
"""Size limit of one safetensors file: the usual one on the hub."""


def export_model(
    model: PreTrainedModel,
    state: Mapping[str, Tensor],
    *,
    tokenizer: Path,
    folder: Path,
    card: str,
    end_id: int | None = None,
    begin_id: int | None = None,
    max_shard_size: str = MAX_SHARD_SIZE,
) -> None:
    """Write `state` as the weights of `model` into `folder`; on one rank.

    Args:
        model: Provides class and config; its weights are not read.
        state: Parameter name to whole (unsharded) tensor of one dtype, names as in `model.state_dict()`; a tied weight
            appears under one of its names.
        tokenizer: Folder whose tokenizer files are copied.
        folder: Replaced if it exists.
        card: Text of the model card.
        end_id: Id that training wrote after every document, on which generation ends; None keeps the model's.
        begin_id: Id that training wrote before every document; None keeps the model's.
        max_shard_size: Larger models are split into files of about this size, with an index.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_tree(temporary)
    temporary.mkdir(parents=True)
    model.save_pretrained(temporary, state_dict=dict(state), max_shard_size=max_shard_size)
    _state_dtype(temporary / "config.json", next(iter(state.values())))
    around = {"eos_token_id": end_id, "bos_token_id": begin_id}
    _end_generation(temporary, {key: value for key, value in around.items() if value is not None})
    copy_tokenizer(tokenizer, temporary)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    remove_tree(folder)
    os.replace(temporary, folder)


def copy_around(source: Path, folder: Path) -> None:
    """Give an export what another model has around its weights: tokenizer files, chat template, where generation ends."""
    copy_tokenizer(source, folder)
    path = source / "generation_config.json"
    if not path.is_file():
        path = source / "config.json"
    theirs = json.loads(path.read_text(encoding="utf-8"))
    _end_generation(folder, {key: theirs[key] for key in ("eos_token_id", "bos_token_id") if theirs.get(key) is not None})


def _state_dtype(config: Path, tensor: Tensor) -> None:
    # transformers writes the dtype of the model in memory, and would load the weights in that dtype.
    tree = json.loads(config.read_text(encoding="utf-8"))
    tree["dtype"] = str(tensor.dtype).removeprefix("torch.")
    config.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _end_generation(folder: Path, around: Mapping[str, int | list[int]]) -> None:
    # A base made for chat ends on the end of a turn, which this training never wrote.
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps({**tree, **around}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def model_card(facts: Mapping[str, object]) -> str:
    """A model card: a note on licenses, and a table of facts."""
    lines = [
        f"# {facts['name']}",
        "",
        "Trained with cpt-ray. Base and training text keep their own licenses.",
        "",
    ]
    lines += ["| fact | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items() if key != "name"]
    return redact_uris("\n".join(lines) + "\n")
