"""Run every box of the answer's acceptance list, and print PASS or FAIL with the evidence.

Run by `make accept-answer`, or for selected boxes: `python -m benchmarks.acceptance.answer 2 5`. It reads the committed
simulations and the finished studies of `make demo` and `make scaling`, whose reports it renders anew into a scratch folder;
nothing under their roots is written. Boxes 4 and 5 write the pictures in docs/images. About 25 minutes on two cores.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.acceptance.evidence import REPOSITORY, check, check_results, run_boxes, run_tests
from benchmarks.acceptance.views.browser import FIRST_FIGURES, HEIGHTS, LAPTOP, WIDTHS, Seen, View, look
from cpt_ray.cli.console import TerminalConsole
from cpt_ray.compare.deltas import Scored, documents_of
from cpt_ray.config.load import load_study
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings, evaluate_model
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import Comparison, ExamItem, RunRecord
from cpt_ray.report.page import write_report
from cpt_ray.study import store
from cpt_ray.study.findings.outcome import gather
from cpt_ray.study.stages.exams import EXAMS
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.study import StudyDriver

IMAGES = REPOSITORY / "docs" / "images"
STUDIES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "demo": ("configs/demo.yaml", (), "make demo"),
    "ladder": ("configs/ladder_local.yaml", (), "make scaling"),
    "scaling": ("configs/legal_scaling_local.yaml", (), "make scaling"),
}
"""Study file, overrides, and what makes it."""
BOUNDS = {
    "stats.false_positive_max": (0.0, 0.06),
    "stats.false_positive_min": (0.04, 1.0),
    "stats.seed_false_positive_max": (0.0, 0.06),
    "stats.coverage_min": (0.93, 1.0),
    "stats.coverage_max": (0.0, 0.98),
    "stats.fit_coverage_min": (0.90, 1.0),
    "stats.forecast_coverage_min": (0.93, 1.0),
    "stats.forecast_false_max": (0.0, 0.06),
    "stats.forecast_surer_max": (0.0, 0.0),
}
FIT_COVERAGE = (0.90, 0.98)
FIGURES = {"loss": "A, figure 1", "efficiency": "A, figure 2", "scaling": "A, curves", "forgetting": "A, trade-off"}
FIGURES |= {"compute": "B, loss over compute", "ratio": "B, efficiency over size"}
"""The figures of both source studies, by their ids on the page."""
PAGE_CLAIMS = ("report.page_1000_cells_s", "report.page_1000_cells_mb", "report.page_1000_cells_load_s")
PAGE_CLAIMS += ("mlflow.mirror_s", "mlflow.mirror_growth", "mlflow.mirror_again_s")
WITH_INTERVALS = ("efficiency", "scaling", "forgetting", "compute", "ratio")
EXACT = 1e-5
PICTURES = {
    "report": ("scaling", View(width=1280, height=1330)),
    "report_dark": ("scaling", View(width=1280, height=1330, dark=True)),
    "report_narrow": ("scaling", View(width=390, height=1330)),
    "report_wide": ("scaling", View(width=1920)),
    "report_print": ("scaling", View.paper(height=1020)),
    "report_demo": ("demo", View(width=1280, height=1100)),
}
"""Pictures in docs/images: the study, and how it is looked at."""
DOCUMENTS = 16
"""Of each held-out set, scored both ways."""
_EXAM_ITEMS = 12


@functools.cache
def _study(name: str) -> StudyDriver:
    path, overrides, _ = STUDIES[name]
    os.chdir(REPOSITORY)  # relative paths of a study file start there
    return StudyDriver(load_study(Path(path), overrides), Path(path), TerminalConsole(quiet=True))


@functools.cache
def _comparison(name: str) -> Comparison:
    """A study's conclusions by today's code, from its records."""
    return _study(name).comparison()


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def _page(name: str) -> Path:
    """The study's report by today's code."""
    path = Path(_scratch().name) / name / "report.html"
    path.parent.mkdir(exist_ok=True)
    write_report(path, gather(_study(name), _comparison(name)))
    return path


def box_1() -> list[str]:
    """The simulations of section 3 are within their bounds, and committed."""
    evidence = check_results("stats", BOUNDS, made_by="make bench-stats")
    claims = {one["id"]: one for one in json.loads((REPOSITORY / "benchmarks" / "results" / "stats.json").read_text())}
    for claim, (low, high) in BOUNDS.items():
        value = claims[claim]["value"]
        check(low <= value <= high, f"{claim} is {value}, not {low} to {high}")
        evidence.append(f"{claim}: {value} (in {low:g} to {high:g}); {claims[claim]['compared_with'] or 'no old method'}")
    cells = claims["stats.false_positive_max"]["raw"]
    lengths, seeds = {"equal", "log-normal", "Pareto"}, {(n, noise) for n in (2, 3, 5, 8) for noise in (0.0, 0.02)}
    null = [cell for cell in cells if not cell["effect"]]
    documents = {(cell["documents"], cell["lengths"]) for cell in null if cell["seeds"] == 1}
    check(documents >= {(n, kind) for n in (10, 20, 50, 200) for kind in lengths}, "not all numbers and lengths of documents")
    check({(cell["seeds"], cell["seed_noise"]) for cell in null} >= seeds, "not all numbers of seeds and their noise")
    check(all(cell["bootstrap"] is not None for cell in cells), "a cell lacks the old method")
    for kind in ("false_positive", "seed_false_positive"):
        check("10,000" in claims[f"stats.{kind}_max"]["claim"], f"stats.{kind}_max is not of 10,000 studies a cell")
    evidence += [f"fits, {line}" for line in _fit_coverage(claims["stats.fit_coverage_min"]["raw"])]
    return [*evidence, *run_tests("answer", 1)]


def _fit_coverage(raw: list[dict[str, Any]]) -> list[str]:
    lines = []
    for one in raw:
        said = f"{one['kind']}, {one['asked']}: covered in {one['covered']:.3f} of {one['studies']}"
        low, high = FIT_COVERAGE
        check(one["covered"] >= low, f"{said}, less than {low}")
        if one["kind"] == "ratio":
            # Not a parameter of a fit: an interval that is wider than it need be is said, not failed.
            lines.append(said + (f": above {high}, conservative" if one["covered"] > high else ""))
            continue
        check(one["covered"] <= high, f"{said}, more than {high}")
        check(one["kind"] not in ("tokens", "power") or one["studies"] >= 500, f"{said}: fewer than 500 designs")
        lines.append(said)
    return lines


def box_2() -> list[str]:
    """Made-up studies get the sentence that fits them; the demo never calls forgetting what is no worse than the base."""
    found = _comparison("demo")
    against_base = {delta.set_name: delta for delta in found.deltas if delta.reference.endswith("-base")}
    for text in (found.headline, found.verdict):
        for name in re.findall(r"forgetting [\d.]+ on (\S+?)[;.,]", text):
            check(against_base[name].better is False, f"forgetting is said of {name}, which is not worse than the base: {text}")
    for name, delta in against_base.items():
        if delta.difference <= 0 and delta.role in ("probe", "general"):
            said = re.search(rf"\({re.escape(name)}\)[^;]*: forgetting", found.verdict)
            check(said is None, f"{name} improved by {-delta.difference:.4f}, and yet: {said and said.group()}")
    check(len(found.headline.split()) <= 25, f"{len(found.headline.split())} words: {found.headline}")
    check(found.headline in look(_page("demo"), [View(width=1280)])[0].verdict, "the page opens with another sentence")
    kept = [delta for delta in found.deltas if delta.role in ("probe", "general") and delta.reference.endswith("-base")]
    changes = [f"{delta.subject} on {delta.set_name}: {delta.difference:+.4f} against the base" for delta in kept]
    return [found.headline, *changes, *run_tests("answer", 2)]


def box_3() -> list[str]:
    """Exports of the demo: bits per byte of plain transformers, one document at a time, and lm-eval's own command line."""
    study = _study("demo")
    largest = max((run for run in study.runs() if run.budget_tokens), key=lambda run: (run.arm != "control", run.budget_tokens))
    base = next(run for run in study.runs() if run.kind == "base")
    evidence = []
    for run in (base, largest):
        evidence += _bits_per_byte(study, run)
    evidence += check_results("evaluate", ("evaluate.scoring_share",), made_by="make bench-evaluate", met=True)
    return [*evidence, *_command_line(study, largest), *run_tests("answer", 3)]


