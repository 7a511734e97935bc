"""The model card of a run: its base model, data, training length and licenses."""

from __future__ import annotations

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.edges.packages import versions
from cpt_ray.model.exports.export import model_card
from cpt_ray.records import RunRecord, ShardManifest, TrainingRecord
from cpt_ray.train.order.mixes import mixes_in_tokens
from cpt_ray.train.task import TrainTask

_VERSIONS = ("cpt-ray", "deepspeed", "torch", "transformers")
"""Other versions may compute different results."""


def _trained(train: TrainConfig) -> str:
    if train.lora is not None:
        return f"LoRA, merged: {train.lora}"
    weights = f"all weights but {', '.join(train.freeze)}, which are the base's" if train.freeze else "all weights"
    factor = train.embedding_learning_rate_factor
    return weights if factor == 1 else f"{weights}; embeddings and output head at {factor:g} times the learning rate"


def run_card(record: RunRecord, training: TrainingRecord, task: TrainTask, shards: ShardManifest) -> str:
    """The card in an export's folder."""
    spec, settings = task.spec, task.settings
    model, train = settings.model, settings.train
    schedule = mixes_in_tokens(settings.arm, cooldown_start_tokens=spec.schedule.decay_start_tokens)
    drawn = {name for mix in training.mixes for name in mix.weights}
    licenses = {name: terms or "not stated" for name, terms in settings.licenses.items() if name in drawn}
    tables = [shards.of_source(source) for source in sorted(drawn)]
    documents, tokens = (sum(table.total(column) for table in tables) for column in ("documents", "tokens"))
    again = "; what a derived source shares with another counts in both" if task.derived_folders and len(drawn) > 1 else ""
    return model_card(
        {
            "name": record.run,
            "base model": model.origin,
            "about the base": model.note or "",
            "base license": model.license or "not stated",
            "study": settings.study,
            "arm": f"{spec.arm}: " + "; ".join(f"from {t} tokens {m}" if t else f"{m}" for t, m in schedule),
            "tokens seen (loss-bearing)": record.tokens_seen,
            "budget (tokens)": record.budget_tokens or "none: its learning rate has not decayed",
            "optimizer steps": training.progress.step,
            "peak learning rate": spec.schedule.peak_rate,
            "final learning rate": spec.schedule.final_rate,
            "document isolation": train.isolation,
            "trained": _trained(train),
            "optimizer": train.optimizer,
            "new tokens": ", ".join(model.new_tokens) or "none",
            "documents end with": shards.around.separator if shards.around else f"token {shards.separator_id}",
            "precision": f"{train.precision}, exported as {train.export_precision}",
            "DeepSpeed": f"ZeRO stage {settings.deepspeed.zero_stage} on {training.last.world_size} workers",
            "training text": f"{documents} documents, {tokens} tokens in {sum(map(len, tables))} shards{again}",
            "shards fingerprint (includes the held-out sets)": task.data_fingerprint,
            "licenses of the training text": licenses,
            "versions": ", ".join(map(" ".join, versions(*_VERSIONS).items())),
        }
    )
