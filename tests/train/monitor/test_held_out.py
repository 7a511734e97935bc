"""Held-out loss during training: by hand, with any number of workers, at its interval, and with no effect on the weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from cpt_ray.model.scoring import EncodedDocument
from cpt_ray.records import DocumentKey, HeldOutPoint, HeldOutRecord, HeldOutSet, MemoryPoint, RunProgress, RunRecord
from cpt_ray.train.monitor.held_out import HeldOutLoss, WatchedSet, interval, read_watched_sets, watch_held_out
from cpt_ray.train.monitor.metrics import read_events, read_lineage, read_metrics
from tests.train.tiny_run import make_task, spec_named, tiny_config

TEXTS = ("the court ruled that the claim fails", "a second document about law", "short", "ünïcode text and more of it")


def make_held_out(root: Path) -> Path:
    folder = root / "held_out_sets"
    folder.mkdir(exist_ok=True)
    sets = []
    for source, role in (("law", "domain"), ("news", "general")):
        for part in ("validation", "test"):
            path = folder / f"{source}-{part}.jsonl"
            texts = [f"{text} {source} {part}" for text in TEXTS]
            path.write_text(
                "".join(
                    json.dumps({"identity": f"{source}/0/{i}", "id": "same", "text": text}) + "\n"
                    for i, text in enumerate(texts)
                )
            )
            size = sum(len(text.encode()) for text in texts)
            sets.append(HeldOutSet(source=source, role=role, part=part, path=path.name, documents=len(texts), bytes=size))
    (folder / "held_out.json").write_text(HeldOutRecord(sets=tuple(sets), reports=(), task_pids={}, shares={}).to_json())
    return folder


@pytest.fixture(scope="module")
def root(root) -> Path:
    make_held_out(root)
    return root


def run(root: Path, folder: str, isolation: str = "document", **watch) -> RunRecord:
    from cpt_ray.train.worker import run_worker

    config = tiny_config(root, budgets=[1500], checkpoint_every=400, isolation=isolation, watch=watch)
    task = make_task(root, config, spec_named(config, "legal-1500"), folder)
    run_worker(task.model_copy(update={"held_out_folder": str(root / "held_out_sets")}))
    return RunRecord.load(root / folder / "run.json")


def test_on_or_off_the_training_is_bitwise_the_same(root):
    off = run(root, "off", held_out_every=0)
    on = run(root, "on", held_out_every=300, memory_every=500)
    pair = [read_metrics(root / name) for name in ("off", "on")]
    facts = [[(m.loss, m.gradient_norm, m.sample_ids) for m in steps] for steps in pair]
    assert facts[0] == facts[1]
    weights = [load_file(Path(record.export_path) / "model.safetensors") for record in (off, on)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert read_lineage(root / "off", "held_out", HeldOutPoint) == ()
    points = read_lineage(root / "on", "held_out", HeldOutPoint)
    assert {point.source for point in points} == {"law", "news"}
    assert {point.part for point in points} == {"validation"}
    assert next(point.tokens_seen for point in points if point.source == "law") == 0
    assert 4 <= len({point.tokens_seen for point in points}) <= 6
    assert all(point.nats_per_token > 0 and point.bits_per_byte > 0 for point in points)
    assert on.training.cost.held_out_s > 0 == off.training.cost.held_out_s


def test_memory_and_checkpoints_of_that_run_are_measured(root):
    if not (root / "on").exists():
        run(root, "on", held_out_every=300, memory_every=500)
    record = RunRecord.load(root / "on" / "run.json")
    points = read_lineage(root / "on", "memory", MemoryPoint)
    phases = {point.phase for point in points}
    assert {
        "load",
        "engine",
        "self_test",
        "data",
        "forward",
        "backward",
        "step",
        "steps",
        "held_out",
        "checkpoint",
        "export",
    } <= phases
    assert {point.tokens_seen > 0 for point in points} == {True}
    assert all(point.host_bytes > 50_000_000 for point in points)
    assert all(point.host_peak_bytes is None or point.host_peak_bytes >= point.host_bytes // 2 for point in points)
    assert record.training.cost.host_peak_bytes >= max(point.host_bytes for point in points)
    assert record.training.cost.device_peak_bytes is None or torch.cuda.is_available()
    stalls = [event for event in read_events(root / "on") if event.kind == "checkpoint"]
    assert len(stalls) >= 3
    assert record.training.cost.checkpoint_s == pytest.approx(sum(event.seconds for event in stalls))
    assert 0 < record.training.cost.data_wait_s < record.training.cost.wall_s
    assert "matrix product" in record.training.last.peak_basis
    assert "within its own document" in record.training.last.flops_basis


@pytest.mark.parametrize("isolation", ["document", "none"])
def test_the_points_equal_the_evaluations_own_rule(root, isolation):
    from cpt_ray.evaluate.bits_per_byte import score_documents
    from cpt_ray.model.base import load_model

    name = "on" if isolation == "document" else "leaky"
    if not (root / name).exists():
        run(root, name, isolation, held_out_every=300)
    sets = read_watched_sets(str(root / "held_out_sets"), root / "model", documents=16, window=64)
    model = load_model(root / "model", precision="fp32")
    points = [point for point in read_lineage(root / name, "held_out", HeldOutPoint) if point.tokens_seen == 0]
    assert len(points) == 2
    for point in points:
        documents = next(entry for entry in sets if entry.of.source == point.source).documents
        scores = score_documents(model, documents, prefix=0, context=64, batch_tokens=64)
        nats = sum(score.nats for score in scores)
        assert point.scored_bytes == sum(score.bytes for score in scores)
        assert point.bits_per_byte == pytest.approx(nats / math.log(2) / point.scored_bytes, rel=1e-5)
        assert point.nats_per_token == pytest.approx(nats / sum(score.tokens for score in scores), rel=1e-5)


@pytest.mark.usefixtures("one_worker")
def test_the_tokenizer_of_a_base_with_trusted_code_is_loaded_as_elsewhere_and_not_at_all_if_nothing_is_watched(root, tmp_path):
    folder = shutil.copytree(root / "model", tmp_path / "custom")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    code = "from transformers import PreTrainedTokenizerFast\n\n\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    (folder / "tokenization_own.py").write_text(code)
    sets = str(root / "held_out_sets")
    with pytest.raises(ValueError, match="custom code"):
        read_watched_sets(sets, folder, documents=2, window=64)
    found = read_watched_sets(sets, folder, documents=2, window=64, trust_remote_code=True)
    assert [len(entry.documents) for entry in found] == [2, 2]
    settings = {"documents": 2, "prefix": 0, "window": 64, "rows": 1}
    watching = watch_held_out(None, tmp_path / "no tokenizer", **settings, trust_remote_code=False)
    assert not watching.sets


def watched(*lengths: int) -> list[WatchedSet]:
    of = HeldOutSet(source="law", role="domain", part="validation", path="p", documents=len(lengths), bytes=1)
    documents = tuple(EncodedDocument(DocumentKey(str(i), "same"), list(range(1, n + 1)), 3 * n) for i, n in enumerate(lengths))
    return [WatchedSet(of, documents)]


def test_how_often_follows_the_cost_unless_the_study_says():
    sets = watched(*[500] * 32)  # 16,000 tokens each time
    assert interval(sets, asked=None, run_tokens=400_000_000) == 40_000_000  # ten points
    every = interval(sets, asked=None, run_tokens=1_000_000)
    assert every == 266_667
    assert 16_000 / (3 * every) <= 0.02
    assert interval(sets, asked=None, run_tokens=266_667) == 266_667
    assert interval(sets, asked=None, run_tokens=266_666) is None  # one measurement would cost more than 2 % of the run
    assert interval(sets, asked=5000, run_tokens=1_000_000) == 5000
    assert interval(sets, asked=0, run_tokens=1_000_000) is None
    assert interval([], asked=5000, run_tokens=1_000_000) is None


def score_shares(lengths: tuple[int, ...]) -> tuple[int, float]:
    """Every label costs its own value in nats; returns forward passes on this rank, and the sum over ranks."""
    passes = []

    def nats_of(row):
        passes.append(row)
        return row.labels.clamp(min=0).float()

    loss = HeldOutLoss(watched(*lengths), prefix=9, row_tokens=32, rank=dist.get_rank(), world_size=dist.get_world_size())
    moves = []
    (point,) = loss.measure(nats_of, RunProgress(), attempt=1, on_pass=lambda: moves.append(len(passes)))
    assert moves == list(range(len(passes)))  # a heartbeat before each pass: a long measurement is not a hang
    for row in passes:
        assert sum(row.segment_lengths) == len(row.input_ids) == 32
        ends = torch.tensor(row.segment_lengths).cumsum(0)[:-1]
        assert all(int(row.input_ids[i]) == 9 for i in ends)  # the prefix precedes every document
    return len(passes), point.nats_per_token * point.scored_tokens


@pytest.mark.parametrize("lengths", [(3, 5, 30, 32, 7), (4,)])
def test_every_rank_makes_the_same_number_of_passes_and_all_documents_count_once(zero_groups, lengths):
    results = zero_groups.of(2).run(score_shares, lengths)
    assert len({passes for passes, _ in results}) == 1
    for _, nats in results:
        assert nats == pytest.approx(sum(n * (n + 1) / 2 for n in lengths))
