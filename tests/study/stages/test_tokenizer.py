"""A tokenizer as part of the study: learned once, from training text only, before the models that wait for it."""

from __future__ import annotations

import pytest
import yaml
from tokenizers import Tokenizer

from cpt_ray.records import ImportedModel, LearnedTokenizer
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS, waits
from cpt_ray.study.stages.tokenizer import TOKENIZER
from cpt_ray.study.study import StudyDriver
from tests.integration.tiny_study import TinyStudy, document, write_lines
from tests.study.planned import Lines, graph_of

SHAPE = {
    "architecture": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}


def new_models(*sizes: int, vocabulary: int = 320, **tokenizer: object) -> list[dict[str, object]]:
    settings = {"vocabulary": vocabulary, "sources": ["law", "news"], **tokenizer}
    return [
        {"name": f"new-{size}", "base": "init", "config": {**SHAPE, "hidden_size": size}, "train_tokenizer": settings}
        for size in sizes
    ]


def prepared(study: TinyStudy, *overrides: str) -> list[str]:
    """Prepare a study; what the console said."""
    console = Lines()
    graph = graph_of(study, *overrides)
    with StudyDriver(graph.config, study.config, console) as opened:
        opened.make("prepare")
    return console.said


def learned(study: TinyStudy) -> Tokenizer:
    return Tokenizer.from_file(str(graph_of(study).one(TOKENIZER).folder / "tokenizer.json"))


def test_models_with_the_same_settings_share_one_tokenizer_and_wait_for_it_while_others_are_imported_first(tiny):
    tiny.change(models=[{"name": "tiny", "base": str(tiny.model)}, *new_models(32, 64)])
    said = prepared(tiny)
    graph = graph_of(tiny)
    assert [waits(node) for node in graph.of(MODELS)] == [False, True, True]
    (tokenizer,) = graph.of(TOKENIZER)
    made = [line.split()[1] for line in said if line.startswith("  made ")]
    stages = [label.split("-")[0] for label in made]
    order = ["models/tiny", "documents/tiny", "held_out/tiny", "tokenizer/bpe", "models/new", "models/new"]
    assert [stage for stage in stages if stage in order] == order
    for node in graph.of(MODELS)[1:]:
        assert node.input("tokenizer") is tokenizer
        assert (node.folder / "tokenizer.json").is_file()
        assert ImportedModel.of(node.folder).shape.vocabulary_size == 320
    separators = [line for line in said if "documents end with" in line]
    assert separators == []  # each was said before, with its base


def test_what_was_learned_from_is_on_record_and_held_out_text_is_not_part_of_it(tiny):
    write_lines(tiny.inputs / "law.jsonl", [{"id": f"law_{n}", "text": document("law", n)} for n in range(80)])
    tiny.change(models=new_models(32, sources=["law"], vocabulary=400))
    prepared(tiny)
    graph = graph_of(tiny)
    record = store.load(graph.one(TOKENIZER))
    held_out = {report.source: report for report in store.load(graph.one(HELD_OUT)).reports if report.source == "law"}
    assert record == LearnedTokenizer(
        vocabulary=400,
        documents={"law": held_out["law"].kept.documents},
        text_bytes={"law": held_out["law"].kept.bytes},
    )
    assert 0 < record.documents["law"] < 80


def test_a_limit_draws_documents_at_random_and_the_same_ones_again(tiny, tmp_path):
    tiny.change(models=new_models(32, text_bytes=20_000))
    prepared(tiny)
    record = store.load(graph_of(tiny).one(TOKENIZER))
    assert 10_000 < sum(record.text_bytes.values()) < 30_000
    assert set(record.documents) == {"law", "news"}
    text = learned(tiny).to_str()
    again = tiny.copy(tmp_path / "again")
    for path in again.root.glob("tokenizer/*/*"):
        path.unlink()
    prepared(again, "runtime.prepare_workers=1")
    assert learned(again).to_str() == text


def test_what_changes_a_tokenizer_changes_its_models_and_nothing_before(tiny):
    tiny.change(models=new_models(32))
    before, after = graph_of(tiny), graph_of(tiny, "models.0.train_tokenizer.vocabulary=330")
    changed = {
        stage.name: before.of(stage)[0].fingerprint != after.of(stage)[0].fingerprint
        for stage in (DOCUMENTS, HELD_OUT, TOKENIZER, MODELS)
    }
    assert changed == {"documents": False, "held_out": False, "tokenizer": True, "models": True}
    reordered = graph_of(tiny, "models.0.train_tokenizer.sources=[news, law]")
    assert reordered.one(MODELS).fingerprint == before.one(MODELS).fingerprint


@pytest.mark.parametrize("change", ["init_seed=1", "config.hidden_size=64", "config.initializer_range=0.1"])
def test_seed_and_config_are_part_of_a_new_models_address(tiny, change):
    tiny.change(models=new_models(32))
    assert graph_of(tiny).one(MODELS).fingerprint != graph_of(tiny, f"models.0.{change}").one(MODELS).fingerprint


def test_a_rate_of_its_own_leaves_a_models_address(tiny):
    tiny.change(models=new_models(32))
    assert graph_of(tiny).one(MODELS).fingerprint == graph_of(tiny, "models.0.learning_rate_factor=3").one(MODELS).fingerprint


def test_the_key_reaches_the_resolved_study(tiny):
    tiny.change(models=new_models(32))
    prepared(tiny)
    written = yaml.safe_load((tiny.root / "study.yaml").read_text())
    assert written["models"][0]["train_tokenizer"] == {"vocabulary": 320, "sources": ["law", "news"], "text_bytes": 200_000_000}
