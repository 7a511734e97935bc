"""The card of an export, as a finished run wrote it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from cpt_ray.records import RunRecord, ShardManifest
from cpt_ray.train.model_card import run_card
from tests.train.tiny_run import make_model, make_shards, make_task, spec_named, tiny_config


def test_the_card_of_an_export_says_what_it_was_made_of(tmp_path):
    from cpt_ray.train.worker import run_worker

    make_model(tmp_path)
    make_shards(tmp_path)
    config = tiny_config(tmp_path, budgets=[500], export_precision="fp32")
    task = make_task(tmp_path, config, spec_named(config, "control"), "card")
    run_worker(task)
    record = RunRecord.of(tmp_path / "card")
    card = (Path(record.export_path) / "README.md").read_text(encoding="utf-8")
    assert "| training text | 120 documents, " in card
    assert " tokens in 2 shards |" in card
    assert "| precision | fp32, exported as fp32 |" in card
    assert "| DeepSpeed | ZeRO stage 2 on 1 workers |" in card
    assert f"| shards fingerprint (includes the held-out sets) | {'f' * 64} |" in card
    assert f"torch {torch.__version__.split('+')[0]}" in card
    # Of an arm that also draws a source derived from another one, the counts say that they count documents twice.
    mix = record.training.mixes[0].model_copy(update={"weights": {"law": 0.5, "news": 0.5}})
    mixed, shards = record.training.model_copy(update={"mixes": (mix,)}), ShardManifest.of(tmp_path / "shards")
    cards = [
        run_card(record, training, task.model_copy(update={"derived_folders": ("derived",)}), shards)
        for training in (mixed, record.training)
    ]
    said = "shards; what a derived source shares with another counts in both |"
    assert [said in text for text in (*cards, run_card(record, mixed, task, shards))] == [True, False, False]
    changes = {"freeze": ("lm_head.*",), "embedding_learning_rate_factor": 0.2, "optimizer": "adafactor"}
    train = task.settings.train.model_copy(update=changes)
    other = run_card(
        record, record.training, task.model_copy(update={"settings": task.settings.model_copy(update={"train": train})}), shards
    )
    said = "all weights but lm_head.*, which are the base's; embeddings and output head at 0.2 times the learning rate"
    assert (f"| trained | {said} |" in other, "| trained | all weights |" in card) == (True, True)
    assert ("| optimizer | adafactor |" in other, "| optimizer | adamw |" in card) == (True, True)
    weights = load_file(Path(record.export_path) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
