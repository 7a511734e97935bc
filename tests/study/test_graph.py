"""A change re-addresses exactly what depends on it; where the study runs changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError, CptRayError, DataError
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.evaluate import base_run
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.study.store import study_text
from tests.integration.tiny_study import REPOSITORY

BASE = "evaluate/tiny-base"
RUNS = {
    "train/tiny-legal-trunk-seed0",
    "train/tiny-legal-2000-seed0",
    "train/tiny-legal-4000-seed0",
    "train/tiny-control-4000-seed0",
}
BUDGETS = {f"evaluate/{name.split('/')[1]}" for name in RUNS if "trunk" not in name}
TEXT = {"documents/tiny", "held_out/tiny", "shards/tiny"}
ITEMS = {"exams/tiny", "scan/tiny"}
EVERYTHING = {"models/tiny", BASE} | ITEMS | TEXT | RUNS | BUDGETS
AFTER_SHARDS = {"shards/tiny"} | RUNS | BUDGETS


def addresses(config: Path, *overrides: str) -> dict[str, str]:
    """Stage and name of every artifact to its fingerprint."""
    graph = StudyGraph(load_study(config, overrides), config)
    found = {f"{node.stage.name}/{node.name}": node.fingerprint for node in graph.all()}
    assert len(found) == len(graph.all())
    return found


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Artifacts in both graphs whose addresses differ."""
    assert before.keys() & after.keys(), "nothing to compare"
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}


def test_the_artifacts_are_those_of_models_text_runs_and_scores(tiny):
    assert set(addresses(tiny.config)) == EVERYTHING
    assert base_run("tiny") == "tiny-base"


def test_building_the_graph_twice_gives_the_same_addresses(tiny):
    assert addresses(tiny.config) == addresses(tiny.config)


def test_what_a_root_says_of_its_inputs_is_enough_to_find_every_artifact(tiny):
    tree = yaml.safe_load(tiny.config.read_text())
    shutil.copy(REPOSITORY / "ds_configs" / "zero2_bf16.json", tiny.config.parent / "own.json")
    tiny.change(train={**tree["train"], "deepspeed": "own.json"})
    graph = StudyGraph(load_study(tiny.config), tiny.config)
    before, kept = addresses(tiny.config), dict(graph.inputs)
    study_file = tiny.root / "study.yaml"
    study_file.parent.mkdir(parents=True, exist_ok=True)
    study_file.write_text(study_text(graph.config))
    for path in (tiny.model, tiny.inputs):
        shutil.rmtree(path)
    (tiny.config.parent / "own.json").unlink()
    with pytest.raises(CptRayError):
        addresses(study_file)
    known = StudyGraph(load_study(study_file), study_file, known=kept)
    assert {f"{node.stage.name}/{node.name}": node.fingerprint for node in known.all()} == before
    assert known.inputs == kept


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["prepare.pack.sequence_length=128"], AFTER_SHARDS),
        (["prepare.decontaminate.ngram_words=9"], AFTER_SHARDS),
        (["prepare.decontaminate.tasks=[tiny_exam]"], set()),
        (["prepare.decontaminate.tasks=[]"], AFTER_SHARDS),
        (["prepare.decontaminate.tasks=[tiny_exam, piqa]"], AFTER_SHARDS | {"scan/tiny"}),
        (["prepare.decontaminate.tasks=[tiny_exam]", "evaluate.harness_tasks=[piqa]"], BUDGETS | {BASE}),
        (["evaluate.harness_tasks=[piqa]"], AFTER_SHARDS | {BASE, "scan/tiny"}),
        (["models.0.separator=<|endoftext|>"], AFTER_SHARDS | {BASE}),
        (["prepare.held_out.share=0.2"], EVERYTHING - ITEMS - {"models/tiny", "documents/tiny"}),
        (["prepare.clean.min_bytes=300"], EVERYTHING - ITEMS - {"models/tiny"}),
        (["prepare.near_duplicates.rows=6"], EVERYTHING - ITEMS - {"models/tiny"}),
        (["prepare.seed=1"], EVERYTHING - ITEMS - {"models/tiny"}),
        (["sources.news.limit_documents=100"], EVERYTHING - ITEMS - {"models/tiny"}),
        (["sources.news.license=CC0"], set()),
        (["evaluate.exams.0.limit=4"], ITEMS | {BASE} | AFTER_SHARDS),
        (["evaluate.context=32"], BUDGETS | {BASE}),
        (["compare.subsets=300"], BUDGETS | {BASE}),
        (["compare.forgetting_tolerance=0.5"], set()),
        (["train.learning_rate=1e-4"], RUNS | BUDGETS),
        (["train.schedule.warmup=100"], RUNS | BUDGETS),
        (["train.precision=fp32"], RUNS | BUDGETS),
        (["train.export_precision=fp32"], RUNS | BUDGETS),
        (["train.lora={rank: 4, alpha: 8}"], RUNS | BUDGETS),
        (["models.0.new_tokens=[usufruct]"], EVERYTHING - ITEMS - {"documents/tiny", "held_out/tiny"}),
        (["models.0.trust_remote_code=true", "train.compile=true"], set()),
        (["train.schedule.cooldown_share=0.3"], RUNS | BUDGETS),
        (["train.micro_batch_size=1", "train.gradient_checkpointing=true"], set()),
        (["train.checkpoint_every=500", "train.keep_checkpoints=5"], set()),
        (["arms.legal.mix={law: 0.5, news: 0.5}"], {n for n in RUNS | BUDGETS if "legal" in n}),
        (["arms.legal.max_epochs=3"], set()),
        (["arms.legal.max_epochs_of={law: 3}"], set()),
        (["arms.legal.segments=[{from: 1k, mix: {news: 1.0}}]"], {n for n in RUNS | BUDGETS if "legal" in n}),
        (["arms.legal.cooldown_mix={news: 1.0}"], {n for n in RUNS | BUDGETS if "legal" in n and "trunk" not in n}),
        (["train.shuffle_window=100"], RUNS | BUDGETS),
        (["runtime.kind=ray", "runtime.workers=2", "runtime.prepare_workers=7"], set()),
        (["tracking.experiment=other", "tracking.uri=http://127.0.0.1:1"], set()),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_change_moves_exactly_what_depends_on_it(tiny, overrides, expected):
    assert moved(addresses(tiny.config), addresses(tiny.config, *overrides)) == expected


