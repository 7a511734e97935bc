"""Rules across `sources`, `classifiers`, `arms` and `models`: what may be derived from what, what no arm may train on.

Also which keys of `models[]` a model from random weights needs, and which make no sense for it: what its `config` describes is
looked at by its proof (`model.bases.init`).
Part of the validation of a study file; everything here raises `ValueError` with a fix, or returns.
"""

import itertools
from collections.abc import Mapping, Sequence

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.sections.classifiers import ClassifierConfig, ExamplesConfig
from cpt_ray.config.sections.prepare import ArmConfig, SourceConfig
from cpt_ray.config.sections.train import ModelConfig

_EXAMPLE = (
    "{architecture: llama, hidden_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, "
    "intermediate_size: 384, tie_word_embeddings: true, max_position_embeddings: 2048}"
)
_ONLY_NEW = ("config", "train_tokenizer", "init_seed")
_ONLY_TRAINED = {
    "peak_learning_rate": "it has no rate of its own: set train.learning_rate to a number",
    "final_learning_rate": "it has no rate of its own: set train.learning_rate to a number",
    "new_tokens": "all of its tokens are new: let its tokenizer have them",
}


def check_domains(
    sources: Sequence[SourceConfig], classifiers: Sequence[ClassifierConfig], arms: Mapping[str, ArmConfig]
) -> None:
    """Check derived sources, classifiers and arms against each other.

    Raises:
        ValueError: If a name is unknown or of the wrong kind, derived sources form a circle, or an arm trains on a probe.
    """
    by_name = {source.name: source for source in sources}
    named = [classifier.name for classifier in classifiers]
    for source in sources:
        if source.parent is not None:
            _check_derived(source, by_name, named)
    for classifier in classifiers:
        for key in ("positive", "negative"):
            _check_examples(f"classifiers.{classifier.name}.{key}", getattr(classifier, key), by_name)
    for name, arm in arms.items():
        for key, mix in arm.mixes().items():
            for source_name in mix:
                _check_trained(f"arms.{name}.{key}", by_name[source_name])


def derivation_order(sources: Sequence[SourceConfig]) -> list[SourceConfig]:
    """The derived sources, each after the sources that it is made from.

    Raises:
        ValueError: If they form a circle.
    """
    by_name = {source.name: source for source in sources}
    done: dict[str, SourceConfig] = {}

    def visit(source: SourceConfig, above: tuple[str, ...]) -> None:
        if source.name in above:
            circle = " from ".join([*above[above.index(source.name) :], source.name])
            raise ValueError(f"derived sources form a circle: {circle}; derive one of them from a source that is read")
        if source.name not in done and source.parent is not None:
            for needed in filter(None, (source.parent, source.like)):
                if needed in by_name:
                    visit(by_name[needed], (*above, source.name))
            done[source.name] = source

    for source in sources:
        visit(source, ())
    return list(done.values())


def check_names(models: Sequence[str], classifiers: Sequence[str], sources: Sequence[SourceConfig]) -> None:
    """Check that the artifacts of derived sources and of scores have different names.

    Raises:
        ValueError: If two would have the same name.
    """
    derived = [source.name for source in sources if source.parent is not None]
    for kind, firsts, seconds in (("model", models, derived), ("classifier", classifiers, [source.name for source in sources])):
        seen: dict[str, tuple[str, str]] = {}
        for first, second in itertools.product(firsts, seconds):
            pair = seen.setdefault(f"{first}-{second}".casefold(), (first, second))
            if pair != (first, second):
                raise ValueError(
                    f"{kind} {pair[0]!r} with source {pair[1]!r} and {kind} {first!r} with source {second!r} would have the "
                    f"same name; rename one of the {kind}s"
                )


