"""Training a classifier: which documents are examples, and which classifiers are refused."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cpt_ray.data.filter.classifier_tasks import FitUnit, fit_classifier
from cpt_ray.data.filter.classify.model import is_trained
from cpt_ray.errors import DataError
from cpt_ray.records import ExamItem, write_items
from tests.data.filter.in_process import World, classifier, rows, source
from tests.integration.tiny_study import document


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A web of two kinds, seeds, and a seed that holds a held-out document."""
    folder = tmp_path_factory.mktemp("world")
    web = rows("news", 150, name="news") + rows("law", 60, name="law")
    sources = [
        source(folder, "web", "general", web),
        source(folder, "seeds", "seed", [*rows("law", 80, name="seed", start=1000), {"id": "copy", "text": web[0]["text"]}]),
        source(folder, "few", "seed", rows("law", 19, name="few", start=2000)),
    ]
    return World.of(folder, sources)


def dropped(record, name):
    report = next(report for report in record.reports if report.source == name)
    return {reason: amount.documents for reason, amount in report.dropped.items()}


def test_seeds_are_compared_with_themselves_only_and_no_copy_is_lost_to_them(world):
    reports = {(r.stage, r.source): r for r in world.documents.record.reports}
    assert reports["near_duplicates", "seeds"].kept.documents == 81
    assert reports["near_duplicates", "web"].kept.documents == 210
    assert {entry.source for entry in world.held_out.record.sets} == {"web"}


def test_labels_choose_examples_and_the_rest_of_a_source_is_negative(world):
    found = world.train(classifier({"sources": "web", "labels": "law"}, {"sources": "web"})).record
    kept = 210 - dropped(found, "web")["held_out"]
    fitted = found.fitted
    assert fitted.positive.total + fitted.negative.total == kept
    assert 40 <= fitted.positive.total <= 60
    assert fitted.at_half.recall.value == 1
    # A document with a label of neither class is no example.
    found = world.train(classifier({"sources": "seeds"}, {"sources": "web", "labels": "news"}, name="other")).record
    assert dropped(found, "web")["other_label"] == 60


def test_what_is_held_out_or_holds_an_exam_item_is_no_example(world, tmp_path):
    leaked = document("law", 50_000 + 1003)
    question = " ".join(leaked.split()[:20])
    (tmp_path / "items.jsonl").write_text(write_items([ExamItem(task="bar", id="1", question=question)]))
    config = classifier({"sources": "seeds"}, {"sources": "web", "labels": "news"}, name="decontaminated")
    found = world.train(config, tmp_path / "items.jsonl")
    assert dropped(found.record, "seeds")["exam_item"] == 1
    texts = [
        text
        for path in (found.folder / "examples").iterdir()
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist()
    ]
    assert leaked not in texts
    held_out = [entry for entry in world.held_out.record.sets if entry.source == "web"]
    kept_out = "".join((world.held_out.folder / entry.path).read_text() for entry in held_out)
    assert len(kept_out) > 1000
    assert not [text for text in texts if text.splitlines()[0] in kept_out]
    # A seed that repeats a web document is an example only if that document is not held out.
    copy = document("news", 50_000)
    assert (copy in texts) == (copy.splitlines()[0] not in kept_out)


def test_a_large_class_is_sampled_by_seed(world):
    config = classifier({"sources": "seeds"}, {"sources": "web", "labels": "news"}, name="sampled", max_documents=40)
    found = world.train(config).record
    assert 20 <= found.fitted.negative.total <= 60
    assert dropped(found, "web")["not_sampled"] > 60
    assert dropped(found, "seeds")["not_sampled"] > 20


def test_a_class_without_documents_is_refused(world):
    with pytest.raises(DataError, match="classifier legal has one class: there is no positive example") as error:
        world.train(classifier({"sources": "web", "labels": "laws"}, {"sources": "web", "labels": "news"}))
    assert "classifiers.legal.positive: its sources, and its labels as they are written in the text" in error.value.fix


def test_fewer_than_twenty_documents_of_a_class_are_refused(world):
    with pytest.raises(DataError, match="classifier legal has 19 positive examples, and needs at least 20") as error:
        world.train(classifier({"sources": "few"}, {"sources": "web"}))
    assert error.value.fix == "add documents to the sources of classifiers.legal.positive"


@pytest.mark.parametrize(("components", "use"), [([0.5], "calibrate"), ([0.1, 0.9, 0.9], "test")])
def test_examples_in_too_few_components_for_every_use_are_refused(world, components, use):
    (world.root / "alike").mkdir(exist_ok=True)
    shares = {True: [components[number * len(components) // 24] for number in range(24)], False: [n / 24 for n in range(24)]}
    table = pa.table(
        {
            "positive": [kind for kind in shares for _ in range(24)],
            "share": [share for of_kind in shares.values() for share in of_kind],
            "text": [document("law" if kind else "news", number) for kind in shares for number in range(24)],
        }
    )
    pq.write_table(table, world.root / "alike" / "examples.parquet")
    unit = FitUnit(
        unit="legal", source="", classifier=classifier({"sources": "seeds"}, {"sources": "web"}), examples=("examples.parquet",)
    )
    with pytest.raises(DataError, match=f"none of its 24 positive examples is left to {use} it") as error:
        fit_classifier(unit, world.job("alike").context())
    assert error.value.fix == "add documents that differ to the sources of classifiers.legal.positive"


def test_a_classifier_that_guesses_is_refused(tmp_path):
    web = rows("news", 120, name="news")
    for number, row in enumerate(web):
        row["label"] = "odd" if number % 2 else "even"
    world = World.of(tmp_path, [source(tmp_path, "web", "general", web)])
    with pytest.raises(DataError, match=r"which is not above chance: calling everything positive has an F1 of 0\.6") as error:
        world.train(classifier({"sources": "web", "labels": "odd"}, {"sources": "web", "labels": "even"}))
    assert error.value.fix == "give classifiers.legal examples that differ, or more of them"


def test_the_same_text_gives_the_same_classifier(world):
    config = classifier({"sources": "seeds"}, {"sources": "web", "labels": "news"}, name="again")
    first = world.train(config)
    again = World(world.root / "second", world.sources, world.prepare, world.documents, world.held_out).train(config)
    assert first.record.fitted == again.record.fitted
    assert first.record.weights_path == again.record.weights_path


def test_a_saved_pipeline_is_calibrated_and_tested_on_the_examples(world, tmp_path):
    texts = [document(kind, 90_000 + number) for number in range(60) for kind in ("law", "news")]
    letters = HashingVectorizer(analyzer="char", ngram_range=(1, 2), n_features=1 << 12)
    pipeline = make_pipeline(letters, LogisticRegression(C=100)).fit(texts, ["law", "news"] * 60)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    loaded = {"model": "sklearn", "path": str(tmp_path / "model.skops"), "label": "law", "name": "saved"}
    config = classifier({"sources": "seeds"}, {"sources": "web", "labels": "news"}, **loaded)
    assert not is_trained(config)
    found = world.train(config)
    assert found.record.weights_path is None
    assert (found.record.fitted.positive.train, found.record.fitted.negative.train) == (0, 0)
    assert found.record.fitted.auc.value > 0.95
    scores = world.score(config, found, "web")
    tables = [pq.read_table(scores.folder / path)["probability"].to_numpy() for path in scores.record.units.values()]
    assert max(table.max() for table in tables) > 0.8
    assert min(table.min() for table in tables) < 0.2
