"""A study's bases: proven before text is prepared, described in a line each, and compared with what was imported of them.

In: the study's graph. Out: lines and warnings for the console, and items for `verify`. Reads headers; only `verify` reads all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.family import require_same_tensors, require_same_tokenizer
from cpt_ray.model.bases.proof import BaseFacts, prove_base
from cpt_ray.model.bases.tokens import TokenizerFiles, chat_end_warning, chat_warning, vocabulary
from cpt_ray.model.parameters import trained_shape
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import Artifact, ImportedModel
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.merges import companions, named
from cpt_ray.study.stages.models import MODELS, compare_base, imported_from
from cpt_ray.study.stages.stage import Checked, Console, Graph, Node


def prove_bases(config: StudyConfig) -> list[BaseFacts]:
    """Prove every base of a study; see `model.bases.proof`.

    Raises:
        ConfigError: If a base cannot be trained as the study asks.
    """
    return [prove_base(model, _lengths(config)) for model in config.models]


def _lengths(config: StudyConfig) -> dict[str, int]:
    """The keys that ask for a context, and its tokens."""
    lengths = {
        "prepare.pack.sequence_length": config.prepare.pack.sequence_length,
        "evaluate.context": config.evaluate.context,
    }
    if config.evaluate.exams or config.evaluate.harness_tasks:
        lengths["evaluate.exam_context"] = config.evaluate.exam_context
    return lengths


def prove_companions(config: StudyConfig) -> list[BaseFacts]:
    """Prove every model that `merges` names, as far as local folders tell: whole, and of the family of one of the bases.

    Raises:
        ConfigError: If one cannot be imported, or its tensors or tokens are those of none of the bases.
    """
    found = []
    for companion in (one for entry in config.merges for one in companions(entry).values()):
        with named(companion):
            found.append(prove_base(companion.model, {}))
        folder = _folder(companion.model)
        refusals = [_refusal(model, folder, companion.key) for model in config.models] if folder is not None else [None]
        if all(refusals):
            raise next(filter(None, refusals))
    return found


def _refusal(model: ModelConfig, other: Path, key: str) -> ConfigError | None:
    """Why a companion is not of the family of a base; names are compared after imports, which drop copies of tied weights."""
    base = _folder(model)
    if base is None or model.new_tokens:
        return None
    try:
        require_same_tensors(base, other, key=key, whole=False)
        if model.tokenizer is None:
            require_same_tokenizer(base, other, key=key)
    except ConfigError as error:
        return error
    return None


def _folder(model: ModelConfig) -> Path | None:
    path = Path(resolve_package(model.base)).expanduser()
    return path if path.is_dir() else None


def say_bases(graph: StudyGraph, console: Console) -> dict[str, str]:
    """Prove the bases of all cells, each once, and print what was found and what to look at.

    Returns:
        What was printed of each model, for `say_separators`.

    Raises:
        ConfigError: If a base cannot be trained as the study asks.
    """
    said: dict[str, str] = {}
    for cell in graph.cells:
        key = f"proof {[model.model_dump_json() for model in cell.config.models]} {_lengths(cell.config)}"
        for facts in graph.once(key, functools.partial(prove_bases, cell.config)):
            if said.get(facts.model) != facts.summary:
                console.say(f"model {facts.model}: {facts.summary}")
                for warning in facts.warnings:
                    console.warn(warning)
                if facts.chat_template and not _keeps_chat(cell.config):
                    console.warn(chat_warning(f"models.{facts.model}"))
            said[facts.model] = facts.summary
        key = f"companions {[entry.model_dump_json() for entry in cell.config.merges]} {key}"
        for facts in graph.once(key, functools.partial(prove_companions, cell.config)):
            if said.get(facts.model) != facts.summary:
                console.say(f"model {facts.model} of merges: {facts.summary}")
            said[facts.model] = facts.summary
    return said


def _keeps_chat(config: StudyConfig) -> bool:
    """Whether the study has one of the two remedies already."""
    return any(entry.rule != "average" for entry in config.merges)


def warn_of_changes(graph: Graph, console: Console) -> None:
    """Warn of every file of a base that is not the one that was imported."""
    for checked in changed_bases(graph):
        for problem in checked.problems:
            console.warn(problem.problem)


def say_separators(
    graph: Graph, console: Console, said: Mapping[str, str], models: Iterable[Node[ModelConfig, ImportedModel]] | None = None
) -> None:
    """Print the tokens around documents of every imported base, and warn of one that ends a turn of a chat.

    Args:
        graph: The study.
        console: Where to print.
        said: What `say_bases` has printed; a separator that is told there is not told again.
        models: The bases to speak of; all of them if none are given.
    """
    for node in graph.of(MODELS) if models is None else models:
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
        chat = _folder(node.work) is None and TokenizerFiles(node.folder, f"models.{node.name}").has_chat_template
        if chat and not _keeps_chat(graph.config):
            console.warn(chat_warning(f"models.{node.name}"))


def say_frozen(graph: StudyGraph, console: Console) -> None:
    """Print how much of every imported base `train.freeze` freezes, once for cells that freeze the same.

    Raises:
        ConfigError: If a pattern matches no parameter, or nothing would train.
    """
    frozen = {cell.config.train.freeze: cell.of(MODELS) for cell in graph.cells if cell.config.train.freeze}
    for patterns, node in ((patterns, node) for patterns, nodes in frozen.items() for node in nodes):
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
