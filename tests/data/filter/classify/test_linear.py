"""The linear model: learns, repeats itself, gives a small class its weight, and is stored without pickles."""

import numpy as np
import pytest

from cpt_ray.data.filter.classify.linear import LabelledBatch, LinearModel, fit_linear


def batches_of(positives, negatives, seed=0, per_batch=50):
    """Gaussian classes around +1 and -1 in two of five dimensions."""
    random = np.random.default_rng(seed)
    positive = np.repeat([True, False], [positives, negatives])
    features = random.normal(size=(len(positive), 5)).astype(np.float32)
    features[:, :2] += np.where(positive, 1.5, -1.5)[:, None]
    order = random.permutation(len(positive))
    parts = np.split(order, range(per_batch, len(order), per_batch))
    return lambda epoch: [LabelledBatch(features[part], positive[part]) for part in parts], features, positive


def fit(epoch, positives, negatives, **changes):
    settings = {"epochs": 5, "regularization": 0.1, "seed": 0, **changes}
    return fit_linear(epoch, num_positive=positives, num_negative=negatives, **settings)


def test_the_classes_are_told_apart_and_a_second_fit_is_the_same():
    epoch, features, positive = batches_of(200, 200)
    model = fit(epoch, 200, 200)
    assert np.mean((features @ model.weights + model.intercept > 0) == positive) > 0.97
    again = fit(epoch, 200, 200)
    np.testing.assert_array_equal(model.weights, again.weights)


def test_a_class_of_one_in_fifty_is_found_as_often_as_the_other():
    epoch, features, positive = batches_of(20, 1000)
    called = features @ (model := fit(epoch, 20, 1000)).weights + model.intercept > 0
    assert np.mean(called[positive]) > 0.9
    assert np.mean(~called[~positive]) > 0.9


def test_a_model_is_read_as_it_was_written(tmp_path):
    model = LinearModel(np.array([1.5, -2.0], dtype=np.float32), 0.25)
    model.save(tmp_path / "weights.npz")
    found = LinearModel.load(tmp_path / "weights.npz")
    np.testing.assert_array_equal(found.weights, model.weights)
    assert found.intercept == 0.25
    np.savez(tmp_path / "objects.npz", weights=np.array([print], dtype=object), intercept=0)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        LinearModel.load(tmp_path / "objects.npz")
