"""The `evaluate` and `compare` sections: how models are scored and how differences are judged."""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cpt_ray.config.values import Count, Name, PathText, Seconds, Section, check_path, check_task

LEAST_UNITS = 10
"""Fewer documents or items give no interval, and so no judgment: of nine there are only 511 subsets."""


class ExamConfig(Section):
    """Multiple-choice questions, scored as lm-eval scores them and searched for in the training text."""

    name: Name = Field(description="task name")
    path: PathText = Field(
        description="glob of JSON lines {question, choices, answer, optionally id and group}, or of lm-eval's own YAML files"
    )
    format: Literal["jsonl", "mmlu_flan_cot"] = Field(
        default="jsonl", description="mmlu_flan_cot: the few-shot questions inside lm-eval's MMLU task files"
    )
    limit: Count | None = Field(default=None, ge=1, description="maximum number of items, sampled by hash")
    label: str = Field(description="name of the score in every table and figure")
    style: Literal["cloze", "letter"] = Field(
        default="cloze",
        description="cloze: each choice continues the question; letter: the question lists the choices, and letters are scored",
    )
    few_shot: int = Field(default=0, ge=0, le=64, description="number of answered examples before each question")
    few_shot_path: PathText | None = Field(
        default=None,
        description="glob of the questions that examples are taken from, preferably of the question's group; "
        "default: a few questions of the exam, which are then not scored",
    )
    permutations: int = Field(
        default=0, ge=0, le=9, description="number of other orders of the choices under which each question is scored again"
    )

    @model_validator(mode="after")
    def _prompts(self) -> Self:
        if self.permutations and self.style == "cloze":
            raise ValueError(
                f"exam {self.name}: permutations={self.permutations} with style: cloze, whose prompt lists no choices: "
                "their order changes nothing. fix: set style: letter, or permutations: 0"
            )
        if self.few_shot_path is not None and not self.few_shot:
            raise ValueError(f"exam {self.name}: few_shot_path without effect, few_shot is 0. fix: set few_shot, such as 5")
        return self


PRESETS: dict[str, dict[Literal["domain", "general"], tuple[str, ...]]] = {
    # Faroz 2025 reports MMLU and HellaSwag; the others price what was lost. MMLU in both forms: letters say little at 125M.
    "education": {
        "domain": ("mmlu", "mmlu_continuation", "arc_easy", "arc_challenge"),
        "general": ("hellaswag", "piqa", "winogrande", "openbookqa", "boolq", "lambada_openai"),
    },
    # Malaquias Junior et al. 2025 use exams of their own in three domains (`evaluate.exams` with style: letter); these are the
    # subjects of MMLU nearest to them, and the suite that their reviewers asked for.
    "legal": {
        "domain": ("mmlu_professional_law", "mmlu_jurisprudence", "mmlu_international_law"),
        "general": ("hellaswag", "piqa", "winogrande", "arc_easy"),
    },
    "medical": {
        "domain": ("mmlu_professional_medicine", "mmlu_clinical_knowledge", "mmlu_college_medicine", "mmlu_anatomy"),
        "general": ("hellaswag", "piqa", "winogrande", "arc_easy"),
    },
    "accounting": {
        "domain": ("mmlu_professional_accounting", "mmlu_econometrics"),
        "general": ("hellaswag", "piqa", "winogrande", "arc_easy"),
    },
}
"""Tasks of the source studies, by name of the preset and what they measure."""


def _check_harness_task(value: str) -> str:
    return check_path(value) if value.endswith((".yaml", ".yml")) else check_task(value)


class HarnessTask(Section):
    """A task or group of lm-eval, and how it is run."""

    task: Annotated[str, AfterValidator(_check_harness_task)] = Field(
        description="name of a task or group of lm-eval, or path of a task's YAML file; an entry may be the name alone, or "
        "preset:education, preset:legal, preset:medical or preset:accounting for several tasks"
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, le=64, description="examples before each question; default: the task's own number"
    )
    limit: Count | None = Field(default=None, ge=1, description="only the first items of each task; not a score to report")
    group: Literal["domain", "general"] | None = Field(default=None, description="what it measures, for tables")

    @property
    def is_file(self) -> bool:
        """Whether `task` is the path of a task file."""
        return self.task.endswith((".yaml", ".yml"))


