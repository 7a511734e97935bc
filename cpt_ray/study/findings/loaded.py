"""Choose a model of a study by budget, arm and seed, and load it with transformers.

In: a study. Out: the folder of an export, or model and tokenizer. Guarantee: what fits several models is refused, and they are
named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt_ray.config.values import format_count, parse_count
from cpt_ray.edges.store import fetched_folder, in_use
from cpt_ray.errors import ConfigError
from cpt_ray.study import store
from cpt_ray.study.grid import Member
from cpt_ray.study.stages.evaluate import BASE
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.study import StudyDriver
from cpt_ray.train.task import EXPORT

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Chosen(NamedTuple):
    """A model of the study: a base, the export of a budget, or a merge."""

    name: str
    """Of the run; of a base, of its scores."""
    folder: Path
    """In Hugging Face format."""
    trust_remote_code: bool


class Loaded(NamedTuple):
    """A model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(chosen: Chosen) -> Loaded:
    """Load a model in the type of its weights, on the CPU; nothing is downloaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # imports torch

    how = {"local_files_only": True, "trust_remote_code": chosen.trust_remote_code}
    with in_use(chosen.folder):
        folder = fetched_folder(chosen.folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **how)
        return Loaded(model, AutoTokenizer.from_pretrained(folder, **how))


def choose_model(
    study: StudyDriver, budget: str | int | None = None, *, arm: str | None, seed: int | None, model: str | None
) -> Chosen:
    """Find the one model that is meant.

    Args:
        study: The study.
        budget: Tokens, the name of a run, or `base`; None for the largest budget that is trained.
        arm: None for the domain's.
        seed: None for the first one.
        model: None for the first one.

    Raises:
        ConfigError: If there is none, or several, or it is not trained yet.
    """
    known = [one.name for one in study.config.models]
    if model is not None and model not in known:
        raise ConfigError(f"the study has no model {model!r}", fix=f"name one of {', '.join(known)}")
    trained = [one for one in study.grid.trained() if one.node.work.spec.budget_tokens is not None]
    members = [*trained, *study.grid.merged()]
    if budget == BASE:
        base = next(
            one for one in study.grid.scored() if one.node.work.is_base and one.node.work.model.name == (model or known[0])
        )
        return Chosen(base.name, store.require(base.node.input("subject")), base.node.work.model.trust_remote_code)
    for one in members:
        if one.name == budget:
            return _export(one)
    tokens = _tokens(budget, members)
    fitting = [
        one
        for one in trained
        if one.node.work.spec.model == (model or known[0])
        and tokens in (None, one.node.work.spec.budget_tokens)
        and seed in (None, one.node.work.spec.seed)
        and (one.names.arm == arm if arm is not None else _is_domain(study, one))
    ]
    if not fitting:
        wanted = {"budget": budget, "arm": arm, "seed": seed}
        said = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        raise ConfigError(f"the study has no model with {said or 'a domain arm'}", fix=f"choose one of {_said(members)}")
    there = [one for one in fitting if store.exists(one.node)] or fitting
    largest = max(one.node.work.spec.budget_tokens or 0 for one in there)
    last = [one for one in there if one.node.work.spec.budget_tokens == largest]
    last = [one for one in last if one.node.work.spec.seed == min(one.node.work.spec.seed for one in last)]
    if len(last) > 1:
        raise ConfigError(f"{len(last)} models of the study fit", fix=f"name the arm or the run: {_said(last)}")
    return _export(last[0])


def _tokens(budget: str | int | None, members: Sequence[Member]) -> int | None:
    if budget is None:
        return None
    try:
        return parse_count(budget)
    except ValueError:
        raise ConfigError(
            f"{budget!r} is no budget and no run of the study", fix=f"choose one of {_said(members)}, or {BASE}"
        ) from None


def _is_domain(study: StudyDriver, member: Member) -> bool:
    return study.grid.arms()[str(member.names.arm)].role == "domain"


def _export(member: Member) -> Chosen:
    node: Node[Any, Any] = member.node
    folder = store.require(node) / EXPORT
    models = {one.name: one for one in member.cell.config.models}
    work = node.work
    model = work.settings.model if hasattr(work, "settings") else models[work.model.name]
    return Chosen(member.name, folder, model.trust_remote_code)


def _said(members: Sequence[Member]) -> str:
    """Names of models, with the budgets of those that are trained first."""
    there = [one for one in members if store.exists(one.node)]
    names = [one.name for one in there or members]
    budgets = sorted({one.node.work.spec.budget_tokens for one in there if hasattr(one.node.work, "spec")})
    return f"{', '.join(names)}" + (f" (budgets {', '.join(map(format_count, budgets))})" if budgets else "")
