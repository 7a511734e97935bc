"""A folder for a model hub: the export of a run, with a card on what it is, how it scores, and what is known of licenses.

In: a scored study. Out: weights, configuration and tokenizer as transformers loads them, and `README.md`. Guarantee: no path of
this machine is in the card, and what is not known is said to be unknown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cpt_ray.config.domains import root_of
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.redaction import redact_text
from cpt_ray.edges.storage import unwritable
from cpt_ray.edges.store import fetched_folder, in_use
from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.errors import ConfigError
from cpt_ray.records import Comparison, Delta, EvalRecord, RunRecord
from cpt_ray.records.scores import MEASURES
from cpt_ray.study.findings.loaded import Chosen
from cpt_ray.study.findings.tables import score_rows
from cpt_ray.study.study import StudyDriver

CARD = "README.md"
UNKNOWN = "unknown: the study file does not state it"


def publish(study: StudyDriver, chosen: Chosen, to: Path, *, force: bool = False) -> Path:
    """Copy an export into a folder, and write its card.

    Args:
        study: The study, which has been scored.
        chosen: The model; not a base.
        to: The folder; other files in it stay, also with `force`.
        force: Whether the folder may hold something.

    Returns:
        The folder.

    Raises:
        ConfigError: If the model is a base, the folder is not empty, or the study is not scored yet.
        ArtifactError: If it cannot be written.
    """
    runs = study.runs()
    run = next(one for one in runs if one.run == chosen.name)
    if run.kind == "base":
        raise ConfigError(f"{run.run} is the base, which this study did not make", fix="name a run: its export is published")
    if to.exists() and not to.is_dir():
        raise ConfigError(f"--to {to} is a file", fix="name a folder")
    if to.is_dir() and any(to.iterdir()) and not force:
        raise ConfigError(
            f"--to {to} is not empty",
            fix="name another folder, or give --force: files of the same name are replaced, others stay",
        )
    with in_use(chosen.folder):
        source = fetched_folder(chosen.folder)
        _copy(source, to, card=_card(study, run, runs, (source / CARD).read_text(encoding="utf-8")))
    return to


def _copy(source: Path, to: Path, *, card: str) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.rglob("*")):
            if path.is_file() and path.name not in (CARD, INDEX):
                target = to / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.tmp")
                shutil.copyfile(path, temporary)  # not its mode: the weights of an export are readable by their owner alone
                os.replace(temporary, target)
        (to / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise unwritable(to, error) from error


def _card(study: StudyDriver, run: RunRecord, runs: Sequence[RunRecord], facts: str) -> str:
    config, comparison, evaluations = study.config, study.comparison(), study.evaluations()
    scores = {one.run: one for one in evaluations}
    model = next(one for one in config.models if run.model.split("@")[0] == one.name)
    base = next(one for one in runs if one.kind == "base" and one.model == run.model)
    deltas = [one for one in comparison.deltas if one.subject in (run.run, run.cell)]
    head, _, table = facts.partition("| fact | value |")
    parts = [
        _front_matter(model),
        f"# {run.run}",
        f"{_name(model)} after continued pretraining on {run.tokens_seen:,} tokens, in the cpt-ray study {config.study.name}.",
        "## Evaluation",
        _evaluation(scores[run.run], scores[base.run], deltas),
        "## Licenses",
        "\n".join(_licenses(run, runs, config, model)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(comparison, run)),
        "## Training",
        f"| fact | value |{table}".strip().replace(model.base, _name(model)) if table else head.strip(),
        f"```yaml\n{yaml.safe_dump({'train': _settings(config)}, sort_keys=False)}```",
    ]
    return redact_text("\n\n".join(parts) + "\n")


def _settings(config: StudyConfig) -> dict[str, Any]:
    settings: dict[str, Any] = config.train.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {**settings, "deepspeed": Path(config.train.deepspeed).name}


def _front_matter(model: ModelConfig) -> str:
    """What a hub reads: the license is that of the base only if the owner of the model says so, so it is left to the text."""
    head: dict[str, Any] = {
        "license": "other" if model.license else "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["continued-pretraining", "cpt-ray"],
    }
    if not model.is_new and not _is_path(model.base):
        head["base_model"] = model.base
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def _is_path(base: str) -> bool:
    """Whether a base is named by a place rather than by its name on the hub, `owner/name`."""
    return "://" in base or base.startswith((".", "/", "~")) or base.count("/") > 1 or Path(base).exists()


def _name(model: ModelConfig) -> str:
    """A base as strangers may see it: its name on the hub, or the last part of its path."""
    return Path(model.base).name if _is_path(model.base) and not model.is_new else model.origin


def _evaluation(ours: EvalRecord, base: EvalRecord, deltas: Sequence[Delta]) -> str:
    before = {(row["set"], row["metric"]): row for row in score_rows(base)}
    lines = ["| set | metric | this model | base |", "|---|---|---|---|"]
    for row in score_rows(ours):
        there = before.get((row["set"], row["metric"]))
        lines.append(f"| {row['set']} | {row['metric']} | {_value(row)} | {_value(there) if there else 'not scored'} |")
    lines += ["", "Intervals in brackets are over documents or items; without one there are too few.", ""]
    lines += ["| set | paired difference | value |", "|---|---|---|"]
    for delta in deltas:
        facts = MEASURES[delta.measure]
        interval = f" [{delta.interval.low:+.4f}, {delta.interval.high:+.4f}]" if delta.interval else f" ({delta.missing})"
        lines.append(f"| {delta.set_name} | {facts.words}, against {delta.reference} | {delta.difference:+.4f}{interval} |")
    return "\n".join(lines)


def _value(row: dict[str, Any]) -> str:
    ends = "" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{row['value']:.4g}{ends}"


def _licenses(run: RunRecord, runs: Sequence[RunRecord], config: StudyConfig, model: ModelConfig) -> Iterator[str]:
    yield "Base and training text keep their own licenses; whether they allow sharing this model is for its publisher to check."
    yield ""
    yield "| what | license |"
    yield "|---|---|"
    yield f"| base {_name(model)} | {model.license or UNKNOWN} |"
    by_name = {one.run: one for one in runs}
    trained = run
    while trained.training is None and trained.parent is not None:
        trained = by_name[trained.parent]
    drawn = {name for mix in (trained.training.mixes if trained.training else ()) for name in mix.weights}
    for source in config.sources:
        if source.name in drawn:
            yield f"| text {source.name} | {root_of(source, config.sources).license or UNKNOWN} |"


def _limits(comparison: Comparison, run: RunRecord) -> Iterator[str]:
    yield "It continues text. It was not trained to follow instructions or to be safe, unless its base was."
    yield from (one.verdict for one in comparison.conclusions if (one.model, one.arm) == (run.model, run.arm))
    yield from comparison.notes
