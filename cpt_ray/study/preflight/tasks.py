"""lm-eval's tasks of a study, each built before anything is spent: what is unknown or cannot be reached is said now.

In: the study, and the stages with missing artifacts. Out: an error that names the task. Imports lm-eval, and only where a study
names tasks of it.
"""

from __future__ import annotations

from collections.abc import Collection

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import needed_for

_STAGES = frozenset(("scan", "train", "evaluate"))


def require_tasks(config: StudyConfig, building: Collection[str]) -> None:
    """Refuse to train what could not be scored.

    Args:
        config: The study.
        building: Names of the stages that have something to build.

    Raises:
        ConfigError: If a task is unknown, or its data is unavailable.
    """
    names = config.evaluate.harness_names
    if not names or not _STAGES & set(building):
        return
    with needed_for("evaluate.harness_tasks"):
        from cpt_ray.evaluate.harness_tasks import build_tasks
    build_tasks(names, config.evaluate.harness_path, "evaluate.harness_tasks")
