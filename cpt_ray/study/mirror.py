"""Mirror a study's records into MLflow."""

from cpt_ray.records import Comparison
from cpt_ray.study.study import Study


def mirror_study(study: Study, comparison: Comparison, report: object) -> str:
    """TODO(tracking): placeholder until the door to MLflow is there."""
    return "none"
