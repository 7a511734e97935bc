"""Event files hold each point once, whatever was killed when, and TensorBoard's own reader finds them."""

from __future__ import annotations

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from cpt_ray.edges.tracking.curves import CurvePoint, run_points
from cpt_ray.edges.tracking.event_files import FOLDER, EventFiles
from cpt_ray.edges.tracking.event_format import read_records, read_scalar
from cpt_ray.records import StepMetrics


def step(number: int, *, loss: float = 2.5, skipped: bool = False) -> StepMetrics:
    return StepMetrics(
        attempt=1, step=number, tokens_seen=100 * number, loss=loss + number, learning_rate=1e-4, gradient_norm=0.5,
        tokens_per_s=100.0, step_s=2.0, data_wait_s=0.0, mfu=None, skipped=skipped,
    )  # fmt: skip


def points(*steps: StepMetrics) -> list[CurvePoint]:
    return run_points(steps, [("during_training.domain.law.bits_per_byte", 100, 1.5)], started_s=1000.0)


def event_file(root, run="a@half"):
    found = sorted((root / FOLDER / run).iterdir())
    assert all(path.stat().st_size == 0 for path in found[:-1])
    return found[-1]


def events(root, run="a@half") -> list[Event]:
    """The events of a run's only file, by Google's own parser."""
    return [Event.FromString(data) for data, _ in read_records(event_file(root, run).read_bytes())]


def scalars(root, run="a@half") -> list[tuple[str, int, float]]:
    found = [one for one in events(root, run) if one.HasField("summary")]
    return [(one.summary.value[0].tag, one.step, one.summary.value[0].simple_value) for one in found]


@pytest.fixture
def files(tmp_path):
    return EventFiles(tmp_path)


def test_another_parser_reads_what_was_written(files, tmp_path):
    files.write("a@half", "k", points(step(1), step(2)))
    version, start, *rest = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert start.session_log.status == start.session_log.START
    assert [one.wall_time for one in rest if one.summary.value[0].tag == "train/loss"] == [1002.0, 1004.0]
    assert scalars(tmp_path)[0] == ("train/loss", 100, 3.5)
    assert len(scalars(tmp_path)) == 9


def test_a_run_that_grew_is_appended_to_and_the_same_points_change_nothing(files, tmp_path):
    files.write("a@half", "k", points(step(1)))
    path, begin = event_file(tmp_path), event_file(tmp_path).read_bytes()
    files.write("a@half", "k", points(step(1), step(2)))
    again = EventFiles(tmp_path)  # another command
    again.write("a@half", "k", points(step(1), step(2)))
    again.write("a@half", "k", points(step(1), step(2), step(3)))
    assert event_file(tmp_path) == path
    assert path.read_bytes().startswith(begin)
    losses = [one for one in scalars(tmp_path) if one[0] == "train/loss"]
    assert losses == [("train/loss", 100, 3.5), ("train/loss", 200, 4.5), ("train/loss", 300, 5.5)]


@pytest.mark.parametrize("cut", [1, 13, 40])
def test_a_record_that_was_cut_short_is_dropped_and_written_whole(files, tmp_path, cut):
    files.write("a@half", "k", points(step(1), step(2)))
    path = event_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    EventFiles(tmp_path).write("a@half", "k", points(step(1), step(2)))
    assert sorted(scalars(tmp_path)) == sorted(scalars_of(whole))


def scalars_of(data: bytes) -> list[tuple[str, int, float]]:
    return [scalar for event, _ in read_records(data) if (scalar := read_scalar(event)) is not None]


def test_steps_done_again_replace_the_file(files, tmp_path):
    files.write("a@half", "k", points(step(1), step(2), step(3)))
    old = event_file(tmp_path)
    files.write("a@half", "k", points(step(1), step(2, loss=9.0)))
    assert event_file(tmp_path) > old
    assert [value for key, _, value in scalars(tmp_path) if key == "train/loss"] == [3.5, 11.0]
    EventFiles(tmp_path).write("a@half", "k", points(step(1)))
    assert len(list((tmp_path / FOLDER / "a@half").iterdir())) == 2
    assert not old.exists()
    assert [value for key, _, value in scalars(tmp_path) if key == "train/loss"] == [3.5]


def test_a_folder_that_cannot_be_written_is_an_error_with_a_fix(tmp_path):
    from cpt_ray.errors import ArtifactError

    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(ArtifactError, match="cannot be written"):
        EventFiles(tmp_path).write("a", "k", points(step(1)))


def test_tensorboards_own_reader_finds_each_point_once_after_a_resume(files, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    files.write("a@half", "k", points(step(1), step(2), step(3)))
    EventFiles(tmp_path).write("a@half", "k", points(step(1), step(2, loss=9.0), step(3), step(4)))
    found = accumulator.EventAccumulator(str(tmp_path / FOLDER / "a@half"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("train/loss")] == [(100, 3.5), (200, 11.0), (300, 5.5), (400, 6.5)]
    assert found.Scalars("train/learning_rate")[0].value == struct.unpack("<f", struct.pack("<f", 1e-4))[0]


def test_a_reader_that_follows_the_folder_forgets_points_that_were_replaced(files, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    files.write("a@half", "k", points(step(1), step(2), step(3)))
    found = accumulator.EventAccumulator(str(tmp_path / FOLDER / "a@half"))
    found.Reload()
    files.write("a@half", "k", points(step(1), step(2, loss=9.0)))
    found.Reload()
    assert [one.value for one in found.Scalars("train/loss")] == [3.5, 11.0]
