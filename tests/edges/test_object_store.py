"""S3 through pyarrow, on a local server: the same files, the same documents, and changes detected."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import check_inputs, plan_reads, read_documents
from cpt_ray.data.run.document_tasks import ReadUnit, read_unit
from cpt_ray.data.run.units import UnitContext
from cpt_ray.edges.source_files import list_source_files, source_version
from cpt_ray.errors import DataError
from tests.data.conftest import document, settings
from tests.integration.tiny_study import write_tiny_study

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[pyarrow.fs.S3FileSystem]:
    """A bucket named `texts`; this process and the Ray it starts find the server through the usual variables."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
        for name, value in variables.items():
            environment.setenv(name, value)
        store = pyarrow.fs.S3FileSystem(
            endpoint_override=f"{host}:{port}",
            scheme="http",
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            allow_bucket_creation=True,
        )
        store.create_dir("texts")
        yield store
    server.stop()


def put(store: pyarrow.fs.S3FileSystem, key: str, data: bytes) -> None:
    with store.open_output_stream(f"texts/{key}", compression=None) as stream:
        stream.write(data)


def wait_for_another_second(store: pyarrow.fs.S3FileSystem) -> None:
    """S3 stores modification times to the second."""
    written = store.get_file_info("texts/whole/part.jsonl").mtime.timestamp()
    while time.time() < written + 1.05:
        time.sleep(0.05)


def source(path: str, file_format: str) -> SourceConfig:
    return SourceConfig(name="law", role="domain", path=path, format=file_format, id_field="id")


def texts(path: str, file_format: str, unit_bytes: int) -> list[str]:
    config = source(path, file_format)
    return [item.text for task in plan_reads(config, unit_bytes) for item in read_documents(task, config)]


ROWS = [{"id": f"law_{number}", "text": document(f"law_{number}")} for number in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def test_every_format_reads_the_same_from_a_bucket(bucket: pyarrow.fs.S3FileSystem, tmp_path: Path) -> None:
    put(bucket, "a/part.jsonl", LINES)
    put(bucket, "b/part.jsonl.gz", gzip.compress(LINES))
    put(bucket, "c/part.jsonl.zst", pa.compress(LINES, "zstd", asbytes=True))
    put(bucket, "d/part.json", json.dumps(ROWS).encode())
    pq.write_table(pa.Table.from_pylist(ROWS), "texts/e/part.parquet", row_group_size=7, filesystem=bucket)
    wanted = [row["text"] for row in ROWS]
    for pattern, file_format in [("a", "jsonl"), ("b", "jsonl"), ("c", "jsonl"), ("d", "json"), ("e", "parquet")]:
        assert texts(f"s3://texts/{pattern}/*", file_format, 5000) == wanted
    for folder, file_format in [("a", "jsonl"), ("e", "parquet")]:
        assert len(plan_reads(source(f"s3://texts/{folder}/*", file_format), 5000)) > 3  # large files are split here too


def test_a_listing_has_sizes_and_versions_and_finds_nested_keys(bucket: pyarrow.fs.S3FileSystem) -> None:
    put(bucket, "deep/x/one.txt", b"1")
    put(bucket, "deep/x/y/two.txt", b"22")
    files = list_source_files("s3://texts/deep/**/*.txt")
    assert [file[:2] for file in files] == [("s3://texts/deep/x/one.txt", 1), ("s3://texts/deep/x/y/two.txt", 2)]
    assert all(file.version and source_version(file.path) == file.version for file in files)
    with pytest.raises(DataError, match=r"s3://texts/deep/\*\.md: no such file"):
        list_source_files("s3://texts/deep/*.md")


def test_an_object_that_is_written_again_is_noticed(bucket: pyarrow.fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "changing/a.jsonl", LINES)
    config = source("s3://texts/changing/*", "jsonl")
    (task,) = plan_reads(config, 10**6)
    (part,) = task.parts
    older = task.model_copy(update={"parts": (part.model_copy(update={"version": "2001-01-01 00:00:00+00:00"}),)})
    with pytest.raises(DataError, match=r"s3://texts/changing/a\.jsonl: changed while being read: version 2001.*, now 20"):
        list(read_documents(older, config))
    assert len(list(read_documents(task, config))) == len(ROWS)
    bucket.delete_file("texts/changing/a.jsonl")
    with pytest.raises(DataError, match=r"s3://texts/changing/a\.jsonl: disappeared after it was listed at the start"):
        list(read_documents(task, config))


def test_a_bucket_that_is_not_there_is_named(bucket: pyarrow.fs.S3FileSystem) -> None:
    with pytest.raises(DataError, match=r"s3://no-such-bucket/a.txt: no such file"):
        list_source_files("s3://no-such-bucket/a.txt")


def test_units_read_from_a_bucket_are_those_of_the_same_file_on_disk(bucket: pyarrow.fs.S3FileSystem, tmp_path: Path) -> None:
    put(bucket, "whole/part.jsonl", LINES)
    (tmp_path / "part.jsonl").write_bytes(LINES)
    made = {}
    for where, path in {"bucket": "s3://texts/whole/*", "disk": f"{tmp_path}/*.jsonl"}.items():
        config = source(path, "jsonl")
        context = UnitContext(folder=str(tmp_path / where), sources=(config,), prepare=settings())
        tasks = [ReadUnit(unit=f"law-read-{t.index:05d}", source="law", read=t) for t in plan_reads(config, 5000)]
        reports = [read_unit(task, context) for task in tasks]
        made[where] = [entry for report in reports for entry in report.files if entry.path.startswith("raw/")]
        check_inputs(tmp_path / where, config)
    assert made["bucket"] == made["disk"]  # hashes of content
    assert len(made["disk"]) > 3
    put(bucket, "whole/part.jsonl", LINES)
    wait_for_another_second(bucket)
    put(bucket, "whole/part.jsonl", LINES.replace(b"law_7", b"law_X"))
    with pytest.raises(DataError, match=r"source law: s3://texts/whole/part.jsonl has changed since bucket was made from it"):
        check_inputs(tmp_path / "bucket", source("s3://texts/whole/*", "jsonl"))
    check_inputs(tmp_path / "disk", source(f"{tmp_path}/*.jsonl", "jsonl"))


@pytest.mark.ray
@pytest.mark.full
def test_a_study_prepares_from_a_bucket_on_ray(bucket: pyarrow.fs.S3FileSystem, tmp_path: Path) -> None:
    study = write_tiny_study(tmp_path / "study")
    put(bucket, "study/law.jsonl", (study.inputs / "law.jsonl").read_bytes())
    shards = []
    for number, path in enumerate([str(study.inputs / "law.jsonl"), "s3://texts/study/law.jsonl"]):
        root = tmp_path / f"runs{number}"
        overrides = [f"sources.law.path={path}", f"study.root={root}", "train.budgets=[2000]"]
        # A separate process: workers of an existing Ray would not have the server's address.
        command = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(study.config), *overrides]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        shards.append({path.name for path in root.glob("shards/*/shards/*.arrow")})
    assert shards[0] == shards[1] != set()  # names contain the content's hash
