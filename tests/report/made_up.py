"""Made-up records of a study, with realistic proportions. No figure here was measured."""

import math
from dataclasses import replace
from typing import Any

from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import (
    Amount,
    Comparison,
    Conclusion,
    CorpusProfile,
    Delta,
    EvalRecord,
    ExamHit,
    ExamScore,
    HeldOutPoint,
    HeldOutScore,
    HeldOutSet,
    Histogram,
    Interval,
    Point,
    RepeatedIds,
    RunProgress,
    RunRecord,
    SelfTest,
    ShardEntry,
    ShardManifest,
    StageReport,
    StepMetrics,
    TaskScan,
    Term,
)
from cpt_ray.report.contents import PlannedCost, ReportContents
from tests.run_records import attempt, cost, training

PEAK_BASIS = "measured on each worker (H200) as the fastest 8192 x 8192 bfloat16 matrix product, summed over workers"
FLOPS_BASIS = "6 per parameter and token, and attention with the keys that a token attends"
ONE_SEED = "over documents; evaluation items only, not training randomness"
LABEL = "smoke check on 60 of MMLU's public few-shot questions; not an MMLU score"
BASE = "smollm2-135m-base"
VERDICT = (
    "57.6M tokens of legal text lower the domain's bits per byte by 9.8 %, general text loses 0.3 %, which is inside the "
    "tolerance; the curve still falls, so a larger budget is worth its price."
)


def interval(value: float, half: float, kind: str = ONE_SEED) -> Interval:
    return Interval(low=value - half, high=value + half, confidence=0.95, kind=kind)