def _score(study: StudyDriver, run: RunRecord, folder: Path, **settings: Any) -> Any:
    """Score an export with the package, in fp32: bf16 rounds differently in batches of another shape."""
    graph, model = study.graph.cells[0], study.config.models[0]
    tokenizer = graph.one(MODELS, model.name).folder
    config = study.config.evaluate.model_copy(update={"precision": "fp32", "exams": (), "harness_tasks": (), **settings})
    prefix = text_tokens(model, tokenizer).prefix
    job = EvaluateJob(run=run, tokenizer=tokenizer, prefix=prefix, folder=folder)
    held_out = store.made(graph.one(HELD_OUT))
    return evaluate_model(
        job, EvaluateSettings(held_out=held_out, exam_items=None, config=config, compare=study.config.compare)
    )


def _bits_per_byte(study: StudyDriver, run: RunRecord) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        scores = _score(study, run, Path(folder), held_out_documents=DOCUMENTS)
    ours = {score.source: score.bits_per_byte for score in scores.held_out if score.part == "test"}
    place = next(one for one in study.grid.scored() if one.name == run.run)
    recorded = Scored(store.load(place.node), place.node.folder)
    lines = []
    for source, theirs in _plain_bits_per_byte(study, run).items():
        apart = abs(ours[source] - theirs) / theirs
        check(apart <= EXACT, f"{run.run} on {source}: {ours[source]:.8f} here, {theirs:.8f} by plain transformers")
        documents = documents_of(recorded, source).rows[:DOCUMENTS]
        reported = sum(one.nats for one in documents) / math.log(2) / sum(one.bytes for one in documents)
        said = f"in the study's {study.config.evaluate.precision}: {reported:.6f}"
        lines.append(f"{run.run} on {source}: {theirs:.6f} by plain transformers, {apart:.1e} apart; {said}")
    return lines