def test_a_new_budget_leaves_finished_budgets_of_an_independent_study_alone(tiny):
    before = addresses(tiny.config, "train.budget_mode=independent")
    after = addresses(tiny.config, "train.budget_mode=independent", "train.budgets=[2000, 4000, 8000]")
    assert moved(before, after) == set()
    assert set(after) - set(before) == {
        f"{stage}/tiny-{arm}-8000-seed0" for stage in ("train", "evaluate") for arm in ("legal", "control")
    }


def test_a_changed_text_file_moves_everything_after_the_documents(tiny):
    before = addresses(tiny.config)
    with (tiny.inputs / "news.jsonl").open("a") as stream:
        stream.write(json.dumps({"id": "news_new", "text": "One more."}) + "\n")
    assert moved(before, addresses(tiny.config)) == EVERYTHING - ITEMS - {"models/tiny"}


def test_a_changed_deepspeed_file_moves_the_runs(tiny, tmp_path):
    before = addresses(tiny.config)
    other = tmp_path / "zero1.json"
    other.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    assert moved(before, addresses(tiny.config, f"train.deepspeed={other}")) == RUNS | BUDGETS


def test_changed_weights_move_all_but_the_text_and_its_rows(tiny):
    before = addresses(tiny.config)
    with (tiny.model / "model.safetensors").open("ab") as stream:
        stream.write(b"\0" * 8)
    assert moved(before, addresses(tiny.config)) == EVERYTHING - ITEMS - {
        "documents/tiny",
        "held_out/tiny",
        "shards/tiny",
    }


def test_inputs_outputs_and_study_file_moved_elsewhere_keep_their_addresses(tiny, tmp_path):
    before = addresses(tiny.config)
    elsewhere = tmp_path / "else" / "where"
    shutil.copytree(tiny.config.parent, elsewhere)
    text = (elsewhere / "tiny.yaml").read_text().replace(str(tiny.config.parent), str(elsewhere))
    (elsewhere / "other-name.yaml").write_text(text)
    shutil.rmtree(tiny.config.parent)
    assert yaml.safe_load(text)["study"]["root"] == str(elsewhere / "runs")
    assert addresses(elsewhere / "other-name.yaml") == before


def test_a_deepspeed_file_beside_the_study_file_is_found(tiny):
    (tiny.config.parent / "beside.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    graph = StudyGraph(load_study(tiny.config, ("train.deepspeed=beside.json",)), tiny.config)
    assert graph.of(TRAIN)[0].settings["deepspeed"] == {"zero_optimization": {"stage": 1}}


def test_a_missing_source_or_deepspeed_file_is_refused(tiny):
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        addresses(tiny.config, "sources.law.path=gone.jsonl")
    with pytest.raises(ConfigError, match=r"gone\.json: no such DeepSpeed file"):
        addresses(tiny.config, "train.deepspeed=gone.json")


def test_a_source_that_would_read_what_the_study_writes_is_refused(tiny):
    text = Path(load_study(tiny.config).sources[0].path[0]).parent
    with pytest.raises(
        ConfigError, match=r"source law: .* contains study\.root, .*: the study would read its own files"
    ) as caught:
        addresses(tiny.config, f"sources.law.path={text}", f"study.root={text}/runs/tiny")
    assert "set study.root to a folder outside of it" in caught.value.fix
    addresses(tiny.config, f"sources.law.path={text}/*.jsonl", f"study.root={text}/runs/tiny")


def test_what_is_scored_is_scanned_for_before_packing_or_in_what_is_packed(tiny):
    early = addresses(tiny.config, "evaluate.harness_tasks=[piqa]")
    assert not [name for name in early if "late" in name]
    off = addresses(tiny.config, "evaluate.harness_tasks=[piqa]", "prepare.decontaminate.enabled=false")
    assert not [name for name in off if "scan" in name]
    late = addresses(tiny.config, "evaluate.harness_tasks=[piqa]", "prepare.decontaminate.tasks=[tiny_exam]")
    assert {"scan/tiny", "scan/tiny-late", "late_scan/tiny"} <= set(late)


def test_an_exam_that_is_added_to_a_listed_one_moves_neither_shards_nor_runs(tiny):
    study = yaml.safe_load(tiny.config.read_text())
    before = addresses(tiny.config)
    study["evaluate"]["exams"].append({**study["evaluate"]["exams"][0], "name": "another"})
    tiny.change(evaluate=study["evaluate"])
    after = addresses(tiny.config, "prepare.decontaminate.tasks=[tiny_exam]")
    assert set(after) - set(before) == {"scan/tiny-late", "late_scan/tiny"}
    assert moved(before, after) == {"exams/tiny", BASE} | BUDGETS
