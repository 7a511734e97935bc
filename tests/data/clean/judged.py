"""Verdicts of single rule sets, with every threshold off except those named by a test."""

from typing import Any

from pydantic import BaseModel

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import clean, reason_key
from cpt_ray.records import Document, Dropped

SETTINGS = {"stop_words", "short_line_characters"}
"""Keys of rule sets that qualify a threshold and are not thresholds themselves."""


def thresholds(name: str) -> list[str]:
    section = CleanConfig.model_fields[name].annotation
    assert issubclass(section, BaseModel)
    return [key for key in section.model_fields if key not in SETTINGS]


def off(name: str) -> dict[str, Any]:
    section = CleanConfig.model_fields[name].default
    return {key: False if isinstance(getattr(section, key), bool) else None for key in thresholds(name)}


def config(name: str | None = None, **rules: object) -> CleanConfig:
    """Settings in which only the rules named by a test drop: keys of rule set `name`, or of the section itself."""
    own = {"min_bytes": None, "max_bytes": None, "normalize": False}
    if name is None:
        return CleanConfig.model_validate({**own, "rules": [], **rules})
    return CleanConfig.model_validate({**own, "rules": [name], name: {**off(name), **rules}})


Case = tuple[str, str, object, str, str]
"""Rule set, key, its setting, a text at the threshold, a text beyond it."""

EDITING = ("terminal_punctuation", "min_line_words", "max_word_characters", "javascript", "policy")
"""Rules of `c4` that remove a line, which leaves nothing of a text of one line."""


def check_border(case: Case) -> None:
    """A rule keeps a text at its threshold, drops one beyond it with its key as the reason, and drops nothing when off."""
    name, key, setting, kept, dropped = case
    settings = config(name, **{key: setting})
    assert judge(kept, settings) is None
    reason = judge(dropped, settings)
    if name == "c4" and key in EDITING:
        assert reason == "empty"
    else:
        size = f".{next(iter(setting))}" if isinstance(setting, dict) else ""
        assert reason == f"{name}.{key}{size}"
        assert reason_key(reason) == f"prepare.clean.{name}.{key}{size}"
    assert judge(dropped, config(name)) is None


def judge(text: str, settings: CleanConfig, language: str | None = None) -> str | None:
    """The reason why a text is dropped, or None."""
    result = clean(Document("d", text, "law", language), settings)
    return result.reason if isinstance(result, Dropped) else None


def cleaned(text: str, settings: CleanConfig) -> str:
    """The text after cleaning; it must be kept."""
    result = clean(Document("d", text, "law"), settings)
    assert not isinstance(result, Dropped), result
    return result.document.text
