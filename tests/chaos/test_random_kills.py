"""A tiny study on two simulated nodes with workers, raylets and drivers killed at random, versus an undisturbed one."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.records import EvalRecord, RunRecord, ShardManifest
from tests.chaos.cluster import SimulatedCluster
from tests.chaos.disturbed import Disturbed, run_disturbed
from tests.chaos.lineage import Lineage, attempts_of, folder_of, lineage_of, require_each_row_once_an_epoch
from tests.chaos.schedule import VICTIMS, Kill, draw_schedule
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = [pytest.mark.slow, pytest.mark.full, pytest.mark.timeout(3000), pytest.mark.accept(training=4)]

SEED = 20261122
KILLS = 20
BUDGETS = (80_000, 160_000)
LAST_RUN = Path(__file__).parent / "last_run.md"
RUNS = ("tiny-legal-trunk-seed0", *(f"tiny-legal-{budget}-seed0" for budget in BUDGETS), f"tiny-control-{BUDGETS[1]}-seed0")


def chaos_study(folder: Path) -> TinyStudy:
    """A study with a checkpoint every eighth step, all kept, and about 1,400 steps in total."""
    study = write_tiny_study(folder)
    study.change(
        arms={
            "legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": 5},
            "control": {"role": "control", "mix": {"news": 1.0}, "max_epochs": 5},
        }
    )
    return study


OVERRIDES = (
    f"train.budgets=[{BUDGETS[0]}, {BUDGETS[1]}]",
    "train.checkpoint_every=2000",
    "train.keep_checkpoints=9999",
    "runtime.max_failures=99",
)


@dataclass
class Pair:
    """A disturbed study and an undisturbed one."""

    disturbed: TinyStudy
    quiet: TinyStudy
    schedule: tuple[Kill, ...]
    done: Disturbed

    def lineages(self, run: str) -> tuple[Lineage, Lineage]:
        return lineage_of(self.disturbed.root, run), lineage_of(self.quiet.root, run)

    def records(self, run: str) -> tuple[RunRecord, RunRecord]:
        roots = (self.disturbed.root, self.quiet.root)
        first, second = (RunRecord.load(folder_of(root, run) / "run.json") for root in roots)
        return first, second


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("chaos")
    disturbed, quiet = chaos_study(folder / "disturbed"), chaos_study(folder / "quiet")
    schedule = draw_schedule(SEED, kills=KILLS, most_steps=30, most_seconds=20)
    with SimulatedCluster(nodes=2) as cluster:
        done = run_disturbed(disturbed, cluster, schedule, overrides=OVERRIDES)
        run_disturbed(quiet, cluster, overrides=OVERRIDES)
    found = Pair(disturbed, quiet, schedule, done)
    LAST_RUN.write_text(render(found))
    return found


def test_all_kills_of_the_schedule_happened_and_most_of_them_in_training(pair, record_property):
    assert sum(pair.done.victims.values()) == len(pair.done.killed) == KILLS
    assert all(pair.done.victims[victim] >= KILLS // len(VICTIMS) for victim in VICTIMS)
    assert sum("in tiny-" in line for line in pair.done.killed) >= KILLS // 2
    starts = [attempt for run in RUNS for attempt in attempts_of(folder_of(pair.disturbed.root, run))]
    resumed = [start.first_step for start in starts if start.resumed]
    assert sum(step > 0 for step in resumed) >= KILLS // 3
    assert len({pid for start in starts for pid in start.worker_pids}) >= KILLS
    assert pair.done.drivers == 1 + pair.done.victims["driver"] + len(pair.done.ended_by_themselves)
    assert pair.done.ended_by_themselves == []
    assert [attempt.first_step for attempt in attempts_of(folder_of(pair.quiet.root, RUNS[0]))] == [0]
    record_property(
        "kills", f"{len(pair.done.killed)}: {dict(pair.done.victims)}, {pair.done.drivers} drivers, log in {LAST_RUN}"
    )
    record_property("starts of training above step 0", str(resumed))


def test_the_same_shards_were_packed(pair):
    first, second = (
        [(entry.path, entry.sha256) for entry in ShardManifest.load(next(study.root.glob("shards/*/manifest.json"))).shards]
        for study in (pair.disturbed, pair.quiet)
    )
    assert first == second


@pytest.mark.parametrize("run", RUNS)
def test_each_position_occurs_once_in_the_lineage_of_the_final_weights(pair, run, record_property):
    disturbed, quiet = pair.lineages(run)
    record, undisturbed = pair.records(run)
    assert len(disturbed.sample_ids) == record.training.progress.position > 0
    assert disturbed.sample_ids == quiet.sample_ids
    shards = ShardManifest.load(next(pair.disturbed.root.glob("shards/*/manifest.json")))
    require_each_row_once_an_epoch(disturbed.sample_ids, shards)
    counts = [
        (r.training.progress.step, r.training.progress.position, r.tokens_seen, r.training.progress.slots_seen)
        for r in (record, undisturbed)
    ]
    assert counts[0] == counts[1]
    assert [step.tokens_seen for step in disturbed.steps] == [step.tokens_seen for step in quiet.steps]
    if run == RUNS[-1]:
        record_property("positions", f"{len(disturbed.sample_ids)} rows once each, {record.tokens_seen} tokens, as undisturbed")


@pytest.mark.parametrize("run", RUNS)
def test_losses_and_final_weights_are_bitwise_those_of_the_study_in_peace(pair, run):
    disturbed, quiet = pair.lineages(run)
    assert [(step.loss, step.gradient_norm) for step in disturbed.steps] == [
        (step.loss, step.gradient_norm) for step in quiet.steps
    ]
    paths = [record.export_path for record in pair.records(run)]
    if run == RUNS[0]:
        assert paths == [None, None]  # a trunk is not a budget
        return
    weights = [load_file(Path(path) / "model.safetensors") for path in paths]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_held_out_losses_are_equal(pair, record_property):
    first, second = (held_out_losses(study) for study in (pair.disturbed, pair.quiet))
    assert {run for run, *_ in first} == {"tiny-base", *RUNS[1:]}
    assert {source for _, source, _ in first} == {"law", "news"}
    assert first == pytest.approx(second, rel=1e-6)
    gap = max(abs(first[key] - second[key]) for key in second)
    record_property("held-out scores", f"{len(second)}, largest difference {gap:.2g} bits per byte of {1e-6:g} relative")


def held_out_losses(study: TinyStudy) -> dict[tuple[str, str, str], float]:
    """Bits per byte by run, source and part."""
    return {
        (record.run, score.source, score.part): score.bits_per_byte
        for path in study.root.glob("evaluate/*/evaluation.json")
        for record in [EvalRecord.load(path)]
        for score in record.held_out
    }


def render(pair: Pair) -> str:
    """The run as a page: what was killed, when, and the outcome."""
    kinds = ", ".join(f"{victim} {pair.done.victims[victim]}" for victim in VICTIMS)
    lines = [
        "# The last run of the chaos test",
        "",
        "Written by `tests/chaos/test_random_kills.py` (`make test-full`).",
        "",
        f"{datetime.datetime.now(datetime.UTC).date()}, seed {SEED}: {len(pair.done.killed)} kills ({kinds}) in "
        f"{pair.done.wall_s:.0f} s; the command was started {pair.done.drivers} times, and "
        f"{len(pair.done.ended_by_themselves)} of these exited with an error without being killed.",
        "",
        "| run | attempts | resumed from steps | steps in the weights | lost steps | rows | tokens seen | largest loss gap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in RUNS:
        disturbed, quiet = pair.lineages(run)
        record, _ = pair.records(run)
        gap = max(abs(a.loss - b.loss) for a, b in zip(disturbed.steps, quiet.steps, strict=True))
        same = "" if disturbed.sample_ids == quiet.sample_ids else " (rows differ)"
        lines.append(
            f"| {run} | {len(record.training.attempts)} | {', '.join(map(str, disturbed.resumes))} | {len(disturbed.steps)} | "
            f"{disturbed.in_vain} | {len(disturbed.sample_ids)}{same} | {record.tokens_seen} | {gap:.2g} |"
        )
    first, second = (held_out_losses(study) for study in (pair.disturbed, pair.quiet))
    gap = max(abs(first[key] - second[key]) for key in second)
    lines += ["", f"Largest difference between held-out scores: {gap:.2g} bits per byte, over {len(second)} scores.", "", "```"]
    return "\n".join([*lines, *pair.done.killed, *pair.done.ended_by_themselves, "```", ""])
