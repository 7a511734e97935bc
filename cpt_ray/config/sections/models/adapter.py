"""The `train.lora` section: low-rank adapters instead of all weights (Hu et al. 2021)."""

from pydantic import Field

from cpt_ray.config.values import Section


class LoraSection(Section):
    """Train low-rank adapters and keep the base frozen; the adapters are merged into the weights on export."""

    rank: int = Field(ge=1, description="rank of each adapter")
    alpha: int = Field(ge=1, description="LoRA alpha: adapter outputs are scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout probability on the input of each adapter")
    target_modules: tuple[str, ...] = Field(
        default=(),
        description="names of the linear layers that get an adapter, such as `q_proj`; empty: all except the output head",
    )
