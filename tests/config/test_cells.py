"""Axes multiply a study out, and refuse what would be no grid."""

from __future__ import annotations

import pytest

from cpt_ray.config.cells import choose_cells, study_cells
from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError

MIX = "axes.mix={key: arms.legal.mix, values: {half: {law: 0.5, news: 0.5}, most: {law: 0.9, news: 0.1}}}"
FACTOR = "axes.factor={key: train.learning_rate_factor, values: [0.5, 1.0]}"
PACK = "axes.pack={key: prepare.pack.sequence_length, values: [64, 128]}"


def names(study_file, *overrides: str) -> list[str]:
    return [cell.name for cell in study_cells(load_study(study_file, overrides))]


def test_a_study_without_axes_is_its_only_cell(study_file):
    config = load_study(study_file)
    (cell,) = study_cells(config)
    assert (cell.name, cell.config) == ("", config)


def test_cells_are_all_combinations_and_differ_only_in_what_axes_set(study_file):
    config = load_study(study_file, (MIX, FACTOR))
    cells = study_cells(config)
    assert [cell.name for cell in cells] == [
        "mix-half+factor-0.5",
        "mix-half+factor-1.0",
        "mix-most+factor-0.5",
        "mix-most+factor-1.0",
    ]
    last = load_study(study_file, ("arms.legal.mix={law: 0.9, news: 0.1}", "train.learning_rate_factor=1.0"))
    assert cells[-1].config == last
    assert cells[0].config.arms["legal"].mix == {"law": 0.5, "news": 0.5}
    assert cells[0].config.train.learning_rate_factor == 0.5


def test_an_axis_without_a_key_lists_explicit_cells(study_file):
    axis = (
        "axes.setup={values: {gentle: {train.learning_rate_factor: 0.5, train.weight_decay: 0.0}, plain: {train.beta2: 0.95}}}"
    )
    gentle, plain = study_cells(load_study(study_file, (axis,)))
    assert (gentle.name, plain.name) == ("setup-gentle", "setup-plain")
    assert (gentle.config.train.learning_rate_factor, gentle.config.train.weight_decay) == (0.5, 0.0)
    assert plain.config.train.learning_rate_factor == 1.0


def test_entries_of_lists_and_optional_sections_can_be_swept(study_file):
    lora = "axes.lora={key: train.lora, values: {without: null, small: {rank: 4, alpha: 8}}}"
    limit = "axes.limit={key: sources.news.limit_documents, values: [100, 200]}"
    cells = study_cells(load_study(study_file, (lora, limit)))
    assert [cell.config.train.lora is None for cell in cells] == [True, True, False, False]
    assert [next(s.limit_documents for s in c.config.sources if s.name == "news") for c in cells] == [100, 200, 100, 200]


def test_patterns_choose_cells(study_file):
    cells = study_cells(load_study(study_file, (MIX, FACTOR)))
    chosen = choose_cells(cells, only=("mix-half+*", "*0.5"), exclude=("*most*",))
    assert [cell.name for cell in chosen] == ["mix-half+factor-0.5", "mix-half+factor-1.0"]
    assert choose_cells(cells) == cells


@pytest.mark.parametrize(
    ("only", "exclude", "problem"),
    [
        (("mix-third*",), (), "'mix-third\\*' matches no cell"),
        ((), ("nothing",), "'nothing' matches no cell"),
        (("mix-half*",), ("*",), "leave no cell"),
    ],
)
def test_a_pattern_that_chooses_nothing_is_refused(study_file, only, exclude, problem):
    cells = study_cells(load_study(study_file, (MIX, FACTOR)))
    with pytest.raises(ConfigError, match=problem):
        choose_cells(cells, only, exclude)
    with pytest.raises(ConfigError, match="the study has no axes"):
        choose_cells(study_cells(load_study(study_file)), ("*",))


@pytest.mark.parametrize(
    ("axis", "problem"),
    [
        ("axes.a={key: train.learning_rte_factor, values: [1, 2]}", r"cell a-1: unknown key train.learning_rte_factor"),
        (
            "axes.a={key: arms.legl.mix, values: {x: {law: 1}, y: {news: 1}}}",
            r"cell a-x has arms|cell a-x: missing key arms.legl",
        ),
        (
            "axes.a={key: sources.nws.limit_documents, values: [1, 2]}",
            "axes.a: key sources.nws.limit_documents: no entry 'nws'",
        ),
        ("axes.a={key: study.root, values: [one, two]}", "can not be swept: study is the study's own"),
        ("axes.a={key: runtime.workers, values: [1, 2]}", "can not be swept: runtime says where"),
        ("axes.a={key: models.tiny.name, values: [one, two]}", "a name is an identity"),
        ("axes.a={key: models, values: {x: [], y: null}}", "does not have the form section.key"),
        ("axes.a={key: train.beta1, values: [0.9, 0.9]}", "is there twice"),
        ("axes.a={key: train.beta1, values: {x: 0.9, y: 0.9}}", "values x and y are equal"),
        ("axes.a={key: train.budgets, values: [[1000], [2000]]}", "can not be a name"),
        ("axes.a={key: train.beta1, values: []}", "axes.a.values"),
        ("axes.a={values: {x: 1, y: 2}}", "without key, value x must be a mapping"),
        ("axes.a={key: train.beta1, values: [2.0, 0.5]}", "cell a-2.0: train.beta1"),
        ("axes.a={key: train.learning_rate.peak, values: [1, 2]}", "'learning_rate' is a value, not a section"),
    ],
)
def test_an_axis_that_makes_no_grid_is_refused(study_file, axis, problem):
    with pytest.raises(ConfigError, match=problem):
        names(study_file, axis)


def test_a_grid_above_the_limit_is_refused_with_its_number(study_file):
    with pytest.raises(ConfigError, match=r"4 cells \(2 of mix x 2 of factor\), but study.max_cells is 3") as error:
        names(study_file, MIX, FACTOR, "study.max_cells=3")
    assert "set study.max_cells to 4" in error.value.fix
    assert len(names(study_file, MIX, FACTOR, PACK)) == 8
