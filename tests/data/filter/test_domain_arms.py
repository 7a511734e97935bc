"""Domain arms end to end: a planted domain is found, arms are nested, and what none may train on is in no row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.config.load import load_study
from cpt_ray.records import (
    Amount,
    ArmsRecord,
    ClassifierRecord,
    HeldOutRecord,
    ScoresRecord,
    SelectionRecord,
    ShardManifest,
    YieldRecord,
)
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.inspect.rows import decode_rows
from cpt_ray.study.inspect.trace import shards_of
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.filter.classifier import CLASSIFIER
from cpt_ray.study.stages.filter.derived import ARMS, DERIVED
from cpt_ray.study.stages.filter.scores import SCORES, YIELD
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.shards import SHARDS
from tests.conftest import made_once
from tests.data.filter.planted import COPIES, PLANTED, THRESHOLD, marker, web_documents, write_planted_study
from tests.integration.finished import cpt_ray
from tests.integration.tiny_study import TinyStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ARM_SOURCES = {
    "general": {"web"},
    "special": {"web_legal", "news"},
    "sample": {"web_sample", "news"},
    "matched": {"web_matched", "web_best"},
}


@dataclass(frozen=True)
class Prepared:
    study: TinyStudy
    graph: StudyGraph
    said: str

    def documents(self, source: str) -> dict[str, int]:
        """Identity to tokens of every packed document of a source, from the indices of its shards."""
        folder, manifest = shards_of(self.graph, "tiny")
        found: dict[str, int] = {}
        for entry in manifest.of_source(source):
            for piece in pq.read_table(folder / entry.index_path, columns=["identity", "tokens"]).to_pylist():
                found[piece["identity"]] = found.get(piece["identity"], 0) + piece["tokens"]
        return found

    def labels(self, source: str) -> dict[str, str]:
        """Identity to id of every packed document of a source."""
        folder, manifest = shards_of(self.graph, "tiny")
        tables = [pq.read_table(folder / e.index_path, columns=["identity", "document_id"]) for e in manifest.of_source(source)]
        table = pa.concat_tables(tables)
        return dict(zip(table["identity"].to_pylist(), table["document_id"].to_pylist(), strict=True))

    def scores(self, classifier: str) -> dict[str, float]:
        """Identity to probability of every document of the web."""
        node = self.graph.one(SCORES, f"{classifier}-web")
        tables = [pq.read_table(node.folder / path) for path in ScoresRecord.of(node.folder).units.values()]
        table = pa.concat_tables(tables)
        return dict(zip(table["identity"].to_pylist(), table["probability"].to_pylist(), strict=True))

    def text(self, source: str) -> str:
        """All rows of a source, decoded."""
        rows = decode_rows(shards_of(self.graph, "tiny"), source, range(10**6))
        return "\n".join(text for row in rows for _, text in row.pieces)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, ray_session_2cpu: None) -> Prepared:
    def make(folder: Path) -> None:
        code, said = cpt_ray("prepare", str(write_planted_study(folder).config))
        assert code == 0, said
        (folder / "said.txt").write_text(said)

    folder = made_once(tmp_path_factory, "planted", make)
    study = TinyStudy.at(folder)
    return Prepared(study, StudyGraph(load_study(study.config), study.config), (folder / "said.txt").read_text())


@pytest.fixture(scope="module")
def planted_identities(prepared: Prepared) -> set[str]:
    """The planted documents of the web that are packed."""
    planted = {made.row["id"] for made in web_documents() if made.planted}
    return {identity for identity, name in prepared.labels("web").items() if name in planted}


@pytest.mark.accept(grid=1)
def test_a_filtered_source_is_the_part_of_its_parent_that_meets_the_threshold(prepared, record_property):
    web, chosen, scores = prepared.documents("web"), prepared.documents("web_legal"), prepared.scores("legal")
    assert chosen == {name: tokens for name, tokens in web.items() if np.float32(scores[name]) >= np.float32(THRESHOLD)}
    best, quality = prepared.documents("web_best"), prepared.scores("quality")
    assert best == {name: tokens for name, tokens in chosen.items() if quality[name] > 0.5}
    assert 0 < len(best) < len(chosen) < len(web)
    record_property("nested", f"{len(best)} of {len(chosen)} of {len(web)} documents, by identity and tokens")


@pytest.mark.accept(grid=1)
def test_a_sample_and_a_matched_sample_have_the_tokens_of_the_filtered_source(prepared, record_property):
    web = prepared.documents("web")
    wanted = sum(prepared.documents("web_legal").values())
    longest = max(web.values())
    for name in ("web_sample", "web_matched"):
        drawn = prepared.documents(name)
        assert drawn.items() <= web.items()
        assert abs(sum(drawn.values()) - wanted) < longest
        record_property(f"tokens of {name}", f"{sum(drawn.values())}, wanted {wanted}")
    assert prepared.documents("web_sample").keys() != prepared.documents("web_matched").keys()


@pytest.mark.accept(grid=1)
def test_a_matched_sample_has_the_quality_of_the_filtered_source_and_a_plain_sample_has_not(prepared, record_property):
    quality = prepared.scores("quality")

    def mean(source: str) -> float:
        tokens = prepared.documents(source)
        return sum(quality[name] * count for name, count in tokens.items()) / sum(tokens.values())

    filtered, matched, plain = mean("web_legal"), mean("web_matched"), mean("web_sample")
    assert abs(filtered - matched) < 0.05
    assert filtered - plain > 0.15
    record_property("mean quality", f"filtered {filtered:.3f}, matched {matched:.3f}, plain sample {plain:.3f}")


@pytest.mark.accept(grid=1)
def test_held_out_and_probe_documents_are_in_no_row_of_any_arm(prepared, record_property):
    held_out = prepared.graph.one(HELD_OUT).folder
    sets = HeldOutRecord.of(held_out).sets
    assert {(entry.source, entry.role) for entry in sets} == {("web", "general"), ("news", "general"), ("probe", "probe")}
    lines = [json.loads(line) for entry in sets for line in (held_out / entry.path).read_text().splitlines()]
    apart = {line["text"].split()[0] for line in lines}
    assert len(apart) == len(lines) > 100
    seen = set()
    for source in sorted(set().union(*ARM_SOURCES.values())):
        words = set(prepared.text(source).split())
        assert not apart & words, source
        seen |= words
    # Not because nothing was decoded: every document that is packed is found by its first word.
    first = {made.row["id"]: made.row["text"].split()[0] for made in web_documents()}
    packed = {first[name] for name in prepared.labels("web").values() if name in first}
    assert len(packed) > 700
    assert packed <= seen
    record_property(
        "held out and probe documents", f"{len(lines)}, none of them in the decoded rows of {len(ARM_SOURCES)} arms"
    )


@pytest.mark.accept(grid=1)
def test_a_probe_is_held_out_whole_without_what_training_text_repeats(prepared, record_property):
    sets = [entry for entry in HeldOutRecord.of(prepared.graph.one(HELD_OUT).folder).sets if entry.source == "probe"]
    assert sum(entry.documents for entry in sets) == 24
    manifest = ShardManifest.of(prepared.graph.one(SHARDS).folder)
    assert "probe" not in manifest.shards.sources
    assert "seeds" not in manifest.shards.sources
    dropped = {(r.stage, r.source): r.dropped for r in manifest.reports}
    assert dropped["near_duplicates", "probe"]["exact_duplicate"].documents == COPIES
    assert dropped["held_out", "probe"]["held_out"].documents == 24
    # Training text that holds a probe document is dropped, from the web and so from what is derived from it.
    assert not {f"holds_probe_{number}" for number in range(COPIES)} & set(prepared.labels("web").values())
    assert dropped["held_out", "web"]["held_out_overlap"].documents >= 1
    record_property("copies of web documents dropped from the probe", COPIES)


@pytest.mark.accept(grid=1)
def test_the_overlap_table_is_what_the_rows_say(prepared, record_property):
    record = ArmsRecord.of(prepared.graph.one(ARMS).folder)
    arms = {
        name: {key: tokens for source in sources for key, tokens in prepared.documents(source).items()}
        for name, sources in ARM_SOURCES.items()
    }
    assert record.documents == {name: len(found) for name, found in arms.items()}
    assert record.tokens == {name: sum(found.values()) for name, found in arms.items()}
    for pair in record.shared:
        both = arms[pair.arm].keys() & arms[pair.other].keys()
        assert (pair.documents, pair.tokens) == (len(both), sum(arms[pair.arm][key] for key in both))
    found = {(pair.arm, pair.other): pair.documents for pair in record.shared}
    assert len(found) == 12
    assert found["special", "general"] == len(prepared.documents("web_legal"))
    assert 0 < found["matched", "special"] < found["matched", "general"] == len(arms["matched"])
    record_property("overlap", f"12 pairs of arms; special and general share {found['special', 'general']} documents")


@pytest.mark.accept(grid=1)
def test_documents_are_read_cleaned_and_deduplicated_once_for_all_arms(prepared):
    assert [path.name for path in (prepared.study.root / "documents").iterdir()] == [prepared.graph.one(DOCUMENTS).folder.name]
    reports = shards_of(prepared.graph, "tiny").record.reports
    assert [r.stage for r in reports if r.source == "web_legal"] == ["derive"]
    assert [r.source for r in reports if r.stage == "read"] == ["web", "news", "seeds", "probe"]
    derived = next(r for r in reports if r.source == "web_legal")
    packed = next(r for r in reports if (r.source, r.stage) == ("web", "tokenize"))
    assert derived.input == packed.kept
    assert Amount.total([derived.kept, derived.dropped["not_chosen"]]) == packed.kept


@pytest.mark.accept(grid=2)
def test_a_planted_domain_is_found_and_the_intervals_cover_the_truth(prepared, planted_identities, record_property):
    scores = prepared.scores("legal")
    web = prepared.documents("web").keys()
    called = {name for name in web if scores[name] >= np.float32(THRESHOLD)}
    planted = planted_identities
    precision, recall = len(called & planted) / len(called), len(called & planted) / len(planted)
    assert precision > 0.95
    assert recall > 0.95
    (used,) = YieldRecord.of(prepared.graph.one(YIELD, "legal-web").folder).used
    assert (used.threshold, used.documents) == (THRESHOLD, len(called))
    assert used.tokens == sum(tokens for name, tokens in prepared.documents("web").items() if name in called)
    share = len(planted) / len(web)
    for truth, found in ((precision, used.precision), (recall, used.held_out.recall), (share, used.share)):
        assert found.interval.low <= truth <= found.interval.high
        assert found.interval.high - found.interval.low < 0.5
    record = ClassifierRecord.of(prepared.graph.one(CLASSIFIER, "legal").folder)
    record_property("truth", f"precision {precision:.3f}, recall {recall:.3f}, share {share:.3f} of {len(web)} documents")
    for name, value in (("precision", used.precision), ("recall", used.held_out.recall), ("share", used.share)):
        record_property(f"estimated {name}", f"{value.value:.3f} ({value.interval.low:.3f} to {value.interval.high:.3f})")
    record_property("held-out AUC", f"{record.fitted.auc.value:.4f}")


@pytest.mark.accept(grid=2)
def test_another_threshold_packs_again_and_scores_nothing(prepared, tmp_path, record_property):
    study = prepared.study.copy(tmp_path / "study")
    before = study.files()
    code, said = cpt_ray("prepare", str(study.config), "sources.web_legal.where=legal >= 0.2")
    assert code == 0, said
    after = study.files()
    changed = {Path(name).parts[0] for name in after if after[name] != before.get(name) and "/" in name} - {"logs"}
    assert changed == {"yield", "derived", "arms"}
    graph = StudyGraph(load_study(study.config, ("sources.web_legal.where=legal >= 0.2",)), study.config)
    more = SelectionRecord.of(graph.one(DERIVED, "tiny-web_legal").folder)
    assert more.rule == "legal >= 0.2"
    assert more.documents >= len(prepared.documents("web_legal"))
    assert graph.one(SCORES, "legal-web").folder.name == prepared.graph.one(SCORES, "legal-web").folder.name
    record_property("rebuilt for another threshold", ", ".join(sorted(changed)))


def test_the_classifiers_examples_are_apart_from_what_is_held_out(prepared):
    record = ClassifierRecord.of(prepared.graph.one(CLASSIFIER, "quality").folder)
    news = next(report for report in record.reports if report.source == "news")
    held_out = [entry for entry in HeldOutRecord.of(prepared.graph.one(HELD_OUT).folder).sets if entry.source == "news"]
    assert news.dropped["held_out"].documents == sum(entry.documents for entry in held_out) > 0
    fitted = record.fitted
    assert fitted.positive.total + fitted.negative.total == sum(report.kept.documents for report in record.reports)
    assert min(fitted.positive.total, fitted.negative.total) > 200
    assert fitted.auc.value > 0.9


def test_documents_around_the_threshold_are_shown_from_both_sides(prepared):
    selection = SelectionRecord.of(prepared.graph.one(DERIVED, "tiny-web_legal").folder)
    assert len(selection.shown) == 40
    for shown in selection.shown:
        assert (shown.probability >= np.float32(THRESHOLD)) == (shown.side == "above")
    scores = prepared.scores("legal")
    assert all(shown.probability == scores[shown.identity] for shown in selection.shown)
    texts = {made.row["id"]: made.row["text"] for made in web_documents()}
    assert all(texts[shown.id].startswith(shown.text) for shown in selection.shown if shown.id in texts)
    assert sum(shown.id in texts for shown in selection.shown) >= 37


def test_preparation_says_what_was_found(prepared):
    assert "classifier legal (ngrams): trained on " in prepared.said
    assert "legal on web: an estimated share of 0.0" in prepared.said
    assert f"source web_legal (legal >= {THRESHOLD}): " in prepared.said
    assert "what arms can both draw:" in prepared.said


def test_a_score_of_every_document_that_is_no_duplicate_is_kept(prepared):
    record = ScoresRecord.of(prepared.graph.one(SCORES, "legal-web").folder)
    scores = prepared.scores("legal")
    reports = ShardManifest.of(prepared.graph.one(SHARDS).folder).reports
    kept = next(report.kept for report in reports if (report.stage, report.source) == ("near_duplicates", "web"))
    assert (record.documents, record.bytes) == (kept.documents, kept.bytes)
    assert len(scores) == kept.documents
    assert len(record.units) > 2
    assert len(record.task_pids) >= 2


def test_the_planted_documents_are_what_the_test_thinks(prepared, planted_identities):
    first = {made.row["text"].split()[0] for made in web_documents() if made.planted}
    assert first == {marker("web", number) for number in range(PLANTED)}
    assert PLANTED * 0.6 < len(planted_identities) < PLANTED  # some are held out
    assert store.find(prepared.graph.one(DERIVED, "tiny-web_best")) is not None
