"""Which arms drew a source in the same order, by the names of sequences in their records."""

from __future__ import annotations

from cpt_ray.records import DrawnSource, RunRecord
from cpt_ray.report.text.pairing import pairings
from tests.run_records import training


def run(arm: str, seed: int, model: str = "tiny", **drawn: str) -> RunRecord:
    sources = tuple(DrawnSource(source=name, rows=10, sequence=sequence) for name, sequence in drawn.items())
    return RunRecord(
        run=f"{model}-{arm}-{seed}", kind="cooldown", model=model, arm=arm, seed=seed, export_path=None, annealed=True,
        training=training(100, drawn=sources),
    )  # fmt: skip


BASE = RunRecord(run="base", kind="base", model="tiny", export_path="base", annealed=True)


def test_arms_that_share_sequences_are_paired_on_their_sources_for_all_seeds_at_once():
    runs = [BASE]
    for seed in (0, 1):
        runs += [
            run("legal", seed, law=f"law{seed}", news=f"news{seed}"),
            run("control", seed, news=f"news{seed}"),
            run("mixed", seed, law=f"law{seed}", news=f"news{seed}"),
        ]
    assert pairings(runs) == [
        "tiny, seeds 0, 1: legal, mixed drew law in the same order (paired).",
        "tiny, seeds 0, 1: legal, control, mixed drew news in the same order (paired).",
    ]


def test_a_trunk_and_its_branches_are_one_arm_and_other_sequences_are_not_paired():
    trunk, branch = run("legal", 0, news="a"), run("legal", 0, news="a")
    assert pairings([trunk, branch]) == []
    alone = "shares no source with another arm, so nothing of its order is paired."
    assert pairings([trunk, branch, run("control", 0, news="b")]) == [f"tiny: legal {alone}", f"tiny: control {alone}"]
    # The same rows under another seed are another experiment, and models are told apart.
    assert pairings([trunk, run("legal", 1, news="a"), run("control", 1, model="small", news="a")]) == []
