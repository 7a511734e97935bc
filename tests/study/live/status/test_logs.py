"""The log files of a study as one: in order, with errors first on request, followed, and of one worker."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main
from cpt_ray.study.live.status.logs import LogReader, errors_first, last_entries
from tests.study.live.status.made_up_root import FAILED, TRUNK, folder_of, make_logged_root


@pytest.fixture
def root(tmp_path):
    return make_logged_root(tmp_path / "runs")


def test_the_last_entries_are_shown(root, capsys):
    assert main(["logs", str(root), "--lines", "1"]) == 0
    assert capsys.readouterr().out == "[driver] 2026-01-01 10:00:09,000 INFO cpt_ray.study.live.session: made train\n"
    assert last_entries(LogReader(root).read(), 0) == []


def test_errors_come_before_warnings_and_nothing_else_does(root, capsys):
    assert main(["logs", str(root), "--errors"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"[{TRUNK} rank 1] {FAILED}")
    assert said.endswith("[driver] 2026-01-01 10:00:02,500 WARNING x: source is small\n")
    assert "made train" not in said
    assert [entry.level for entry in errors_first(LogReader(root).read(), 1)] == ["error"]
    (root / folder_of(TRUNK) / "logs" / "rank-00001.log").unlink()
    (root / "logs" / "driver.log").write_text("2026-01-01 10:00:00,000 INFO x: fine\n")
    assert main(["logs", str(root), "--errors"]) == 0
    assert capsys.readouterr().out == "no errors and no warnings\n"


def test_what_is_logged_later_is_read_once_and_a_line_that_is_not_whole_waits(root):
    reader, path = LogReader(root), root / "logs" / "driver.log"
    assert len(reader.read()) == 6
    assert reader.read() == []
    with path.open("a") as stream:
        stream.write("2026-01-01 10:00:10,000 INFO x: ha")
        stream.flush()
        assert reader.read() == []
        stream.write("lf\n  and more\n")
    assert [entry.text for entry in reader.read()] == ["2026-01-01 10:00:10,000 INFO x: half\n  and more"]
    path.write_text("2026-01-01 10:00:11,000 INFO x: anew\n")
    assert [entry.text for entry in reader.read()] == ["2026-01-01 10:00:11,000 INFO x: anew"]
