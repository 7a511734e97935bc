"""Which settings need an optional package, and when its absence is refused."""

from __future__ import annotations

import sys

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.edges.packages import OPTIONAL
from cpt_ray.errors import ConfigError
from cpt_ray.study.graph import STAGES
from cpt_ray.study.preflight.packages import needed_packages, require_packages
from tests.integration.tiny_study import study_tree

PLAIN = {"normalize": False}


def study(tmp_path, **sections):
    tree = study_tree(tmp_path, "local")
    for name, values in {"prepare": {}, **sections}.items():
        tree[name] = {**tree.get(name, {}), **values}
    tree["prepare"] = {"clean": PLAIN, "near_duplicates": {"enabled": False}, **tree["prepare"]}
    return parse_study(tree, place="study.yaml")


def needs(config):
    return {(need.stage, need.module, need.key) for need in needed_packages(config)}


def test_a_local_study_on_plain_text_needs_nothing(tmp_path):
    assert needs(study(tmp_path)) == set()


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"prepare": {"clean": {}}}, ("documents", "ftfy", "prepare.clean.normalize")),
        ({"prepare": {"near_duplicates": {}}}, ("documents", "rensa", "prepare.near_duplicates.enabled")),
        (
            {"prepare": {"clean": {**PLAIN, "languages": ["en"], "language_id": {"detect": "missing"}}}},
            ("documents", "py3langid", "prepare.clean.language_id.detect: missing"),
        ),
        ({"train": {"lora": {"rank": 2, "alpha": 4}}}, ("train", "peft", "train.lora")),
        ({"train": {"optimizer": "adamw_8bit"}}, ("train", "bitsandbytes", "train.optimizer: adamw_8bit")),
        ({"tracking": {"uri": "http://tracker"}}, ("train", "mlflow", "tracking.uri")),
        ({"tracking": {"uri": "sqlite:///mlflow.db"}}, ("train", "sqlalchemy", "tracking.uri: a database")),
        ({"evaluate": {"harness_tasks": ["piqa"]}}, ("evaluate", "lm_eval", "evaluate.harness_tasks: piqa")),
        ({"evaluate": {"harness_tasks": ["piqa"]}}, ("scan", "lm_eval", "evaluate.harness_tasks: piqa")),
        ({"prepare": {"decontaminate": {"tasks": ["piqa"]}}}, ("scan", "lm_eval", "prepare.decontaminate.tasks: piqa")),
        ({"runtime": {"kind": "ray"}}, ("train", "ray", "runtime.kind: ray")),
    ],
)
def test_a_setting_needs_its_package_for_the_stage_that_imports_it(tmp_path, sections, expected):
    assert expected in needs(study(tmp_path, **sections))


def test_gguf_bases_and_datasets_need_their_readers(tmp_path):
    tree = study_tree(tmp_path, "local")
    tree["models"] = [{"name": "small", "base": "package://some-model/model.gguf"}]
    tree["sources"][0] = {"name": "law", "role": "domain", "dataset": {"name": "a/b", "revision": "0" * 40}, "format": "jsonl"}
    found = needs(parse_study(tree, place="study.yaml"))
    assert ("models", "gguf", "models.small.base") in found
    assert ("documents", "datasets", "source law: dataset") in found


def test_classifiers_need_scikit_learn_and_loaded_ones_their_readers(tmp_path):
    tree = study_tree(tmp_path, "local")
    examples = {"positive": {"sources": "law"}, "negative": {"sources": "news"}}
    tree["classifiers"] = [
        {"name": "own", **examples},
        {"name": "piped", "model": "sklearn", "path": "model.skops", **examples},
        {"name": "fast", "model": "fasttext", "path": "model.bin", **examples},
    ]
    found = needs(parse_study(tree, place="study.yaml"))
    assert {need for need in found if need[0] in ("classifier", "scores")} == {
        *(("classifier", "sklearn", f"classifiers.{name}") for name in ("own", "piped", "fast")),
        ("scores", "sklearn", "classifiers.piped"),
        *((stage, "skops", "classifiers.piped.model: sklearn") for stage in ("classifier", "scores")),
        *((stage, "fasttext", "classifiers.fast.model: fasttext") for stage in ("classifier", "scores")),
    }


def test_every_stage_that_has_work_for_ray_needs_it(tmp_path):
    found = {need.stage for need in needed_packages(study(tmp_path, runtime={"kind": "ray"})) if need.module == "ray"}
    assert found == {stage.name for stage in STAGES} - {"models", "instruct", "exams", "scan", "tokenizer", "merges"}


def test_tracking_that_is_off_or_only_the_default_needs_nothing(tmp_path):
    assert needs(study(tmp_path, tracking={"uri": "http://tracker", "enabled": False})) == set()


def test_every_need_is_of_a_stage_and_of_a_known_package(tmp_path):
    config = study(tmp_path, prepare={"clean": {}}, runtime={"kind": "ray"}, evaluate={"harness_tasks": ["piqa"]})
    found = list(needed_packages(config))
    assert {need.stage for need in found} <= {stage.name for stage in STAGES}
    assert {need.module for need in found} <= set(OPTIONAL)


def test_all_that_is_missing_for_what_is_to_be_built_is_said_at_once(tmp_path, monkeypatch):
    config = study(
        tmp_path, prepare={"clean": {}}, evaluate={"harness_tasks": ["piqa", "mmlu"]}, train={"lora": {"rank": 2, "alpha": 4}}
    )
    require_packages(config, {stage.name for stage in STAGES})  # here all are installed
    for module in ("ftfy", "lm_eval", "peft"):
        monkeypatch.setitem(sys.modules, module, None)
    require_packages(config, {"shards", "held_out"})
    with pytest.raises(ConfigError) as caught:
        require_packages(config, {"documents", "evaluate", "scan"})
    assert caught.value.problem == (
        "prepare.clean.normalize needs the Python package ftfy; evaluate.harness_tasks: piqa, mmlu needs the Python package "
        "lm-eval; not installed here"
    )
    assert caught.value.fix.startswith("pip install 'ftfy")
    assert caught.value.fix.endswith("'; or set prepare.clean.normalize=false, take the tasks out of evaluate.harness_tasks")
