"""What is said of a corpus after `prepare`, and its files for MLflow."""

import csv
import io

import pytest

from cpt_ray.records import Amount, CorpusProfile, DocumentsRecord, DuplicateComponents, Histogram, StageReport, Term
from cpt_ray.study.corpus import at_quantile, corpus_tables, describe_profile


def histogram(when: str, measure: str, edges: tuple[float, ...], counts: tuple[int, ...]) -> Histogram:
    return Histogram.model_validate({"source": "law", "measure": measure, "when": when, "edges": edges, "counts": counts})


PROFILE = CorpusProfile(
    histograms=(
        histogram("read", "bytes", (0, 100, 200), (8, 2)),
        histogram("read", "repetition", (0, 0.5, 1), (5, 5)),
        histogram("kept", "bytes", (0, 100, 200), (0, 2)),
        histogram("kept", "repetition", (0, 0.5, 1), (2, 0)),
    ),
    terms=(Term(text="the licensee", domain=40, background=1, z=12.4),),
    domain_words=1000,
    background_words=1000,
)
DOCUMENTS = DocumentsRecord(
    units=("law-00000",),
    reports=(),
    task_pids={},
    near_duplicate_threshold=None,
    components=DuplicateComponents(pairs_compared=0, documents_left=0, sizes={}, largest=()),
    languages={"law": {"en": 2}, "news": {"unknown": 7}},
    redacted={"law": {"email": 3}},
    profile=PROFILE,
    samples=(
        {"stage": "clean", "source": "law", "reason": "min_bytes", "id": "short_1", "text": "too\nshort"},
        {"stage": "clean", "source": "law", "reason": "min_bytes", "id": "short_2", "text": "not shown"},
    ),
)


def test_quantiles_are_linear_within_a_class() -> None:
    wide = histogram("read", "bytes", (0, 100, 200), (8, 2))
    assert at_quantile(wide, 0.4) == pytest.approx(50)
    assert at_quantile(wide, 0.9) == pytest.approx(150)
    assert at_quantile(histogram("read", "bytes", (0, 100, 200), (0, 0)), 0.5) == 0


def test_the_terminal_gets_languages_length_repetition_terms_and_a_sample_of_each_rule() -> None:
    said = "\n".join(describe_profile(DOCUMENTS))
    assert "languages of law: en 2\n" in said
    assert "languages of news" not in said
    assert "redacted in law: email 3\n" in said
    assert "10 read" in said
    assert "'the licensee' (12)" in said
    assert "too short" in said
    assert "not shown" not in said


def test_mlflow_gets_the_funnel_the_samples_and_the_profile() -> None:
    report = StageReport(
        stage="clean",
        source="law",
        input=Amount(documents=3, bytes=30),
        kept=Amount(documents=2, bytes=25),
        dropped={"min_bytes": Amount(documents=1, bytes=5)},
    )
    tables = corpus_tables(DOCUMENTS, [report])
    rows = list(csv.reader(io.StringIO(tables["funnel.csv"])))
    assert rows[1:] == [
        ["law", "clean", "in", "3", "30"],
        ["law", "clean", "kept", "2", "25"],
        ["law", "clean", "dropped: min_bytes", "1", "5"],
    ]
    assert [row["id"] for row in csv.DictReader(io.StringIO(tables["dropped_samples.csv"]))] == ["short_1", "short_2"]
    assert CorpusProfile.from_json(tables["profile.json"]) == PROFILE
