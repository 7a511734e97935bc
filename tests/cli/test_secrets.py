"""A credential in a source's URL or in `tracking.uri` reaches no file under the root, no line of output and no MLflow run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt_ray.cli.main import main
from tests.edges.source_files.web_server import Server, whole
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = pytest.mark.accept(inputs=3)

SECRET = "Pl4ntedS3cret"


@pytest.fixture
def secretive(tmp_path, monkeypatch) -> Iterator[tuple[TinyStudy, tuple[str, ...]]]:
    """A study whose sources are signed URLs of a web server, with keys in the environment; and the overrides that say so."""
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    study = write_tiny_study(tmp_path / "study", kind="local")
    server = Server()
    overrides = []
    for source in ("law", "news"):
        server.steps[f"/{source}.jsonl"] = [whole((study.inputs / f"{source}.jsonl").read_bytes())]
        overrides.append(f"sources.{source}.path={server.url}/{source}.jsonl?X-Amz-Signature={SECRET}&part=1")
    yield study, (*overrides, f"sources.law.license=https://me:{SECRET}@host/license")
    server.close()


def leaks(folder: Path) -> list[str]:
    """Files below `folder` with the secret in their bytes or names."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    return [str(path) for path in found if SECRET in path.name or SECRET.encode() in content(path)]


def content(path: Path) -> bytes:
    """The bytes of a file; of Parquet, which is compressed, those of its values."""
    return str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()


def run(capsys, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("verb", ["check", "plan", "inspect", "verify", "compare", "report", "fetch-tasks"])
def test_no_light_verb_shows_a_signature_or_stores_it(secretive, capsys, monkeypatch, verb):
    study, overrides = secretive
    monkeypatch.setattr(sys, "argv", ["cpt-ray", verb, str(study.config), *overrides])
    code, said = run(capsys, verb, str(study.config), *overrides)
    assert code in (0, 2)
    assert SECRET not in said
    if study.root.exists():
        assert leaks(study.root) == []


def test_an_error_about_a_signed_url_names_it_without_the_signature(secretive, capsys):
    study, _ = secretive
    gone = f"sources.law.path=file:///gone/law.jsonl?sig={SECRET}"
    code, said = run(capsys, "check", str(study.config), gone)
    assert code == 2
    assert "file:///gone/law.jsonl?..." in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "override",
    [f"tracking.experiment=[https://u:{SECRET}@h]", f"study.root=https://me:{SECRET}@host/x", f"x.y=s3://a:{SECRET}@b"],
)
def test_an_error_about_an_override_shows_no_password(secretive, capsys, override):
    study, _ = secretive
    code, said = run(capsys, "check", str(study.config), override)
    assert code == 2
    assert SECRET not in said


def done_without_the_secret(capsys, monkeypatch, verb: str, secretive: tuple[TinyStudy, tuple[str, ...]]) -> TinyStudy:
    """The study after a verb that succeeded and showed no secret; its command line is in `sys.argv`, which is logged."""
    study, overrides = secretive
    monkeypatch.setattr(sys, "argv", ["cpt-ray", verb, str(study.config), *overrides])
    code, said = run(capsys, verb, str(study.config), *overrides)
    assert code == 0, said
    assert SECRET not in said
    return study


@pytest.mark.ray
def test_preparation_leaves_a_signature_nowhere_and_finds_the_files_again(secretive, capsys, monkeypatch, ray_session_2cpu):
    study = done_without_the_secret(capsys, monkeypatch, "prepare", secretive)
    _, overrides = secretive
    assert "X-Amz-Signature=***" in (study.root / "study.yaml").read_text()
    assert "X-Amz-Signature=***" in (study.root / "logs" / "driver.log").read_text()
    assert leaks(study.root) == []
    pinned = [
        row["path"] for path in study.root.glob("documents/*/inputs/**/*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert any("X-Amz-Signature=***&part=1" in path for path in pinned)
    code, said = run(capsys, "verify", str(study.config), *overrides)
    assert code == 0, said
    assert SECRET not in said
    code, said = run(capsys, "prepare", str(study.config), *overrides, "--dry-run")
    assert "make " not in said


@pytest.mark.full
@pytest.mark.ray
def test_a_whole_run_leaves_a_signature_in_no_report_and_no_mlflow_run(secretive, capsys, monkeypatch, ray_session_2cpu):
    study = done_without_the_secret(capsys, monkeypatch, "run", secretive)
    assert (study.root / "report.html").is_file()
    assert (study.root / "mlflow.db").is_file()
    assert leaks(study.root) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "none.yaml", f"--uri=https://me:{SECRET}@host"),
        ("check", "none.yaml", f"tracking.password={SECRET}", "--tracking.password", f"https://host/?token={SECRET}"),
        (f"https://me:{SECRET}@host/study.yaml",),
        ("check", f"https://me:{SECRET}@host/study.yaml"),
        ("trace", "none.yaml", "--row", f"https://host/token/{SECRET}1/a"),
        ("check", "configs/demo.yaml", f"https://me:{SECRET}@host"),
        ("check", "configs/demo.yaml", f"sourcess.law.path=https://me:{SECRET}@host"),
        ("check", "configs/demo.yaml", f"study.api_key={SECRET}"),
        ("check", "configs/demo.yaml", f"study.seeds=https://me:{SECRET}@host"),
        ("check", "configs/demo.yaml", f"study.seeds=[https://me:{SECRET}@host"),
    ],
)
def test_no_error_about_the_command_line_shows_a_credential_in_it(capsys, arguments):
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err
    assert SECRET not in captured.out + captured.err
