"""The `evaluate` and `compare` sections: how models are scored and how differences are judged."""

from typing import Literal

from pydantic import Field

from cpt_ray.config.values import Count, Name, PathText, Seconds, Section, TaskName

LEAST_UNITS = 10
"""Fewer documents or items give no interval, and so no judgment: of nine there are only 511 subsets."""


class ExamConfig(Section):
    """Multiple-choice questions, scored as lm-eval scores them and searched for in the training text."""

    name: Name = Field(description="task name")
    path: PathText = Field(description="glob of JSON lines {question, choices, answer}, or of lm-eval's own YAML files")
    format: Literal["jsonl", "mmlu_flan_cot"] = Field(
        default="jsonl", description="mmlu_flan_cot: the few-shot questions inside lm-eval's MMLU task files"
    )
    limit: Count | None = Field(default=None, ge=1, description="maximum number of items, sampled by hash")
    label: str = Field(description="name of the score in every table and figure")


class EvaluateConfig(Section):
    """Scoring: bits per byte on held-out text, and exams."""

    held_out_documents: Count = Field(
        default=500, ge=2, description="maximum documents scored per held-out set and half (validation, test)"
    )
    document_tokens: Count = Field(default=8192, ge=2, description="maximum tokens scored per document")
    context: Count = Field(default=2048, ge=2, description="context length in tokens when scoring")
    batch_tokens: Count = Field(default=4096, ge=2, description="tokens per forward pass when scoring")
    exams: tuple[ExamConfig, ...] = Field(default=(), description="exams to score and to decontaminate against")
    harness_tasks: tuple[TaskName, ...] = Field(
        default=(), description="lm-eval tasks to run unchanged, by name; they need the package lm-eval"
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
