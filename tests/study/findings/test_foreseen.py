"""What a study is planned to take is noted before it is made."""

from cpt_ray.config.load import load_study
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import ForeseenCost
from cpt_ray.study.findings import foreseen as module
from cpt_ray.study.findings.foreseen import foresee
from cpt_ray.study.findings.planned import planned_cost
from cpt_ray.study.study import StudyDriver
from tests.study.planned import Lines


def test_a_plan_is_noted_before_anything_is_made_and_stays(tiny, tmp_path, monkeypatch):
    def opened(*overrides):
        return StudyDriver(load_study(tiny.config, (f"study.root={tmp_path / 'root'}", *overrides)), tiny.config, Lines())

    def noted():
        return ForeseenCost.load(study.root / ForeseenCost.FILE)

    study = opened()
    assert not planned_cost(study, []).foreseen
    foresee(study.graph, study.grid)
    first = noted()
    assert {"prepare", "train"} <= set(first.seconds)
    assert planned_cost(study, []).foreseen

    # What a plan says later of a stage that has begun is not what it foretold.
    other = first.model_copy(update={"seconds": dict.fromkeys(first.seconds, 1.0), "peak_bytes": {"tiny": 1}})
    for begun in ((), ("prepare",), ("prepare", "train")):
        write_atomic(study.root / ForeseenCost.FILE, other.to_json())
        monkeypatch.setattr(module, "_begun", lambda _, begun=begun: set(begun))
        foresee(study.graph, study.grid)
        assert noted().seconds == {verb: 1.0 if verb in begun else known for verb, known in first.seconds.items()}
        assert noted().peak_bytes == ({"tiny": 1} if "train" in begun else first.peak_bytes)

    # Other settings make other artifacts. Of a stage that began without a plan nothing is foreseen.
    study = opened("prepare.pack.sequence_length=32")
    foresee(study.graph, study.grid)
    assert not planned_cost(study, []).foreseen
    monkeypatch.setattr(module, "_begun", lambda _: {"prepare"})
    foresee(study.graph, study.grid)
    assert planned_cost(study, []).foreseen
    assert set(noted().seconds) == set(first.seconds) - {"prepare"}
