"""Interface to lm-eval: harness tasks as they are, scored through a packed model.

In: a loaded model with document attention, and tasks. Out: per-item results as JSON lines, as for the study's own exams, whose
packed scoring (`packed.PackedScorer`) answers lm-eval's requests too; lm-eval's samples.
Guarantee: accuracies are those of lm-eval's command line with the same settings, to the last digit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import LEAST_UNITS, EvaluateConfig, HarnessTask
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.exam.scores import require_free, write_lines
from cpt_ray.evaluate.harness_tasks import LOADING_ERRORS, known_tasks, quiet, require_known, share_of, unavailable
from cpt_ray.evaluate.packed import Continuation, PackedScorer, pass_tokens
from cpt_ray.evaluate.per_item import ScoredItem
from cpt_ray.records import ScoredTask, half_of

KEY = "evaluate.harness_tasks"
_DEFAULT_SEED = 1234
"""lm-eval's own, of numpy, torch and the few-shot examples; of Python's generator it is 0."""
_SAME = 1e-9
"""Two means of the same items differ by rounding."""

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


class HarnessScores(NamedTuple):
    """What one entry of `evaluate.harness_tasks` gave."""

    tasks: tuple[ScoredTask, ...]
    """One of each task, one of a group that lm-eval averages over items."""
    files: tuple[str, ...]
    """Per-item results and samples, relative to the evaluation's folder."""


def packed_lm(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, prefix: int, config: EvaluateConfig) -> PackedLM:
    """The model for all harness tasks of a study.

    Args:
        model: A causal LM with document attention, in eval mode.
        tokenizer: Its tokenizer.
        prefix: Token id that precedes a continuation without context.
        config: The `evaluate` section.
    """
    with quiet():
        tokens = pass_tokens(config.batch_tokens, model.device)
        return PackedLM(model, tokenizer, prefix=prefix, max_length=config.exam_context, batch_tokens=tokens)


def score_harness_task(
    lm: PackedLM, task: HarnessTask, config: EvaluateConfig, *, folder: Path, taken: Collection[str] = ()
) -> HarnessScores:
    """Score one entry of `evaluate.harness_tasks`.

    Args:
        lm: The model.
        task: The entry.
        config: The `evaluate` section.
        folder: Evaluation folder; per-item results go to `exams/TASK.jsonl` in it, lm-eval's samples to `samples/TASK.jsonl`,
            those of a group to `samples/GROUP/TASK.jsonl`.
        taken: Names of exams and tasks that were scored before.

    Raises:
        ConfigError: If the task is unknown, or also in another entry, its data is unavailable, or it cannot be scored.
        DataError: If a score is not finite.
    """
    require_known(task.task, config.harness_path, KEY)
    results = _run(lm, task, config)
    parts = _parts(task, results)
    require_free([scored.task for scored, _ in parts], taken, task.task)
    files = [_keep_samples(name, task, results, folder) for name in results["samples"]]
    tasks = [scored.model_copy(update={"items_path": write_lines(scored.task, lines, folder)}) for scored, lines in parts]
    return HarnessScores(tuple(tasks), (*(one.items_path for one in tasks), *files))


def _run(lm: PackedLM, task: HarnessTask, config: EvaluateConfig) -> dict[str, Any]:
    # As lm-eval's command line: its own default seeds Python's generator otherwise than the rest, `--seed N` all alike.
    others = 0 if config.harness_seed == _DEFAULT_SEED else config.harness_seed
    # No bootstrap in lm-eval: intervals here are paired, and are computed from the per-item results.
    with quiet():
        results = lm_eval.simple_evaluate(
            model=lm,
            tasks=[task.task],
            task_manager=_Loader(task.task, config.harness_path),
            num_fewshot=task.num_fewshot,
            limit=task.limit,
            random_seed=others,
            numpy_random_seed=config.harness_seed,
            torch_random_seed=config.harness_seed,
            fewshot_random_seed=config.harness_seed,
            bootstrap_iters=0,
            log_samples=True,
        )
    return dict(results)


class _Loader:
    """lm-eval's index of tasks, which says what to do about a task that cannot be loaded; other errors stay as they are.

    Not loaded beforehand: some tasks shuffle as they load, and lm-eval seeds generators first.
    """

    def __init__(self, task: str, own: str | None) -> None:
        self._task, self._tasks = task, known_tasks(own)

    def load(self, tasks: Sequence[str]) -> Any:
        try:
            return self._tasks.load(list(tasks))
        except LOADING_ERRORS as error:
            raise unavailable(self._task, KEY, error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)


