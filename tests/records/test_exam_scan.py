"""Scan hits round-trip through their file."""

from cpt_ray.records import ExamHit, ExamScan, TaskScan, read_hits


def hit(matched: str) -> ExamHit:
    return ExamHit(
        task="bar",
        item="1",
        part="question",
        source="law",
        identity="law/00000/0",
        document="d",
        words=13,
        ratio=0.5,
        matched=matched,
    )


def test_hits_come_back_in_their_order_whatever_they_hold(tmp_path):
    hits = [hit("the words"), hit('a "quote"\nand a line break'), hit("Fünf"), hit("one\u2028two\u2029three\x85four\r\x0c")]
    (tmp_path / ExamScan.HITS).write_text("".join(f"{item.model_dump_json()}\n" for item in hits), encoding="utf-8")
    assert read_hits(tmp_path) == hits


def test_a_scan_that_found_nothing_has_no_hits(tmp_path):
    (tmp_path / ExamScan.HITS).write_text("")
    assert read_hits(tmp_path) == []


def test_a_scan_is_found_by_its_name_and_is_not_late_unless_it_says_so(tmp_path):
    task = TaskScan(
        task="bar", items=3, scanned=2, too_short_to_scan=1, items_found=1, items_found_by_answer=0, documents_found=1
    )
    (tmp_path / "exam_scan.json").write_text(ExamScan(tasks=(task,)).to_json())
    assert ExamScan.of(tmp_path).tasks[0].late is False
