"""A base from random weights through a whole study: trained as plain torch trains it, scored, exported, adapted by another."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.model.base import import_base
from cpt_ray.records import EvalRecord, ShardManifest, StepMetrics
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import EXPORTS, TRAIN
from cpt_ray.study.study import StudyDriver
from cpt_ray.train.monitor.metrics import read_metrics
from tests.integration.tiny_study import TinyStudy, study_tree, write_tiny_study
from tests.study.planned import Lines

STEPS, ROWS = 20, 4
SAME = 1e-5
"""Largest difference of a loss from plain torch's, as a share of it."""
CONFIG = {
    "architecture": "llama",
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
}
MODEL = {
    "name": "fresh",
    "base": "init",
    "config": CONFIG,
    "init_seed": 7,
    "train_tokenizer": {"vocabulary": 350, "sources": ["law", "news"]},
}


def ladder(folder: Path) -> TinyStudy:
    """A study of one arm on general text, in fp32, of about twenty steps."""
    study = write_tiny_study(folder, kind="local")
    tree = study_tree(folder, "local")
    for source in tree["sources"]:
        source["role"] = "general"
    train = {**tree["train"], "precision": "fp32", "export_precision": "fp32", "budgets": [4800], "checkpoint_every": 100_000}
    study.change(
        models=[MODEL],
        sources=tree["sources"],
        arms={"general": {"role": "general", "mix": {"law": 0.5, "news": 0.5}}},
        train=train,
    )
    return study


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TinyStudy:
    """The ladder, run once."""
    study = ladder(tmp_path_factory.mktemp("ladder"))
    assert main(["run", str(study.config)]) == 0
    return study


def graph_of(study: TinyStudy) -> StudyGraph:
    return StudyGraph(load_study(study.config), study.config)


def plain_losses(weights: Path, reader: ShardReader, steps: list[StepMetrics]) -> list[float]:
    """The loss of each step in plain torch: a document at a time, AdamW, clipping at 1."""
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in steps:
        nats, labels = torch.zeros(()), 0
        for name in step.sample_ids:
            source, _, number = name.rpartition(":")
            (row,) = reader.rows(source, [int(number)])
            start = 0
            for length in row.segment_lengths:
                ids = torch.from_numpy(row.tokens[start : start + length])
                start += length
                if length > 1:
                    logits = model(ids[None]).logits[0, :-1]
                    nats = nats + torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
                    labels += length - 1
        loss = nats / labels
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = step.learning_rate
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.accept(grid=6)
def test_it_reaches_the_loss_of_plain_torch_from_the_same_weights_and_rows(trained, record_property, tmp_path):
    graph = graph_of(trained)
    (run,), (shards,) = graph.of(TRAIN), graph.of(SHARDS)
    steps = read_metrics(run.folder)[:STEPS]
    assert len(steps) == STEPS
    assert {len(step.sample_ids) for step in steps} == {ROWS}
    reader = ShardReader(shards.folder, ShardManifest.of(shards.folder), verify=False)
    expected = plain_losses(graph.one(MODELS).folder, reader, steps)
    worst = max(abs(step.loss - loss) / loss for step, loss in zip(steps, expected, strict=True))
    assert worst <= SAME
    assert expected[-1] < expected[0] - 0.5  # it learned
    other = graph.config.models[0].model_copy(update={"init_seed": 8})
    import_base(other, tmp_path / "other", tokenizer=graph.one(MODELS).input("tokenizer").folder)
    control = plain_losses(tmp_path / "other", reader, steps[:1])[0]
    apart = abs(control - expected[0]) / control
    assert apart > 10 * SAME  # other weights are told apart
    record_property("loss after 20 steps", f"{steps[-1].loss:.7f}, from {steps[0].loss:.3f}")
    record_property("plain torch", f"{expected[-1]:.7f}; a step differs by at most {worst:.1e} (allowed {SAME:g})")
    record_property("another init_seed", f"begins {apart:.1e} away")


def test_the_plan_of_a_prepared_study_has_the_flops_that_training_counted(trained, capsys):
    (run,) = graph_of(trained).of(TRAIN)
    counted = sum(step.flops for step in read_metrics(run.folder))
    plan = StudyDriver(load_study(trained.config), trained.config, Lines()).plan().plan
    assert plan.measured_flops == pytest.approx(counted, rel=0.06)  # the run ends with a whole step
    assert plan.flops > plan.measured_flops * 0.9
    capsys.readouterr()
    assert main(["plan", str(trained.config)]) == 0
    assert "FLOPs as training counts: padding too, keys of packed documents (law " in capsys.readouterr().out


def test_random_weights_are_scored_and_training_improves_on_them(trained):
    scores = {node.name: EvalRecord.of(node.folder) for node in graph_of(trained).of(EVALUATE)}
    base, run = scores["fresh-base"], scores["fresh-general-4800-seed0"]
    for before, after in zip(base.held_out, run.held_out, strict=True):
        assert math.isfinite(before.bits_per_byte)
        assert after.bits_per_byte < before.bits_per_byte - 0.5
    # Uniform over the vocabulary, nearly: ln(350) nats a token.
    assert base.held_out[0].perplexity == pytest.approx(350, rel=0.1)


def test_the_export_is_a_model_with_its_tokenizer_under_a_stable_path(trained):
    export = trained.root / EXPORTS / "fresh-general-4800-seed0"
    assert export.is_symlink()
    assert export.resolve() == (graph_of(trained).of(TRAIN)[0].folder / "export").resolve()
    tokenizer, model = AutoTokenizer.from_pretrained(export), AutoModelForCausalLM.from_pretrained(export)
    assert len(tokenizer) == model.config.vocab_size == 350
    assert model.config.eos_token_id == tokenizer.eos_token_id == 0
    card = (export / "README.md").read_text()
    assert "random weights ({'architecture': 'llama'" in card
    assert "seed 7)" in card


def test_another_study_adapts_the_export_and_notices_when_it_was_trained_again(trained, tmp_path, capsys):
    study = write_tiny_study(tmp_path / "next", kind="local")
    link = trained.root / EXPORTS / "fresh-general-4800-seed0"
    study.change(models=[{"name": "adapted", "base": str(link)}])
    capsys.readouterr()
    assert main(["check", str(study.config)]) == 0
    assert "model adapted: LlamaForCausalLM, 20 tensors in 1 files; separator <|endoftext|>" in capsys.readouterr().out
    before = graph_of(study).one(MODELS).fingerprint
    again = tmp_path / "again"
    again.mkdir()
    for path in link.iterdir():
        (again / path.name).write_bytes(path.read_bytes())
    moved = yaml.safe_load(study.config.read_text())
    study.change(models=[{**moved["models"][0], "base": str(again)}])
    assert graph_of(study).one(MODELS).fingerprint == before  # the same files at another place
    weights = bytearray((again / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (again / "model.safetensors").write_bytes(weights)
    assert graph_of(study).one(MODELS).fingerprint != before


def test_a_second_run_makes_nothing(trained):
    files = {path: facts for path, facts in trained.files().items() if path.startswith(("models", "tokenizer", "train"))}
    assert main(["run", str(trained.config)]) == 0
    again = {path: facts for path, facts in trained.files().items() if path.startswith(("models", "tokenizer", "train"))}
    assert again == files
    assert len(files) > 10
