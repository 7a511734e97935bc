import pytest

from cpt_ray.data.run.funnel import check_funnel, heavy_drops, refuse_empty
from cpt_ray.errors import DataError
from cpt_ray.records import Amount, StageReport


def report(stage: str, read: int, kept: int, **dropped: int) -> StageReport:
    return StageReport(
        stage=stage,
        source="law",
        input=Amount(documents=read, bytes=read),
        kept=Amount(documents=kept, bytes=kept),
        dropped={reason: Amount(documents=n, bytes=n) for reason, n in dropped.items()},
    )


def test_units_are_added_up_by_stage() -> None:
    total = check_funnel(
        [report("read", 3, 3), report("read", 2, 2), report("clean", 5, 4, **{"basic.max_symbol_word_ratio": 1})], ["law"]
    )
    assert [(r.stage, r.input.documents, r.kept.documents) for r in total] == [("read", 5, 5), ("clean", 5, 4)]


def test_a_gap_between_stages_is_refused() -> None:
    message = r"stage clean of source law received 4 documents \(4 bytes\), but stage read kept 5 \(5 bytes\)"
    with pytest.raises(DataError, match=message):
        check_funnel([report("read", 5, 5), report("clean", 4, 4)], ["law"])


def test_a_stage_that_loses_is_refused() -> None:
    with pytest.raises(DataError, match="stage read of source law lost documents: 5 in, 4 kept, 0 dropped"):
        check_funnel([report("read", 5, 4)], ["law"])


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("min_bytes", "change prepare.clean.min_bytes, or check the text of source law"),
        ("basic.mean_word_length", "change prepare.clean.basic.mean_word_length, or check the text of source law"),
        ("token_rules.max_token_run", "change prepare.token_rules.max_token_run, or check the text of source law"),
        ("empty", "set text_field of source law to the field that contains the text"),
        ("bad_json", "check path and format of source law: it contains something other than JSON objects"),
        ("bad_encoding", "convert the files of source law to UTF-8"),
        ("left_out.pdf", "give source law files that hold text"),
        ("bad_row", "quote fields that contain commas, quotes or newlines, or repair this row"),
        ("exact_duplicate", "remove from source law what another source already contains"),
        (
            "near_duplicate",
            "raise prepare.near_duplicates.rows, or remove from source law what another source already contains",
        ),
        ("held_out", "lower prepare.held_out.share, or add text to source law"),
        ("held_out_overlap", "raise prepare.held_out.containment_share, or add text to source law"),
        ("exam_item", "set prepare.decontaminate.action to redact, or leave source law out"),
    ],
)
def test_an_empty_source_names_the_worst_rule_and_its_key(reason: str, fix: str) -> None:
    reports = [
        report("read", 9, 9),
        report("clean", 9, 7, **{"basic.max_symbol_word_ratio": 2}),
        report("last", 7, 0, **{reason: 7}),
    ]
    message = f"source law: none of its 9 documents are left; stage last dropped the most, 7 as {reason}"
    with pytest.raises(DataError, match=message) as e:
        refuse_empty(reports, ["law"])
    assert e.value.fix == fix


def test_a_source_without_documents_is_told_apart() -> None:
    with pytest.raises(DataError, match="source law: its files contain no documents") as caught:
        refuse_empty([report("read", 0, 0)], ["law"])
    assert caught.value.fix == "check path and format of source law"


def test_a_rule_that_takes_more_than_half_of_what_was_read_is_a_warning_with_its_key() -> None:
    read = report("read", 30, 20, **{"left_out.pdf": 10})
    (warning,) = heavy_drops([read, report("clean", 20, 9, max_bytes=11)])
    assert warning == (
        "source law: max_bytes took 55% of its bytes (11 documents, 0.0 MB); to change that, "
        "change prepare.clean.max_bytes, or check the text of source law"
    )
    assert heavy_drops([read, report("clean", 20, 10, max_bytes=10)]) == []
    assert heavy_drops([report("read", 30, 2, **{"left_out.pdf": 28}), report("clean", 2, 2)]) == []
    # A later verb warns of its own stages; what is held out is no loss.
    later = report("held_out", 9, 9)
    assert heavy_drops([read, report("clean", 20, 9, max_bytes=11), later], of=[later]) == []
    assert heavy_drops([report("read", 30, 30), report("held_out", 30, 8, held_out=22)]) == []
