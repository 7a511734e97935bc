"""Domain-adaptive continued pretraining of language models, with an honest answer to what it bought.

The rooms, in the order of the data: `data` prepares text, `train` trains, `evaluate` scores, `compare` and `report`
answer, `study` runs them in order. `docs/architecture.md` draws the flow; `from cpt_ray import Study` is the door to all of it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpt_ray.study.api.study import Study

__version__ = "0.1.0"
__all__ = ["Study", "__version__"]


def __getattr__(name: str) -> Any:
    # At its first use: the version alone should not cost the second that the study's imports take.
    if name == "Study":
        from cpt_ray.study.api.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