def _plain_bits_per_byte(study: StudyDriver, run: RunRecord) -> dict[str, float]:
    """Sum of -log2 p over the tokens of each document, alone in the batch after one prefix token, over their bytes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    graph, config = study.graph.cells[0], study.config.evaluate
    held_out, folder = store.made(graph.one(HELD_OUT)), graph.one(MODELS, run.model).folder
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(run.export_path, dtype=torch.float32).eval()
    prefix = tokenizer.convert_tokens_to_ids(text_tokens(study.config.models[0], folder).prefix)
    found = {}
    for held in (held for held in held_out.record.sets if held.part == "test"):
        nats, num_bytes = 0.0, 0
        with (held_out.folder / held.path).open(encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines][:DOCUMENTS]
        for text in texts:
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            if len(ids) > config.document_tokens:
                ids = ids[: config.document_tokens]
                text = text[: offsets[len(ids) - 1][1]]
            check(len(ids) <= config.context, "the demo's documents fit one window")
            given = torch.tensor([[prefix, *ids[:-1]]])
            with torch.no_grad():
                log_p = model(input_ids=given).logits[0].float().log_softmax(-1)
            nats -= float(log_p[torch.arange(len(ids)), torch.tensor(ids)].double().sum())
            num_bytes += len(text.encode())
        found[held.source] = nats / math.log(2) / num_bytes
    return found


def _command_line(study: StudyDriver, run: RunRecord) -> list[str]:
    """A task of the demo's own exam questions, local, scored by both."""
    items = store.require(study.graph.cells[0].one(EXAMS)) / ExamItem.FILE
    questions = [ExamItem.from_json(line) for line in items.read_text(encoding="utf-8").splitlines()[:_EXAM_ITEMS]]
    with tempfile.TemporaryDirectory() as scratch:
        tasks, theirs = Path(scratch) / "tasks", Path(scratch) / "theirs"
        tasks.mkdir()
        rows = [{"q": one.question, "options": list(one.choices), "right": one.right_choice} for one in questions]
        (tasks / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {
            "task": "demo_exam", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice",
            "dataset_kwargs": {"data_files": {"test": str(tasks / "exam.jsonl")}, "cache_dir": str(tasks / "cache")},
            "doc_to_text": "{{q}}", "doc_to_choice": "{{options}}", "doc_to_target": "right",
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
        }  # fmt: skip
        (tasks / "demo_exam.yaml").write_text(json.dumps(task), encoding="utf-8")
        config = type(study.config.evaluate).model_validate(
            {"precision": "fp32", "harness_path": str(tasks), "harness_tasks": ["demo_exam"], "held_out_documents": 2}
        )
        used = {name: getattr(config, name) for name in ("harness_path", "harness_tasks", "held_out_documents")}
        (ours,) = _score(study, run, Path(scratch) / "ours", **used).exams
        arguments = ["run", "--model", "hf", "--model_args", f"pretrained={run.export_path},dtype=float32"]
        arguments += ["--tasks", "demo_exam", "--include_path", str(tasks), "--device", "cpu", "--batch_size", "1"]
        offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        command = [sys.executable, "-m", "lm_eval", *arguments, "--output_path", str(theirs)]
        ran = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
        check(ran.returncode == 0, f"lm-eval: {ran.stderr[-1500:]}")
        (file,) = theirs.rglob("results_*.json")
        found = json.loads(file.read_text())["results"]["demo_exam"]
    lines = []
    for name, value in (("acc", ours.accuracy), ("acc_norm", ours.accuracy_norm)):
        check(value == found[f"{name},none"], f"{name}: {value!r} here, {found[f'{name},none']!r} by lm-eval's command line")
        lines.append(f"lm_eval run on {run.run}, {len(questions)} questions: {name} {found[f'{name},none']!r}, the same here")
    return lines


def box_4() -> list[str]:
    """The report of `make scaling` has the figures of both source studies, with intervals; pictures of it are written."""
    (ladder,) = look(_page("ladder"), [View(width=1280)])
    whole = View(width=1280, unfold=False, shot=IMAGES / "report_whole.png", whole=True)
    scaling, _ = look(_page("scaling"), [View(width=1280), whole])
    evidence = []
    for name, source in FIGURES.items():
        check(f"figure-{name}" in scaling.figures, f"the page has no figure-{name} ({source})")
        bars = scaling.bars.get(f"figure-{name}", 0)
        check(bars > 0 or name not in WITH_INTERVALS, f"figure-{name} ({source}) shows no interval")
        evidence.append(f"figure-{name} ({source}): {bars} intervals drawn")
    for name in ("scaling", "loss"):
        check(f"figure-{name}" in ladder.figures, f"the page of the bases has no figure-{name}")
    check(ladder.bars.get("figure-scaling", 0) > 0, "the curves of the bases show no interval")
    for seen in (scaling, ladder):
        check(not seen.outside, f"texts of figures are cut: {seen.outside}")
    return [*evidence, f"bases: {', '.join(ladder.figures)}", f"{IMAGES.relative_to(REPOSITORY)}/report_whole.png"]


def box_5() -> list[str]:
    """Pages at three widths and on paper: nothing cut off, nothing requested, and the first screen answers the questions."""
    evidence = []
    for name in STUDIES:
        views = [View(width=width) for width in WIDTHS] + [View.paper(), View(width=1280, dark=True)]
        for view, seen in zip(views, look(_page(name), views), strict=True):
            evidence.append(_judge(name, view, seen))
        for width in WIDTHS:
            (first,) = look(_page(name), [View(width=width, unfold=False)])
            evidence.append(_judge_first_screen(name, width, first))
    for picture, (name, view) in PICTURES.items():
        look(_page(name), [replace(view, unfold=False, shot=IMAGES / f"{picture}.png")])
    evidence += [*(f"docs/images/{picture}.png" for picture in PICTURES), *run_tests("answer", 5)]
    # Last: a page that is slow is looked at all the same.
    return [*evidence, *check_results("grid", PAGE_CLAIMS, made_by="make bench-grid", met=True)]


def _judge(name: str, view: View, seen: Seen) -> str:
    where = f"{name}, {view.width} px{', paper' * view.printed}{', dark' * view.dark}"
    check(seen.overflow == 0, f"{where}: {seen.overflow} px wider than the window")
    check(not seen.cut, f"{where}: tables cut off: {seen.cut}")
    check(not seen.requests, f"{where}: requests {seen.requests}")
    check(not seen.unnamed, f"{where}: {seen.unnamed} figures without words")
    check(not seen.overlaps, f"{where}: texts of figures lie on each other: {seen.overlaps}")
    check(not seen.outside, f"{where}: texts of figures are cut: {seen.outside}")
    light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (seen.ink, seen.paper)]
    check((light[0] > light[1]) == view.dark, f"{where}: text {seen.ink} on {seen.paper}")
    return f"{where}: {seen.tables} tables and {len(seen.plots)} panels in sight, none cut; no request; text {seen.ink}"


