"""The disk of a study, and the requests to its bucket."""

from __future__ import annotations

import pytest

from cpt_ray.plan.hardware import load_hardware
from cpt_ray.study.cost.amounts import BYTES_PER_TOKEN, scored_text, text_bytes
from cpt_ray.study.cost.cells import plan_cell
from cpt_ray.study.cost.disk import Training, _requests
from cpt_ray.study.cost.place import Choice
from tests.object_store import node
from tests.study.planned import graph_of


def test_every_part_is_worked_out_from_the_text_the_runs_and_the_scores(tiny):
    (cell,) = graph_of(tiny).cells
    cost, text, (memory,) = plan_cell(cell), text_bytes(cell), plan_cell(cell).memory
    disk, kept = cost.disk, cell.config.train.keep_checkpoints
    assert disk.text_bytes == text
    assert disk.documents_bytes == pytest.approx(0.6 * text)
    # A vocabulary below 65,536: 2 bytes a token, and the index.
    assert disk.shards_bytes == pytest.approx(1.1 * 2 * text / BYTES_PER_TOKEN)
    # A trunk with two branch points, two branches and a control; three budgets.
    assert disk.checkpoints_bytes == (4 * kept + 2) * memory.checkpoint_bytes
    assert disk.exports_bytes == 3 * memory.export_bytes
    assert disk.bases_bytes == memory.export_bytes
    # The base and three budgets, 200 bytes a document or item.
    assert disk.scores_bytes == 4 * 200 * scored_text(cell).lines > 0
    parts = (disk.documents_bytes, disk.shards_bytes, disk.checkpoints_bytes, disk.exports_bytes, disk.bases_bytes)
    assert disk.root_bytes == pytest.approx(sum(parts) + disk.scores_bytes)
    assert disk.requests is None


def test_marks_and_merges_are_exports_too(tiny):
    plain = plan_cell(graph_of(tiny).cells[0])
    merged = plan_cell(graph_of(tiny, "merges=[{name: frontier, interpolate: {}}]").cells[0])
    number = len(merged.plan.merges)
    assert number > 0
    assert merged.disk.exports_bytes == plain.disk.exports_bytes + number * plain.memory[0].export_bytes


def test_text_of_unknown_size_leaves_what_follows_from_it_unknown(tiny, monkeypatch):
    monkeypatch.setattr("cpt_ray.study.cost.amounts._source_bytes", lambda source: None)
    disk = plan_cell(graph_of(tiny).cells[0]).disk
    assert (disk.text_bytes, disk.documents_bytes, disk.shards_bytes) == (None, None, None)
    assert disk.root_bytes > 0


def test_a_driver_and_two_workers_ask_a_bucket_as_often_as_was_measured(tiny):
    cost = plan_cell(graph_of(tiny).cells[0], Choice(load_hardware("h100"), 2))
    minutes = cost.time.stages[1].seconds / 60
    asked = _requests(Training(cost.time, 2, 1, ()))
    assert asked == pytest.approx(78 * minutes)
    assert _requests(Training(None, 2, 1, ())) is None


def test_a_root_in_a_bucket_has_requests(tiny, bucket, tmp_path):
    with node(tmp_path / "node"):
        (cell,) = graph_of(tiny, f"study.root=s3://studies/{tmp_path.name}").cells
        cost = plan_cell(cell, Choice(load_hardware("h100"), 2))
    assert cost.disk.requests == pytest.approx(78 * cost.time.stages[1].seconds / 60)
