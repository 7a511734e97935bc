"""A filled template says what was chosen, in YAML that reads back as it was meant; what it passes is in `test_init.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cpt_ray.cli.init.bases import look_at_base
from cpt_ray.cli.init.fill import TITLES, Answers, fill
from cpt_ray.cli.init.hardware import Hardware
from cpt_ray.cli.init.texts import look
from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError
from tests.cli.init.messy import write_base, write_general
from tests.integration.tiny_study import document

LAPTOP = Hardware("CPU", 1, 12 * 10**9, 2e11, is_gpu=False)


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Answers:
    folder = tmp_path_factory.mktemp("fill") / 'in: a #1 folder\'s "name" — ünïcode'
    for number in range(60):
        path = folder / "own" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document("law", number) * 3)
    write_general(folder / "general")
    return Answers(
        template="laptop", name="own", domain=look(str(folder / "own"), "PATH"), general=None, probe=None,
        bases=[look_at_base(str(write_base(folder / "base")))], hardware=LAPTOP, budget=12_500, hours=None, file="study.yaml",
    )  # fmt: skip


def filled(answers: Answers):
    return parse_study(yaml.safe_load(fill(answers).text), place="filled")


def with_general(answers: Answers, name: str = "general") -> Answers:
    general = Path(answers.domain.path).parent / "general"
    return replace(answers, general=look(str(general if name == "general" else general / name), "--general"))


def test_paths_with_any_characters_are_read_back_as_they_are(answers):
    study = filled(answers)
    assert study.sources[0].path == (answers.domain.path,)
    assert study.models[0].base.endswith("/base")


def test_a_group_of_the_general_text_becomes_the_probe_and_leaves_the_control(answers):
    study = filled(with_general(answers))
    general, probe = study.sources[1:]
    assert (general.role, probe.role) == ("general", "probe")
    assert [Path(path).name for path in (*general.path, *probe.path)] == ["news", "web", "books"]


def test_general_text_in_one_piece_gives_no_probe_and_that_is_said(answers):
    made = fill(with_general(answers, "web"))
    assert any(remark.startswith("no probe: ") for remark in made.remarks)
    assert "No probe: the general text has no sub-folder" in made.text
    assert [source.role for source in parse_study(yaml.safe_load(made.text), place="filled").sources] == ["domain", "general"]


def test_several_sources_share_the_mixture_in_proportion_to_their_text(answers):
    group = answers.domain.groups[0]
    halves = [replace(group, text_bytes=3.0e5, paths=("a",)), replace(group, text_bytes=1.0e5, paths=("b",))]
    study = filled(with_general(replace(answers, domain=replace(answers.domain, groups=halves)), "web"))
    mix = study.arms["own"].mix
    assert sum(mix.values()) == pytest.approx(1)
    assert mix["own"] == pytest.approx(3 * mix["own-domain"], abs=5e-3)


def test_the_last_resort_of_a_large_base_is_written_as_adapters(answers):
    study = filled(replace(answers, bases=[replace(answers.bases[0], parameters=2e9)]))
    assert study.train.lora is not None
    assert study.train.learning_rate_factor == 10


def test_sources_do_not_take_the_names_of_those_that_a_template_makes(answers):
    given = replace(with_general(answers), template="legal-scaling")
    study = filled(replace(given, domain=replace(given.domain, path="/text/filtered")))
    assert {source.name for source in study.sources} > {"filtered", "matched", "filtered-domain"}


def test_a_gpu_without_bf16_gets_fp16(answers):
    card = Hardware("Tesla T4", 1, 16 * 10**9, 2e13, is_gpu=True, precision="fp16")
    study = filled(replace(answers, hardware=card))
    assert (study.train.precision, study.evaluate.precision, study.runtime.gpu_memory) == ("fp16", "fp32", 16 * 10**9)


def test_text_within_text_is_refused(answers):
    inside = look(str(Path(answers.domain.path).parent), "--general")
    with pytest.raises(ConfigError, match=r"PATH is .*own, which --general contains or is itself: text can have one role"):
        fill(replace(answers, general=inside))


def test_the_command_line_offers_the_templates_that_there_are():
    from cpt_ray.cli.catalog import VERBS

    assert tuple(TITLES) == VERBS["init"].arguments["--template"]["choices"]
