"""Derived sources, classifiers, probes and seeds: what contradicts itself is refused with a fix, and roles are worked out."""
# ruff: noqa: E501  (a table of messages is read by its columns)

import copy

import pytest
import yaml

from cpt_ray.config.domains import derivation_order, domain_text, drawn_roots, missing_probe, probes_of_arms, root_of
from cpt_ray.config.load import dump_study, parse_study
from tests.config.spoiled import refusal, spoil

CLASSIFIER = {"name": "legal", "positive": {"sources": ["law"]}, "negative": {"sources": ["news"]}}
DERIVED = [
    {"name": "web_legal", "from": "news", "where": "legal >= 0.8"},
    {"name": "web_sample", "from": "news", "sample": {"like": "web_legal"}},
    {"name": "web_matched", "from": "news", "quality_matched": {"like": "web_legal", "by": "legal"}},
]


@pytest.fixture
def domains(tree):
    tree["sources"] += copy.deepcopy(DERIVED)
    tree["classifiers"] = [copy.deepcopy(CLASSIFIER)]
    return tree


def test_a_study_with_derived_sources_is_read_and_reads_the_same_after_it_was_written(domains):
    domains["arms"]["special"] = {"role": "domain", "mix": {"web_legal": 0.5, "law": 0.5}}
    study = parse_study(domains, place="study.yaml")
    assert [source.name for source in study.read_sources] == ["law", "news"]
    assert [source.name for source in study.derived_sources] == ["web_legal", "web_sample", "web_matched"]
    assert {source.role for source in study.derived_sources} == {"derived"}
    assert parse_study(yaml.safe_load(dump_study(study)), place="again") == study
    assert drawn_roots(study.arms["special"], study.sources) == {"news", "law"}


