"""Custom lm-eval task files over local data."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def write_task(folder: Path, name: str, rows: list[dict[str, object]], **description: object) -> None:
    """A task over rows."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"test": str(folder / f"{name}.jsonl")}
    task = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": data, "cache_dir": str(folder / "cache")}}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({**task, "test_split": "test", "metadata": {"version": 1.0}, **description})
    )


def write_own_tasks(folder: Path) -> Path:
    """Two tasks with numbered choices, one with a free answer, one generated, one of text, a list, and a group with a mean."""
    folder.mkdir(exist_ok=True)
    choices = {"doc_to_text": "Q: {{q}}", "doc_to_choice": "{{options}}", "doc_to_target": "right"}
    mean = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    for name in ("own_choice", "own_other"):
        rows: list[dict[str, object]] = [
            {"id": f"{name}-{n}", "q": f"What is {n}?", "options": [f"no {n}", f"yes {n}"], "right": n * n % 3 % 2}
            for n in range(13)
        ]
        write_task(folder, name, rows, output_type="multiple_choice", metric_list=[mean], **choices)
    free = {"doc_to_text": "Say {{q}}", "doc_to_target": "{{a}}", "output_type": "loglikelihood"}
    write_task(folder, "own_free", [{"q": "it", "a": "it is said"}], metric_list=[mean], **free)
    # No acc, and text instead of log-probabilities: an exact match of what the model generates.
    match = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    written = {"doc_to_text": "Say {{q}}", "doc_to_target": "{{a}}", "output_type": "generate_until"}
    answers: list[dict[str, object]] = [{"q": f"it {n}", "a": "it is said"} for n in range(3)]
    limits = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 4}}
    write_task(folder, "own_written", answers, metric_list=match, **written, **limits)
    text = {"doc_to_text": "", "doc_to_target": "{{a}}", "output_type": "loglikelihood_rolling"}
    perplexity = [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}]
    write_task(folder, "own_text", answers, metric_list=perplexity, **text)
    (folder / "own_group.yaml").write_text(yaml.safe_dump({"group": "own_group", "task": ["own_choice", "own_free"]}))
    average = [{"metric": "acc", "weight_by_size": True}]
    group = {"group": "own_mean", "task": ["own_choice", "own_other"], "aggregate_metric_list": average}
    (folder / "own_mean.yaml").write_text(yaml.safe_dump(group))
    return folder