def _parts(task: HarnessTask, results: dict[str, Any]) -> list[tuple[ScoredTask, list[ScoredItem]]]:
    """What one entry of the config names, with the results on its items: its tasks, or the group that holds them."""
    metrics = {name: _metric(name, results) for name in results["samples"]}
    lines = {name: _lines(name, results, metrics[name]) for name in metrics}
    pooled = [line for each in lines.values() for line in each]
    # Fewer groups than an interval needs would leave none; items are then units of their own, as they are in a single task.
    if len(lines) >= LEAST_UNITS:
        pooled = [replace(line, group=name) for name, each in lines.items() for line in each]
    of_group = results.get("groups", {}).get(task.task, {})
    same = set(metrics.values())
    mean = of_group.get(f"{next(iter(same)).name},{next(iter(same)).filter}") if len(same) == 1 else None
    # lm-eval averages some groups over tasks, and others not at all: those are shown task by task.
    whole = len(lines) > 1 and mean is not None and abs(sum(line.accuracy for line in pooled) / len(pooled) - mean) < _SAME
    parts = []
    for name, members in ({task.task: pooled} if whole else lines).items():
        first = next(iter(lines)) if whole else name
        choices = results["configs"][first]["output_type"] == "multiple_choice"
        scored = ScoredTask(
            task=name,
            items_path="",
            metric=metrics[first].name,
            version=str(results["versions"].get(first, "")),
            few_shot=int(results["n-shot"][first]),
            chance=sum(1 / len(line.log_p) for line in members) / len(members) if choices else 0.0,
        )
        parts.append((scored, members))
    return parts


class _Metric(NamedTuple):
    name: str
    filter: str


def _metric(name: str, results: dict[str, Any]) -> _Metric:
    """What the items of a task are judged by: a share, after the first of its filters."""
    samples = results["samples"][name]
    if not samples:
        raise ConfigError(f"{KEY} {name}: it has no items", fix="check the task's data, and that its split is not empty")
    return _Metric(share_of(name, samples[0]["metrics"], KEY), samples[0]["filter"])


def _lines(name: str, results: dict[str, Any], metric: _Metric) -> list[ScoredItem]:
    """The results on a task's items, whose mean is what lm-eval reports.

    Raises:
        ConfigError: If it is not, or an item has no share.
    """
    samples = [sample for sample in results["samples"][name] if sample["filter"] == metric.filter]
    choices = results["configs"][name]["output_type"] == "multiple_choice"
    before = f"{name}/" if len(results["samples"]) > 1 else ""
    samples.sort(key=lambda sample: sample["doc_id"])
    lines = [_scored(name, sample, metric, before, choices=choices) for sample in samples]
    mean, theirs = sum(line.accuracy for line in lines) / len(lines), results["results"][name][f"{metric.name},{metric.filter}"]
    if abs(mean - theirs) > _SAME:
        raise ConfigError(
            f"{KEY} {name}: lm-eval reports {metric.name} {theirs:g}, which is not the mean of its items, {mean:g}",
            fix=f"leave {name} out of {KEY}: differences are computed item by item",
        )
    return lines


def _scored(name: str, sample: Mapping[str, Any], metric: _Metric, before: str, *, choices: bool) -> ScoredItem:
    item, target = before + str(sample["doc"].get("id", sample["doc_id"])), sample["target"]
    answers = sample["filtered_resps"]
    # What a model generated is text, and has no log-probability.
    log_p = tuple(float(answer[0]) for answer in answers) if all(isinstance(one, (tuple, list)) for one in answers) else ()
    value = float(sample[metric.name])
    if not 0 <= value <= 1:
        raise ConfigError(
            f"{KEY} {name}: {metric.name} of item {item!r} is {value:g}, and only shares from 0 to 1 can be compared",
            fix=f"leave {name} out of {KEY}",
        )
    return ScoredItem(
        id=item,
        accuracy=value,
        accuracy_norm=float(sample["acc_norm"]) if metric.name == "acc" and "acc_norm" in sample else None,
        log_p=log_p,
        right=target if choices and isinstance(target, int) and 0 <= target < len(log_p) else None,
        half=half_of(name, item),
    )


def _keep_samples(name: str, task: HarnessTask, results: dict[str, Any], folder: Path) -> str:
    """Save lm-eval's samples without the prompts, which repeat the examples and have a hash in each sample."""
    samples = ({key: value for key, value in sample.items() if key != "arguments"} for sample in results["samples"][name])
    path = f"samples/{name}.jsonl" if task.is_file or name == task.task else f"samples/{task.task}/{name}.jsonl"
    write_atomic(folder / path, "".join(json.dumps(sample, default=str) + "\n" for sample in samples))
    return path
