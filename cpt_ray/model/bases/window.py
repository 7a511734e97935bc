"""How long a row a base can take: positions it learned are a limit, rotary ones a range beyond which it was never trained.

In: a `BaseFiles`, and the lengths that the study asks for. Out: warnings, or an error that names the key to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cpt_ray.errors import TrainingError
from cpt_ray.model.bases.files import BaseFiles

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LEAST_POSITIONS = 56
"""Longest document of the isolation self-test, and length of the fixed row whose loss guards a checkpoint."""
_TABLES = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight", "positions_embed.weight", "embed_pos.weight")
_OFFSETS = {"opt": 2}
"""Rows of the table that no token of a document uses."""
_UNBOUNDED = frozenset({"bloom", "mpt"})
"""Positions enter as a slope, without a limit."""


def learned_positions(files: BaseFiles) -> int | None:
    """Rows of the base's table of position embeddings; None if it has none."""
    sizes = [tensor.shape[0] for name, tensor in files.tensors.items() if name.endswith(_TABLES) and len(tensor.shape) == 2]
    return min(sizes) - _OFFSETS.get(str(files.config.get("model_type")), 0) if sizes else None


def sliding_window(config: Mapping[str, Any]) -> int | None:
    """Tokens that the layers with a sliding window attend to; None if no layer has one.

    Args:
        config: A model's `config.json`, or what transformers has made of it.
    """
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    if not isinstance(window, int) or config.get("use_sliding_window") is False:
        return None
    if kinds is not None:
        return window if "sliding_attention" in kinds else None
    if "max_window_layers" in config and config["max_window_layers"] >= config.get("num_hidden_layers", 0):
        return None
    return window


def require_within_window(config: PretrainedConfig, tokens: int) -> None:
    """Refuse rows longer than the sliding window of a loaded model: sooner or later a document would exceed it, on one worker.

    Raises:
        TrainingError: Naming both lengths.
    """
    window = sliding_window(config.get_text_config().to_dict())
    if window is not None and tokens > window:
        raise TrainingError(
            f"rows have {tokens} tokens, but the model uses a sliding window of {window}, which document attention does not "
            "support for longer documents",
            fix=f"set prepare.pack.sequence_length to at most {window}, or use a model with full causal attention",
        )


def check_window(files: BaseFiles, lengths: Mapping[str, int]) -> list[str]:
    """Compare the lengths of rows with what the base can take.

    Args:
        files: The base.
        lengths: Key of the study file to its number of tokens.

    Returns:
        A warning for each length beyond the positions that a rotary base was trained on.

    Raises:
        ConfigError: If a length exceeds the positions that the base has learned, or its sliding window.
    """
    learned = learned_positions(files)
    text = files.config.get("text_config")
    config = text if isinstance(text, dict) else files.config
    trained, window = config.get("max_position_embeddings"), sliding_window(config)
    warnings = []
    if learned is not None and learned < LEAST_POSITIONS:
        raise files.refused(
            f"the base has learned {learned} positions; the self-test at start-up needs {LEAST_POSITIONS}",
            fix="use a base with a longer window",
        )
    for key, tokens in lengths.items():
        if window is not None and tokens > window:
            raise files.refused(
                f"{key} is {tokens} tokens, but the base uses a sliding window of {window}, which document attention does not "
                "support for longer documents",
                fix=f"set {key} to at most {window}, or use a base with full causal attention",
            )
        if learned is not None and tokens > learned:
            raise files.refused(
                f"{key} is {tokens} tokens, but the base has learned {learned} positions", fix=f"set {key} to at most {learned}"
            )
        if learned is not None or not isinstance(trained, int) or files.config.get("model_type") in _UNBOUNDED:
            continue
        if tokens > trained:
            warnings.append(
                f"{files.key}: {key} is {tokens} tokens, but the base was made for {trained} (max_position_embeddings); "
                f"positions beyond are new to it: {trained} or less is safe"
            )
    return warnings
