"""Interface to lm-eval: the study's exams as local tasks, and named harness tasks as they are.

In: a loaded model with document attention, and exam items. Out: `ExamScore`s and per-item results as JSON lines. Requests
are scored by `PackedLM`, which packs them as segments instead of padding a batch: the same numbers as lm-eval's Hugging Face
model, without computing logits that are never read. The local exams need no network.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager, get_task_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import EvaluateConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate.per_item import ScoredItem, format_scores
from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.records import ExamItem, ExamScore, write_items

_LOGIT_ROWS = 256
"""Rows of logits held at once: 50 MB in fp32 at a vocabulary of 49k."""

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
        self._batch_tokens = batch_tokens

    @torch.no_grad()
    def _loglikelihood_tokens(
        self,
        requests: Sequence[Request],
        disable_tqdm: bool = False,  # noqa: ARG002 -- lm-eval's signature
        override_bs: int | None = None,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        """Score (context, continuation) token pairs: sum of log p, and whether greedy decoding gives the continuation."""
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        # As in lm-eval: truncate from the left; the last token is only predicted, never an input.
        streams = [(context + continuation)[-(self.max_length + 1) :] for _, context, continuation in requests]
        # Longest first; ties (the choices of one question) stay together.
        order = sorted(range(len(requests)), key=lambda index: (-len(streams[index]), index))
        group: list[int] = []
        used = 0
        for index in order:
            if group and used + len(streams[index]) - 1 > self._batch_tokens:
                self._score_group(group, streams, requests, answers)
                group, used = [], 0
            group.append(index)
            used += len(streams[index]) - 1
        if group:
            self._score_group(group, streams, requests, answers)
        for index, (key, _, _) in enumerate(requests):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answers[index])
        return answers

    def _score_group(
        self, group: list[int], streams: list[list[int]], requests: Sequence[Request], answers: list[tuple[float, bool]]
    ) -> None:
        inputs = [streams[index][:-1] for index in group]
        # A continuation that does not fit is scored on its last tokens, as lm-eval does.
        counts = [min(len(requests[index][2]), len(part)) for index, part in zip(group, inputs, strict=True)]
        labels = [token for index, count in zip(group, counts, strict=True) for token in streams[index][-count:]]
        ends = torch.tensor([len(part) for part in inputs]).cumsum(0).tolist()
        places = [place for end, count in zip(ends, counts, strict=True) for place in range(end - count, end)]
        flat = torch.tensor([token for part in inputs for token in part], device=self.device)
        hidden = hidden_states(self.model, flat, [len(part) for part in inputs])[torch.tensor(places, device=self.device)]
        log_p, greedy = self._read_labels(hidden, torch.tensor(labels, device=self.device))
        start = 0
        for index, count in zip(group, counts, strict=True):
            rows = slice(start, start + count)
            answers[index] = (float(log_p[rows].sum()), bool(greedy[rows].all()))
            start += count

    def _read_labels(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        head = self.model.get_output_embeddings()
        log_p, greedy = [], []
        # In slices: logits of all labels at once would take vocabulary x labels floats.
        for start in range(0, len(labels), _LOGIT_ROWS):
            rows = slice(start, start + _LOGIT_ROWS)
            logits = head.logits(hidden[rows])
            log_p.append(torch.log_softmax(logits, dim=-1).gather(1, labels[rows, None])[:, 0].double())
            greedy.append(logits.argmax(dim=-1) == labels[rows])
        return torch.cat(log_p), torch.cat(greedy)

    def _model_generate(self, *arguments: Any, **options: Any) -> Any:
        # Generation calls the model with a cache and a padding mask, which document attention rejects.
        installed = self.model.config._attn_implementation
        self.model.set_attn_implementation("sdpa")
        try:
            return super()._model_generate(*arguments, **options)
        finally:
            self.model.set_attn_implementation(installed)


def score_exams(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: dict[str, list[ExamItem]],
    *,
    prefix: int,
    config: EvaluateConfig,
    folder: Path,
) -> tuple[ExamScore, ...]:
    """Score the study's exams and the named harness tasks.

    Args:
        model: A causal LM with document attention, in eval mode.
        tokenizer: Its tokenizer.
        items: Items of each of `config.exams`, by task.
        prefix: Token id that precedes a continuation without context.
        config: The `evaluate` section.
        folder: Evaluation folder; per-item results go to `exams/TASK.jsonl` in it.

    Returns:
        Exams in config order, then harness tasks in lm-eval's order.

    Raises:
        DataError: If an exam of the config has no items.
        ConfigError: If a harness task is unknown, its data is unavailable, or it does not report accuracy.
    """
    if not config.exams and not config.harness_tasks:
        return ()
    for exam in config.exams:
        if not items.get(exam.name):
            raise DataError(
                f"evaluate.exams {exam.name}: no items for this exam; found items for {sorted(items) or 'none'}",
                fix="run `cpt-ray prepare` again to rewrite the exam items",
            )
    with _quiet():
        lm = PackedLM(model, tokenizer, prefix=prefix, max_length=config.exam_context, batch_tokens=config.batch_tokens)
    scores: list[ExamScore] = []
    if config.exams:
        with tempfile.TemporaryDirectory(prefix="cpt-ray-exams-") as scratch:
            for exam in config.exams:
                _write_task(Path(scratch), exam.name, items[exam.name])
            # Without lm-eval's own tasks: indexing thousands of them takes seconds.
            manager = TaskManager(include_path=scratch, include_defaults=False)
            results = _run(lm, [exam.name for exam in config.exams], manager, num_fewshot=0)
        for exam in config.exams:
            scores.append(_exam_score(exam.name, exam.label, results, folder))
    if config.harness_tasks:
        results = _run_harness_tasks(lm, config.harness_tasks, config.harness_path)
        for task in results["samples"]:
            scores.append(_exam_score(task, task, results, folder))
    return tuple(scores)


def _write_task(folder: Path, task: str, items: Sequence[ExamItem]) -> None:
    """Write one exam as an lm-eval task: its items, and the YAML that defines the prompt.

    The choices are scored as continuations (cloze form): at this model size that gives far more signal than scoring letters.
    """
    data = folder / f"{task}.jsonl"
    data.write_text(write_items(items), encoding="utf-8")
    description = {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
        "metadata": {"version": 1},
    }
    (folder / f"{task}.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")


def _run(lm: PackedLM, tasks: Sequence[str], manager: TaskManager, *, num_fewshot: int | None) -> dict[str, Any]:
    # No bootstrap in lm-eval: intervals here are paired, and are computed from the per-item results.
    with _quiet():
        results = lm_eval.simple_evaluate(
            model=lm, tasks=list(tasks), task_manager=manager, num_fewshot=num_fewshot, bootstrap_iters=0, log_samples=True
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
        return _run(lm, tasks, manager, num_fewshot=None)
    except (OSError, ValueError) as error:  # datasets and the Hub raise these, or subclasses, if data is missing
        raise ConfigError(
            f"evaluate.harness_tasks {', '.join(tasks)}: lm-eval could not run them: {str(error).splitlines()[0]}",
            fix="their data comes from the Hugging Face Hub: run once where the Hub can be reached (HF_HUB_OFFLINE unset) and "
            "copy HF_HOME here, or provide the questions as evaluate.exams",
        ) from error


def _exam_score(task: str, label: str, results: dict[str, Any], folder: Path) -> ExamScore:
    """Turn lm-eval's samples into a score, and save the per-item results."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    if not samples or "acc" not in samples[0]:
        raise ConfigError(
            f"evaluate.harness_tasks {task}: it does not report accuracy per item",
            fix="use multiple-choice tasks only; other tasks cannot be compared yet",
        )
    choices = results["configs"][task]["output_type"] == "multiple_choice"
    lines = [
        ScoredItem(
            id=str(sample["doc"].get("id", sample["doc_id"])),
            accuracy=float(sample["acc"]),
            accuracy_norm=float(sample["acc_norm"]) if "acc_norm" in sample else None,
            log_p=tuple(float(response[0]) for response in sample["filtered_resps"]),
        )
        for sample in samples
    ]
    path = f"exams/{task}.jsonl"
    write_atomic(folder / path, format_scores(lines))
    accuracy, stderr = _mean_and_stderr([line.accuracy for line in lines])
    normed = [line.accuracy_norm for line in lines if line.accuracy_norm is not None]
    accuracy_norm, norm_stderr = _mean_and_stderr(normed) if len(normed) == len(lines) else (None, None)
    return ExamScore(
        task=task,
        label=label,
        items=len(lines),
        accuracy=accuracy,
        accuracy_stderr=stderr,
        accuracy_norm=accuracy_norm,
        accuracy_norm_stderr=norm_stderr,
        chance=sum(1 / len(line.log_p) for line in lines) / len(lines) if choices else 0.0,
        items_path=path,
    )


def _mean_and_stderr(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, math.sqrt(spread / len(values))


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
