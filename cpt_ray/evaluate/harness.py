"""Interface to lm-eval: named harness tasks as they are. The only module that imports it.

In: a loaded model with document attention, and names of tasks. Out: `ExamScore`s and per-item results as JSON lines, as for the
study's own exams, whose packed scoring (`choices.PackedScorer`) answers lm-eval's requests too.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager, get_task_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.continuations import Continuation, PackedScorer
from cpt_ray.evaluate.exam_scores import exam_score
from cpt_ray.evaluate.packed import pass_tokens
from cpt_ray.evaluate.per_item import ScoredItem
from cpt_ray.records import ExamItem, ExamScore, half_of

Request = tuple[tuple[str, str] | None, list[int], list[int]]


class PackedLM(HFLM):  # type: ignore[misc]
    """lm-eval's Hugging Face model, with log-likelihoods computed over packed segments.

    Args:
        model: A causal LM with document attention, in eval mode.
        tokenizer: Its tokenizer.
        prefix: Token id that precedes a continuation without context, as in `bits_per_byte`.
        max_length: Maximum tokens of a context plus its continuation.
        batch_tokens: Maximum input tokens per forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prefix: int,
        max_length: int,
        batch_tokens: int,
    ) -> None:
        super().__init__(
            pretrained=model, tokenizer=tokenizer, backend="causal", prefix_token_id=prefix, max_length=max_length, batch_size=1
        )
        self._scorer = PackedScorer(model, max_length=max_length, batch_tokens=batch_tokens)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[Request],
        disable_tqdm: bool = False,  # noqa: ARG002 -- lm-eval's signature
        override_bs: int | None = None,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        """Score (context, continuation) token pairs: sum of log p, and whether greedy decoding gives the continuation."""
        answers = self._scorer.score([Continuation(context, continuation) for _, context, continuation in requests])
        for (key, _, _), answer in zip(requests, answers, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return [(answer.log_p, answer.greedy) for answer in answers]

    def _model_generate(self, *arguments: Any, **options: Any) -> Any:
        # Generation calls the model with a cache and a padding mask, which document attention rejects.
        installed = self.model.config._attn_implementation
        self.model.set_attn_implementation("sdpa")
        try:
            return super()._model_generate(*arguments, **options)
        finally:
            self.model.set_attn_implementation(installed)


def score_harness_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prefix: int,
    config: EvaluateConfig,
    compare: CompareConfig,
    folder: Path,
) -> tuple[ExamScore, ...]:
    """Score the named harness tasks.

    Args:
        model: A causal LM with document attention, in eval mode.
        tokenizer: Its tokenizer.
        prefix: Token id that precedes a continuation without context.
        config: The `evaluate` section.
        compare: The `compare` section, for the intervals.
        folder: Evaluation folder; per-item results go to `exams/TASK.jsonl` in it.

    Returns:
        The scores, in lm-eval's order.

    Raises:
        ConfigError: If a task is unknown, its data is unavailable, or it does not report accuracy.
    """
    with _quiet():
        tokens = pass_tokens(config.batch_tokens, model.device)
        lm = PackedLM(model, tokenizer, prefix=prefix, max_length=config.exam_context, batch_tokens=tokens)
    results = _run_harness_tasks(lm, config.harness_tasks, config.harness_path)
    return tuple(_harness_score(task, results, compare, folder) for task in results["samples"])


def _run(lm: PackedLM, tasks: Sequence[str], manager: TaskManager) -> dict[str, Any]:
    # No bootstrap in lm-eval: intervals here are paired, and are computed from the per-item results.
    with _quiet():
        results = lm_eval.simple_evaluate(
            model=lm, tasks=list(tasks), task_manager=manager, num_fewshot=None, bootstrap_iters=0, log_samples=True
        )
    return dict(results)


@functools.cache
def _known_tasks(own: str | None) -> TaskManager:
    # Indexing thousands of task files takes seconds, and one process may score many models.
    return TaskManager(include_path=own)


def _find_tasks(tasks: Sequence[str], own: str | None, key: str) -> TaskManager:
    manager = _known_tasks(own)
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(
            f"{key} names {unknown[0]!r}, which the installed lm-eval does not have",
            fix="`lm-eval ls tasks` lists the names; custom task files go in evaluate.harness_path",
        )
    return manager


