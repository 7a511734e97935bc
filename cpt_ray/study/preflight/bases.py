"""A study's bases: proven before text is prepared, described in a line each, and compared with what was imported of them.

In: the study's graph. Out: lines and warnings for the console, and items for `verify`. Reads headers; only `verify` reads all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpt_ray.config.study import StudyConfig
from cpt_ray.model.bases.proof import BaseFacts, prove_base
from cpt_ray.model.bases.tokens import chat_end_warning, vocabulary
from cpt_ray.model.parameters import trained_shape
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import Artifact
from cpt_ray.study import store
from cpt_ray.study.stages.models import MODELS, compare_base, imported_from
from cpt_ray.study.stages.stage import Checked, Console, Graph


def prove_bases(config: StudyConfig) -> list[BaseFacts]:
    """Prove every base of a study; see `model.bases.proof`.

    Raises:
        ConfigError: If a base cannot be trained as the study asks.
    """
    lengths = {
        "prepare.pack.sequence_length": config.prepare.pack.sequence_length,
        "evaluate.context": config.evaluate.context,
    }
    if config.evaluate.exams or config.evaluate.harness_tasks:
        lengths["evaluate.exam_context"] = config.evaluate.exam_context
    return [prove_base(model, lengths) for model in config.models]


def say_bases(config: StudyConfig, console: Console) -> dict[str, str]:
    """Prove the bases, and print what was found and what to look at.

    Returns:
        What was printed of each model, for `say_separators`.

    Raises:
        ConfigError: If a base cannot be trained as the study asks.
    """
    found = prove_bases(config)
    for facts in found:
        console.say(f"model {facts.model}: {facts.summary}")
        for warning in facts.warnings:
            console.warn(warning)
    return {facts.model: facts.summary for facts in found}


def warn_of_changes(graph: Graph, console: Console) -> None:
    """Warn of every file of a base that is not the one that was imported."""
    for checked in changed_bases(graph):
        for problem in checked.problems:
            console.warn(problem.problem)


def say_separators(graph: Graph, console: Console, said: Mapping[str, str]) -> None:
    """Print the tokens around documents of every imported base, and warn of one that ends a turn of a chat.

    Args:
        graph: The study.
        console: Where to print.
        said: What `say_bases` has printed; a separator that is told there is not told again.
    """
    for node in graph.of(MODELS):
        if store.find(node) is None:
            continue
        found = text_tokens(node.work, node.folder)
        if found.bos or not said.get(node.name, "").endswith(f"separator {found.separator}"):
            before = f", begin with {found.bos!r}" if found.bos else ""
            console.say(f"model {node.name}: documents end with {found.separator!r}{before}")
        definition = json.loads((node.folder / "tokenizer.json").read_text(encoding="utf-8"))
        warning = chat_end_warning(found.separator, vocabulary(definition), f"models.{node.name}")
        if warning and node.work.separator is None and Path(node.work.base).is_file():
            console.warn(warning)  # a folder's was said by its proof


def say_frozen(graph: Graph, console: Console) -> None:
    """Print how much of every imported base `train.freeze` freezes.

    Raises:
        ConfigError: If a pattern matches no parameter, or nothing would train.
    """
    patterns = graph.config.train.freeze
    for node in graph.of(MODELS) if patterns else ():
        if store.find(node) is None:
            console.say(f"model {node.name}: train.freeze is checked by plan, which builds the base's layers")
            continue
        shape = trained_shape(store.load(node), lora=None, freeze=patterns)
        console.say(f"model {node.name}: {shape.frozen_parameters:,} of {shape.parameters:,} parameters stay the base's")


def changed_bases(graph: Graph) -> Iterator[Checked]:
    """Bases that are not imported as they are now, although an import of the same base with other content is there."""
    for node in graph.of(MODELS):
        if store.exists(node):
            continue
        for path in sorted(node.folder.parent.glob(f"{node.name}-*/{Artifact.FILE}")):
            if imported_from(path.parent).get("base") == node.work.base:
                yield compare_base(node.work, path.parent)
