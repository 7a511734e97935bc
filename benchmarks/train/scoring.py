"""Speed of scoring: what it costs beyond the forward passes alone, on the demo's model and its legal texts.

Run by `make bench-evaluate`; writes `benchmarks/results/evaluate.json`. One process on one thread, like a scoring task. The
sides take turns of a few documents, in changing order, because a shared machine changes its speed within a minute; figures are
CPU seconds. The forward passes alone are the model's body and its output product over the same rows, already on the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.record import RESULTS, write_results
from cpt_ray.config.load import load_study
from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.evaluate.bits_per_byte import aggregate, rolling_windows, score_documents
from cpt_ray.evaluate.packed import pass_tokens, plan_forwards
from cpt_ray.evaluate.per_item import format_scores
from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.base import import_base, load_model, load_tokenizer
from cpt_ray.model.scoring import EncodedDocument, encode_document
from cpt_ray.records import DocumentKey, HeldOutSet, ImportedModel

STUDY = Path(__file__).parents[2] / "configs" / "demo.yaml"
MODEL = Path(__file__).parents[2] / "runs" / "bench-evaluate" / "model"
TEXTS = "package://licensedcode-data/licensedcode/data/licenses"
DOCUMENTS_PER_TURN = 8
_LEAST_BYTES = 600


def read_texts(count: int) -> list[str]:
    """The first license texts of the demo's source that it would keep."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(Path(resolve_package(TEXTS)).glob("*.LICENSE")))
    return [text for text, _ in zip((text for text in texts if len(text) >= _LEAST_BYTES), range(count), strict=False)]


def score(model: PreTrainedModel, tokenizer: object, texts: Sequence[str], config: EvaluateConfig) -> int:
    """All that scoring does with a set: tokenize, score, aggregate, format. Returns the tokens scored."""
    documents = [
        encode_document(tokenizer, DocumentKey(str(i), str(i)), text, document_tokens=config.document_tokens)  # type: ignore[arg-type]
        for i, text in enumerate(texts)
    ]
    scores = score_documents(
        model, documents, prefix=0, context=config.context, batch_tokens=pass_tokens(config.batch_tokens, model.device)
    )
    held_out = HeldOutSet(source="licenses", role="domain", part="test", path="", documents=len(texts), bytes=0)
    found = aggregate(scores, held_out=held_out, documents_path="", compare=CompareConfig())
    format_scores(scores)
    return found.scored_tokens


def make_passes(documents: Sequence[EncodedDocument], context: int, batch_tokens: int) -> list[tuple[torch.Tensor, list[int]]]:
    """The rows of the same forward passes: token ids, and lengths of the segments."""
    windows = [inputs for one in documents for inputs, _ in rolling_windows(one.tokens, prefix=0, context=context)]
    return [
        (torch.tensor([token for index in group for token in windows[index]]), [len(windows[index]) for index in group])
        for group in plan_forwards([len(window) for window in windows], batch_tokens)
    ]


@torch.no_grad()
def forward(model: PreTrainedModel, passes: Sequence[tuple[torch.Tensor, list[int]]]) -> None:
    """The forward passes alone."""
    head = model.get_output_embeddings()
    for ids, lengths in passes:
        head(hidden_states(model, ids, lengths))


def scoring_share(model: PreTrainedModel, tokenizer: object, config: EvaluateConfig, *, turns: int) -> Claim:
    """Tokens a CPU second of scoring, over those of the same forward passes alone."""
    texts = read_texts(DOCUMENTS_PER_TURN * (turns + 1))
    seconds, shares = [], []
    for turn in range(turns + 1):
        part = texts[turn * DOCUMENTS_PER_TURN : (turn + 1) * DOCUMENTS_PER_TURN]
        encoded = [
            encode_document(tokenizer, DocumentKey("", ""), text, document_tokens=config.document_tokens)  # type: ignore[arg-type]
            for text in part
        ]
        passes = make_passes(encoded, config.context, pass_tokens(config.batch_tokens, model.device))
        sides: list[Callable[[], object]] = [
            lambda part=part: score(model, tokenizer, part, config),  # type: ignore[misc]
            lambda passes=passes: forward(model, passes),  # type: ignore[misc]
        ]
        found = {}
        for side in (0, 1) if turn % 2 else (1, 0):
            started = time.process_time()
            sides[side]()
            found[side] = time.process_time() - started
        if turn:  # the first is for warming up
            seconds.append((found[0], found[1], sum(len(one.tokens) for one in encoded)))
            shares.append(found[1] / found[0])
    print(json.dumps(seconds))
    return Claim(
        id="evaluate.scoring_share", possible=POSITIVE,
        claim=f"tokens a CPU second of scoring documents of up to {config.document_tokens} tokens, from text to intervals, "
        "over those of the same forward passes alone; 135M parameters, bf16, one thread",
        value=statistics.median(shares), spread=statistics.stdev(shares) / len(shares) ** 0.5 if turns > 1 else 0.0,
        unit="ratio of tokens/s", target=">= 0.9", work=(turns, "turns"),
        compared_with="body and output product over the same rows",
        raw={"seconds_scoring_forward_tokens": seconds},
    )  # fmt: skip


def main() -> None:
    """Measure, and write the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="two turns; results go to a temporary folder")
    options = parser.parse_args()
    study = load_study(STUDY, ())
    if not (MODEL / ImportedModel.FILE).is_file():
        import_base(study.models[0], MODEL)
    torch.set_num_threads(1)
    model, tokenizer = load_model(MODEL, precision=study.evaluate.precision), load_tokenizer(MODEL)
    claims = [scoring_share(model, tokenizer, study.evaluate, turns=2 if options.quick else options.turns)]
    folder = Path(tempfile.mkdtemp(prefix="bench-evaluate-")) if options.quick else RESULTS
    write_results("evaluate", claims, folder=folder, merge=True)


if __name__ == "__main__":
    main()
