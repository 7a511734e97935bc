"""The parts of the peers' benchmark really run, with a tiny model and a few steps; their figures are not judged."""

from __future__ import annotations

import json

import pytest

from benchmarks.peers import material
from benchmarks.peers.bench import Bench
from benchmarks.peers.resume import resume
from benchmarks.peers.scoring import TASK, lm_eval, write_task
from benchmarks.peers.training import ray_template, run_clm
from benchmarks.train.runs import Shape

pytestmark = pytest.mark.accept(practical=4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(quick=True, steps=3, root=tmp_path_factory.mktemp("peers"))
    made.shape = Shape(length=64, rows=2, micro_rows=2, warmup=2, steps=3)
    made.num_items = 12
    made.base = material.tiny_base(made.empty("base"), material.license_texts(100_000))
    return made


def test_every_layout_holds_the_same_text(tmp_path):
    found = material.write_texts(tmp_path, 60_000)
    texts = [path.read_text(encoding="utf-8") for path in sorted(found.documents.glob("*.txt"))]
    records = [json.loads(line)["text"] for line in found.records.read_text(encoding="utf-8").splitlines()]
    halves = [path.read_text(encoding="utf-8").split(material.SEPARATOR) for path in sorted(found.litgpt.glob("*.txt"))]
    assert texts == records == [text for half in halves for text in half]
    assert found.joined.read_text(encoding="utf-8") == "\n".join(texts)
    assert (found.count, found.text_bytes) == (len(texts), sum(len(text.encode()) for text in texts))
    assert 60_000 <= found.text_bytes < 120_000
    assert not any(text.startswith("---") for text in texts)


def test_the_task_is_questions_with_their_answers(tmp_path):
    write_task(tmp_path, 5)
    items = [json.loads(line) for line in (tmp_path / f"{TASK}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(items) == 5
    assert all(len(item["choices"]) == 4 and 0 <= item["answer"] < 4 for item in items)


def figures(claims):
    return {claim.id: (claim.value, claim.raw) for claim in claims}


@pytest.mark.slow
@pytest.mark.full
def test_the_path_of_run_clm_beside_ours(bench):
    found = figures(run_clm(bench))
    assert set(found) == {f"peers.run_clm_{name}_ratio" for name in ("speed", "first_step", "whole")}
    assert all(value > 0 and raw["theirs"] > 0 for value, raw in found.values())
    steps = found["peers.run_clm_speed_ratio"][1]["steps"]
    assert steps["theirs"]["tokens"] == [2 * 63] * 2
    assert all(100 < tokens <= 126 for tokens in steps["ours"]["tokens"])
    assert found["peers.run_clm_first_step_ratio"][1]["ours"] < found["peers.run_clm_whole_ratio"][1]["ours"]


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.ray
def test_rays_guide_beside_ours(bench):
    found = figures(ray_template(bench))
    assert set(found) == {f"peers.ray_template_{name}_ratio" for name in ("speed", "first_step")}
    assert all(0 < tokens <= 126 for tokens in found["peers.ray_template_speed_ratio"][1]["steps"]["theirs"]["tokens"])


@pytest.mark.slow
@pytest.mark.full
def test_both_really_resume_at_the_step(bench):
    found = figures(resume(bench))
    assert set(found) == {"peers.resume_ratio", "peers.resume_streaming_ratio"}
    assert found["peers.resume_ratio"][1]["what"].endswith("resumed at step 1,350 of 1,500")


@pytest.mark.slow
@pytest.mark.full
def test_lm_evals_command_line_has_the_same_figures(bench):
    found = figures(lm_eval(bench))
    assert found["peers.lm_eval_difference"][0] == 0
    assert set(found["peers.lm_eval_difference"][1]["figures"]) == {"base", "trained"}
