"""Bad input: exit code 2, a problem that names its location, a fix, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cpt_ray.cli.catalog import VERBS
from cpt_ray.cli.main import main
from cpt_ray.edges.lease import hold_lease
from cpt_ray.train.checkpoint import committed as checkpoint
from tests.integration.tiny_study import TinyStudy, write_tiny_study


@pytest.fixture
def tiny(tmp_path) -> TinyStudy:
    """A study that has never been run."""
    return write_tiny_study(tmp_path / "study", kind="local")


@pytest.fixture
def prepared(prepared_study, tmp_path) -> TinyStudy:
    """A private copy of a prepared study."""
    return prepared_study.copy(tmp_path / "study")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def refused(capsys, *arguments: str) -> str:
    """Run a verb that must be refused; return the problem and its fix."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    start = said.index(f"cpt-ray {arguments[0]}: ")
    problem, fix, text = said[start:].partition("\n  fix: ")
    assert fix, said
    assert text.strip(), "the fix is empty"
    assert "Traceback" not in said
    return problem + fix + text


def results(study: TinyStudy) -> set[str]:
    """Complete artifacts, except the models and exams that are copied before any text is read."""
    found = {str(path.parent.relative_to(study.root)) for path in study.root.glob("*/*/artifact.json")}
    return {name for name in found if not name.startswith(("models/", "exams/", "scan/"))}


