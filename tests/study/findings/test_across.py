"""Runs of finished studies are found by root and name, and compared pairwise; whatever is not unique or not there is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cpt_ray.errors import ArtifactError, ConfigError, DataError
from cpt_ray.study.findings.across import compare_across, find_run, names_a_run
from tests.study.findings.finished_scores import commit, commit_exams, laboratory_at


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Roots of two studies: a base and a run of two seeds; the second study's run is better by 0.1 on law."""
    roots = []
    for name, law, noise in (("a", 1.0, 1e-4), ("b", 0.9, 3e-4)):
        laboratory = laboratory_at(tmp_path / name)
        laboratory.add(right=20)
        for seed in (0, 1):
            laboratory.add("legal", 32_000, seed=seed, law=law, noise=noise, right=30)
        commit(laboratory)
        roots.append(str(tmp_path / name))
    return roots[0], roots[1]


def test_runs_of_two_studies_are_paired_item_by_item(two):
    first, second = (f"{root}:m-legal-32000-seed0" for root in two)
    (found,) = compare_across([first, second])
    assert (found.reference, found.subject, found.refused) == (first, second, ())
    law, news, *exams = found.deltas
    assert (law.set_name, law.better, law.items) == ("law", True, 40)
    assert law.difference == pytest.approx(-0.1, abs=1e-3)
    assert (law.subject, law.reference) == (second, first)
    assert (news.set_name, news.better) == ("news", None)
    assert {delta.set_name for delta in exams} == {"smoke"}


def test_a_run_without_its_seed_is_all_its_seeds(two):
    (found,) = compare_across([f"{root}:m-legal-32000" for root in two])
    assert {delta.seeds for delta in found.deltas} == {2}
    assert "2 seeds" in found.deltas[0].interval.kind


def test_three_runs_are_three_pairs_and_a_base_is_always_the_reference(two):
    base, one, other = f"{two[0]}:m-base", f"{two[0]}:m-legal-32000-seed1", f"{two[1]}:m-legal-32000-seed1"
    pairs = [(found.reference, found.subject) for found in compare_across([one, base, other])]
    assert pairs == [(base, one), (one, other), (base, other)]


@pytest.mark.parametrize("other", ["", "question", "example", "gone"])
def test_an_exam_is_compared_if_both_were_asked_the_same_whatever_else_they_were_asked(tmp_path, other):
    """The second study has another exam too, so its exams have another fingerprint."""
    roots = []
    for name, more in (("a", ()), ("b", ("tax",))):
        laboratory = laboratory_at(tmp_path / name)
        record = laboratory.add("legal", 100, right=20)
        laboratory.evals[0] = record.model_copy(
            update={"exams": tuple(exam.model_copy(update={"style": "cloze"}) for exam in record.exams)}
        )
        changed = other if more else ""
        exams = dict.fromkeys(("smoke", *more), "What else?" if changed == "question" else "What?")
        known = commit_exams(tmp_path / name, exams, example="Why not?" if changed == "example" else "Why?")
        if changed == "gone":
            shutil.rmtree(tmp_path / name / "exams")
        commit(laboratory, inputs={"exams": known})
        roots.append(f"{tmp_path / name}:m-legal-100-seed0")
    (found,) = compare_across(roots)
    assert ("smoke" in {delta.set_name for delta in found.deltas}) is not bool(other)
    assert [one.startswith("smoke: ") for one in found.refused] == [True] * bool(other)


def test_of_a_run_that_was_scored_again_the_newest_scores_count(tmp_path):
    laboratory = laboratory_at(tmp_path / "a")
    for law, created in ((0.8, "2026-01-03"), (1.2, "2026-01-02")):
        laboratory.add("legal", 100, law=law)
        commit(laboratory, created=created)
    (scored,) = find_run(f"{tmp_path}/a:m-legal-100-seed0").cell.scored
    assert scored.record.held_out[0].bits_per_byte == pytest.approx(0.8, abs=1e-3)


def test_cells_of_a_grid_are_told_apart_by_their_folders(tmp_path):
    laboratory = laboratory_at(tmp_path / "a")
    folders = []
    for created in ("2026-01-02", "2026-01-03"):
        laboratory.add("legal", 100)
        folders += commit(laboratory, created=created)
    (tmp_path / "a" / "study.yaml").write_text("axes: {mix: {half: {}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is a grid, and 'm-legal-100-seed0' is a run of several of its cells\n  fix: name"):
        find_run(f"{tmp_path}/a:m-legal-100-seed0")
    assert find_run(f"{tmp_path}/a:{folders[0].name}").cell.scored[0].folder == folders[0]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (["{a}:m-base"], r"is one run, and comparing takes at least two\n  fix: name another one"),
        (
            ["{a}:m-legal-32000-sed0", "{b}:m-base"],
            r"has no scores of a run 'm-legal-32000-sed0'\n  fix: .*m-legal-32000-seed0",
        ),
        (["{a}/nowhere:m-base", "{b}:m-base"], r"nowhere has no scores: there is no evaluate/.*\n  fix: give the root"),
    ],
)
def test_what_cannot_be_found_is_refused(two, runs, says):
    with pytest.raises(ConfigError, match=says):
        compare_across([run.format(a=two[0], b=two[1]) for run in runs])


def test_runs_that_share_nothing_are_refused_with_every_reason(tmp_path):
    for name, sets in (("a", ("law",)), ("b", ("news",))):
        laboratory = laboratory_at(tmp_path / name)
        laboratory.add(sets=sets)
        commit(laboratory)
    with pytest.raises(
        ConfigError, match=r"nothing of these runs can be paired: news: only .*b:m-base.*; law: only .*a:m-base"
    ):
        compare_across([f"{tmp_path}/a:m-base", f"{tmp_path}/b:m-base"])


def test_an_edited_score_and_a_broken_record_are_refused(two):
    folder = find_run(f"{two[0]}:m-legal-32000-seed0").cell.scored[0].folder
    path = folder / "held_out" / "law-test.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"nats": 6', '"nats": 7'), encoding="utf-8")
    with pytest.raises(DataError, match=r"law-test.jsonl: .* nats, but .* in evaluation.json"):
        compare_across([f"{root}:m-legal-32000-seed0" for root in two])
    (folder / "evaluation.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"its records cannot be read: .*\n  fix: score it again"):
        find_run(f"{two[0]}:m-legal-32000-seed0")
    assert find_run(f"{two[0]}:m-base").cell.arm is None  # the broken one was not asked for


def test_an_argument_is_a_run_unless_it_is_a_file(tmp_path):
    study = tmp_path / "a:b"
    study.write_text("", encoding="utf-8")
    assert names_a_run("runs/demo:m-base")
    assert names_a_run("s3://bucket/demo:m-base")
    assert not names_a_run("s3://bucket/demo")
    assert not names_a_run(str(study))
    assert not names_a_run("configs/demo.yaml")
    assert not names_a_run("not:there.yaml")  # a study file that is missing is missed as one
