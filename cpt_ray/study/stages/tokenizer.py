"""Stage `tokenizer`: a tokenizer learned from the study's own text, for models that start from random weights.

It follows `held_out`, because held-out text is not learned from, so its models are made after the text is prepared; all others
are imported before it. Models with the same settings share one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cpt_ray.config.sections.models.init import TrainTokenizerConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import LearnedTokenizer
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, Text, prepare_settings
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


@dataclass(frozen=True)
class Learning(Text):
    """Text to learn from, and what to learn."""

    wanted: TrainTokenizerConfig


TokenizerNode = Node[Learning, LearnedTokenizer]


def tokenizer_name(wanted: TrainTokenizerConfig) -> str:
    """Name of the tokenizer with these settings."""
    return f"bpe-{wanted.vocabulary}-{store.fingerprint(_settings(wanted))[:6]}"


def tokenizer_node(graph: Graph, model: ModelConfig) -> TokenizerNode | None:
    """The tokenizer that is learned for a model, if one is."""
    return None if model.train_tokenizer is None else graph.one(TOKENIZER, tokenizer_name(model.train_tokenizer))


def _settings(wanted: TrainTokenizerConfig) -> dict[str, object]:
    return {**wanted.model_dump(mode="json"), "sources": sorted(wanted.sources)}


def _plan(graph: Graph) -> Iterator[Planned[Learning]]:
    config = graph.config
    wanted = {tokenizer_name(one): one for model in config.models if (one := model.train_tokenizer) is not None}
    for name, one in wanted.items():
        yield Planned(
            name=name,
            inputs={"documents": graph.one(DOCUMENTS), "held_out": graph.one(HELD_OUT)},
            settings={**_settings(one), **prepare_settings(config.prepare, "seed")},
            work=Learning(config.read_sources, config.prepare, one),
        )


def _build(node: TokenizerNode, _: Session) -> None:
    from cpt_ray.data.rows.learn_tokenizer import learn_tokenizer, save_tokenizer
    from cpt_ray.data.run.merge import unit_files
    from cpt_ray.data.run.training_tasks import DrawUnit, training_texts
    from cpt_ray.data.run.units import UnitContext

    work, documents, held_out = node.work, store.made(node.input("documents")), store.load(node.input("held_out"))
    inputs = {"documents": str(documents.folder)}
    context = UnitContext(folder=str(node.folder), inputs=inputs, sources=work.sources, prepare=work.prepare)
    files = unit_files(documents.folder, documents.record.units)
    wanted = (one for one in files if one["source"] in work.wanted.sources)
    tasks = (DrawUnit(**one, share=held_out.shares[one["source"]], floor=held_out.floors) for one in wanted)
    left = [report for report in documents.record.reports if report.stage == "near_duplicates"]
    total = sum(report.kept.bytes for report in left if report.source in work.wanted.sources)
    counts, sizes = Counter[str](), Counter[str]()
    texts = training_texts(tasks, context, work.wanted.text_bytes / total, counts, sizes)
    save_tokenizer(learn_tokenizer(texts, work.wanted.vocabulary), node.folder)
    record = LearnedTokenizer(vocabulary=work.wanted.vocabulary, documents=dict(counts), text_bytes=dict(sizes))
    write_atomic(node.folder / LearnedTokenizer.FILE, record.to_json())


TOKENIZER = Stage[Learning, LearnedTokenizer](
    name="tokenizer",
    version=1,
    verb="prepare",
    plan=_plan,
    build=one_by_one(_build),
    record=LearnedTokenizer,
    files=("*.json",),
)
