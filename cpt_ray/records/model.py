"""Records of a base model: its sizes, and the metadata of an imported one."""

from __future__ import annotations

from cpt_ray.records.base import Record


class ModelShape(Record):
    """The sizes that determine memory and FLOPs."""

    parameters: int
    """All parameters; tied ones count once."""
    body_parameters: int
    """Without input and output embeddings."""
    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    vocabulary_size: int
    tied: bool
    num_key_heads: int | None = None
    """Heads of keys and values, fewer than `num_heads` with grouped queries; None in older records: as many."""
    feedforward_size: int | None = None
    """Width of the MLP; None where the configuration does not say: as if its parameters were three matrices."""
    adapter_parameters: int | None = None
    """Parameters of LoRA adapters, the only ones that train; None without LoRA. Not counted in `parameters`."""
    frozen_parameters: int = 0
    """Parameters that `train.freeze` leaves as they are; without LoRA, which freezes all of them."""
    frozen_matrices: int = 0
    """Those of them that multiply: all but an input embedding that is not also the output head."""

    @property
    def trained_parameters(self) -> int:
        """Parameters that have gradients and optimizer states."""
        return self.parameters - self.frozen_parameters if self.adapter_parameters is None else self.adapter_parameters


class ImportedModel(Record):
    """Metadata of an imported base, so that plans and checks need neither its weights nor transformers."""

    FILE = "model.json"

    architecture: str
    shape: ModelShape
    linear_sizes: dict[str, int]
    """Name of linear layers, as LoRA targets it, to the sum of their in- and out-features: adapters of rank r on all of them
    have r times that many parameters."""
    parameter_sizes: dict[str, int]
    """Name of every parameter to its number of elements, in the model's order; a tied one under its first name."""
    tied_names: dict[str, str]
    """Other names of tied parameters to their first names."""
    input_embedding: str
    """Name of the token embedding's weight."""
    end_of_text: str | None
    """The tokenizer's end-of-text token."""
    added_bos: str | None
    """The token that the tokenizer itself prepends to a text."""
    special_tokens: tuple[str, ...]
    control_tokens: tuple[str, ...] = ()
    """Added tokens that no text may produce; a text that spells one is encoded as text."""


class LearnedTokenizer(Record):
    """What a tokenizer was learned from."""

    FILE = "learned.json"

    vocabulary: int
    documents: dict[str, int]
    """Source to documents."""
    text_bytes: dict[str, int]
    """Source to bytes of their text."""


class TextTokens(Record):
    """The tokens around every document of a model's training text."""

    separator: str
    """Written after every document."""
    bos: str | None
    """Written before every document, if any."""

    @property
    def prefix(self) -> str:
        """The token before a document that is scored alone, as in training: BOS, else the previous document's separator."""
        return self.bos or self.separator
