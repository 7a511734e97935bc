"""End to end: a corpus with planted traps through all three verbs."""

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.data.run import duplicates
from cpt_ray.data.run.merge import unit_files
from cpt_ray.data.run.pipeline import draw_held_out, pack_shards, prepare_documents, scan_packed
from cpt_ray.edges.process import process_pool
from cpt_ray.edges.storage import hash_file
from cpt_ray.errors import DataError
from cpt_ray.records import DocumentsRecord, Made, ShardManifest
from tests.data.conftest import EXAM, LEAK, LONG, document, settings, sources_of
from tests.data.prepared import Prepared, job, model_tokenizer, prepare, prepare_sources

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session_2cpu")]
STAGES = ["read", "clean", "near_duplicates", "held_out", "decontaminate", "tokenize"]


@pytest.fixture(scope="module")
def prepared(corpus: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(corpus, tokenizer_folder, tmp_path_factory.mktemp("two_workers"), 2)


def dropped(run: Prepared, stage: str, source: str) -> dict[str, int]:
    report = next(r for r in run.manifest.reports if (r.stage, r.source) == (stage, source))
    return {reason: amount.documents for reason, amount in report.dropped.items()}


def trained_ids(run: Prepared, source: str) -> set[str]:
    entries = run.manifest.of_source(source)
    tables = [pq.read_table(run.root / "shards" / entry.index_path) for entry in entries]
    return {name for table in tables for name in table["document_id"].to_pylist()}


def without_pids(record: ShardManifest) -> ShardManifest:
    return record.model_copy(update={"task_pids": {}})


def held_out_hashes(run: Prepared) -> dict[str, str]:
    return {entry.path: hash_file(run.root / "held_out" / entry.path) for entry in run.held_out.sets}


@pytest.mark.accept(data=2)
def test_every_stage_accounts_for_what_the_one_before_kept(prepared: Prepared) -> None:
    for source in ("law", "news"):
        reports = [report for report in prepared.manifest.reports if report.source == source]
        assert [report.stage for report in reports] == STAGES
        for before, after in itertools.pairwise(reports):
            assert after.input == before.kept
        for report in reports:
            report.check()
        entries = prepared.manifest.of_source(source)
        assert sum(entry.documents for entry in entries) == reports[-1].kept.documents == len(trained_ids(prepared, source))


def test_bad_input_is_counted_by_reason(prepared: Prepared) -> None:
    assert dropped(prepared, "read", "law") == {"bad_encoding": 1, "bad_json": 1, "empty": 1}
    assert dropped(prepared, "clean", "law") == {"min_bytes": 1}
    clean = next(r for r in prepared.manifest.reports if (r.stage, r.source) == ("clean", "law"))
    assert clean.edited_bytes > 0


@pytest.mark.accept(data=3)
def test_planted_duplicates_are_dropped_and_the_domain_keeps_its_copy(prepared: Prepared) -> None:
    assert dropped(prepared, "near_duplicates", "law") == {"exact_duplicate": 1, "near_duplicate": 1}
    assert dropped(prepared, "near_duplicates", "news") == {"exact_duplicate": 1}
    everywhere = trained_ids(prepared, "law") | trained_ids(prepared, "news")
    assert not everywhere & {"near_dup_of_law_3", "exact_dup_of_law_4", "copy_of_law_5"}
    assert prepared.documents.near_duplicate_threshold == pytest.approx(0.7071, abs=1e-4)


@pytest.mark.accept(data=3)
def test_a_planted_exam_leak_is_dropped_whatever_its_case_and_punctuation(prepared: Prepared) -> None:
    assert dropped(prepared, "decontaminate", "law") == {"exam_item": 1}
    assert "leaks_exam_q1" not in trained_ids(prepared, "law")
    hits = [json.loads(line) for line in (prepared.root / "shards" / "exam_hits.jsonl").read_text().splitlines()]
    assert [(hit["task"], hit["item"], hit["document"]) for hit in hits] == [("astronomy", "q1", "leaks_exam_q1")]
    assert hits[0]["matched"].startswith("which ANCIENT instrument, did")
    scan = json.loads((prepared.root / "shards" / "exam_scan.json").read_text())["tasks"]
    assert scan[0] == {
        "task": "astronomy",
        "items": 1,
        "scanned": 1,
        "too_short_to_scan": 0,
        "items_found": 1,
        "items_found_by_answer": 0,
        "documents_found": 1,
        "late": False,
    }


def test_with_the_scan_off_the_planted_leak_is_trained_on(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    manifest = pack_shards(
        job(sources_of(corpus), settings(decontaminate={"enabled": False}), tmp_path / "shards"),
        prepared.made_documents,
        prepared.made_held_out,
        model_tokenizer(tokenizer_folder),
        corpus / "exams.jsonl",
    )
    unscanned = Prepared(tmp_path, prepared.documents, prepared.held_out, manifest, [])
    assert dropped(unscanned, "decontaminate", "law") == {}
    assert "leaks_exam_q1" in trained_ids(unscanned, "law")
    assert (tmp_path / "shards" / "exam_hits.jsonl").read_text() == ""


def test_an_exam_that_comes_later_is_looked_for_in_what_is_packed_and_nowhere_else(
    prepared: Prepared, corpus: Path, tmp_path: Path
) -> None:
    packed_id = min(trained_ids(prepared, "law"))
    (held_out_id, *_) = (json.loads(line)["id"] for line in (prepared.root / "held_out" / "law-test.jsonl").open())
    questions = [
        {"task": "late", "id": name, "question": " ".join(document(name).split()[5:30])} for name in (packed_id, held_out_id)
    ]
    (tmp_path / "late.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    before = {path: hash_file(path) for path in (prepared.root / "shards").rglob("*.*")}
    scan_packed(
        job(sources_of(corpus), settings(), tmp_path / "late"),
        prepared.made_documents,
        Made(prepared.root / "shards", prepared.manifest),
        tmp_path / "late.jsonl",
    )
    (scan,) = json.loads((tmp_path / "late" / "exam_scan.json").read_text())["tasks"]
    assert (scan["late"], scan["scanned"], scan["items_found"]) == (True, 2, 1)
    hits = [json.loads(line) for line in (tmp_path / "late" / "exam_hits.jsonl").read_text().splitlines()]
    assert [(hit["item"], hit["source"], hit["document"], hit["words"]) for hit in hits] == [(packed_id, "law", packed_id, 25)]
    assert {path: hash_file(path) for path in (prepared.root / "shards").rglob("*.*")} == before


def test_held_out_documents_are_in_no_shard(prepared: Prepared) -> None:
    assert {(entry.source, entry.part) for entry in prepared.held_out.sets} == {
        (source, part) for source in ("law", "news") for part in ("validation", "test")
    }
    for entry in prepared.held_out.sets:
        rows = [json.loads(line) for line in (prepared.root / "held_out" / entry.path).read_text().splitlines()]
        assert len(rows) == entry.documents > 0
        assert sum(len(row["text"].encode()) for row in rows) == entry.bytes
        assert not {row["id"] for row in rows} & trained_ids(prepared, entry.source)


def test_samples_of_dropped_documents_name_reason_and_document(prepared: Prepared) -> None:
    found = {(sample["reason"], sample["id"]) for sample in prepared.documents.samples}
    assert {("near_duplicate", "near_dup_of_law_3"), ("min_bytes", "short_1"), ("empty", "blank_1")} <= found


@pytest.mark.accept(data=2)
def test_token_accounts_balance_in_every_shard(prepared: Prepared) -> None:
    assert len(prepared.manifest.shards) > 4
    for entry in prepared.manifest.shards:
        assert entry.tokens == entry.tokenizer_tokens + entry.separator_tokens
        assert entry.separator_tokens == entry.documents
        assert entry.rows * prepared.manifest.sequence_length == entry.tokens + entry.padding
        assert entry.loss_tokens == entry.tokens - entry.segments
    assert sum(entry.cut_documents for entry in prepared.manifest.shards) >= 1


def test_a_raw_document_is_found_again_in_decoded_rows(prepared: Prepared, tokenizer_folder: Path) -> None:
    reader = ShardReader(prepared.root / "shards", prepared.manifest)
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    wanted = {name: document(name) for name in ("law_7", "law_40", "law_41", "law_42")} | {"long_1": LONG}
    pieces: dict[str, dict[int, list[int]]] = {}
    first = 0
    for entry in prepared.manifest.of_source("law"):
        filled: dict[int, int] = {}
        for place in pq.read_table(prepared.root / "shards" / entry.index_path).to_pylist():
            begin = filled.get(place["row"], 0)  # the index lists pieces in row order
            filled[place["row"]] = begin + place["tokens"]
            if place["document_id"] in wanted:
                tokens = reader.rows("law", [first + place["row"]])[0].tokens[begin : begin + place["tokens"]]
                pieces.setdefault(place["document_id"], {})[place["offset"]] = tokens.tolist()
        first += entry.rows
    assert "long_1" in pieces
    assert len(pieces) >= 3
    for name, parts in pieces.items():
        ids = [token for offset in sorted(parts) for token in parts[offset]]
        assert ids.count(prepared.manifest.separator_id) == 1
        assert tokenizer.decode(ids[:-1]) == wanted[name]


@pytest.mark.accept(data=2)
def test_rows_and_manifest_are_the_same_for_one_two_and_four_workers(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    for num_workers in (1, 4):
        other = prepare(corpus, tokenizer_folder, tmp_path / str(num_workers), num_workers)
        assert without_pids(other.manifest) == without_pids(prepared.manifest)
        assert held_out_hashes(other) == held_out_hashes(prepared)
        assert other.documents.samples == prepared.documents.samples


def test_without_ray_rows_and_manifest_are_the_same(prepared, corpus, tokenizer_folder, tmp_path) -> None:
    with process_pool(2) as pool:
        other = prepare(corpus, tokenizer_folder, tmp_path, 2, pool)
    assert without_pids(other.manifest) == without_pids(prepared.manifest)
    assert held_out_hashes(other) == held_out_hashes(prepared)
    pids = {pid for of_stage in other.manifest.task_pids.values() for pid in of_stage}
    assert len(pids - {os.getpid()}) == len(pids) == 2


def test_every_stage_ran_in_at_least_two_processes(prepared: Prepared) -> None:
    assert set(prepared.manifest.task_pids) == set(STAGES)
    for stage, pids in prepared.manifest.task_pids.items():
        assert len(pids) >= 2, stage
    assert ("pack", len(prepared.documents.units), len(prepared.documents.units)) in prepared.heard


def test_all_dropped_documents_are_written_if_the_study_asks_for_them_and_nothing_else_changes(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    config = settings(keep_dropped=True)
    other = prepare_sources(sources_of(corpus), config, tokenizer_folder, tmp_path, 2, exam_items=corpus / "exams.jsonl")
    assert without_pids(other.manifest).shards == without_pids(prepared.manifest).shards
    written = Counter(
        (row["stage"], row["source"], row["reason"])
        for path in tmp_path.glob("*/dropped/*/*.parquet")
        for row in pq.read_table(path).to_pylist()
    )
    counted = Counter(
        {
            (report.stage, report.source, reason): amount.documents
            for report in other.manifest.reports
            for reason, amount in report.dropped.items()
            if reason != "held_out"
        }
    )
    assert written == counted


class KilledError(Exception):
    """Raised to interrupt a run."""


@pytest.mark.accept(data=2)
def test_an_interrupted_run_redoes_only_what_is_missing_and_ends_the_same(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    root, sources = tmp_path / "killed", sources_of(corpus)

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("near_duplicates", total - 1):
            raise KilledError

    with pytest.raises(KilledError):
        prepare_documents(job(sources, settings(), root / "documents", progress=kill))
    for verb in ("held_out", "shards"):
        shutil.copytree(prepared.root / verb, root / verb)
    unit = prepared.documents.units[-1]
    (root / "documents/units/clean" / f"{unit}.json").unlink()
    (root / "shards/units/pack" / f"{unit}.json").unlink()
    shard = root / "shards" / prepared.manifest.shards[0].path
    shard.write_bytes(b"half")
    (root / "shards/shards" / f".{unit}.arrow.deadbeef.tmp").write_bytes(b"stray")
    other = prepare(corpus, tokenizer_folder, root, 2)
    assert without_pids(other.manifest) == without_pids(prepared.manifest)
    assert held_out_hashes(other) == held_out_hashes(prepared)
    units = len(prepared.documents.units)
    left = {stage: total - done for stage, done, total in reversed(other.heard)}
    assert (left["read"], left["clean"], left["pack"], left["held_out"]) == (0, 1, 2, 0)
    assert left["near_duplicates"] <= 1 < units
    ShardReader(root / "shards", other.manifest).rows("law", range(other.manifest.rows("law")))


def test_raw_text_and_exchanged_keys_are_gone_when_documents_are_done(prepared: Prepared) -> None:
    assert {path.name for path in (prepared.root / "documents").iterdir()} == {
        "clean",
        "inputs",
        "near_duplicates",
        "profile",
        "units",
        "lists",
    }


def verdicts(root: Path, documents: DocumentsRecord) -> dict[str, str | None]:
    """The drop reason of every clean document, by id."""
    found: dict[str, str | None] = {}
    for files in unit_files(root, documents.units):
        table = pq.read_table(root / files["clean"], columns=["id"])
        reasons = pq.read_table(root / files["near_duplicates"], columns=["reason"])["reason"].to_pylist()
        found |= dict(zip(table["id"].to_pylist(), reasons, strict=True))
    return found


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> list[SourceConfig]:
    """Two sources with chains of near-duplicates that run through both, with one more edited word at each link."""
    folder = tmp_path_factory.mktemp("chained")
    rows: dict[str, list[dict[str, str]]] = {"news": [], "law": []}
    for chain in range(6):
        text = document(f"chain_{chain}", 400).split()
        for link in range(8):
            text = [*text[: 40 * link], "edited", *text[40 * link + 1 :]]
            rows["law" if link % 2 else "news"].append({"id": f"chain_{chain}_link_{link}", "text": " ".join(text)})
    for name, source in rows.items():
        source.extend({"id": f"{name}_alone_{n}", "text": document(f"{name} {n}")} for n in range(5))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in source))
    return sources_of(folder)


@pytest.mark.full  # prepares twice; the parts: tests/data/dedup
def test_components_are_the_same_however_the_pairs_are_spread(
    chained: list[SourceConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_documents(job(chained, settings(), tmp_path / "whole"))
    assert whole.components.sizes == {"5-8": 6}
    assert [entry.documents for entry in whole.components.largest] == [8, 8, 8]
    assert {entry.members[0].id for entry in whole.components.largest} <= {f"chain_{n}_link_1" for n in range(6)}
    assert all(text for entry in whole.components.largest for text in entry.texts)
    expected = verdicts(tmp_path / "whole", whole)
    assert {name for name, reason in expected.items() if reason is None} == {
        name for name in expected if name.endswith("_link_1") or "alone" in name
    }
    monkeypatch.setattr(duplicates, "PAIRS_PER_TASK", 0)
    heard: list[str] = []
    spread = prepare_documents(
        job(
            chained,
            settings(unit_bytes=40_000),
            tmp_path / "spread",
            num_workers=4,
            progress=lambda stage, done, total: heard.append(stage),
        )
    )
    assert "small_star_01" in heard
    assert len(spread.units) < len(whole.units)
    assert verdicts(tmp_path / "spread", spread) == expected
    assert spread.components.sizes == whole.components.sizes


def test_documents_of_two_sources_do_not_meet_where_the_scope_is_the_source(
    chained: list[SourceConfig], tmp_path: Path
) -> None:
    config = settings(near_duplicates={"scope": "source"})
    record = prepare_documents(job(chained, config, tmp_path))
    kept = {name for name, reason in verdicts(tmp_path, record).items() if reason is None and "alone" not in name}
    assert kept == {f"chain_{chain}_link_{link}" for chain in range(6) for link in (0, 1)}
    assert record.components.sizes == {"3-4": 12}


@pytest.mark.accept(data=3)
def test_with_redaction_a_leaked_question_and_a_leaked_answer_are_cut_out_and_accounted_for(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    answer = document("law_7").splitlines()[1]
    items = [EXAM, {"task": "law", "id": "a7", "question": "And then?", "choices": ["nothing", answer.upper()], "answer": 1}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    manifest = pack_shards(
        job(sources_of(corpus), settings(decontaminate={"action": "redact"}), tmp_path / "shards"),
        prepared.made_documents,
        prepared.made_held_out,
        model_tokenizer(tokenizer_folder),
        tmp_path / "items.jsonl",
    )
    redacted = Prepared(tmp_path, prepared.documents, prepared.held_out, manifest, [])
    report = next(r for r in manifest.reports if (r.stage, r.source) == ("decontaminate", "law"))
    assert report.dropped == {}
    assert report.edited_bytes >= len(LEAK) + len(answer)
    assert {"leaks_exam_q1", "law_7"} <= trained_ids(redacted, "law")
    hits = [json.loads(line) for line in (tmp_path / "shards" / "exam_hits.jsonl").read_text().splitlines()]
    assert {(hit["item"], hit["part"], hit["document"]) for hit in hits} == {
        ("q1", "question", "leaks_exam_q1"),
        ("a7", "answer", "law_7"),
    }
    scan = json.loads((tmp_path / "shards" / "exam_scan.json").read_text())["tasks"]
    assert {entry["task"]: entry["items_found_by_answer"] for entry in scan} == {"astronomy": 0, "law": 1}


def test_a_source_of_which_nothing_is_left_names_the_rule(corpus: Path, tmp_path: Path) -> None:
    config = settings(clean={"min_bytes": 1_000_000})
    message = "source news: none of its 81 documents are left; stage clean dropped the most, 81 as min_bytes"
    with pytest.raises(DataError, match=message) as e:
        prepare_documents(job(sources_of(corpus)[:1], config, tmp_path))
    assert e.value.fix == "change prepare.clean.min_bytes, or check the text of source news"


def test_a_share_too_small_for_a_test_set_still_gives_one_that_is_not_trained_on(
    prepared: Prepared, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    config = settings(held_out={"share": 0.001})
    held_out = draw_held_out(job(sources_of(corpus), config, tmp_path / "held_out"), prepared.made_documents)
    assert {(entry.source, entry.part): entry.documents for entry in held_out.sets} == {
        (source.name, "test"): 2 for source in sources_of(corpus)
    }
    packing = job(sources_of(corpus), config, tmp_path / "shards")
    made = Made(tmp_path / "held_out", held_out)
    manifest = pack_shards(packing, prepared.made_documents, made, model_tokenizer(tokenizer_folder), None)
    dropped = {report.source: report.dropped["held_out"].documents for report in manifest.reports if report.stage == "held_out"}
    assert dropped == {source.name: 2 for source in sources_of(corpus)}