def check_new_models(models: Sequence[ModelConfig], sources: Sequence[SourceConfig]) -> None:
    """Check the keys of models that start from random weights, and that no other model has them.

    Raises:
        ValueError: Naming the key and what to change.
    """
    by_name = {source.name: source for source in sources}
    for model in models:
        if model.is_new:
            _check_new(model, by_name)
        elif wrong := [key for key in _ONLY_NEW if getattr(model, key) != ModelConfig.model_fields[key].default]:
            raise ValueError(
                f"models.{model.name}.{wrong[0]} is for base: init, but its base is {shorten(model.base)}, which has "
                f"weights and a tokenizer; leave {wrong[0]} out, or set base to init"
            )


def drawn_roots(arm: ArmConfig, sources: Sequence[SourceConfig]) -> frozenset[str]:
    """The sources that were read, whose text an arm draws, itself or through a derived source."""
    by_name = {source.name: source for source in sources}
    return frozenset(root_of(by_name[name], sources).name for mix in arm.mixes().values() for name, w in mix.items() if w)


def drawn_by_controls(sources: Sequence[SourceConfig], arms: Mapping[str, ArmConfig]) -> frozenset[str]:
    """The sources that were read, whose text the control arms draw."""
    return frozenset[str]().union(*(drawn_roots(arm, sources) for arm in arms.values() if arm.role == "control"))


def domain_text(sources: Sequence[SourceConfig], arms: Mapping[str, ArmConfig]) -> frozenset[str]:
    """The sources whose rows are domain text: of role domain, and what a classifier chose, unless a control draws it."""
    controls = [mix for arm in arms.values() if arm.role == "control" for mix in arm.mixes().values()]
    drawn = {name for mix in controls for name, weight in mix.items() if weight}
    chosen = {source.name for source in sources if source.where is not None} - drawn
    return frozenset(source.name for source in sources if source.role == "domain") | chosen


def probes_of_arms(sources: Sequence[SourceConfig], arms: Mapping[str, ArmConfig]) -> dict[str, frozenset[str]]:
    """By arm, the sources that count as probes for it: general text that no arm trains on, and the domains of other arms.

    A domain that no arm trains on is one that the study measures; so is any domain for a control, or an arm that has none.
    """
    drawn = {name: drawn_roots(arm, sources) for name, arm in arms.items()}
    everything = frozenset[str]().union(*drawn.values())
    domains = frozenset(source.name for source in sources if source.role == "domain") & everything
    untouched = frozenset(source.name for source in sources if source.role == "general") - everything
    own = {name: arm.role == "domain" and bool(drawn[name] & domains) for name, arm in arms.items()}
    return {name: untouched | (domains - drawn[name] if own[name] else frozenset()) for name in arms}


def missing_probe(sources: Sequence[SourceConfig], arms: Mapping[str, ArmConfig]) -> str | None:
    """What a study without probes can not say; None if each domain arm has text that it does not train on."""
    drawn = {name: drawn_roots(arm, sources) for name, arm in arms.items()}
    general = [source.name for source in sources if source.role == "general"]
    trained = {name: [arm for arm, roots in drawn.items() if name in roots] for name in general}
    if any(source.role == "probe" for source in sources) or any(not found for found in trained.values()):
        return None
    probes = probes_of_arms(sources, arms)
    if all(probes.get(name) for name, arm in arms.items() if arm.role == "domain"):
        return None
    if not general:
        return (
            "No source has role probe or general: forgetting is not measured; add text that no arm trains on, with role probe."
        )
    by = "; ".join(f"{name} by {', '.join(found)}" for name, found in trained.items())
    return (
        f"No probe: arms train on all general text ({by}), so its held-out sets cannot tell forgetting from being behind an "
        "arm that trains on that very text; add text that no arm trains on, as a source with role probe."
    )


def root_of(source: SourceConfig, sources: Sequence[SourceConfig]) -> SourceConfig:
    """The source that was read, from which a source is derived; a source that is read is its own."""
    by_name = {one.name: one for one in sources}
    while source.parent is not None:
        source = by_name[source.parent]
    return source


