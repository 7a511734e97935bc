"""JSON Schema of study files, with which editors complete keys, show what they mean and mark mistakes.

In: the pydantic models of the study file. Out: a tree of plain values (draft 2020-12); `cpt-ray schema` prints it, and a study
file names it in its first line (`HEADER`). Rules across keys are not in it: `cpt-ray check` has those.

Guarantee: it accepts every notation that a study file may use (`400M`, `2h`, one path or a list of them), and no unknown key.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from cpt_ray.config.reference.render import section_of
from cpt_ray.config.sections import axes, evaluate, runtime, train
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.values import (
    LONGEST_NAME,
    LONGEST_TASK,
    as_tuple,
    check_name,
    check_task,
    parse_bytes,
    parse_count,
    parse_seconds,
)

FILE = "cpt-ray.schema.json"
"""Its name next to a study file."""
HEADER = f"# yaml-language-server: $schema={FILE}"
"""The line by which a YAML file names its schema; a relative path starts at the YAML file."""

_NUMBER = r"^\s*[0-9][0-9_]*(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?\s*"


def _written(units: str, example: str) -> JsonSchemaValue:
    return {"type": "string", "pattern": f"{_NUMBER}({units})?$", "examples": [example]}


_TEXT: JsonSchemaValue = {"type": "string"}
_NUMBER_OR_AUTO: JsonSchemaValue = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
_ALSO: dict[Any, JsonSchemaValue] = {
    parse_count: _written("[kKmMbBgGtT]", "400M"),
    parse_bytes: _written("[bB]|[kKmMgGtT][bB]", "64MB"),
    parse_seconds: _written("[sSmMhHdD]", "2h"),
    as_tuple: _TEXT,
    runtime.parse_workers: {"type": "integer", "minimum": 1},
    axes.parse_values: {"type": "array", "minItems": 1, "uniqueItems": True},
}
"""What a reader of a value takes besides the value itself."""
_INSTEAD = {runtime.parse_number_or_auto: _NUMBER_OR_AUTO, train.parse_rows_per_pass: _NUMBER_OR_AUTO}
_LONGEST: dict[Any, int] = {check_name: LONGEST_NAME, check_task: LONGEST_TASK}


def study_schema() -> dict[str, Any]:
    """The schema as a tree of plain values."""
    tree = StudyConfig.model_json_schema(schema_generator=_Generator)
    source = tree["$defs"]["SourceConfig"]
    # A derived source says what it is by `from`.
    source["required"] = [key for key in source["required"] if key != "role"]
    source["anyOf"] = [{"required": ["role"]}, {"required": ["from"]}]
    for name, value in tree["properties"].items():
        value.setdefault("description", inspect.getdoc(section_of(name)))
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **tree,
        "title": "cpt-ray study file",
        "description": "A study of continued pretraining. Rules across keys are not in this schema: cpt-ray check has those.",
    }


def render_schema() -> str:
    """The schema as the text of a file."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Knows the notations of a study file, of which the types tell only what they are turned into."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """What a reader of a value takes."""
        reader, inner = schema["function"]["function"], super().function_before_schema(schema)
        if reader in _INSTEAD:
            return _INSTEAD[reader]
        if reader is evaluate.expand_tasks:
            return {**inner, "items": {"anyOf": [inner["items"], _TEXT]}}
        return {"anyOf": [inner, _ALSO[reader]]} if reader in _ALSO else inner

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Mappings whose keys are names have no others."""
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """Names as they may be written."""
        inner = super().function_after_schema(schema)
        longest = _LONGEST.get(schema["function"]["function"])
        return inner if longest is None else {**inner, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": longest}
