"""The model card of a run: what it was trained from, on what, for how long, and under which licences."""

from __future__ import annotations

from cpt_ray.config.study import StudyConfig
from cpt_ray.model.export import model_card
from cpt_ray.records import RunRecord
from cpt_ray.train.mixes import mixes_in_tokens
from cpt_ray.train.task import TrainTask


def run_card(record: RunRecord, config: StudyConfig, task: TrainTask) -> str:
    """The card that lies in an export's folder."""
    spec = task.spec
    model = next(m for m in config.models if m.name == spec.model)
    schedule = mixes_in_tokens(config.arms[spec.arm], cooldown_start_tokens=spec.schedule.decay_start_tokens)
    drawn = {name for mix in record.mixes for name in mix.weights}
    licences = {s.name: s.licence or "not stated" for s in config.sources if s.name in drawn}
    return model_card(
        {
            "name": record.run,
            "base model": model.base,
            "about the base": model.note or "",
            "base licence": model.licence or "not stated",
            "study": config.study.name,
            "arm": f"{spec.arm}: " + "; ".join(f"from {t} tokens {m}" if t else f"{m}" for t, m in schedule),
            "tokens seen (loss-bearing)": record.tokens_seen,
            "budget (tokens)": record.budget_tokens or "none: its learning rate has not decayed",
            "optimizer steps": record.steps,
            "peak learning rate": spec.schedule.peak_rate,
            "final learning rate": spec.schedule.final_rate,
            "document isolation": config.train.isolation,
            "shards fingerprint": task.data_fingerprint,
            "licences of the training text": licences,
        }
    )