def run_record(name: str, kind: str, arm: str | None, start: int, stop: int, **changes: Any) -> RunRecord:
    if kind == "base":
        return RunRecord(run=name, kind="base", model="smollm2-135m", export_path=f"/exports/{name}", annealed=True, **changes)
    seconds = (stop - start) / 181_234
    proof = SelfTest(
        kernel="sdpa", dtype="bf16", masked_difference=3.1e-3, unmasked_difference=0.42, allowed_difference=0.042,
        gradient_leak=0.0, gradient_control=1.7, passed=True,
    )  # fmt: skip
    trained = training(
        stop,
        progress=RunProgress(
            step=stop // 120_000, position=stop // 1950, tokens_seen=stop, slots_seen=round(stop * 1.04)
        ),
        start_tokens=start,
        attempts=(
            attempt(
                first_step=start // 120_000, world_size=2, self_test=proof, peak_flops_per_s=989e12, peak_basis=PEAK_BASIS,
                flops_basis=FLOPS_BASIS, projections="q_proj+k_proj+v_proj in 30 layers", loss_kernel="compiled chunks",
            ),
        ),
        cost=cost(
            flops=(stop - start) * 9.46e8, mean_tokens_per_s=181_234.0, mfu=0.382, wall_s=seconds, data_wait_s=seconds * 0.015,
            checkpoint_s=4.2, held_out_s=6.1, host_peak_bytes=3_410_000_000, device_peak_bytes=21_800_000_000,
        ),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "run": name, "kind": kind, "model": "smollm2-135m", "arm": arm, "seed": 0,
        "budget_tokens": stop if kind in ("cooldown", "independent") else None, "export_path": f"/exports/{name}",
        "annealed": kind in ("cooldown", "independent"), "training": trained,
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


def run_start(run: RunRecord) -> int:
    return run.training.start_tokens if run.training else 0


def exam_scan(task: str, *, late: bool) -> TaskScan:
    numbers = {"items": 40, "scanned": 38, "too_short_to_scan": 2, "items_found": 1}
    return TaskScan(task=task, **numbers, items_found_by_answer=0, documents_found=2, late=late)


def exam_hit(task: str, matched: str) -> ExamHit:
    return ExamHit(
        task=task,
        item="7",
        part="answer",
        source="law",
        identity="law/00000/9",
        document="law_9",
        words=14,
        ratio=0.7,
        matched=matched,
    )


def corpus_profile() -> CorpusProfile:
    """Made-up histograms of two sources, and terms."""
    from cpt_ray.data.run.profile import BYTE_EDGES, REPETITION_EDGES

    edges = {"bytes": BYTE_EDGES, "repetition": REPETITION_EDGES}
    histograms = []
    for source, peak in (("licences", 4.0), ("news", 6.0)):
        for measure, middle in (("bytes", peak), ("repetition", 0.0)):
            for when, share in (("read", 1.0), ("kept", 0.6)):
                places = range(len(edges[measure]) - 1)
                counts = tuple(round(9_000 * share * math.exp(-((place - middle) ** 2) / 4)) for place in places)
                histograms.append(
                    Histogram.model_validate(
                        {"source": source, "measure": measure, "when": when, "edges": edges[measure], "counts": counts}
                    )
                )
    terms = [("licensee", 5_120, 3, 41.2), ("this agreement", 4_410, 11, 38.0), ("the licensed work", 1_907, 0, 20.5)]
    return CorpusProfile(
        histograms=tuple(histograms),
        terms=tuple(Term(text=text, domain=a, background=b, z=z) for text, a, b, z in terms),
        domain_words=800_000,
        background_words=600_000,
    )


def metrics(start: int, stop: int, loss: float, *, cooldown: bool, per_step: int = 120_000) -> tuple[StepMetrics, ...]:
    steps = []
    for index, tokens in enumerate(range(start + per_step, stop + 1, per_step)):
        wobble = 0.05 * (((index * 7919) % 101) / 101 - 0.5)
        share = (tokens - start) / (stop - start)
        rate = 2e-4 * (1 - share**0.5) if cooldown else 2e-4 * min(1.0, tokens / 2e6)
        steps.append(
            StepMetrics(
                attempt=1, step=tokens // per_step, tokens_seen=tokens,
                loss=loss * (1 + tokens / 2e6) ** -0.06 + wobble - (0.08 * share if cooldown else 0), learning_rate=rate,
                gradient_norm=1.1, tokens_per_s=181_000.0, step_s=0.66, data_wait_s=0.01, mfu=0.38,
            )
        )  # fmt: skip
    return tuple(steps)


def watched(run: RunRecord) -> tuple[HeldOutPoint, ...]:
    """Held-out losses of a run during training: at ten marks, and at the base if the run starts there."""
    own = run.tokens_seen - run_start(run)
    marks = [run_start(run) + own * i // 10 for i in range(1 if run_start(run) else 0, 11)]
    points = []
    for tokens in marks:
        for source, role, base, slope in (("licences", "domain", 1.36, -0.018), ("news", "general", 1.11, 0.001)):
            gain = (slope if run.arm == "legal" else -0.005) * math.log1p(tokens / 1e5)
            points.append(
                HeldOutPoint(
                    attempt=1, step=tokens // 120_000, tokens_seen=tokens, source=source, role=role, part="validation",
                    documents=16, scored_tokens=30_000, scored_bytes=132_000, nats_per_token=(base + gain) * 3.05,
                    bits_per_byte=base + gain, seconds=0.6,
                )
            )  # fmt: skip
    return tuple(points)


def point(run: str, arm: str | None, tokens: int, set_name: str, value: float, *, annealed: bool = True) -> Point:
    return Point(
        run=run, model="smollm2-135m", arm=arm, seed=None if arm is None else 0, tokens_seen=tokens, set_name=set_name,
        role="domain" if set_name == "licences" else "general", bits_per_byte=value, interval=interval(value, 0.012),
        annealed=annealed,
    )  # fmt: skip


def delta(subject: str, reference: str, set_name: str, values: tuple[float, float], half: float, **changes: Any) -> Delta:
    exam = set_name == "mmlu_dev_smoke"
    difference = values[0] - values[1]
    clear = abs(difference) > half
    fields: dict[str, Any] = {
        "measure": "accuracy_points" if exam else "bits_per_byte", "set_name": set_name,
        "role": "exam" if exam else ("domain" if set_name == "licences" else "general"), "subject": subject,
        "reference": reference, "subject_value": values[0], "reference_value": values[1], "difference": difference,
        "interval": interval(difference, half), "p_value": 0.01, "adjusted_p_value": 0.02, "smallest_effect": 1.4 * half,
        "relative_percent": 100 * difference / values[1],
        "items": 60 if exam else 500, "better": (difference > 0 if exam else difference < 0) if clear else None,
    }  # fmt: skip
    return Delta(**{**fields, **changes})


def held_out(set_name: str, value: float, part: str = "test") -> HeldOutScore:
    return HeldOutScore(
        source=set_name, role="domain" if set_name == "licences" else "general", part=part, documents=500,
        scored_tokens=402_113, scored_bytes=1_803_442, nats=value * 1_803_442 * 0.6931, bits_per_byte=value,
        bits_per_byte_interval=interval(value, 0.012, "over documents"), perplexity=2.718**value * 4,
        perplexity_interval=interval(2.718**value * 4, 0.31, "over documents"), documents_path="d.jsonl",
    )  # fmt: skip


def evaluation(run: str, arm: str | None, tokens: int, licences: float, news: float, accuracy: float) -> EvalRecord:
    exam = ExamScore(
        task="mmlu_dev_smoke", label=LABEL, items=60, accuracy=accuracy, accuracy_stderr=0.058, accuracy_norm=accuracy + 0.017,
        accuracy_norm_stderr=0.059, chance=0.25, items_path="i.jsonl",
    )  # fmt: skip
    return EvalRecord(
        run=run, model="smollm2-135m", arm=arm, seed=None if arm is None else 0, budget_tokens=tokens or None,
        tokens_seen=tokens, held_out=(held_out("licences", licences), held_out("news", news)), exams=(exam,), task_pid=4242,
        wall_s=31.0,
    )  # fmt: skip


def shard(source: str, number: int, rows: int) -> ShardEntry:
    tokens, segments = rows * 2048 - 31_000, rows * 3
    return ShardEntry(
        path=f"{source}-{number:05d}.arrow", index_path="i", source=source, unit=f"{source}-{number:05d}", sha256="0" * 64,
        size_bytes=rows * 4096, rows=rows, documents=segments - 40, cut_documents=40, tokenizer_tokens=tokens - segments + 40,
        separator_tokens=segments - 40, tokens=tokens, segments=segments, padding=31_000, loss_tokens=tokens - segments,
    )  # fmt: skip


def stage(name: str, source: str, into: tuple[int, int], dropped: dict[str, tuple[int, int]], edited: int = 0) -> StageReport:
    lost = {reason: Amount(documents=d, bytes=b) for reason, (d, b) in dropped.items()}
    kept = Amount(
        documents=into[0] - sum(a.documents for a in lost.values()),
        bytes=into[1] - sum(a.bytes for a in lost.values()) - edited,
    )
    return StageReport(
        stage=name, source=source, input=Amount(documents=into[0], bytes=into[1]), kept=kept, dropped=lost, edited_bytes=edited
    )


def funnel() -> tuple[StageReport, ...]:
    reports = []
    for source, documents, size in (("licences", 118_402, 611_204_118), ("news", 402_117, 1_204_118_402)):
        drops: tuple[tuple[str, dict[str, tuple[int, int]], int], ...] = (
            ("read", {}, 0),
            (
                "clean",
                {"min_bytes": (3120, 412_000), "basic.max_repeated_line_share": (911, 7_120_402), "language": (204, 1_904_112)},
                48_211,
            ),
            ("exact", {"exact_duplicate": (20_114, 101_402_118)}, 0),
            ("near", {"near_duplicate": (14_220, 81_114_202)}, 0),
            ("split", {"held_out": (1602, 9_114_004), "contains_held_out": (118, 1_204_110)}, 0),
            ("decontaminate", {"mmlu_dev_smoke": (3, 18_204)}, 0),
        )
        for name, dropped, edited in drops:
            reports.append(stage(name, source, (documents, size), dropped, edited))
            documents, size = reports[-1].kept.documents, reports[-1].kept.bytes
    return tuple(reports)


BUDGETS = (6_000_000, 19_200_000, 57_600_000)


def _runs() -> tuple[RunRecord, ...]:
    trunk = "smollm2-135m-legal-trunk-seed0"
    branches = tuple(
        run_record(f"smollm2-135m-legal-{b}-seed0", "cooldown", "legal", round(b * 0.8), b, parent=trunk) for b in BUDGETS
    )
    return (
        run_record(BASE, "base", None, 0, 0),
        run_record(trunk, "trunk", "legal", 0, round(BUDGETS[-1] * 0.8)),
        *branches,
        run_record(f"smollm2-135m-control-{BUDGETS[-1]}-seed0", "independent", "control", 0, BUDGETS[-1]),
    )


def _comparison(runs: tuple[RunRecord, ...]) -> Comparison:
    values = {"licences": (1.347, 1.291, 1.244, 1.215), "news": (1.102, 1.103, 1.104, 1.1055)}
    trunk, branches, control = runs[1], runs[2:5], runs[5]
    points, deltas = [], []
    for name, (zero, *scores) in values.items():
        points.append(point(BASE, None, 0, name, zero))
        for run, value in zip(branches, scores, strict=True):
            points.append(point(run.run, "legal", run.tokens_seen, name, value))
            deltas.append(delta(run.run, BASE, name, (value, zero), 0.0042 if name == "licences" else 0.0024))
        hollow = 1.262 if name == "licences" else 1.1035
        points.append(point(trunk.run, "legal", 15_000_000, name, hollow, annealed=False))
        other = 1.341 if name == "licences" else 1.071
        points.append(point(control.run, "control", control.tokens_seen, name, other))
        deltas.append(delta(control.run, BASE, name, (other, zero), 0.0038))
        deltas.append(delta(branches[-1].run, control.run, name, (scores[-1], other), 0.0051))
    deltas.append(delta(branches[-1].run, BASE, "mmlu_dev_smoke", (31.7, 30.0), 9.1))
    conclusion = Conclusion(model=runs[0].model, arm="legal", headline="A headline.", verdict=VERDICT)
    return Comparison(
        points=tuple(points), deltas=tuple(deltas), conclusions=(conclusion,),
        notes=("One seed: intervals are over evaluation items only, not training randomness.",
               "The base is an instruct model with 4-bit weights, so its own text quality is part of what is measured."),
        tokens_seen=BUDGETS[-1], tokens_paid=120_240_000,
    )  # fmt: skip


def make_contents(**changes: Any) -> ReportContents:
    runs = _runs()
    step_metrics = {
        run.run: metrics(run_start(run), run.tokens_seen, 2.1 if run.arm == "control" else 1.9, cooldown=run.kind != "trunk")
        for run in runs[1:]
    }
    shards = tuple(shard(source, i, 4000) for source in ("licences", "news") for i in range(8))
    evals = [evaluation(BASE, None, 0, 1.347, 1.102, 0.3)]
    for run, licences, news in zip(runs[2:], (1.291, 1.244, 1.215, 1.341), (1.103, 1.104, 1.1055, 1.071), strict=True):
        evals.append(evaluation(run.run, run.arm, run.tokens_seen, licences, news, 0.317))
    contents = ReportContents(
        study="legal-135m", created="2026-02-03T12:00:00Z", config_yaml="study:\n  name: legal-135m\n", funnel=funnel(),
        manifest=ShardManifest(format_version=1, sequence_length=2048, vocabulary_size=49152, token_dtype="uint16",
            separator_id=0, tokenizer_sha256="ab" * 32, shards=shards, reports=(), task_pids={"read": (1, 2), "pack": (3, 4)}),
        held_out=tuple(
            HeldOutSet(source=s, role=r, part=p, path="p", documents=801, bytes=4_557_002)
            for s, r in (("licences", "domain"), ("news", "general")) for p in ("validation", "test")
        ),
        watched={run.run: watched(run) for run in runs[1:]},
        planned=PlannedCost(
            workers=2, on_gpu=True, peak_bytes={"smollm2-135m": 1_345_000_000}, basis="steps measured by --measure",
            seconds={"prepare": 400.0, "train": 1200.0},
            measured_seconds={"prepare": 412.3, "train": 1021.8, "evaluate": 201.4},
        ),
        runs=runs, metrics=step_metrics, comparison=_comparison(runs), evals=tuple(evals),
        arms={"legal": ArmConfig(role="domain", mix={"licences": 0.9, "news": 0.1}),
              "control": ArmConfig(role="control", mix={"news": 1.0})},
        stage_timings={"prepare": 412.3, "train": 1021.8, "evaluate": 201.4, "compare": 3.2},
        versions={"cpt-ray": "0.1.0", "torch": "2.13.0"},
        base_note="The base is SmolLM2-135M-Instruct, its 4-bit weights dequantized once.",
        profile=corpus_profile(),
        invisible={"licences": {"soft_hyphen": 1204}}, repeated_ids={"licences": RepeatedIds(ids=3, documents=31)},
        languages={"licences": {"en": 61_200, "fr": 802, "unknown": 12}, "news": {"en": 40_100}},
        redacted={"licences": {"email": 2_201, "phone": 95}},
        scans=tuple(exam_scan(name, late=name == "piqa") for name in ("bar", "piqa")),
        exam_hits=(exam_hit("piqa", "<b>the answer</b>"),),
        samples=({"reason": "min_bytes", "identity": "law/00000/1", "id": "short_1", "text": "All rights reserved."},),
    )  # fmt: skip
    return replace(contents, **changes)
