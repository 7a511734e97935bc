"""Sphinx settings of the documentation site: `make docs` builds it from these pages, strictly, with nothing from elsewhere."""

from typing import Any

from cpt_ray import __version__

project = "cpt-ray"
author = "the cpt-ray developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images/*"]
nitpicky = True

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = "cpt-ray"
html_static_path = ["images"]
html_show_sphinx = False
html_copy_source = False

INCLUDED = {
    "../configs/README.md": "configuration.md",
    "../cluster/README.md": "cluster.md",
    "../benchmarks/README.md": "benchmarks.md",
    "../ds_configs/README.md": "zero.md",
    "../CONTRIBUTING.md": "contributing.md",
}
"""Pages that stand beside what they describe. Their links lead to the page of the site that includes them."""


def _link_inside(_app: object, _page: str, source: list[str]) -> None:
    for there, here in INCLUDED.items():
        source[0] = source[0].replace(f"]({there}", f"]({here}")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _link_inside)
