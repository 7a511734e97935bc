"""A tiny study whose plan can be computed by hand: two sources, two arms, rows of 100 tokens."""

from typing import Any

from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.plan.budget import plan_study
from cpt_ray.plan.memory import Work
from cpt_ray.plan.worker import Place
from cpt_ray.records import ModelShape, StudyPlan
from cpt_ray.train.runs.specs import plan_runs

SHAPE = ModelShape(
    parameters=1100,
    body_parameters=1000,
    hidden_size=10,
    num_layers=2,
    num_heads=5,
    head_dim=2,
    vocabulary_size=10,
    tied=True,
)

WORK = Work(Place(on_gpu=False, process="bare"), row_tokens=100)
"""A worker on a CPU of unknown memory."""

SCHEDULE = {"segments": [{"from": 500, "mix": {"news": 1.0}}], "cooldown_mix": {"law": 1.0}}


def make_study(
    budgets: tuple[int, ...] | None = (1000, 4000),
    mode: str = "branch",
    max_epochs: float = 1.0,
    arm: dict[str, Any] | None = None,
    **train: Any,
) -> StudyConfig:
    tree: dict[str, Any] = {
        "study": {"name": "tiny", "root": "runs/tiny"},
        "models": [{"name": "m", "base": "nowhere"}],
        "sources": [
            {"name": "law", "role": "domain", "path": "law.jsonl", "format": "jsonl"},
            {"name": "news", "role": "general", "path": "news.jsonl", "format": "jsonl"},
        ],
        "prepare": {"pack": {"sequence_length": 100}},
        "arms": {
            "legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": max_epochs, **(arm or {})},
            "control": {"role": "control", "mix": {"news": 1.0}},
        },
        "train": {
            "budgets": budgets and list(budgets),
            "budget_mode": mode,
            "learning_rate": 1e-4,
            "schedule": {"cooldown_share": 0.25},
            "global_batch_size": 2,
            "deepspeed": "ds.json",
            **train,
        },
    }
    return parse_study(tree, place="test")


def make_plan(config: StudyConfig, available: dict[str, int] | None = None, rows: dict[str, int] | None = None) -> StudyPlan:
    return plan_study(config, {"m": SHAPE}, plan_runs(config), available, rows=rows)
