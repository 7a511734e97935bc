"""The `train.lora` section: low-rank adapters instead of all weights (Hu et al. 2021)."""

from pydantic import Field

from cpt_ray.config.values import Section


class LoraSection(Section):
    """Train low-rank adapters and leave the base as it is; they are merged into the weights on export."""

    rank: int = Field(ge=1, description="rank of an adapter")
    alpha: int = Field(ge=1, description="scale of an adapter times its rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before an adapter")
    target_modules: tuple[str, ...] = Field(
        default=(), description="names of linear layers that get an adapter, such as `q_proj`; empty: all but the output head"
    )
