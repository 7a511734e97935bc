"""The raw file that a document of a unit came from."""

import json
from pathlib import Path

import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.run.provenance import find_files
from cpt_ray.data.run.units import UnitContext
from tests.data.conftest import settings
from tests.data.run.in_process import read

UNIT_BYTES = 3000


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    """Three files; the id `twice` is in the first two."""
    for name, ids in {"a": ["a_1", "twice"], "b": ["twice", "b_1"], "c": ["c_1"]}.items():
        rows = [json.dumps({"id": key, "text": f"{key} " * 150}) + "\n" for key in ids]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    fields = {"name": "law", "role": "domain", "path": f"{tmp_path}/*.jsonl", "format": "jsonl", "id_field": "id"}
    return SourceConfig.model_validate(fields)


def names(found: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {key: [Path(path).stem for path in paths] for key, paths in found.items()}


def test_each_document_is_found_in_the_files_of_its_unit(source: SourceConfig, tmp_path: Path) -> None:
    config = settings(unit_bytes=UNIT_BYTES)
    context = UnitContext(folder=str(tmp_path / "out"), sources=(source,), prepare=config)
    units = sum(len(report.outputs["raw"]) for report in read(context))
    wanted = ("a_1", "twice", "b_1", "c_1", "nowhere")
    found: dict[str, set[str]] = {name: set() for name in wanted}
    for number in range(units):
        files = find_files(context.root, source, settings(unit_bytes=UNIT_BYTES), unit=f"law-{number:05d}", document_ids=wanted)
        for name, stems in names(files).items():
            found[name].update(stems)
    assert found == {"a_1": {"a"}, "twice": {"a", "b"}, "b_1": {"b"}, "c_1": {"c"}, "nowhere": set()}


def test_a_unit_that_was_never_read_is_refused(source: SourceConfig, tmp_path: Path) -> None:
    context = UnitContext(folder=str(tmp_path / "out"), sources=(source,), prepare=settings(unit_bytes=UNIT_BYTES))
    read(context)
    with pytest.raises(ValueError, match="law-00099"):
        find_files(context.root, source, settings(unit_bytes=UNIT_BYTES), unit="law-00099", document_ids=["a_1"])
