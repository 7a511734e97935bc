"""How long a row a base can take: positions it learned are a limit, rotary ones a range beyond which it was never trained.

In: a `BaseFiles`, and the lengths that the study asks for. Out: warnings, or an error that names the key to change.
"""

from __future__ import annotations

from collections.abc import Mapping

from cpt_ray.model.bases.files import BaseFiles

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


def check_window(files: BaseFiles, lengths: Mapping[str, int]) -> list[str]:
    """Compare the lengths of rows with what the base can take.

    Args:
        files: The base.
        lengths: Key of the study file to its number of tokens.

    Returns:
        A warning for each length beyond the positions that a rotary base was trained on.

    Raises:
        ConfigError: If a length exceeds the positions that the base has learned.
    """
    learned = learned_positions(files)
    text = files.config.get("text_config")
    trained = (text if isinstance(text, dict) else files.config).get("max_position_embeddings")
    warnings = []
    if learned is not None and learned < LEAST_POSITIONS:
        raise files.refused(
            f"the base has learned {learned} positions; the self-test at start-up needs {LEAST_POSITIONS}",
            fix="use a base with a longer window",
        )
    for key, tokens in lengths.items():
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
