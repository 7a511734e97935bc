"""What `cpt-ray prepare` prints about tokens, rows and duplicates."""

from cpt_ray.records import DocumentKey, DuplicateComponents, LargeComponent
from cpt_ray.report.text.preparation import describe_duplicates, describe_packing, render_preparation
from tests.report.made_up import make_contents
from tests.report.made_up_domains import DOMAINS
from tests.report.text.corpus_record import DOCUMENTS


def test_the_ledger_adds_up_and_each_source_says_how_full_its_rows_are() -> None:
    manifest = make_contents().manifest
    said = describe_packing(manifest)
    ledger = manifest.shards
    tokens = ledger.total("tokenizer_tokens") + ledger.total("separator_tokens")
    assert f"separators = {tokens} in {ledger.total('rows')} rows of 2048" in said[0]
    assert [line.split(":")[0].strip() for line in said[1:]] == list(ledger.sources)
    assert all("% padding" in line for line in said[1:])


def test_tokens_of_derived_sources_are_told_apart_and_not_added_to_those_of_their_parents() -> None:
    manifest = make_contents().manifest
    read, derived = manifest.shards.sources[:2]
    said = describe_packing(manifest, [name for name in manifest.shards.sources if name != read])
    own, all_tokens = manifest.of_source(read).total("tokens"), manifest.shards.total("tokens")
    assert 0 < own < all_tokens
    assert f" = {own} in {manifest.rows(read)} rows of 2048" in said[0]
    rows = manifest.shards.total("rows") - manifest.rows(read)
    assert said[1] == f"  chosen from these by derived sources, and packed again: {all_tokens - own} tokens in {rows} rows"
    assert any(line.startswith(f"  {derived}: ") for line in said)  # its rows are still told


def test_duplicates_name_threshold_sizes_and_the_largest_component() -> None:
    largest = LargeComponent(
        documents=4,
        members=(DocumentKey("law/00000/0", "a"), DocumentKey("law/00001/7", "a")),
        texts=("the  licensee\nmay", "the licensee shall"),
    )
    found = DuplicateComponents(pairs_compared=7, documents_left=2, sizes={"3-4": 1}, largest=(largest,))
    said = describe_duplicates(DOCUMENTS.model_copy(update={"components": found, "near_duplicate_threshold": 0.72}))
    assert said[0].startswith("duplicates: similarity at least 0.720, ")
    assert said[0].endswith("7 pairs compared; components: 1 of 3-4 documents")
    assert said[1].startswith("  2 times a document in a crowded bucket")
    quoted = "a (law/00000/0: the licensee may...); a (law/00001/7: the licensee shall...)"
    assert said[2] == f"  4 documents, of which the first is kept: {quoted}"
    assert describe_duplicates(DOCUMENTS) == ["duplicates: exact duplicates only; 0 pairs compared; components: none"]


def test_every_stage_and_reason_of_the_funnel_has_a_row() -> None:
    contents = make_contents()
    lines = render_preparation(DOCUMENTS, contents.manifest, contents.scans, contents.exam_hits, DOMAINS).splitlines()
    shown = [line.split()[:2] for line in lines]
    assert ["classifier", "legal"] in shown
    for report in contents.manifest.reports:
        assert [report.stage, report.source] in shown
