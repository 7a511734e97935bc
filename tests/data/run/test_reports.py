"""What the units of a stage reported is summed in the order of the tasks, whatever the order of arrival."""

from pathlib import Path

import pytest

from cpt_ray.data.run.reports import UnitReports, unit_paths
from cpt_ray.data.run.units import Tally, UnitContext, UnitTask, finish_unit, keep_bytes
from cpt_ray.errors import ArtifactError
from cpt_ray.records import Amount, RepeatedIds, UnitFacts, UnitReport
from tests.data.conftest import settings

SOURCES = ("law", "news", "law")
TASKS = [UnitTask(unit=f"{source}-{number:05d}", source=source) for number, source in enumerate(SOURCES)]


def context_in(folder: Path) -> UnitContext:
    return UnitContext(folder=str(folder), sources=(), prepare=settings())


def finished(context: UnitContext) -> list[UnitReport]:
    """Three units: each drops a document as `short`, and has two files of kind `part` and one of kind `whole`."""
    reports = []
    for number, task in enumerate(TASKS):
        tally = Tally("clean", task.source)
        tally.keep(10)
        tally.drop("short", number)
        parts = [keep_bytes(context.root, f"part/{task.unit}-{n}", ".txt", f"{number}{n}".encode()) for n in range(2)]
        sample = {"stage": "clean", "source": task.source, "reason": "short", "identity": task.unit, "id": "x", "text": "y"}
        facts = UnitFacts(
            reports=(tally.report(),),
            counts={"rows": number},
            samples=(sample,),
            languages={"en": number + 1, "de": 2},
            repeated_ids={"law": RepeatedIds(ids=1, documents=2)},
            component_sizes={"2": 1},
        )
        whole = keep_bytes(context.root, f"whole/{task.unit}", ".txt", b"w")
        reports.append(finish_unit(task, context, "clean", {"part": parts, "whole": whole, "none": []}, facts))
    return reports


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_sums_samples_and_files_do_not_depend_on_the_order_of_arrival(tmp_path, order):
    context = context_in(tmp_path)
    reports = finished(context)
    found = UnitReports.of("clean", TASKS, context, [reports[place] for place in order])
    assert [(one.source, one.kept, one.dropped["short"]) for one in found.reports] == [
        ("law", Amount(documents=2, bytes=20), Amount(documents=2, bytes=2)),
        ("news", Amount(documents=1, bytes=10), Amount(documents=1, bytes=1)),
    ]
    assert [sample["source"] for sample in found.samples] == ["law", "law", "news"]
    parts = [(report.unit, entry.path) for report in reports for entry in report.outputs["part"]]
    assert [(entry.unit, entry.path) for entry in found.files("part")] == parts
    assert found.paths("whole") == [report.path("whole") for report in reports]
    assert (found.counts("rows").tolist(), found.total("rows"), found.total("nothing")) == ([0, 1, 2], 3, 0)
    assert found.by_source("languages") == {"law": {"de": 4, "en": 4}, "news": {"de": 2, "en": 2}}
    assert list(found.by_source("languages")["law"]) == ["de", "en"]  # ties by name
    assert found.by_source("redacted") == {}
    assert found.repeated_ids == {"law": RepeatedIds(ids=3, documents=6)}
    assert dict(found.component_sizes) == {"2": 3}
    assert found.pids == (reports[0].pid,)
    assert list(found) == reports
    assert (found[0], found[1:], len(found)) == (reports[0], reports[1:], 3)


def test_a_kind_of_which_a_unit_has_several_files_has_no_single_path(tmp_path):
    context = context_in(tmp_path)
    found = UnitReports.of("clean", TASKS, context, finished(context))
    for kind in ("part", "none"):
        with pytest.raises(ValueError, match=f"stage clean: not every unit has one file of kind '{kind}'"):
            found.paths(kind)


def test_a_stage_leaves_the_list_of_its_files_with_those_of_the_reports_themselves(tmp_path):
    context = context_in(tmp_path)
    reports = finished(context)
    found = UnitReports.of("clean", TASKS, context, reports)
    assert unit_paths(tmp_path, "clean", "whole", [TASKS[2].unit, TASKS[0].unit]) == [
        reports[2].path("whole"),
        reports[0].path("whole"),
    ]
    for entry in found.table:
        data = (tmp_path / entry.path).read_bytes()
        assert entry.size_bytes == len(data)
    assert {entry.path for entry in found.files("report")} == {f"units/clean/{task.unit}.json" for task in TASKS}


def test_a_unit_without_list_and_report_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="unit law-00000 of stage clean has no readable report"):
        unit_paths(tmp_path, "clean", "whole", ["law-00000"])


def test_a_unit_without_files_is_in_the_list_with_its_report_alone(tmp_path):
    context = context_in(tmp_path)
    found = UnitReports.of("read", TASKS[:1], context, [finish_unit(TASKS[0], context, "read", {})])
    (entry,) = found.table
    assert (entry.unit, entry.kind, entry.path) == ("law-00000", "report", "units/read/law-00000.json")
    assert found.num_done == 1
