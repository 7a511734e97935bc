"""What is said of a source too small for a test set: the settings that decide it, other ones for a probe."""

import logging

import pytest

from cpt_ray.errors import DataError
from tests.data.filter.in_process import World, rows, source

OF_OTHERS = "prepare.held_out.share is 1e-09, and prepare.held_out.validation_share is 0.5"
OF_A_PROBE = "a probe is held out whole, and prepare.held_out.validation_share is 0.999"


def world(folder, role, documents, **held_out):
    """A web and another source, of which nothing would be for a test set."""
    folder.mkdir()
    sources = [source(folder, "web", "general", rows("news", 30, name="web"))]
    if role == "probe":
        sources.append(source(folder, "essays", "probe", rows("law", documents, name="essay")))
        held_out["validation_share"] = 0.999
    else:
        sources[0] = source(folder, "web", role, rows("news", documents, name="web"))
        held_out["share"] = 1e-9
    return World.of(folder, sources, held_out=held_out)


@pytest.mark.parametrize(("role", "settings"), [("general", OF_OTHERS), ("probe", OF_A_PROBE)])
def test_the_warning_names_the_settings_that_decide(tmp_path, caplog, role, settings):
    with caplog.at_level(logging.WARNING):
        world(tmp_path / "some", role, 12)
    name = "essays" if role == "probe" else "web"
    assert f"source {name}: {settings}, which of its 12 documents gives no test set; " in caplog.text
    assert "more near-duplicate components are for the test set" in caplog.text


@pytest.mark.parametrize(
    ("role", "settings", "change"),
    [
        ("general", OF_OTHERS, "raise prepare.held_out.share"),
        ("probe", OF_A_PROBE, "lower prepare.held_out.validation_share"),
    ],
)
def test_the_refusal_names_the_setting_that_helps(tmp_path, role, settings, change):
    with pytest.raises(DataError, match="the test set has 0 of 1 documents") as error:
        world(tmp_path / "one", role, 1)
    assert error.value.problem.endswith(settings)
    assert error.value.fix == f"add documents to this source, or {change}"
