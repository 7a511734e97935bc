"""From keys to verdicts: pairs within a partition, roots, and the verdict on each document."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.dedup.exchange import read_partition
from cpt_ray.data.run.document_tasks import REFERENCE_BITS
from cpt_ray.data.run.duplicate_tasks import PairUnit, pair_unit, unit_number
from cpt_ray.data.run.units import UnitContext, keep_bytes
from tests.data.conftest import document, settings
from tests.data.run.in_process import PARTITIONS, Documents, clean, documents, source_of

NEAR = document("a", 400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    folder = tmp_path_factory.mktemp("verdicts")
    texts = {"a": NEAR, "alone": document("b"), "near": NEAR + " extra", "exact": NEAR.upper(), "last": document("c")}
    return documents(folder / "out", [source_of(folder, "law", texts)])


def verdicts(made: Documents) -> dict[str, tuple[str | None, int | None]]:
    found = {}
    for clean_report, verdict in zip(made.cleaned, made.decided, strict=True):
        ids = pq.read_table(made.context.root / clean_report.path("clean"))["id"].to_pylist()
        table = pq.read_table(made.context.root / verdict.path("verdicts"))
        found |= dict(zip(ids, zip(table["reason"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True), strict=True))
    return found


def test_the_number_of_a_unit_is_above_the_row() -> None:
    references = np.array([0, 5, (7 << REFERENCE_BITS) + 9], dtype=np.uint64)
    assert unit_number(references).tolist() == [0, 0, 7]


def test_each_duplicate_names_what_was_kept_and_why(made: Documents) -> None:
    assert verdicts(made) == {
        "a": (None, None), "alone": (None, None), "near": ("near_duplicate", 0), "exact": ("exact_duplicate", 0),
        "last": (None, None),
    }  # fmt: skip


def test_only_what_is_kept_has_a_component(made: Documents) -> None:
    for report in made.decided:
        table = pq.read_table(made.context.root / report.path("verdicts"))
        assert [name is None for name in table["component"].to_pylist()] == [
            reason is not None for reason in table["reason"].to_pylist()
        ]


def test_verdicts_add_up_and_show_samples_of_what_was_dropped(made: Documents) -> None:
    (report,) = [unit.reports[0] for unit in made.decided]
    assert {reason: amount.documents for reason, amount in report.dropped.items()} == {
        "near_duplicate": 1, "exact_duplicate": 1,
    }  # fmt: skip
    assert report.kept.documents == 3
    assert {sample["id"] for unit in made.decided for sample in unit.samples} == {"near", "exact"}


def test_partitions_together_find_each_pair_and_no_other(tmp_path: Path) -> None:
    texts = {"a": NEAR, "near": NEAR + " extra", "b": document("b")}
    source = source_of(tmp_path, "law", texts)
    context = UnitContext(folder=str(tmp_path / "out"), sources=(source,), prepare=settings())
    _, reports = clean(context)

    def listed(name: str) -> str:
        paths = [report.path(name) for report in reports]
        return keep_bytes(context.root, f"lists/{name}", ".json", json.dumps(paths).encode()).path

    fields = {"source": "", "partitions": PARTITIONS, **{name: listed(name) for name in ("keys", "ids", "sketches")}}
    found = set()
    for number in range(PARTITIONS):
        report = pair_unit(PairUnit(unit=f"pairs-{number}", partition=number, **fields), context)
        table = read_partition([context.root / report.path("pairs")], None)
        found |= set(zip(table["first"].to_pylist(), table["second"].to_pylist(), strict=True))
    assert found == {(0, 1), (1, 0)}  # in both directions, so that each partition sees all pairs of its documents
