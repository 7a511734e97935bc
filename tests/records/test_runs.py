"""Values derived from a run's record."""

from cpt_ray.records import RunRecord
from tests import run_records


def budget(**changes) -> RunRecord:
    fields = {"run": "m-law-400-seed0", "kind": "cooldown", "model": "m", "export_path": None, "annealed": True}
    return RunRecord(**{**fields, **changes})


def test_the_base_has_seen_and_cost_nothing():
    base = budget(kind="base", annealed=False)
    assert (base.tokens_seen, base.tokens_paid, base.training) == (0, 0, None)


def test_a_branch_pays_for_its_own_tokens_only():
    branch = budget(training=run_records.training(400, start_tokens=300))
    assert (branch.tokens_seen, branch.tokens_paid) == (400, 100)


def test_attempts_are_told_in_their_order():
    attempts = (
        run_records.attempt(1, world_size=2, worker_pids=(10, 11)),
        run_records.attempt(2, first_step=6, worker_pids=(20,)),
    )
    training = run_records.training(400, attempts=attempts)
    assert training.world_sizes == (2, 1)
    assert training.first_steps == (0, 6)
    assert training.worker_pids == (10, 11, 20)
    assert training.last.attempt == 2


def test_a_record_of_a_run_is_found_by_its_name_and_reads_back(tmp_path):
    written = budget(training=run_records.training(400))
    (tmp_path / "run.json").write_text(written.to_json())
    assert RunRecord.of(tmp_path) == written
