"""Classifiers that are loaded: a fastText file, a scikit-learn pipeline, a Hugging Face classifier or encoder.

In: texts. Out: margins (log-odds of the domain), or for an encoder a vector per text. Each library is imported only for its own
kind. Nothing is unpickled, and no code from a model folder runs. Memory: the model, and one batch of texts.

Guarantee: a file that cannot be loaded safely is refused by name, with the way to save it safely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.edges.packages import needed_for
from cpt_ray.errors import ConfigError

Floats: TypeAlias = npt.NDArray[np.float64]
Scorer: TypeAlias = Callable[[Sequence[str]], Floats]
"""Texts to margins, float64[texts]."""
_BATCH_TEXTS = 16
_TINY = 1e-7


def load_scorer(config: ClassifierConfig) -> Scorer:
    """The margins of a loaded model.

    Raises:
        ConfigError: If its file is missing or not safe, it lacks the label, or its library is not installed.
    """
    path = _existing(config)
    kinds = {"fasttext": _fasttext, "sklearn": _sklearn, "transformers": _sequence_classifier}
    return kinds[config.model](path, config)


@functools.lru_cache(maxsize=1)
def load_encoder(path: str, name: str) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """The mean hidden state of each text in an encoder's last layer, scaled to length 1, float32[texts, hidden size].

    Raises:
        ConfigError: If the folder holds no encoder.
    """
    import torch
    from transformers import AutoModel

    place = f"classifier {name}: {path}"
    model, tokenizer, device = _hugging_face(AutoModel, path, place)

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = []
        for batch in _batches(texts):
            tokens = _tokens(tokenizer, model, batch, device)
            with torch.inference_mode():
                hidden = model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"][:, :, None]
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=1).cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, model.config.hidden_size), dtype=np.float32)

    return encode


def _existing(config: ClassifierConfig) -> Path:
    path = Path(str(config.path)).expanduser()
    if not path.exists():
        raise ConfigError(
            f"classifier {config.name}: {path} does not exist", fix=f"set classifiers.{config.name}.path to a file or folder"
        )
    return path


def _fasttext(path: Path, config: ClassifierConfig) -> Scorer:
    with needed_for(f"classifiers.{config.name}.model: {config.model}"):
        import fasttext
    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise ConfigError(f"classifier {config.name}: {path}: {error}", fix="give a file written by fastText") from None
    # fasttext-predict can not list labels; a text without a known word has none.
    labels = sorted(getattr(model, "labels", ()) or (label for label, _ in _predicted(model, "a")))
    if not labels:
        raise ConfigError(
            f"classifier {config.name}: {path} does not tell its labels",
            fix="pip install fasttext, which lists them, or train the model with subwords (minn, maxn)",
        )
    wanted = _chosen(config, labels)

    def score(texts: Sequence[str]) -> Floats:
        found = [dict(_predicted(model, text)).get(wanted, 0.0) for text in texts]
        return log_odds(np.array(found))

    return score


def _predicted(model: Any, text: str) -> list[tuple[str, float]]:
    """Labels with probabilities; fastText takes a text as one line."""
    labels, probabilities = model.predict(text.replace("\n", " "), k=-1)
    return list(zip(labels, (float(value) for value in probabilities), strict=True))


def _sklearn(path: Path, config: ClassifierConfig) -> Scorer:
    with needed_for(f"classifiers.{config.name}.model: {config.model}"):
        from skops.io import get_untrusted_types, load

    try:
        untrusted = get_untrusted_types(file=path)
    except Exception as error:  # what skops raises depends on which part of the file is not as it expects
        raise ConfigError(
            f"classifier {config.name}: {path} was not saved by skops: {error}", fix="save it with skops.io.dump"
        ) from None
    if untrusted:
        raise ConfigError(
            f"classifier {config.name}: {path} holds types that are not loaded safely: {', '.join(untrusted)}",
            fix="use a pipeline of scikit-learn's own classes, without functions",
        )
    pipeline = load(path, trusted=[])
    classes = [str(name) for name in getattr(pipeline, "classes_", ())]
    if not classes:
        raise ConfigError(
            f"classifier {config.name}: {path} has no classes: it is no classifier, or was not fitted",
            fix="save a fitted pipeline that ends in a classifier",
        )
    place = classes.index(_chosen(config, classes))

    def score(texts: Sequence[str]) -> Floats:
        return log_odds(np.asarray(pipeline.predict_proba(list(texts)), dtype=np.float64)[:, place])

    if hasattr(pipeline, "predict_proba"):
        return score
    if len(classes) != 2:
        raise ConfigError(
            f"classifier {config.name}: {path} has {len(classes)} classes and no probabilities",
            fix="save a classifier with predict_proba, or one with two classes",
        )
    sign = 1.0 if place == 1 else -1.0
    return lambda texts: sign * np.asarray(pipeline.decision_function(list(texts)), dtype=np.float64)


def _sequence_classifier(path: Path, config: ClassifierConfig) -> Scorer:
    import torch
    from transformers import AutoModelForSequenceClassification

    place = f"classifier {config.name}: {path}"
    model, tokenizer, device = _hugging_face(AutoModelForSequenceClassification, str(path), place)
    names = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    wanted = names.index(_chosen(config, names))

    def score(texts: Sequence[str]) -> Floats:
        rows = [np.empty(0)]
        for batch in _batches(texts):
            with torch.inference_mode():
                logits = model(**_tokens(tokenizer, model, batch, device)).logits.double()
            if logits.shape[1] == 1:
                rows.append(logits[:, 0].cpu().numpy())
                continue
            others = torch.cat([logits[:, :wanted], logits[:, wanted + 1 :]], dim=1)
            rows.append((logits[:, wanted] - others.logsumexp(dim=1)).cpu().numpy())
        return np.concatenate(rows)

    return score


def _hugging_face(kind: Any, path: str, place: str) -> tuple[Any, Any, Any]:
    import torch
    from transformers import AutoTokenizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = kind.from_pretrained(path, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{place} is not a model that transformers loads: {first}",
            fix="give a folder with config.json, model.safetensors and a tokenizer",
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigError(
            f"{place}: its tokenizer has neither a padding nor an end-of-text token, so texts can not be batched",
            fix="set tokenizer.pad_token, and save the tokenizer to this folder again",
        )
    # A decoder classifies at the last token that is no padding, and knows it by the id in its own config.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model.to(device).eval(), tokenizer, device


def _tokens(tokenizer: Any, model: Any, texts: Sequence[str], device: Any) -> Any:
    """Token ids of a batch, each text cut to what the model takes."""
    longest = min(getattr(model.config, "max_position_embeddings", 512) or 512, 512)
    return tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt").to(device)


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + _BATCH_TEXTS] for start in range(0, len(texts), _BATCH_TEXTS))


def _chosen(config: ClassifierConfig, labels: Sequence[str]) -> str:
    if config.label is None:
        return labels[-1]
    if config.label not in labels:
        raise ConfigError(
            f"classifier {config.name}: its model has no label {config.label!r}",
            fix=f"set classifiers.{config.name}.label to one of {', '.join(labels)}",
        )
    return config.label


def log_odds(probabilities: Floats) -> Floats:
    """Probabilities as margins; 0 and 1 become large finite ones."""
    inside = np.clip(probabilities, _TINY, 1 - _TINY)
    return np.log(inside / (1 - inside))
