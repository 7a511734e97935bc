"""Every example and the notebook run, on a tiny study that is finished once for all of them."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from pathlib import Path

import pytest

from cpt_ray.cli.main import main
from tests.integration.finished import LARGE
from tests.integration.tiny_study import BUDGETS, TinyStudy, document, study_tree, write_tiny_study

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
TINY = (
    f"train.budgets=[{BUDGETS[0]}]",
    "train.learning_rate=3e-3",
    "train.global_batch_size=4",
    "prepare.pack.sequence_length=64",
    "prepare.unit_bytes=16000",
    "prepare.held_out.share=0.15",
    "evaluate.held_out_documents=8",
    "evaluate.document_tokens=96",
    "evaluate.context=64",
    "evaluate.batch_tokens=1024",
    "compare.subsets=100",
    "runtime.prepare_workers=2",
    "tracking.enabled=false",
)
pytestmark = [pytest.mark.slow, pytest.mark.accept(practical=3)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> TinyStudy:
    """A tiny study of one process, from text to report."""
    study = write_tiny_study(tmp_path_factory.mktemp("examples") / "study", kind="local")
    train = {**study_tree(study.config.parent, "local")["train"], "budgets": [1000, 2000]}
    study.change(train=train, tracking={"enabled": False})
    assert main(["run", str(study.config), "--quiet"]) == 0
    return study


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example with arguments, as `python examples/NAME.py` does; return what it printed."""
    monkeypatch.chdir(REPOSITORY)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_run_here_and_says_how_to_call_it():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = {function.removeprefix("test_") for function in globals() if function.startswith("test_")}
    assert names == {"own_corpus", "filter_domain", "compare_studies", "more_tokens", "serve_export", "publish"}
    assert names <= tested
    for name in names:
        said = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
        assert f"python examples/{name}.py" in said


def test_own_corpus(finished, run, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.txt").write_text(document("law", number))
    text = run("own_corpus", folder, finished.model, f"study.root={tmp_path / 'root'}", *TINY)
    assert "check passed" in text
    assert "base-mine-2000-seed0" in text
    assert (tmp_path / "root" / "report.html").is_file()
    code = [line for line in (EXAMPLES / "own_corpus.py").read_text().splitlines()[2:] if line]
    assert len(code) <= 10


def test_filter_domain(finished, run, tmp_path):
    law, news = (finished.inputs / f"{name}.jsonl" for name in ("law", "news"))
    mixed = tmp_path / "mixed.jsonl"
    more = [json.dumps({"id": f"found_{number}", "text": document("law", 5000 + number)}) + "\n" for number in range(60)]
    mixed.write_text(news.read_text() + "".join(more))
    text = run("filter_domain", law, mixed, finished.model, f"study.root={tmp_path / 'root'}", *TINY)
    first, second = text.split("--- topic >= 0.3")
    assert "made    classifier/topic" in first
    assert "reused  classifier/topic" in second
    assert "reused  scores/topic-web" in second
    assert "made    derived/base-web_domain" in second


@pytest.mark.full
def test_compare_studies(finished, run, tmp_path):
    study = finished.copy(tmp_path / "study")
    text = run("compare_studies", study.config, "compare.subsets=100")
    assert "as it is" in text
    assert "compare.subsets=100" in text
    assert LARGE.replace(str(BUDGETS[1]), "2000") in text
    command = text.splitlines()[-1].split()[1:]
    assert main(command) == 0


def test_more_tokens(finished, run, tmp_path):
    study = finished.copy(tmp_path / "study")
    study.config.write_text("# mine\n" + study.config.read_text())
    text = run("more_tokens", study.config, "+1k", "arms={legal: {role: domain, mix: {law: 0.75, news: 0.25}}}")
    assert "  reused  tiny-legal-1000-seed0" in text
    assert "  extended  tiny-legal-trunk-seed0: " in text
    assert "tiny-legal-3000-seed0" in text.splitlines()[-1] + text.splitlines()[-2]
    assert "# mine\n" in study.config.read_text()
    assert "- 3k" in study.config.read_text()


def test_serve_export(finished, run):
    assert run("serve_export", finished.config, "Bada").startswith("Bada")


def test_publish(finished, run, tmp_path):
    text = run("publish", finished.config, tmp_path / "hub")
    assert "license: other" in text
    assert (tmp_path / "hub" / "model.safetensors").is_file()


def test_the_notebook(finished, monkeypatch, capsys):
    """All cells in order, as a kernel runs them; a notebook without outputs says nothing that is not true any more."""
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    monkeypatch.chdir(REPOSITORY)
    scope: dict[str, object] = {"__name__": "__main__"}
    shown = []
    for cell in cells:
        tree = ast.parse(cell.replace("configs/demo.yaml", str(finished.config)))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "tour.ipynb", "exec"), scope)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), "tour.ipynb", "eval"), scope))
    assert "check passed" in capsys.readouterr().out
    assert any(hasattr(value, "_repr_html_") and "<iframe" in value._repr_html_() for value in shown)
    assert any("bits_per_byte" not in str(value) and "tokens_seen" in str(value) for value in shown)
