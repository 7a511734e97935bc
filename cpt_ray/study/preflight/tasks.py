"""lm-eval's tasks of a study, each built before anything is spent: what is unknown, out of reach or not comparable is said now.

In: the study, and the stages with missing artifacts. Out: an error that names the task. Imports lm-eval, and only where a study
names tasks of it.
"""

from __future__ import annotations

from collections.abc import Collection

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import needed_for

_STAGES = frozenset(("scan", "train", "evaluate"))


def require_tasks(config: StudyConfig, building: Collection[str]) -> bool:
    """Refuse to train what could not be scored.

    Args:
        config: The study.
        building: Names of the stages that have something to build.

    Returns:
        Whether tasks were built.

    Raises:
        ConfigError: If a task is unknown, its data is unavailable, its results could not be compared, or its name is taken.
    """
    names = config.evaluate.harness_names
    if not names or not _STAGES & set(building):
        return False
    with needed_for("evaluate.harness_tasks"):
        from cpt_ray.evaluate.harness_tasks import require_scorable
    exams = [exam.name for exam in config.evaluate.exams]
    require_scorable(names, config.evaluate.harness_path, "evaluate.harness_tasks", exams)
    return True
