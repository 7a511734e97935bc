"""A classifier as its settings say: parts by rank, examples used once, a model trained and applied."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.data.filter.classify.calibrate import Calibration, calibrate
from cpt_ray.data.filter.classify.model import Classifier, _linear_scorer, cut_parts, margins, train
from tests.integration.tiny_study import document

CONFIG = ClassifierConfig.model_validate(
    {"name": "legal", "positive": {"sources": "law"}, "negative": {"sources": "news"}, "features": {"bits": 16}}
)


@pytest.mark.parametrize("count", [20, 21, 57, 1000])
def test_even_a_small_class_has_examples_for_every_use(count):
    shares = np.random.default_rng(count).random(count)
    names = cut_parts(shares, trained=True).names(shares)
    counts = {name: int(np.sum(names == name)) for name in ("train", "calibrate", "test")}
    assert sum(counts.values()) == count
    assert counts["test"] == round(0.25 * count)
    assert counts["train"] == count - round(0.4 * count)
    assert min(counts.values()) >= 3


def test_examples_of_one_component_have_one_use():
    shares = np.repeat(np.random.default_rng(0).random(10), 7)
    names = cut_parts(shares, trained=True).names(shares).reshape(10, 7)
    assert all(len(set(row)) == 1 for row in names)
    assert len(set(names[:, 0])) == 3


def test_a_loaded_model_needs_no_training_examples():
    shares = np.random.default_rng(0).random(100)
    assert set(cut_parts(shares, trained=False).names(shares)) == {"test", "calibrate"}


def test_a_trained_classifier_gives_the_domain_high_probabilities():
    def examples(start):
        return [(document(kind, start + number), kind == "law") for number in range(60) for kind in ("law", "news")]

    model = train(CONFIG, lambda epoch: examples(0), num_positive=60, num_negative=60, seed=0)
    score = _linear_scorer(CONFIG, model)
    values, positive = margins(score, examples(1000))
    classifier = Classifier(score, calibrate(values, positive))
    held_out = examples(2000)
    found = classifier.probabilities([text for text, _ in held_out])
    assert np.mean((found > 0.5) == np.array([is_law for _, is_law in held_out])) > 0.98


def test_no_texts_have_no_probabilities_although_scikit_learn_scores_none():
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit([document(kind, 0) for kind in ("law", "news")], ["legal", "other"])
    classifier = Classifier(lambda texts: pipeline.decision_function(list(texts)), Calibration(1.0, 0.0))
    with pytest.raises(ValueError, match="0 sample"):
        classifier.score([])
    assert classifier.probabilities([]).dtype == classifier.probabilities([document("law", 1)]).dtype == np.float32
    assert len(classifier.probabilities([])) == 0