def _check_derived(source: SourceConfig, by_name: Mapping[str, SourceConfig], classifiers: Sequence[str]) -> None:
    place, parent = f"source {source.name}", by_name.get(str(source.parent))
    if parent is None:
        raise ValueError(f"{place} is from {source.parent!r}; known sources: {', '.join(by_name)}")
    if not parent.is_packed:
        raise ValueError(
            f"{place} is from {parent.name}, but no arm may train on a {parent.role} source; derive it from another"
        )
    for classifier in source.scored_by:
        if classifier not in classifiers:
            raise ValueError(
                f"{place}: {source.rules[0]} names classifier {classifier!r}; known classifiers: "
                f"{', '.join(classifiers) or 'none'}"
            )
    derivation_order(list(by_name.values()))
    if source.like is not None:
        like = by_name.get(source.like)
        if like is None or like.parent != source.parent:
            siblings = [one.name for one in by_name.values() if one.parent == source.parent and one.name != source.name]
            raise ValueError(
                f"{place}: {source.rules[0]}.like names {source.like!r}, which is not derived from {source.parent}; sources "
                f"derived from it: {', '.join(siblings) or 'none'}"
            )


def _check_examples(place: str, examples: ExamplesConfig, by_name: Mapping[str, SourceConfig]) -> None:
    for name in examples.sources:
        source = by_name.get(name)
        if source is None:
            raise ValueError(f"{place} names source {name!r}; known sources: {', '.join(by_name)}")
        if source.parent is not None:
            raise ValueError(f"{place} names {name}, which is derived; name {source.parent}, or a source with role seed")
        if source.role == "probe":
            raise ValueError(
                f"{place} names {name}, which is a probe: a filter trained on it would choose text like it; name another source"
            )
        if examples.labels and source.label_field is None:
            raise ValueError(
                f"{place} chooses by label, but source {name} has no label_field; set it to the field with the label"
            )


def _check_trained(place: str, source: SourceConfig) -> None:
    if source.role == "probe":
        raise ValueError(
            f"{place} names {source.name}, which is a probe: text that no arm trains on, so that forgetting can be measured on "
            "it; take it out of the mixture, or change its role"
        )
    if source.role == "seed":
        raise ValueError(
            f"{place} names {source.name}, whose role is seed: examples for classifiers; take it out of the mixture, or change "
            "its role"
        )


def _check_new(model: ModelConfig, sources: Mapping[str, SourceConfig]) -> None:
    place = f"models.{model.name}"
    if model.config is None:
        raise ValueError(f"{place} has base: init, but no config that says what to initialize; for example {_EXAMPLE}")
    if not isinstance(model.config.get("architecture"), str):
        raise ValueError(f"{place}.config needs architecture, a model type of transformers; for example {_EXAMPLE}")
    if (model.tokenizer is None) == (model.train_tokenizer is None):
        seen = "no tokenizer" if model.tokenizer is None else "both tokenizer and train_tokenizer"
        raise ValueError(
            f"{place} has base: init and {seen}; set {place}.tokenizer to a folder or a name on the hub, or "
            f"{place}.train_tokenizer to {{vocabulary: 8k, sources: [{', '.join(sources)}]}}"
        )
    for key, why in _ONLY_TRAINED.items():
        if getattr(model, key):
            raise ValueError(f"{place}.{key} is of a trained base, but base is init; leave {key} out: {why}")
    if model.revision is not None and model.tokenizer is None:
        raise ValueError(
            f"{place}.revision pins what comes from the hub, but base is init and its tokenizer is learned here; leave "
            "revision out"
        )
    for name in model.train_tokenizer.sources if model.train_tokenizer is not None else ():
        _check_learned_from(f"{place}.train_tokenizer.sources", name, sources)


def _check_learned_from(place: str, name: str, sources: Mapping[str, SourceConfig]) -> None:
    source = sources.get(name)
    if source is None:
        raise ValueError(f"{place} names source {name!r}; known sources: {', '.join(sources)}")
    if source.parent is not None:
        raise ValueError(f"{place} names {name}, which is derived; name the source that it is read from")
    if not source.is_packed:
        raise ValueError(f"{place} names {name}, a {source.role} source, which no arm may train on; name another source")
