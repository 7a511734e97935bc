"""The classifiers section: defaults, and a single source written as text."""

from cpt_ray.config.sections.classifiers import ClassifierConfig


def test_a_single_source_or_label_may_be_written_without_a_list():
    given = {"name": "legal", "positive": {"sources": "law", "labels": "statute"}, "negative": {"sources": ["law"]}}
    found = ClassifierConfig.model_validate(given)
    assert (found.positive.sources, found.positive.labels) == (("law",), ("statute",))
    assert (found.model, found.features.word_ngrams, found.features.character_ngrams) == ("ngrams", 2, 4)
