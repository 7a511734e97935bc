"""The documentation site builds without a warning and asks nothing of other hosts; its recipes are valid studies."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cpt_ray.cli import reference
from cpt_ray.config.study import StudyConfig
from tests.docs.pages import ROOT, study_with

DOCS = ROOT / "docs"
REQUESTED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["'](?:https?:)?//|url\(["']?(?:https?:)?//|@import"""
)
"""What a browser fetches by itself from another host. Links that a reader may follow are not among it."""


def recipes():
    return re.findall(r"^## (.*?)\n\n```yaml\n(.*?)^```$", (DOCS / "recipes.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.accept(practical=3)
def test_the_site_builds_without_a_warning_and_has_every_page(site):
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert len(pages) > 20
    assert pages <= {path.stem for path in site.glob("*.html")}


@pytest.mark.accept(practical=3)
def test_the_site_asks_nothing_of_other_hosts(site):
    asked = {(path.name, found) for path in site.rglob("*.html") for found in REQUESTED.findall(path.read_text("utf-8"))}
    asked |= {(path.name, found) for path in site.rglob("*.css") for found in REQUESTED.findall(path.read_text("utf-8"))}
    assert asked == set()
    assert REQUESTED.search('<script src="https://cdn.example/x.js">')


def test_links_to_pages_beside_what_they_describe_stay_on_the_site(site):
    assert 'href="configuration.html"' in (site / "data.html").read_text("utf-8")
    assert "README" not in re.findall(r'href="([^"]*)"', (site / "data.html").read_text("utf-8"))


@pytest.mark.accept(practical=3)
@pytest.mark.parametrize(("title", "recipe"), recipes(), ids=[title for title, _ in recipes()])
def test_a_recipe_is_valid_in_a_study(title, recipe):
    StudyConfig.model_validate(study_with(recipe))


def test_there_are_recipes():
    assert len(recipes()) >= 7


@pytest.mark.accept(practical=3)
def test_the_reference_of_verbs_is_what_the_command_line_offers():
    assert (DOCS / "cli.md").read_text("utf-8") == reference.render(), "run: python -m cpt_ray.cli.reference > docs/cli.md"