@pytest.mark.parametrize(
    ("overrides", "problem", "fix"),
    [
        (["train.learnin_rate=1e-4"], "unknown key train.learnin_rate", "did you mean train.learning_rate?"),
        (["trane.budgets=[1]"], "unknown key trane", "did you mean train?"),
        (["train.learning_rate=fast"], "train.learning_rate: ", "change train.learning_rate"),
        (["train.budgets=[2000, 1000]"], "train.budgets must be above 0 and ascend", "change one of the keys"),
        (["nonsense"], "override 'nonsense' does not have the form section.key=value", "train.learning_rate=1e-4"),
        (
            ["runtime.kind=ray", "runtime.workers=5"],
            "runtime.workers is 5, but train.global_batch_size is 4 rows",
            "change one of the keys",
        ),
        (["study.root=ftp://host/x"], "study.root: ", "change study.root"),
        (["models.0.name=../../evil"], "models.0.name: a name has only the letters", "change models.0.name"),
        (["sources.law.path=gone/*.jsonl"], "gone/*.jsonl: no such file", "check the path or glob of this source"),
        (["evaluate.exams.0.path=gone.jsonl"], "gone.jsonl: no such file", "check the path"),
        (["train.deepspeed=gone.json"], "gone.json: no such DeepSpeed file", "ds_configs/"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_study_that_cannot_work_is_refused_before_anything_is_written(tiny, capsys, verb, overrides, problem, fix):
    said = refused(capsys, verb, str(tiny.config), *overrides)
    assert problem in said
    assert fix in said
    assert not tiny.root.exists()


def test_the_same_study_without_the_mistake_passes(tiny, capsys):
    assert main(["check", str(tiny.config)]) == 0
    assert "check passed" in capsys.readouterr().out


def test_a_misspelt_key_in_the_file_itself_is_named_with_its_file(tiny, capsys):
    tiny.config.write_text(tiny.config.read_text().replace("global_batch_size", "global_batch"))
    said = refused(capsys, "check", str(tiny.config))
    assert f"{tiny.config}: unknown key train.global_batch" in said
    assert "did you mean train.global_batch_size?" in said


@pytest.mark.parametrize("verb", ["check", "plan", "prepare", "train", "evaluate", "compare", "report", "run"])
def test_a_missing_study_file_is_named_by_every_verb(tmp_path, capsys, verb):
    said = refused(capsys, verb, str(tmp_path / "gone.yaml"))
    assert "gone.yaml: no such study file" in said
    assert "configs/demo.yaml" in said


@pytest.mark.parametrize(
    ("tree", "problem", "fix"),
    [
        ({"train_batch_size": 8}, "'train_batch_size' belongs to the study file (train.global_batch_size)", "set train.global"),
        (
            {"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}},
            "key 'optimizer' belongs to the study file",
            "train.learning_rate",
        ),
        ({"elasticity": {"enabled": True}}, "key 'elasticity' was removed by DeepSpeed 0.19", "delete elasticity"),
        ({"zero_optimization": {"stage": 2, "elastic_checkpoint": True}}, "'zero_optimization.elastic_checkpoint'", "delete"),
        ({"zero_optimization": {"stage": 7}}, "zero_optimization.stage is 7", "use 0, 1, 2 or 3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_deepspeed_key_that_belongs_elsewhere_is_refused(tiny, capsys, tree, problem, fix):
    path = tiny.config.parent / "ds.json"
    path.write_text(json.dumps(tree))
    said = refused(capsys, "run", str(tiny.config), "train.deepspeed=ds.json")
    assert problem in said
    assert fix in said
    assert "ds.json" in said
    assert not tiny.root.exists()


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate", "compare", "report", "run"])
def test_a_root_that_cannot_be_written_is_refused(tiny, capsys, verb):
    blocked = tiny.config.parent / "file"
    blocked.write_text("a file where a folder should be")
    said = refused(capsys, verb, str(tiny.config), f"study.root={blocked}/runs")
    assert f"{blocked}/runs: cannot be written: Not a directory" in said
    assert "set study.root" in said
    assert blocked.read_text() == "a file where a folder should be"


def test_a_tokenizer_with_more_ids_than_the_model_is_refused_before_any_text_is_read(tiny, capsys):
    from tests.evaluate.tiny import build_model

    build_model(300).save_pretrained(tiny.model)
    said = refused(capsys, "prepare", str(tiny.config))
    assert "the tokenizer has ids up to 399, but the model's vocabulary is 300" in said
    assert "use the tokenizer that came with the model" in said
    assert results(tiny) == set()
    assert not (tiny.root / "documents").exists()


def test_a_separator_that_the_tokenizer_does_not_know_is_refused(tiny, capsys):
    said = refused(capsys, "prepare", str(tiny.config), "models.0.separator=<|im_end|>")
    assert "models.tiny.separator is '<|im_end|>', which is not a single token of the tokenizer" in said
    assert "use one of its special tokens (<|endoftext|>)" in said
    assert not (tiny.root / "documents").exists()


def test_a_base_that_is_no_model_is_refused(tiny, capsys):
    shutil.rmtree(tiny.model)
    tiny.model.mkdir()
    said = refused(capsys, "prepare", str(tiny.config))
    assert f"models.tiny.base: {tiny.model} is empty" in said
    assert "give a folder with config.json and safetensors" in said
    assert not list(tiny.root.glob("models/*/artifact.json"))


@pytest.mark.ray
def test_an_empty_corpus_names_the_rule_that_dropped_most(tiny, capsys, ray_session_2cpu):
    said = refused(capsys, "prepare", str(tiny.config), "prepare.clean.min_bytes=1MB")
    assert "source law: none of its 165 documents are left; stage clean dropped the most, 165 as min_bytes" in said
    assert "change prepare.clean.min_bytes" in said
    assert results(tiny) == set()


@pytest.mark.ray
@pytest.mark.parametrize("verb", ["plan", "train", "run"])
def test_a_budget_above_the_tokens_there_are_says_how_many_epochs_and_which_key_allows_them(prepared, capsys, verb):
    before = results(prepared)
    said = refused(capsys, verb, str(prepared.config), "train.budgets=[2000, 200k]")
    assert "arms.legal at budget 200k needs 150k tokens of source law (weight 0.75), but it has 39.7k: 3.7" in said
    assert "epochs, and arms.legal.max_epochs is 1" in said
    assert "set arms.legal.max_epochs to at least 3.7" in said
    assert "or lower train.budgets to at most " in said
    assert results(prepared) == before != set()
    assert not (prepared.root / "train").exists()


@pytest.mark.ray
def test_the_key_that_the_message_names_does_allow_the_repeats(prepared, capsys):
    budgets, legal, control = "train.budgets=[2000, 60k]", "arms.legal.max_epochs=2", "arms.control.max_epochs=2"
    assert "arms.legal.max_epochs is 1" in refused(capsys, "plan", str(prepared.config), budgets)
    assert "arms.control.max_epochs is 1" in refused(capsys, "plan", str(prepared.config), budgets, legal)
    assert main(["plan", str(prepared.config), budgets, legal, control]) == 0


@pytest.mark.ray
def test_a_shard_that_contradicts_its_manifest_is_refused_by_training(prepared, capsys):
    for shard in prepared.root.glob("shards/*/*/**/*.arrow"):
        flip_a_bit(shard)
    said = refused(capsys, "train", str(prepared.config))
    assert ".arrow: sha256 " in said
    assert "but its manifest says" in said
    assert "it will be rebuilt" in said
    assert not list(prepared.root.glob("train/*/artifact.json"))
    assert not list(prepared.root.glob("train/*/checkpoints/*/manifest.json"))


@pytest.mark.ray
def test_a_list_of_shards_that_contradicts_its_manifest_is_refused(prepared, capsys):
    (listed,) = prepared.root.glob("shards/*/shards.arrow")
    flip_a_bit(listed)
    assert f"{listed}: sha256 " in refused(capsys, "train", str(prepared.config))


@pytest.mark.ray
def test_a_shard_of_another_size_is_refused_by_every_verb_that_needs_it(prepared, capsys):
    shard = next(prepared.root.glob("shards/*/**/*.arrow"))
    with shard.open("ab") as stream:
        stream.write(b"more")
    for verb in ("check", "prepare", "train"):
        assert f"{shard}: {shard.stat().st_size} bytes, but its manifest says" in refused(capsys, verb, str(prepared.config))


@pytest.mark.ray
def test_a_checkpoint_that_contradicts_its_manifest_is_reported_and_the_one_before_it_is_used(prepared, capsys):
    one_run = ("train.budgets=[2000]", "train.checkpoint_every=600", "train.keep_checkpoints=9")
    assert main(["train", str(prepared.config), *one_run]) == 0
    run = next(prepared.root.glob("train/tiny-legal-2000-*"))
    finished = (run / "run.json").read_text()
    for path in (run / "artifact.json", run / "run.json"):
        path.unlink()
    folder, manifest = checkpoint.newest(run)
    before = checkpoint.committed(run)[-2][1]
    assert before.progress.step > 0
    path = max(folder.rglob("*.pt"), key=lambda path: path.stat().st_size)
    flip_a_bit(path)
    capsys.readouterr()
    assert main(["train", str(prepared.config), *one_run]) == 0
    said = capsys.readouterr().out
    assert f"step {before.progress.step}  resume: continues from " in said
    assert f"skipped: {path}: sha256 " in said
    again = json.loads((run / "run.json").read_text())
    assert again["training"]["attempts"][-1]["first_step"] == before.progress.step < manifest.progress.step
    assert again["training"]["progress"] == json.loads(finished)["training"]["progress"]


@pytest.mark.ray
def test_a_run_none_of_whose_checkpoints_is_whole_is_refused(prepared, capsys):
    one_run = ("train.budgets=[2000]", "train.checkpoint_every=600", "train.keep_checkpoints=9")
    assert main(["train", str(prepared.config), *one_run]) == 0
    run = next(prepared.root.glob("train/tiny-legal-2000-*"))
    for path in (run / "artifact.json", run / "run.json"):
        path.unlink()
    for path in run.glob("checkpoints/*/engine/mp_rank_00_model_states.pt"):
        flip_a_bit(path)
    assert f"{run}: no checkpoint is intact: " in refused(capsys, "train", str(prepared.config), *one_run)
    assert not (run / "run.json").exists()


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate", "compare", "report", "run"])
def test_a_second_driver_is_refused_and_changes_nothing(tiny, capsys, verb):
    with hold_lease(tiny.root):
        before = {path: path.read_bytes() for path in tiny.root.rglob("*") if path.is_file()}
        said = refused(capsys, verb, str(tiny.config))
        assert "another driver is running this study (process " in said
        assert "set study.root to another folder" in said
        assert {path: path.read_bytes() for path in tiny.root.rglob("*") if path.is_file()} == before


def test_a_root_named_by_a_file_is_left_alone(tiny, capsys):
    Path(tiny.root).write_text("mine")
    refused(capsys, "prepare", str(tiny.config))
    assert Path(tiny.root).read_text() == "mine"


@pytest.mark.parametrize(
    "verb", [name for name, verb in VERBS.items() if verb.takes_study and name not in ("trace", "extend", "export")]
)
def test_a_relative_root_is_refused_by_every_verb_of_a_submitted_job(tiny, capsys, monkeypatch, tmp_path, verb):
    unpacked = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_12ab"
    unpacked.mkdir(parents=True)
    monkeypatch.chdir(unpacked)
    said = refused(capsys, verb, str(tiny.config), "study.root=runs")
    assert "study.root=runs: " in said
    assert "set study.root to an absolute path that every node sees" in said
    assert list(unpacked.iterdir()) == []
