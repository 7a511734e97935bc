"""What a study needs of a machine."""

from __future__ import annotations

from cpt_ray.config.load import load_study
from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor.needs import check_study


def found(study, *overrides) -> dict[str, Finding]:
    return {one.what: one for one in check_study(load_study(study.config, overrides), study.config)}


def test_a_package_that_a_study_needs_and_lacks_is_named(tiny, monkeypatch):
    from cpt_ray.study.preflight import packages

    monkeypatch.setattr(packages, "is_installed", lambda module: module != "wandb")
    one = found(tiny, "tracking.wandb=true")["packages of the study"]
    assert one.level == "fail"
    assert "tracking.wandb needs the Python package wandb" in one.found
    assert "pip install 'wandb" in one.fix
