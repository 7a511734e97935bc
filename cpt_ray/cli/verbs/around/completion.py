"""Print a script with which a shell completes verbs, options, study files, keys of a study and their values.

The script is complete in itself: completing starts no Python. Names of a study's own sources, models and arms are read from the
study file by the script.
"""

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from cpt_ray import __version__
from cpt_ray.cli.catalog import VERBS, Arguments
from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.verbs.around.demo import STUDY as DEMO
from cpt_ray.config.reference.schema import study_schema

_EVERYWHERE = ("--help", "--verbose", "--quiet", "--debug")


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb."""
    console.say((_bash if options.shell == "bash" else _zsh)().rstrip())


def study_values() -> dict[str, tuple[str, ...]]:
    """Every key of a study file that an override may set, and its values where they are few.

    An entry of a list, or one that has a name, is `*`: `sources.*.role`.
    """
    schema = study_schema()
    return dict(_keys(schema, schema["$defs"], ""))


def _keys(node: Mapping[str, Any], models: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, field in node.get("properties", {}).items():
        key = f"{prefix}{name}"
        entries = _entries(field)
        if len(inner := [(one, model) for one in entries if (model := _model(one, models)) is not None]) == 1:
            entry, model = inner[0]
            yield from _keys(model, models, f"{key}." if entry in _alternatives(field) else f"{key}.*.")
        if not inner or len(entries) > len(inner):
            yield key, tuple(dict.fromkeys(value for one in _alternatives(field) for value in _literals(one)))


def _alternatives(field: Mapping[str, Any]) -> list[Any]:
    """The forms that a value may have, `null` aside."""
    found = [form for one in field["anyOf"] for form in _alternatives(one)] if "anyOf" in field else [field]
    return [one for one in found if one.get("type") != "null"]


def _entries(field: Mapping[str, Any]) -> list[Any]:
    """The forms of a value; of a list or a mapping of names, the form of an entry."""
    found: list[Any] = []
    for one in _alternatives(field):
        inner = one.get("items") or next(iter(one.get("patternProperties", {}).values()), None)
        found += _alternatives(inner) if inner and any("$ref" in form for form in _alternatives(inner)) else [one]
    return found


def _model(one: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return models[one["$ref"].rpartition("/")[2]] if "$ref" in one else None


def _literals(one: Mapping[str, Any]) -> list[str]:
    if one.get("type") == "boolean":
        return ["true", "false"]
    values = one.get("enum", [one["const"]] if "const" in one else [])
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def _options(arguments: Arguments) -> str:
    return " ".join([name for name in arguments if name.startswith("--")] + list(_EVERYWHERE))


def _options_of(verb: str) -> str:
    found = VERBS[verb]
    return _options({**found.arguments_of_room, **found.arguments})


def _choices() -> dict[str, str]:
    """Options, and verbs whose first argument is one of a few words, to these words."""
    found: dict[str, str] = {}
    for name, verb in VERBS.items():
        for argument, settings in verb.arguments.items():
            if "choices" in settings:
                found[argument if argument.startswith("--") else name] = " ".join(settings["choices"])
    return found


def _cases(of: Mapping[str, str]) -> str:
    """The branches of a shell's `case`."""
    return "\n".join(f"    {key}) echo '{words}' ;;" for key, words in of.items())


_FUNCTIONS = """\
_cpt_ray_options() {{
  case "$1" in
{options}
  esac
}}
_cpt_ray_values() {{
  case "$1" in
{values}
  esac
}}
# Keys, with the names that the study file $1 gives its entries in place of `*`.
_cpt_ray_keys() {{
  [[ -r "$1" ]] && sed -nE \\
    -e '/^[a-z_]+:/{{s/^([a-z_]+):.*/\\1/;h}}' \\
    -e '/^ *- *[{{]? *(.*, *)?name: *["'"'"']?[A-Za-z0-9]/{{' \\
    -e 's/.*name: *["'"'"']?([A-Za-z0-9._-]+).*/\\1/;G;s/(.*)\\n(.*)/\\2.\\1/p;d}}' \\
    -e '/^  [A-Za-z0-9][A-Za-z0-9._-]*:/{{s/^  ([A-Za-z0-9._-]+):.*/\\1/;G;s/(.*)\\n(arms|axes)$/\\2.\\1/p}}' "$1" |
  while read -r entry; do
    for key in {keys}; do
      [[ "$key" == "${{entry%%.*}}."'*'.* ]] && echo "$entry.${{key#*.*.}}="
    done
  done
  for key in {keys}; do
    [[ "$key" == *'*'* ]] || echo "$key="
  done
}}
"""


