"""One task beside plain lm-eval: `cpt-ray evaluate` of a base and a trained export, and `lm_eval run` on each of the two.

The task is a multiple-choice task file over local JSON lines, made of the few-shot questions in lm-eval's own MMLU task files;
it is not an MMLU score. Both sides compute in fp32, with the same threads, in slices of seconds (`benchmarks/data/watch.py`).
Ours scores two held-out documents of 16 tokens besides, because it always scores some, and works out intervals.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

from benchmarks.data.watch import watch_together
from benchmarks.measure.claims import DIFFERENCE, Claim
from benchmarks.measure.turns import REPOSITORY
from benchmarks.peers.bench import DEEPSPEED, STUDY, Bench, Beside, seconds_claim
from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.evaluate.exam.items import read_exam
from cpt_ray.records import EvalRecord

TASK = "peers_quiz"
_QUESTIONS = "package://lm-eval/lm_eval/tasks/mmlu/flan_cot_fewshot/mmlu_*.yaml"
_CONTEXT = 512


def write_task(folder: Path, count: int) -> Path:
    """A task file for lm-eval with its items beside it."""
    exam = ExamConfig(name=TASK, label=TASK, path=_QUESTIONS, format="mmlu_flan_cot", limit=count)
    lines = [{"question": one.question, "choices": list(one.choices), "answer": one.answer} for one in read_exam(exam).items]
    items = folder / f"{TASK}.jsonl"
    items.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }  # fmt: skip
    (folder / f"{TASK}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder


def lm_eval(bench: Bench) -> list[Claim]:
    """Score both models by both."""
    tasks = write_task(bench.empty("tasks"), bench.num_items)
    root, out = bench.root / "scored", bench.empty("lm-eval")
    overrides = bench.study_overrides(
        root,
        "train.budgets=[2k]",
        "train.global_batch_size=1",
        "train.micro_batch_size=1",
        f"train.deepspeed={REPOSITORY / DEEPSPEED}",
        f"evaluate.harness_path={tasks}",
        f"evaluate.harness_tasks=[{TASK}]",
        f"evaluate.exam_context={_CONTEXT}",
        "evaluate.precision=fp32",
        "evaluate.held_out_documents=2",
        "evaluate.document_tokens=16",
    )
    command = [sys.executable, "-m", "cpt_ray.cli.main"]
    for verb in ("prepare", "train"):
        subprocess.run([*command, verb, str(STUDY), *overrides], check=True, env=bench.environment, cwd=REPOSITORY)
    shutil.rmtree(root / "evaluate", ignore_errors=True)
    models = {
        "base": _one(root.glob("models/*/config.json")).parent,
        "trained": _one(root.glob("train/*/export/config.json")).parent,
    }
    plain = [_plain(folder, tasks, out / name) for name, folder in models.items()]
    sides = {
        "ours": [*command, "evaluate", str(STUDY), *overrides],
        "lm-eval": ["bash", "-c", " && ".join(map(shlex.join, plain))],
    }
    used = watch_together(sides, environment=bench.environment)
    found = {name: (_our_figures(root, name == "base"), _their_figures(out / name)) for name in models}
    print(found, {name: one.raw() for name, one in used.items()})
    return _claims(
        bench, found, ours_s=used["ours"].wall_s, theirs_s=used["lm-eval"].wall_s, raw={k: v.raw() for k, v in used.items()}
    )


def _claims(
    bench: Bench,
    found: dict[str, tuple[dict[str, float], dict[str, float]]],
    *,
    ours_s: float,
    theirs_s: float,
    raw: dict[str, dict[str, float]],
) -> list[Claim]:
    peer = f"lm-eval {version('lm-eval')}"
    options = f"lm_eval run --model hf, dtype=float32, max_length={_CONTEXT}, --batch_size 8, once for each model"
    work = f"one task of {bench.num_items} questions, two models of 135M, fp32"
    apart = [abs(ours[name] - theirs[name]) for ours, theirs in found.values() for name in ours]
    mean = [sum(side["acc"] for side in sides) / len(sides) for sides in zip(*found.values(), strict=True)]
    accuracy = Beside(peer=peer, what=f"accuracy, {work}", ours=mean[0], theirs=mean[1], unit="share", more={"figures": found})
    seconds = Beside(
        peer=peer, what=f"scoring {work}", ours=ours_s, theirs=theirs_s, unit="s", more={"options": options, "used": raw}
    )
    return [
        Claim(
            id="peers.lm_eval_difference",
            possible=DIFFERENCE,
            claim=f"largest difference of accuracies, plain and length-normalized: {work}",
            value=max(apart),
            unit="share of items",
            target="== 0.0",
            compared_with=f"{peer}: {options}",
            raw=accuracy.raw(),
        ),
        seconds_claim("lm_eval", seconds, compared_with=f"{peer}: {options}"),
    ]


def _one(paths: object) -> Path:
    (found,) = paths  # type: ignore[misc]
    return Path(found)


def _plain(model: Path, tasks: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", TASK, "--include_path", str(tasks)),
        *("--model_args", f"pretrained={model},dtype=float32,max_length={_CONTEXT}", "--device", "cpu"),
        *("--batch_size", "8", "--output_path", str(out)),
    ]


def _our_figures(root: Path, is_base: bool) -> dict[str, float]:
    records = [EvalRecord.load(path) for path in root.glob(f"evaluate/*/{EvalRecord.FILE}")]
    (record,) = (one for one in records if (one.arm is None) == is_base)
    (score,) = record.exams
    if score.accuracy_norm is None:
        raise RuntimeError(f"{TASK} has no length-normalized accuracy")
    return {"acc": score.accuracy, "acc_norm": score.accuracy_norm}


def _their_figures(out: Path) -> dict[str, float]:
    results = json.loads(_one(out.rglob("results_*.json")).read_text(encoding="utf-8"))["results"][TASK]
    return {name: float(results[f"{name},none"]) for name in ("acc", "acc_norm")}
