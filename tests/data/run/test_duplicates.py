"""The order of the tasks that find duplicates, and the description of the components."""

from pathlib import Path

import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.run import duplicates
from cpt_ray.data.run.duplicates import find_duplicates, order_of_priority, remove_scratch
from cpt_ray.data.run.units import UnitContext
from tests.data.conftest import document, settings
from tests.data.run.in_process import Documents, clean, source_of, stage_in
from tests.data.run.test_duplicate_tasks import verdicts


def test_domain_sources_come_first_and_keep_their_order() -> None:
    sources = [
        SourceConfig.model_validate({"name": name, "role": role, "path": "x", "format": "text"})
        for name, role in (("news", "general"), ("law", "domain"), ("wiki", "general"), ("tax", "domain"))
    ]
    assert order_of_priority(sources) == ["law", "tax", "news", "wiki"]


@pytest.fixture
def chained(tmp_path: Path) -> UnitContext:
    """Chains of near-duplicates across two sources, with one more edited word at each link."""
    rows: dict[str, dict[str, str]] = {"news": {}, "law": {}}
    for chain in range(3):
        text = document(f"chain {chain}", 400).split()
        for link in range(5):
            text = [*text[: 40 * link], "edited", *text[40 * link + 1 :]]
            rows["law" if link % 2 else "news"][f"chain_{chain}_link_{link}"] = " ".join(text)
    rows["news"]["alone"] = document("alone")
    sources = (source_of(tmp_path, "news", rows["news"], "general"), source_of(tmp_path, "law", rows["law"]))
    return UnitContext(folder=str(tmp_path / "out"), sources=sources, prepare=settings())


def found(context: UnitContext) -> tuple[Documents, list[str]]:
    tasks, cleaned = clean(context)
    stages: list[str] = []
    pairs, decided, components = find_duplicates(stage_in(context, stages), context, tasks, cleaned)
    return Documents(context, tasks, cleaned, decided, components, pairs), stages


def test_of_each_component_the_first_document_of_the_domain_is_kept(chained: UnitContext) -> None:
    made, stages = found(chained)
    assert stages == ["duplicate_pairs", "components", "near_duplicates"]
    kept = {name for name, (reason, _) in verdicts(made).items() if reason is None}
    assert kept == {"alone", *(f"chain_{chain}_link_1" for chain in range(3))}
    assert made.components.sizes == {"5-8": 3}
    assert [entry.documents for entry in made.components.largest] == [5, 5, 5]
    assert {entry.members[0].id for entry in made.components.largest} == {f"chain_{chain}_link_1" for chain in range(3)}


def test_more_pairs_than_one_task_holds_are_linked_in_steps_with_the_same_result(
    chained: UnitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = found(chained)
    monkeypatch.setattr(duplicates, "PAIRS_PER_TASK", 0)
    spread, stages = found(chained.model_copy(update={"folder": f"{chained.folder}-spread"}))
    assert "small_star_00" in stages
    assert stages[-3].startswith("large_star")  # it ends when a large-star step repeats the result of the previous one
    assert verdicts(spread) == verdicts(whole)
    assert spread.components == whole.components


def test_what_nothing_reads_any_more_is_removed_and_the_rest_stays(chained: UnitContext) -> None:
    made, _ = found(chained)
    before = verdicts(made)
    remove_scratch(chained.root)
    assert {path.name for path in chained.root.iterdir()} == {"clean", "inputs", "near_duplicates", "units", "lists"}
    assert verdicts(made) == before