def test_a_derived_source_comes_after_what_it_is_made_from_whatever_the_order_of_the_file(domains):
    domains["sources"][2:] = [{"name": "first", "from": "web_sample", "where": "legal > 0.9"}, DERIVED[1], DERIVED[0]]
    study = parse_study(domains, place="study.yaml")
    assert [source.name for source in study.derived_sources] == ["web_legal", "web_sample", "first"]
    assert root_of(study.derived_sources[-1], study.sources).name == "news"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sources.2.path", "x.jsonl", "source web_legal is from news and has that source's text; leave path out, or leave out from"),
        ("sources.2.text_field", "body", "source web_legal is from news and has that source's text; leave text_field out, or leave out from"),
        ("sources.2.role", "domain", "source web_legal is from news and has that source's role; leave role domain out"),
        ("sources.2.sample", {"like": "web_sample"}, "source web_legal is from news; give one of where, sample and quality_matched, saw where and sample"),
        ("sources.2.where", None, "source web_legal is from news; give one of where, sample and quality_matched, saw none of them"),
        ("sources.2.from", "nothing", "source web_legal is from 'nothing'; known sources: law, news, web_legal, web_sample, web_matched"),
        ("sources.2.where", "lawful >= 0.8", "source web_legal: where names classifier 'lawful'; known classifiers: legal"),
        ("sources.4.quality_matched.by", "quality", "source web_matched: quality_matched names classifier 'quality'; known classifiers: legal"),
        ("sources.3.sample.like", "law", "source web_sample: sample.like names 'law', which is not derived from news; sources derived from it: web_legal, web_matched"),
        ("sources.3.sample.like", "web_sample", "derived sources form a circle: web_sample from web_sample"),
        ("sources.2.from", "web_sample", "derived sources form a circle: web_legal from web_sample from web_legal"),
        ("sources.2.where", "legal >= 1", "legal >= 1 keeps everything or nothing: scores are probabilities; give a threshold between 0 and 1, such as 0.8"),
        ("sources.2.where", "legal <= 0.0", "legal <= 0.0 keeps everything or nothing"),
        ("sources.2.where", "legal = 0.5", "expected a condition such as 'legal >= 0.8', or several joined by and, saw 'legal = 0.5'"),
        ("sources.0.where", "legal >= 0.5", "source law has where, but no from"),
        ("sources.0.role", "derived", "source law has role derived, but no from"),
        ("classifiers.0.positive.sources", ["laws"], "classifiers.legal.positive names source 'laws'; known sources: law, news"),
        ("classifiers.0.negative.sources", ["web_legal"], "classifiers.legal.negative names web_legal, which is derived; name news, or a source with role seed"),
        ("classifiers.0.negative.sources", ["law"], "classifier legal has one class: source law is positive and negative; name other sources, or give labels"),
        ("classifiers.0.positive.labels", ["law"], "classifiers.legal.positive chooses by label, but source law has no label_field; set it to the field with the label"),
        ("classifiers.0.path", "m.bin", "classifier legal has path m.bin, but model ngrams is trained here; leave path out, or set model to the kind of model that it holds"),
        ("classifiers.0.model", "fasttext", "classifier legal has model fasttext, which is loaded; give its path"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_what_to_change(domains, key, value, message):
    assert f": {message}" in refusal(spoil(domains, key, value))


def test_a_pickle_is_refused_by_its_name(domains):
    domains["classifiers"][0] |= {"model": "sklearn", "path": "model.joblib"}
    message = refusal(domains)
    assert "classifier legal: model.joblib is not a .skops file, and a pickle can run any code when it is loaded" in message
    assert "skops.io.dump(pipeline, 'model.skops')" in message


@pytest.mark.parametrize("role", ["probe", "seed"])
def test_no_arm_draws_a_probe_or_a_seed_and_nothing_is_derived_from_them(domains, role):
    domains["sources"].append({"name": "apart", "role": role, "path": "apart.jsonl"})
    parse_study(domains, place="study.yaml")
    domains["arms"]["legal"]["mix"] = {"law": 0.5, "apart": 0.5}
    message = refusal(domains)
    assert f"arms.legal.mix names apart, {'which is a probe' if role == 'probe' else 'whose role is seed'}" in message
    assert "take it out of the mixture, or change its role" in message
    domains["arms"]["legal"]["mix"] = {"law": 1.0}
    domains["sources"][2]["from"] = "apart"
    assert f"source web_legal is from apart, but no arm may train on a {role} source; derive it from another" in refusal(
        domains
    )


def test_a_filter_is_not_trained_on_a_probe(domains):
    domains["sources"].append({"name": "apart", "role": "probe", "path": "apart.jsonl"})
    domains["classifiers"][0]["negative"]["sources"] = ["apart"]
    assert "names apart, which is a probe: a filter trained on it would choose text like it; name another source" in refusal(
        domains
    )


def test_two_artifacts_with_one_name_are_refused(domains):
    domains["models"] = [{"name": "a", "base": "x"}, {"name": "a-b", "base": "y"}]
    domains["sources"][2:] = [{**DERIVED[0], "name": "b-c"}, {**DERIVED[0], "name": "c"}]
    assert (
        "model 'a' with source 'b-c' and model 'a-b' with source 'c' would have the same name; rename one of the models"
        in refusal(domains)
    )


def arms_of(tree, **mixes):
    tree["arms"] = {name: {"role": "control" if name == "control" else "domain", "mix": mix} for name, mix in mixes.items()}
    study = parse_study(tree, place="study.yaml")
    return study.sources, study.arms


def test_another_arms_domain_is_a_probe_for_an_arm_with_a_domain_of_its_own(tree):
    tree["sources"].append({"name": "medicine", "role": "domain", "path": "m.jsonl"})
    sources, arms = arms_of(
        tree, legal={"law": 1.0}, medical={"medicine": 0.5, "news": 0.5}, general={"news": 1.0}, control={"news": 1.0}
    )
    assert probes_of_arms(sources, arms) == {"legal": {"medicine"}, "medical": {"law"}, "general": set(), "control": set()}
    # A domain that no arm trains on is what the study measures.
    sources, arms = arms_of(tree, legal={"law": 1.0}, control={"news": 1.0})
    assert probes_of_arms(sources, arms) == {"legal": set(), "control": set()}
    # General text that no arm trains on.
    sources, arms = arms_of(tree, legal={"law": 1.0}, control={"law": 1.0})
    assert probes_of_arms(sources, arms) == {"legal": {"news"}, "control": {"news"}}


def test_a_study_without_a_probe_is_told_what_it_can_not_say(tree):
    sources, arms = arms_of(tree, legal={"law": 0.9, "news": 0.1}, control={"news": 1.0})
    assert missing_probe(sources, arms) == (
        "No probe: arms train on all general text (news by legal, control), so its held-out sets cannot tell forgetting from being "
        "behind an arm that trains on that very text; add text that no arm trains on, as a source with role probe."
    )
    assert missing_probe(sources[:1], arms_of(tree, legal={"law": 1.0})[1]) is not None
    # Each of these gives text that the domain arm does not train on.
    assert missing_probe(*arms_of(tree, legal={"law": 1.0})) is None
    tree["sources"].append({"name": "apart", "role": "probe", "path": "apart.jsonl"})
    assert missing_probe(*arms_of(tree, legal={"law": 0.9, "news": 0.1}, control={"news": 1.0})) is None


def test_derivation_order_of_a_study_without_derived_sources_is_empty(tree):
    assert derivation_order(parse_study(tree, place="study.yaml").sources) == []


def test_domain_text_is_of_role_domain_or_chosen_by_a_classifier_for_no_control(domains):
    domains["arms"]["special"] = {"role": "domain", "mix": {"web_legal": 0.5, "web_matched": 0.5}}
    study = parse_study(domains, place="study.yaml")
    assert domain_text(study.sources, study.arms) == {"law", "web_legal"}
    domains["arms"]["control"]["mix"] = {"web_legal": 0.5, "news": 0.5}
    study = parse_study(domains, place="study.yaml")
    assert domain_text(study.sources, study.arms) == {"law"}
