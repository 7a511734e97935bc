"""What a run in MLflow holds already, as tags: fingerprints by which a mirror knows what to add, and what to make anew.

Guarantee: pure; MLflow is not imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cpt_ray.edges.tracking.metrics import Watched
from cpt_ray.records import StepMetrics

PARAMS_TAG = "cpt_ray.params_sha256"
STEPS_TAG = "cpt_ray.mirrored_steps"
CONTENT_TAG = "cpt_ray.mirrored_sha256"
WATCHED_TAG = "cpt_ray.mirrored_watched"
WATCHED_CONTENT_TAG = "cpt_ray.watched_sha256"
RECORD_TAG = "cpt_ray.record_sha256"
_LONGEST_PARAM = 6000


def continues(
    tags: Mapping[str, str],
    params: Mapping[str, str],
    metrics: Sequence[StepMetrics],
    watched: Sequence[Watched],
    record_sha: str | None,
) -> bool:
    """Whether what a run holds, by its tags, is the beginning of this content; else the run is made anew."""
    if tags.get(PARAMS_TAG) != sha(params):
        return False
    done = int(tags.get(STEPS_TAG, 0))
    if done > len(metrics) or (done and tags.get(CONTENT_TAG) != steps_sha(metrics[:done])):
        return False
    told = int(tags.get(WATCHED_TAG, 0))
    if told > len(watched) or (told and tags.get(WATCHED_CONTENT_TAG) != sha(list(watched[:told]))):
        return False
    return RECORD_TAG not in tags or (tags[RECORD_TAG] == record_sha and done == len(metrics))


def steps_sha(metrics: Sequence[StepMetrics]) -> str:
    """A fingerprint of steps; the ids of their rows are not mirrored."""
    digest = hashlib.sha256()
    for item in metrics:
        digest.update(item.model_dump_json(exclude={"sample_ids"}).encode())
    return digest.hexdigest()


def sha(value: Any) -> str:
    """A fingerprint of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A tree of values as parameters: dotted keys, texts, cut to what MLflow stores."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{prefix}{key}"] = text[:_LONGEST_PARAM]
    return flat


def quoted(value: str) -> str:
    """A value as a tag that a filter can ask for."""
    # MLflow's filter language has no escape for a quote inside single quotes.
    return value.replace("'", "_")
