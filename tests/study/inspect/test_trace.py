"""From rows to documents and back, checked against the rows that workers recorded during training."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.grid import Grid
from cpt_ray.study.inspect.trace import RunOrder, trace_document, trace_row
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.monitor.metrics import read_metrics
from cpt_ray.train.runs.specs import trajectory_specs
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK, FinishedStudy, cpt_ray
from tests.integration.tables import table_of
from tests.integration.tiny_study import DOCUMENTS

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def done(finished_study) -> FinishedStudy:
    return finished_study


@pytest.fixture
def graph(done) -> StudyGraph:
    return StudyGraph(load_study(done.study.config), done.study.config)


@pytest.mark.parametrize("name", [TRUNK, SMALL, CONTROL])
def test_every_row_of_a_run_is_where_its_workers_say_it_was(graph, done, name):
    order = RunOrder(graph, name)
    steps = read_metrics(done.folder("train", name))
    recorded = [(step.step, sample) for step in steps for sample in step.sample_ids]
    assert order.end - order.start == len(recorded) > 4
    seen = [order.at(position) for position in range(order.start, order.end)]
    assert [(row.step, f"{row.source}:{row.row}") for row in seen] == recorded
    assert {row.run for row in seen} == {name}


def test_before_its_branch_point_a_run_saw_what_its_trunk_saw(graph):
    branch, trunk = RunOrder(graph, SMALL), RunOrder(graph, TRUNK)
    assert branch.start > 0
    for position in (0, branch.start - 1):
        assert branch.at(position) == trunk.at(position)
        assert branch.at(position).run == TRUNK
    assert branch.at(branch.start).run == SMALL


def test_a_rows_documents_are_traced_back_to_that_row(graph):
    seen, pieces = trace_row(graph, CONTROL, 3)
    assert (seen.run, seen.position, seen.source) == (CONTROL, 3, "news")
    assert pieces
    placed, everywhere, waiting = trace_document(graph, "tiny", pieces[0].identity)
    assert (placed, everywhere, waiting) == trace_document(graph, "tiny", pieces[0].document_id)
    assert seen in everywhere
    assert pieces[0] in placed
    assert waiting == []


def test_trace_goes_from_a_row_of_a_run_to_its_documents_and_their_file(done):
    batch, steps = 4, read_metrics(done.folder("train", LARGE))
    config, law = str(done.study.config), {f"law_{number}" for number in range(DOCUMENTS)}
    seen = 0
    for step in (steps[0], steps[-1]):
        place = (step.step - 1) * batch + 1
        source, _, row = step.sample_ids[1].partition(":")
        code, said = cpt_ray("trace", config, "--run", LARGE, "--row", str(place))
        assert code == 0
        assert said.startswith(f"row {place} of run {LARGE}: step {step.step}; row {row} of source {source}\n")
        found = table_of(said, "document")
        assert all(line["file"] == str(done.study.inputs / f"{source}.jsonl") for line in found)
        assert {line["document"] for line in found} <= (law | {"dup_of_law_3"}) or source == "news"
        seen += len(found)
    assert seen > 1
    code, said = cpt_ray("trace", config, "--run", LARGE, "--row", "0")
    assert re.match(rf"row 0 of run {LARGE}: step 1, which is in run tiny-legal-trunk-seed0; row \d+ of source", said)


def test_trace_of_a_document_names_exactly_the_steps_whose_recorded_rows_hold_it(done):
    table = pq.read_table(done.folder("shards") / done.manifest().of_source("law")[0].index_path)
    name = table["document_id"][0].as_py()
    code, said = cpt_ray("trace", str(done.study.config), "--document", name)
    assert code == 0
    assert f"was read from {done.study.inputs / 'law.jsonl'}" in said
    rows = {f"law:{line['row']}" for line in table_of(said, "source")}
    recorded = {
        (run, str(step.step))
        for run in ("tiny-legal-trunk-seed0", SMALL, LARGE, CONTROL)
        for step in read_metrics(done.folder("train", run))
        for sample in step.sample_ids
        if sample in rows
    }
    assert recorded
    assert {(line["run"], line["in step"]) for line in table_of(said, "run")} == recorded


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "trace needs a row of a run, or a document"),
        (("--run", LARGE), "trace needs a row of a run, or a document"),
        (("--run", "nobody", "--row", "0"), "there is no run 'nobody' in this study"),
        (("--run", CONTROL, "--row", "100000"), rf"run {CONTROL} has rows 0 to \d+, not 100000"),
        (("--document", "short_1"), "no shard of model tiny holds a document 'short_1'"),
    ],
)
def test_trace_says_what_it_cannot_find(done, capsys, arguments, problem):
    assert cpt_ray("trace", str(done.study.config), *arguments)[0] == 2
    assert re.search(f"cpt-ray trace: {problem}", capsys.readouterr().err)


def test_a_run_that_is_not_trained_is_named_as_waiting_and_a_point_belongs_to_its_run(done):
    overrides = ("train.learning_rate=1e-3", "train.trajectory_tokens=[1000]")
    graph = StudyGraph(load_study(done.study.config, overrides), done.study.config)
    with pytest.raises(ConfigError, match=f"run {CONTROL} is not trained yet"):
        trace_row(graph, CONTROL, 0)
    (point,) = trajectory_specs([node.work.spec for node in graph.of(TRAIN) if node.name == TRUNK])
    with pytest.raises(ConfigError, match=f"{point.name} is a trajectory point, not a run") as error:
        Grid(graph).run(point.name)
    assert error.value.fix == f"ask for {TRUNK}, which passed it"
    table = pq.read_table(done.folder("shards") / done.manifest().of_source("law")[0].index_path)
    placed, seen, waiting = trace_document(graph, "tiny", table["document_id"][0].as_py())
    assert placed
    assert seen == []
    assert waiting == [TRUNK, SMALL, LARGE, CONTROL]