def _judge_first_screen(name: str, width: int, seen: Seen) -> str:
    where = f"{name}, first screen of {width} x {HEIGHTS[width]} px"
    check(len(seen.verdict.split()) <= 25, f"{where}: {len(seen.verdict.split())} words: {seen.verdict}")
    for what, words in (("gain", r"gain|loss|better|no domain"), ("forgetting", "forg"), ("next step", "more t|reduce")):
        check(re.search(words, seen.verdict) is not None, f"{where} does not say the {what}: {seen.verdict}")
    check(seen.results_top is not None and seen.results_top < seen.window_height, f"{where} has no table of results")
    # On a phone the second figure stands below the table; without a domain there is no gain to hold against a loss.
    has_domain = any(arm.role == "domain" for arm in _study(name).config.arms.values())
    wanted = FIRST_FIGURES if width >= LAPTOP and has_domain else FIRST_FIGURES[:1]
    for figure in wanted:
        check(figure in seen.drawn, f"{where}: the page has no {figure}")
        check(seen.drawn[figure][0] < seen.window_height, f"{where}: {figure} begins at {seen.drawn[figure][0]} px, below it")
    check(seen.drawn[wanted[0]][1] <= seen.window_height, f"{where}: {wanted[0]} ends at {seen.drawn[wanted[0]][1]} px")
    places = "; ".join(f"{figure} {seen.drawn[figure][0]} to {seen.drawn[figure][1]} px" for figure in wanted)
    words = f"{len(seen.verdict.split())} words end at {seen.verdict_bottom} px, the table begins at {seen.results_top} px"
    return f"{where}: {words}; {places}"


BOXES = [box_1, box_2, box_3, box_4, box_5]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
