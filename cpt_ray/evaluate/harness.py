"""Interface to lm-eval: harness tasks as they are, scored through a packed model.

In: a loaded model with document attention, and tasks. Out: `ExamScore`s and per-item results as JSON lines, as for the
study's own exams, whose packed scoring (`packed.PackedScorer`) answers lm-eval's requests too; lm-eval's samples.
Guarantee: accuracies are those of lm-eval's command line with the same settings, to the last digit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import LEAST_UNITS, CompareConfig, EvaluateConfig, HarnessTask
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.exam.scores import exam_score
from cpt_ray.evaluate.harness_tasks import known_tasks, quiet, require_known, unavailable
from cpt_ray.evaluate.packed import Continuation, PackedScorer, pass_tokens
from cpt_ray.evaluate.per_item import ScoredItem
from cpt_ray.records import ExamScore, half_of

KEY = "evaluate.harness_tasks"

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
    """Score the harness tasks of a study.

    Args:
        model: A causal LM with document attention, in eval mode.
        tokenizer: Its tokenizer.
        prefix: Token id that precedes a continuation without context.
        config: The `evaluate` section.
        compare: The `compare` section, for the intervals.
        folder: Evaluation folder; per-item results go to `exams/TASK.jsonl` in it, lm-eval's samples to `samples/TASK.jsonl`.

    Returns:
        The scores, in config order: one of each task, one of a group that lm-eval averages over items.

    Raises:
        ConfigError: If a task is unknown or named twice, its data is unavailable, or it does not report accuracy.
        DataError: If a score is not finite.
    """
    with quiet():
        tokens = pass_tokens(config.batch_tokens, model.device)
        lm = PackedLM(model, tokenizer, prefix=prefix, max_length=config.exam_context, batch_tokens=tokens)
    scores: list[ExamScore] = []
    for task in config.harness_tasks:
        require_known(task.task, config.harness_path, KEY)
        for score in _scores(task, _run(lm, task, config), compare, folder):
            if score.task in {one.task for one in scores}:
                raise ConfigError(
                    f"{KEY}: {score.task} is in {task.task} and in another entry", fix="name the group or the task, not both"
                )
            scores.append(score)
    return tuple(scores)


def _run(lm: PackedLM, task: HarnessTask, config: EvaluateConfig) -> dict[str, Any]:
    try:
        # No bootstrap in lm-eval: intervals here are paired, and are computed from the per-item results.
        with quiet():
            results = lm_eval.simple_evaluate(
                model=lm,
                tasks=[task.task],
                task_manager=known_tasks(config.harness_path),
                num_fewshot=task.num_fewshot,
                limit=task.limit,
                fewshot_random_seed=config.harness_seed,
                bootstrap_iters=0,
                log_samples=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise unavailable(task.task, KEY, error) from error
    return dict(results)


def _scores(task: HarnessTask, results: dict[str, Any], compare: CompareConfig, folder: Path) -> Iterator[ExamScore]:
    """The scores of what one entry of the config names: of its tasks, or of the group that holds them."""
    lines = {name: _lines(name, results) for name in results["samples"]}
    for name in lines:
        _keep_samples(name, results, folder)
    of_group = results.get("groups", {}).get(task.task, {}).get("acc,none")
    pooled = [line for each in lines.values() for line in each]
    mean = sum(line.accuracy for line in pooled) / len(pooled)
    # lm-eval averages some groups over tasks, and others not at all: those are shown task by task.
    whole = len(lines) > 1 and of_group is not None and abs(mean - of_group) < 1e-9
    for name, members in ({task.task: pooled} if whole else lines).items():
        first = next(iter(lines)) if whole else name
        choices = results["configs"][first]["output_type"] == "multiple_choice"
        chance = sum(1 / len(line.log_p) for line in members) / len(members) if choices else 0.0
        label = name if task.limit is None else f"{name} (first {task.limit} items)"
        score = exam_score(name, label, members, chance=chance, compare=compare, folder=folder)
        yield score.model_copy(update={"suite": task.group, "few_shot": int(results["n-shot"][first])})


def _lines(name: str, results: dict[str, Any]) -> list[ScoredItem]:
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    if not samples or "acc" not in samples[0]:
        raise ConfigError(
            f"{KEY} {name}: it does not report accuracy per item",
            fix="use multiple-choice tasks only; other tasks cannot be compared yet",
        )
    tasks = list(results["samples"])
    choices = results["configs"][name]["output_type"] == "multiple_choice"
    # Fewer groups than an interval needs would leave none; their items are then units of their own.
    group = name if len(tasks) >= LEAST_UNITS else ""
    before = f"{name}/" if len(tasks) > 1 else ""
    return [_scored(name, sample, before, group, choices=choices) for sample in samples]


def _scored(name: str, sample: Mapping[str, Any], before: str, group: str, *, choices: bool) -> ScoredItem:
    item, target = before + str(sample["doc"].get("id", sample["doc_id"])), sample["target"]
    log_p = tuple(float(response[0]) for response in sample["filtered_resps"])
    return ScoredItem(
        id=item,
        accuracy=float(sample["acc"]),
        accuracy_norm=float(sample["acc_norm"]) if "acc_norm" in sample else None,
        log_p=log_p,
        right=target if choices and isinstance(target, int) and 0 <= target < len(log_p) else None,
        group=group,
        half=half_of(name, item),
    )


def _keep_samples(name: str, results: dict[str, Any], folder: Path) -> None:
    """Save lm-eval's samples without the prompts, which repeat the examples and have a hash in each sample."""
    samples = ({key: value for key, value in sample.items() if key != "arguments"} for sample in results["samples"][name])
    write_atomic(folder / f"samples/{name}.jsonl", "".join(json.dumps(sample, default=str) + "\n" for sample in samples))
