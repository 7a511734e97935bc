"""What MLflow stores about a corpus."""

import csv
import io

from cpt_ray.records import Amount, CorpusProfile, FailedScore, StageReport
from cpt_ray.report.tables.mirrored_files import corpus_tables, results_csv
from tests.report.made_up import make_contents
from tests.report.text.corpus_record import DOCUMENTS, PROFILE


def test_mlflow_gets_the_funnel_the_samples_and_the_profile() -> None:
    report = StageReport(
        stage="clean",
        source="law",
        input=Amount(documents=3, bytes=30),
        kept=Amount(documents=2, bytes=25),
        dropped={"min_bytes": Amount(documents=1, bytes=5)},
    )
    tables = corpus_tables(DOCUMENTS, [report])
    rows = list(csv.reader(io.StringIO(tables["funnel.csv"])))
    assert rows[1:] == [
        ["law", "clean", "in", "3", "30"],
        ["law", "clean", "kept", "2", "25"],
        ["law", "clean", "dropped: min_bytes", "1", "5"],
    ]
    assert [row["id"] for row in csv.DictReader(io.StringIO(tables["dropped_samples.csv"]))] == ["short_1", "short_2"]
    assert CorpusProfile.from_json(tables["profile.json"]) == PROFILE


def test_results_are_every_difference_unrounded_and_judged():
    contents = make_contents()
    rows = list(csv.DictReader(io.StringIO(results_csv(contents.comparison))))
    assert len(rows) == len(contents.comparison.deltas)
    first = contents.comparison.deltas[0]
    assert float(rows[0]["difference"]) == first.difference
    assert (rows[0]["set"], rows[0]["judgement"]) == (first.set_name, "better")
    assert {row["judgement"] for row in rows} == {"better", "worse", "not measurable"}
    failed = FailedScore(run="a", task="quiz", reason="no data", fix="-")
    lost = contents.comparison.model_copy(update={"failed": (failed,)})
    *_, last = csv.DictReader(io.StringIO(results_csv(lost)))
    assert (last["subject"], last["set"], last["difference"], last["judgement"]) == ("a", "quiz", "", "failed: no data")
    bare = contents.comparison.model_copy(update={"deltas": (first.model_copy(update={"interval": None}),)})
    (row,) = csv.DictReader(io.StringIO(results_csv(bare)))
    assert (row["low"], row["high"]) == ("", "")
