"""The documents of a study: refused if their raw files have changed since, and verified against them."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import ray_runtime
from cpt_ray.errors import DataError
from cpt_ray.records import ClusterNode
from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS, data_job, prepare_settings
from tests.study.planned import BareSession, graph_of

pytestmark = pytest.mark.ray


@pytest.fixture
def prepared(prepared_study, tmp_path):
    return prepared_study.copy(tmp_path / "study")


def change_a_letter(path):
    path.write_text(path.read_text().replace("e", "a", 1))


def test_what_is_scanned_for_is_no_setting_of_the_text(tiny):
    one, two = (
        prepare_settings(load_study(tiny.config, overrides).prepare, "seed", "decontaminate")
        for overrides in ((), ("prepare.decontaminate.tasks=[tiny_exam]",))
    )
    assert one == two
    assert set(one) == {"seed", "decontaminate"}


def test_text_is_prepared_on_the_nodes_with_its_labels(tiny, tmp_path, monkeypatch):
    there = [ClusterNode("head", {"CPU": 2.0}, {}, id="h", is_head=True)]
    monkeypatch.setattr(ray_runtime, "cluster_nodes", lambda: there)
    work = graph_of(tiny).one(DOCUMENTS).work

    class Joined(BareSession):
        def unit_pool(self) -> None:
            return None

    def labels(**settings) -> dict[str, str]:
        session = Joined(tmp_path)
        session.runtime = RuntimeConfig(**settings)
        return dict(data_job(work, tmp_path, session).labels)

    assert labels() == {}
    assert labels(prepare_labels={"cpt-ray-group": "prepare"}) == {"cpt-ray-group": "prepare"}
    assert labels(prepare_labels={"zone": "a"}, use_head=False) == {"zone": "a", "ray.io/node-id": "!h"}


def test_documents_whose_raw_file_has_changed_are_not_reused(prepared):
    node = graph_of(prepared).one(DOCUMENTS)
    assert store.load(node)
    DOCUMENTS.reuse_check(node)
    change_a_letter(prepared.inputs / "news.jsonl")
    with pytest.raises(DataError, match=r"news\.jsonl has changed since"):
        DOCUMENTS.reuse_check(node)


def test_verify_hashes_the_raw_files_of_each_source(prepared):
    node = graph_of(prepared).one(DOCUMENTS)
    law, news = DOCUMENTS.verify(node)
    assert [(found.name, found.problems, found.is_input) for found in (law, news)] == [
        ("raw files of law", (), True),
        ("raw files of news", (), True),
    ]
    assert law.amount.startswith("1 files, ")
    change_a_letter(prepared.inputs / "law.jsonl")
    law, news = DOCUMENTS.verify(node)
    assert [len(found.problems) for found in (law, news)] == [1, 0]
    assert "law.jsonl has changed since" in law.problems[0].problem


def test_a_raw_file_that_is_gone_is_a_finding_and_the_next_source_is_still_checked(prepared):
    node = graph_of(prepared).one(DOCUMENTS)
    (prepared.inputs / "law.jsonl").unlink()
    law, news = DOCUMENTS.verify(node)
    assert "no such file" in law.problems[0].problem
    assert news.problems == ()