def expand_tasks(value: Any) -> Any:
    """Turn names into tasks, and presets into theirs.

    Raises:
        ValueError: If there is no such preset.
    """
    if not isinstance(value, (list, tuple)):
        return value
    tasks: list[Any] = []
    for one in value:
        if isinstance(one, str) and one.startswith("preset:"):
            name = one.removeprefix("preset:")
            if name not in PRESETS:
                near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0)[0]
                raise ValueError(f"no preset {name!r}, the nearest is {near!r}. fix: use one of {', '.join(PRESETS)}")
            tasks += [{"task": task, "group": group} for group, names in PRESETS[name].items() for task in names]
        else:
            tasks.append({"task": one} if isinstance(one, str) else one)
    return tasks


class EvaluateConfig(Section):
    """Scoring: bits per byte on held-out text, and exams."""

    held_out_documents: Count = Field(
        default=500,
        ge=2,
        description="maximum documents scored of the test half of each held-out set, and of the validation half of domain text",
    )
    document_tokens: Count = Field(default=8192, ge=2, description="maximum tokens scored per document")
    context: Count = Field(default=2048, ge=2, description="context length in tokens when scoring")
    batch_tokens: Literal["auto"] | Annotated[Count, Field(ge=2)] = Field(
        default="auto", description="maximum tokens per forward pass when scoring; auto: 1024 on a CPU, 16384 on a GPU"
    )
    exams: tuple[ExamConfig, ...] = Field(default=(), description="exams to score and to decontaminate against")
    harness_tasks: Annotated[tuple[HarnessTask, ...], BeforeValidator(expand_tasks)] = Field(
        default=(),
        description="lm-eval tasks to run unchanged; they need the package lm-eval",
    )
    harness_seed: int = Field(
        default=1234, ge=0, description="seed of lm-eval, few-shot examples included: its --seed; 1234: its own defaults"
    )
    harness_path: PathText | None = Field(
        default=None, description="folder with your own lm-eval task files, in addition to the bundled ones"
    )
    exam_context: Count = Field(default=1024, ge=8, description="maximum tokens of an exam question with its answer")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="compute precision when scoring")
    compile: Literal["auto", True, False] = Field(
        default="auto",
        description="compile whole decoder layers for held-out sets; auto: on GPUs, if there is so much text that it pays",
    )
    compile_limit: Seconds = Field(
        default=300, ge=1, description="seconds that compiling may take; beyond it, layers are not compiled"
    )

    @property
    def harness_names(self) -> tuple[str, ...]:
        """Names, or paths, of `harness_tasks`."""
        return tuple(one.task for one in self.harness_tasks)

    @model_validator(mode="after")
    def _tasks_differ(self) -> Self:
        repeated = sorted(name for name in set(self.harness_names) if self.harness_names.count(name) > 1)
        if repeated:
            raise ValueError(f"harness_tasks names {repeated[0]} twice. fix: keep one of them")
        return self


class CompareConfig(Section):
    """How differences are judged."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="confidence level of every interval")
    subsets: int = Field(default=4000, ge=100, description="number of random subsets of the items behind every interval")
    seed: int = Field(default=0, description="seed of the subsets")
    forgetting_tolerance: float = Field(
        default=0.02,
        ge=0,
        description="increase in bits per byte on general text that the verdict tolerates before it reports forgetting",
    )
    next_budget_factor: float = Field(
        default=2.0,
        gt=1,
        le=10,
        description="the budget that gain and forgetting are predicted for, in multiples of the largest",
    )
    most_fitted: int = Field(
        default=24,
        ge=1,
        description="models and arms, controls aside, whose curves are fitted; each takes about half a second per held-out set",
    )
