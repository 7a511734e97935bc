"""Language identification, redaction, token rules and the profile on one corpus, through all three verbs."""

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.records import DocumentsRecord, HeldOutRecord, ShardManifest
from tests.data.conftest import document, settings
from tests.data.prepared import prepare_sources

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session_2cpu")]
ENGLISH = "The court held that the license was void, and that the licensee had to pay for all that it had used of the work."
GERMAN = "Das Gericht entschied, dass die Lizenz nichtig war und der Lizenznehmer für alles zahlen muss, was er genutzt hat."
LEAST_BYTES_PER_TOKEN = 1.672


def text_of(name: str) -> str:
    """Half English legal text, half nonsense unique to the document."""
    number = int(name.split("_")[1])
    return f"{ENGLISH}\n{document(name, 40)}\nWrite to clerk{number}@court.example.org for the file of {number}.\n{ENGLISH}"


@pytest.fixture(scope="module")
def config() -> PrepareConfig:
    return settings(
        clean={
            "languages": ["en"],
            "language_id": {"detect": "missing", "min_probability": 0.2},
            "rules": ["basic", "education"],
            "redact": {"kinds": ["email"]},
        },
        token_rules={"min_bytes_per_token": LEAST_BYTES_PER_TOKEN},
        near_duplicates={"enabled": False},
    )


@pytest.fixture(scope="module")
def ran(
    config: PrepareConfig, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DocumentsRecord, HeldOutRecord, ShardManifest]:
    root = tmp_path_factory.mktemp("rules")
    rows = [{"id": f"law_{number}", "text": text_of(f"law_{number}")} for number in range(40)]
    rows += [{"id": "german_1", "text": f"{GERMAN}\n{GERMAN[::-1]}\n{GERMAN}"}]
    rows += [{"id": "two_lines_1", "text": f"{ENGLISH}\n{ENGLISH[:100]}"}]
    news = [{"id": f"news_{number}", "text": f"{document(f'news_{number}')}\n{ENGLISH[:60]}"} for number in range(40)]
    sources = []
    for name, role, content in (("law", "domain", rows), ("news", "general", news)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        known: dict[str, Any] = {} if name == "law" else {"default_language": "en"}
        sources.append(
            SourceConfig(name=name, role=role, path=str(root / f"{name}.jsonl"), format="jsonl", id_field="id", **known)
        )
    run = prepare_sources(sources, config, tokenizer_folder, root, 2)
    return root, run.documents, run.held_out, run.manifest


def kept(root: Path, documents: DocumentsRecord) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((root / "documents" / "clean").glob("law-*.parquet"))]
    assert len(tables) == sum(unit.startswith("law") for unit in documents.units)
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_rules_name_their_keys_and_what_was_found_is_counted(ran: Any) -> None:
    _, documents, _, _ = ran
    clean = next(r for r in documents.reports if (r.stage, r.source) == ("clean", "law"))
    assert {reason: amount.documents for reason, amount in clean.dropped.items()} == {"language": 1, "education.min_lines": 1}
    assert documents.languages == {"law": {"en": 40}, "news": {"en": 40}}
    assert documents.redacted == {"law": {"email": 40}}
    assert {("language", "german_1"), ("education.min_lines", "two_lines_1")} <= {
        (sample["reason"], sample["id"]) for sample in documents.samples
    }


def test_the_language_found_and_the_placeholder_lie_beside_the_text(ran: Any) -> None:
    root, documents, _, _ = ran
    rows = kept(root, documents)
    assert rows["law_7"]["language"] == "en"
    assert "Write to <EMAIL> for the file of 7." in rows["law_7"]["text"]
    assert "@court" not in "".join(row["text"] for row in rows.values())


def test_rules_on_tokens_drop_exactly_what_is_beyond_them_and_account_for_it(ran: Any, tokenizer_folder: Path) -> None:
    root, documents, held_out, manifest = ran
    engine = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    away = {
        json.loads(line)["id"] for entry in held_out.sets for line in (root / "held_out" / entry.path).read_text().splitlines()
    }
    left = {name: row["text"] for name, row in kept(root, documents).items() if name not in away}
    density = {name: len(text.encode()) / len(engine.encode(text, add_special_tokens=False).ids) for name, text in left.items()}
    beyond = {name for name, value in density.items() if value < LEAST_BYTES_PER_TOKEN}
    assert beyond, sorted(density.values())
    trained = set()
    for entry in manifest.of_source("law"):
        trained |= set(pq.read_table(root / "shards" / entry.index_path)["document_id"].to_pylist())
    assert trained
    assert trained == left.keys() - beyond
    reports = [r.check() for r in manifest.reports if r.source == "law"]
    assert reports[-1].dropped["token_rules.min_bytes_per_token"].documents == len(beyond)
    assert reports[-1].kept.documents == len(trained)
    assert all(after.input == before.kept for before, after in itertools.pairwise(reports))
    samples = [sample for sample in manifest.samples if sample["source"] == "law"]
    assert {sample["id"] for sample in samples} <= beyond
    assert {sample["reason"] for sample in samples} == {"token_rules.min_bytes_per_token"}


def test_the_profile_counts_every_document_and_finds_what_is_the_domains(ran: Any) -> None:
    _, documents, _, _ = ran
    counts = {(h.source, h.measure, h.when): sum(h.counts) for h in documents.profile.histograms}
    for source in ("law", "news"):
        reports = {r.stage: r for r in documents.reports if r.source == source}
        for measure in ("bytes", "repetition"):
            assert counts[source, measure, "read"] == reports["clean"].input.documents
            assert counts[source, measure, "kept"] == reports["near_duplicates"].kept.documents
    assert "licensee had to" in {term.text for term in documents.profile.terms}
    assert all(term.background < term.domain for term in documents.profile.terms)
