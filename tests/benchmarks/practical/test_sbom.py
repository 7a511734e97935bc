"""A list of components is compared with the lock, and every difference is named."""

from __future__ import annotations

from benchmarks.measure.environments import REPOSITORY
from benchmarks.practical.sbom import differences, listed, pinned


def test_every_line_of_the_lock_is_read():
    lines = (REPOSITORY / "requirements.lock").read_text("utf-8").splitlines()
    found = pinned(lines)
    assert len(found) == sum("==" in line for line in lines) > 200
    assert found["ast-serialize"]  # by its normalized name, as pip knows it


def test_builds_pip_and_cpt_ray_itself_are_no_differences():
    components = [("torch", "2.13.0+cpu"), ("PyYAML", "6.0.3"), ("pip", "25.0"), ("cpt_ray", "0.1.0")]
    found = listed({"components": [{"name": name, "version": version} for name, version in components]})
    assert list(differences(pinned(["# a lock", "torch==2.13.0", "pyyaml==6.0.3  # why"]), found)) == []


def test_what_is_missing_too_many_or_of_another_version_is_named():
    found = {"numpy": "2.1", "extra": "1"}
    assert list(differences({"numpy": "2.0", "scipy": "1.16"}, found)) == [
        "extra: nothing in the lock, 1 in sbom.json",
        "numpy: 2.0 in the lock, 2.1 in sbom.json",
        "scipy: 1.16 in the lock, nothing in sbom.json",
    ]