def _functions() -> str:
    keys = study_values()
    return _FUNCTIONS.format(
        options=_cases({verb: _options_of(verb) for verb in VERBS}),
        values=_cases({**_choices(), **{key: " ".join(values) for key, values in keys.items() if values}}),
        # The entries of a section have names; those further in are addressed by index.
        keys=" ".join(re.sub(r"^(\w+\.)\*", r"\1@", key).replace("*", "0").replace("@", "'*'") for key in keys),
    )


def _study_verbs() -> str:
    """Verbs that take a study file, then keys."""
    return "|".join(name for name, verb in VERBS.items() if verb.takes_study or "config" in verb.arguments)


def _root_verbs() -> str:
    """Verbs that take a study's root or file."""
    return "|".join(name for name, verb in VERBS.items() if "study" in verb.arguments)


def _bash() -> str:
    return f"""\
# bash completion of cpt-ray {__version__}: eval "$(cpt-ray completion bash)"
{_functions()}
_cpt_ray() {{
  local IFS=$' \\t\\n' cur=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}}
  local key= study= words
  COMPREPLY=()
  # bash cuts `section.key=value` into three words, if `=` is in COMP_WORDBREAKS.
  if [[ $cur == '=' ]]; then key=$previous cur=
  elif [[ $previous == '=' ]]; then key=${{COMP_WORDS[COMP_CWORD-2]}}
  elif [[ $cur == *=* ]]; then key=${{cur%%=*}}; words=$(_cpt_ray_values "$key")
    COMPREPLY=($(compgen -P "$key=" -W "$words" -- "${{cur#*=}}")); return
  fi
  words=$(_cpt_ray_values "${{key:-$previous}}")
  if ((COMP_CWORD == 1)); then words='{" ".join(VERBS)}'
  elif [[ -n $words ]]; then :
  elif [[ $cur == -* ]]; then words=$(_cpt_ray_options "$verb")
  elif ((COMP_CWORD == 2)) && words=$(_cpt_ray_values "$verb") && [[ -n $words ]]; then :
  else
    case "$verb" in
      {_study_verbs()}|{_root_verbs()}|demo)
        case "$verb" in {_root_verbs()}) study= ;; demo) study={shlex.quote(str(DEMO))} ;; *) study=${{COMP_WORDS[2]}} ;; esac
        if [[ $verb != demo ]] && ((COMP_CWORD == 2)); then
          IFS=$'\\n' COMPREPLY=($(compgen -f -- "$cur" | grep -E '\\.ya?ml$') $(compgen -d -- "$cur"))
          compopt -o filenames 2>/dev/null
        elif [[ -z $key && -n $study ]]; then
          COMPREPLY=($(compgen -W "$(_cpt_ray_keys "$study")" -- "$cur"))
          compopt -o nospace 2>/dev/null
        fi ;;
      *) compopt -o default 2>/dev/null ;;
    esac
    return
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -F _cpt_ray cpt-ray
"""


def _zsh() -> str:
    return f"""\
#compdef cpt-ray
# zsh completion of cpt-ray {__version__}: eval "$(cpt-ray completion zsh)", after compinit
{_functions()}
_cpt_ray() {{
  local cur=${{words[CURRENT]}} previous=${{words[CURRENT-1]}} verb=${{words[2]}} found
  if ((CURRENT == 2)); then compadd -- {" ".join(VERBS)}; return; fi
  if [[ $cur == *=* ]]; then
    found=$(_cpt_ray_values "${{cur%%=*}}")
    compset -P '*='
    compadd -- ${{=found}}
    return
  fi
  found=
  [[ $previous == --* ]] && found=$(_cpt_ray_values "$previous")
  [[ -z $found && $cur == -* ]] && found=$(_cpt_ray_options "$verb")
  ((CURRENT == 3)) && [[ -z $found ]] && found=$(_cpt_ray_values "$verb")
  if [[ -n $found ]]; then compadd -- ${{=found}}; return; fi
  case "$verb" in
    (demo) compadd -S '' -- ${{(f)"$(_cpt_ray_keys {shlex.quote(str(DEMO))})"}} ;;
    ({_root_verbs()}) ((CURRENT == 3)) && _files -g '*.(yaml|yml)' ;;
    ({_study_verbs()})
      if ((CURRENT == 3)); then _files -g '*.(yaml|yml)'
      else compadd -S '' -- ${{(f)"$(_cpt_ray_keys "${{words[3]}}")"}}; fi ;;
    (*) _files ;;
  esac
}}
compdef _cpt_ray cpt-ray
"""