def task_items(tasks: Sequence[str], own: str | None) -> list[ExamItem]:
    """Fetch the items of lm-eval tasks as text: the question, and what counts as the answer.

    Args:
        tasks: Names of tasks or groups.
        own: `evaluate.harness_path`.

    Returns:
        All items that an evaluation scores, without choices; each answer is a string.

    Raises:
        ConfigError: If a task is unknown, or its data is unavailable.
    """
    key = "prepare.decontaminate.tasks"
    manager = _find_tasks(tasks, own, key)
    try:
        with _quiet():
            loaded = list(_leaves(get_task_dict(list(tasks), manager)))
    except (OSError, ValueError) as error:  # as in `_run_harness_tasks`
        raise ConfigError(
            f"{key} {', '.join(tasks)}: lm-eval could not load them: {str(error).splitlines()[0]}",
            fix="their data comes from the Hugging Face Hub: run `cpt-ray fetch-tasks` once where the Hub can be reached "
            "(HF_HUB_OFFLINE unset), then copy the study's root here",
        ) from error
    return [
        ExamItem(task=task.task_name, id=str(item.get("id", number)), **_question_and_answer(task, item))
        for task in loaded
        for number, item in enumerate(task.eval_docs)
    ]


def _leaves(tasks: Mapping[Any, Any]) -> Iterator[Any]:
    for task in tasks.values():
        yield from _leaves(task) if isinstance(task, Mapping) else (task,)


def _question_and_answer(task: Any, item: dict[str, Any]) -> dict[str, str]:
    question, target = task.doc_to_text(item), task.doc_to_target(item)
    choices = task.doc_to_choice(item) if task.OUTPUT_TYPE == "multiple_choice" else None
    if choices and isinstance(question, int):  # the choices are contexts, and the target is their shared continuation
        return {"question": f"{choices[question]}", "answer": str(target)}
    answer = choices[target] if choices and isinstance(target, int) else target
    return {"question": str(question), "answer": "\n".join(map(str, answer)) if isinstance(answer, list) else str(answer)}


def _run_harness_tasks(lm: PackedLM, tasks: Sequence[str], own: str | None) -> dict[str, Any]:
    manager = _find_tasks(tasks, own, "evaluate.harness_tasks")
    try:
        return _run(lm, tasks, manager)
    except (OSError, ValueError) as error:  # datasets and the Hub raise these, or subclasses, if data is missing
        raise ConfigError(
            f"evaluate.harness_tasks {', '.join(tasks)}: lm-eval could not run them: {str(error).splitlines()[0]}",
            fix="their data comes from the Hugging Face Hub: run once where the Hub can be reached (HF_HUB_OFFLINE unset) and "
            "copy HF_HOME here, or provide the questions as evaluate.exams",
        ) from error


def _harness_score(task: str, results: dict[str, Any], compare: CompareConfig, folder: Path) -> ExamScore:
    """Turn lm-eval's samples into a score, and save the per-item results."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    if not samples or "acc" not in samples[0]:
        raise ConfigError(
            f"evaluate.harness_tasks {task}: it does not report accuracy per item",
            fix="use multiple-choice tasks only; other tasks cannot be compared yet",
        )
    choices = results["configs"][task]["output_type"] == "multiple_choice"
    lines = [_scored(task, sample, choices=choices) for sample in samples]
    chance = sum(1 / len(line.log_p) for line in lines) / len(lines) if choices else 0.0
    return exam_score(task, task, lines, chance=chance, compare=compare, folder=folder)


def _scored(task: str, sample: Mapping[str, Any], *, choices: bool) -> ScoredItem:
    name, target = str(sample["doc"].get("id", sample["doc_id"])), sample["target"]
    log_p = tuple(float(response[0]) for response in sample["filtered_resps"])
    return ScoredItem(
        id=name,
        accuracy=float(sample["acc"]),
        accuracy_norm=float(sample["acc_norm"]) if "acc_norm" in sample else None,
        log_p=log_p,
        right=target if choices and isinstance(target, int) and 0 <= target < len(log_p) else None,
        half=half_of(task, name),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's notices and progress bars, which no argument turns off, out of the study's output.

    Works on the file descriptor because lm-eval also runs `git describe`, whose error outside a repository would be printed.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            with contextlib.redirect_stderr(nowhere):  # in case sys.stderr has been replaced
                yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        logger.setLevel(level)
