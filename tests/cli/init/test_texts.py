"""What a folder holds, and which sources it becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.cli.init.texts import first_texts, look, probe_of
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import prove_source
from cpt_ray.errors import DataError
from tests.cli.init.messy import write_general, write_messy
from tests.integration.tiny_study import document


def prove(group) -> None:
    """What `check` asks of the source that a group becomes."""
    named = dict(group.fields.named) if group.fields else {}
    source = SourceConfig(name="own", role="domain", path=group.paths, encoding=group.encoding, **named)
    assert prove_source(source).warnings == ()


def test_a_messy_folder_is_one_source_and_what_is_no_text_is_named(tmp_path):
    found = look(str(write_messy(tmp_path / "own")), "PATH")
    (group,) = found.groups
    assert group.kinds == "40 html, 1 jsonl, 80 text"
    assert group.paths == (str(tmp_path / "own"),)
    assert group.fields is not None
    assert dict(group.fields.named) == {"text_field": "data.body", "id_field": "meta.id", "language_field": "meta.lang"}
    assert {Path(path).name: why for path, why in found.left_out} == {
        "scan.pdf": "pdf",
        "empty.txt": "empty",
        "also a scan.txt": "pdf",
    }
    assert 140 < group.documents < 180
    prove(group)
    assert len(first_texts(found)) > 5


def test_records_without_text_are_kept_out_of_the_source(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(document("law", number))
    (tmp_path / "labels.jsonl").write_text('{"id": "a", "label": "x"}\n')
    found = look(str(tmp_path), "PATH")
    assert [Path(path).name for path, why in found.left_out if why == "no field with text"] == ["labels.jsonl"]
    assert found.groups[0].paths == (f"{tmp_path}/**/*.txt",)
    prove(found.groups[0])


def test_records_with_their_text_in_different_fields_become_sources_of_their_own(tmp_path):
    for name, field in (("a", "text"), ("b", "body")):
        rows = [{field: document("law", number)} for number in range(9)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.table({"body": [document("law", 100 + number) for number in range(9)]}), tmp_path / "c.parquet")
    found = look(str(tmp_path), "PATH")
    assert [group.fields.text for group in found.groups if group.fields] == ["text", "body"]
    assert found.groups[0].paths == (f"{tmp_path}/a.jsonl",)
    assert set(found.groups[1].paths) == {f"{tmp_path}/b.jsonl", f"{tmp_path}/**/*.parquet"}
    for group in found.groups:
        prove(group)


def test_text_that_is_not_utf_8_is_detected(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.txt").write_bytes(("Die Bücher über die Straße, größer und schöner. " * 20).encode("latin-1"))
    found = look(str(tmp_path), "PATH")
    assert found.groups[0].encoding == "auto"


@pytest.mark.parametrize("rows", ['[{"text": "%s"}, {"text": "%s"}]', '{"text": "%s"}\n{"text": "%s"}\n'])
def test_json_is_read_as_a_list_or_as_lines(tmp_path, rows):
    text = document("law", 1).replace("\n", " ")
    (tmp_path / "a.json").write_text(rows % (text, text))
    (group,) = look(str(tmp_path), "PATH").groups
    assert group.fields is not None
    assert group.fields.text == "text"


def test_a_csv_file_is_looked_into(tmp_path):
    lines = [f'{number};"{document("law", number)}"' for number in range(5)]
    (tmp_path / "a.csv").write_text("\n".join(["nr;Inhalt", *lines]))
    (group,) = look(str(tmp_path / "a.csv"), "PATH").groups
    assert group.fields is not None
    assert group.fields.text == "Inhalt"


def test_the_smallest_group_of_general_text_can_be_a_probe(tmp_path):
    general = write_general(tmp_path / "general")
    found = probe_of(str(general), 40, 0.3)
    assert found is not None
    probe, rest = found
    assert Path(probe.path).name == "books"
    assert [Path(path).name for path in rest.groups[0].paths] == ["news", "web"]
    assert rest.documents == 800
    assert probe_of(str(general), 201, 0.3) is None
    assert probe_of(str(general), 40, 0.1) is None
    (general / "loose.txt").write_text(document("news", 1))
    assert probe_of(str(general), 40, 0.3) is None
    assert probe_of(str(general / "loose.txt"), 1, 1.0) is None


def test_a_path_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=f"^PATH {tmp_path}/nothing: no such file") as caught:
        look(f"{tmp_path}/nothing", "PATH")
    assert caught.value.fix.startswith("give a file or folder with text, Markdown, web pages")


def test_a_folder_without_text_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(DataError, match=r"--general .*: holds no file"):
        look(str(tmp_path), "--general")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(DataError, match=r"none of its files has a format that is known by its name; left out: 1 pdf"):
        look(str(tmp_path), "PATH")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.jsonl").write_text('{"label": 1}\n')
    with pytest.raises(DataError, match=r"none of its 3 files holds text: .*b\.txt: empty; c\.jsonl: no field with text"):
        look(str(tmp_path), "PATH")
