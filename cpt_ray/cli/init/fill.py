"""Fill a template: a complete study file with a reason beside each choice.

In: what was looked at and chosen (`Answers`). Out: YAML text, and remarks for the console. Guarantee: every value is written as
YAML reads it back, whatever the name of a file.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import yaml

from cpt_ray.cli.init.bases import Base, short_name
from cpt_ray.cli.init.hardware import Hardware
from cpt_ray.cli.init.sizes import BYTES_PER_TOKEN, Amounts, Sizes, size_study
from cpt_ray.cli.init.texts import Group, Looked, absolute, first_texts, probe_of
from cpt_ray.config.reference.schema import HEADER
from cpt_ray.config.values import format_count
from cpt_ray.data.clean.language import identify
from cpt_ray.edges.packages import is_installed
from cpt_ray.edges.source_files import format_of
from cpt_ray.errors import ConfigError

TITLES = {
    "laptop": "Domain text on a CPU or a small GPU.",
    "one-gpu": "Domain text on one GPU, without Ray.",
    "cluster": "Domain text on a Ray cluster.",
    "education": "A chain of two budgets, as in the education study (arXiv 2504.09687).",
    "legal-scaling": "General against filtered text, as in the legal scaling study (arXiv 2501.02068).",
}
"""Template to what it is for."""
REPLAY = 0.05
"""Ibrahim et al. 2024 (arXiv 2403.08763): 5 % for text like the base's, 25 % for a new language."""
REPLAY_OF_NEW_LANGUAGE = 0.25
_FEWEST_PROBED = 40
_LARGEST_PROBE = 0.3
_FILTERED = 0.1
"""Share of general text that a filter is taken to choose, before it has."""
_FEW_DOCUMENTS = 100
_SHORT_BYTES, _LONG_BYTES = 4_000, 1_000_000
_MUCH_SHORTER = 20
_CLEAR = 0.7
"""Share of a text's documents that a language must have to be the text's."""
_NO_GENERAL = (
    "No general text: there is no control arm and no replay, so the report cannot say how much of the gain",
    "any text would have given, nor what was forgotten. Any text unlike yours will do: news, encyclopedia, web.",
)
_NO_PROBE = (
    "No probe: the general text has no sub-folder to hold out whole. With one, forgetting could be told from being behind",
    "the control, which trains on that very text: give text that no arm trains on, as a source with role: probe.",
)
_PROBE = "forgetting is measured on it: no arm trains on it"


@dataclass(frozen=True)
class Answers:
    """What a study is made of."""

    template: str
    name: str
    domain: Looked
    general: Looked | None
    probe: Looked | None
    bases: Sequence[Base]
    hardware: Hardware
    budget: int | None
    hours: float | None
    file: str

    @property
    def root(self) -> str:
        """The study's root, from the folder in which it is run."""
        return f"runs/{self.name}"


@dataclass(frozen=True)
class Filled:
    """A study file, and what to tell the user of it."""

    text: str
    remarks: tuple[str, ...]


def fill(answers: Answers) -> Filled:
    """Fill the template.

    Raises:
        ConfigError: If the template needs general text and there is none, or no sizes work.
    """
    legal = answers.template == "legal-scaling"
    if legal and answers.general is None:
        raise ConfigError(
            "template legal-scaling filters general text, and none was given",
            fix="give --general FOLDER, or another --template",
        )
    taken = {"filtered", "matched"} if legal else set[str]()  # sources of the template
    remarks: list[str] = []
    _require_apart(answers)
    if answers.general is not None and answers.probe is None:
        answers, said = _with_probe(answers)
        remarks.append(said)
    general, probe = answers.general, answers.probe
    domain_sources = _sources(answers.domain, "domain", "it teaches the filter" if legal else "arms train on it", taken)
    general_sources = _sources(general, "general", "the control trains on it; a little is replayed", taken) if general else []
    probes = _sources(probe, "probe", _PROBE, taken) if probe else []
    if general is None:
        remarks.append("no general text: no control arm, no replay; the report cannot say what other text would have gained")
    replay, why_replay = _replay(answers) if general is not None and not legal else (0.0, "")
    sizes = _sizes(answers, replay)
    remarks += [sizes.why["capped"]] if "capped" in sizes.why else []
    domain_mix = _shares(answers.domain.groups, domain_sources, 1 - replay)
    general_mix = _shares(general.groups, general_sources, 1.0) if general else {}
    replayed = {name: round(share * replay, 4) for name, share in general_mix.items()} if replay else {}
    values = {
        **_runtime(answers),
        **_numbers(answers, sizes),
        "header": HEADER,
        "title": TITLES[answers.template],
        "file": shlex.quote(answers.file),
        "name": answers.name,
        "root": answers.root,
        "sources": [*domain_sources, *general_sources, *probes],
        "remarks": _NO_GENERAL if general is None else () if probe else _NO_PROBE,
        "domain": answers.name if answers.name not in ("control", "general") else "domain",
        "general": general_sources[0]["name"] if general_sources else "",
        "domain_sources": [source["name"] for source in domain_sources],
        "domain_mix": {**domain_mix, **replayed},
        "general_mix": general_mix,
        "replay": replay,
        "replay_why": why_replay,
    }
    text = _environment().get_template(f"{answers.template}.yaml.j2").render(values)
    return Filled(text.rstrip() + "\n", tuple(remarks))


def _numbers(answers: Answers, sizes: Sizes) -> dict[str, Any]:
    """What a template says of models, budgets and sizes."""
    return {
        "models": [
            {"name": base.name, "base": base.base, "note": base.note, "separator": base.separator, "factor": factor}
            for base, factor in zip(answers.bases, sizes.factors, strict=True)
        ],
        "sizes": sizes,
        "why": sizes.why,
        "budgets": f"[{format_count(_first(answers, sizes))}, {format_count(sizes.budget)}]",
        "rewarm": format_count(max(1, sizes.budget // 100)),
        "checkpoint_every": format_count(_round(sizes.checkpoint_every)),
        "unit_bytes": None if _megabytes(answers) > 500 else "4MB",
        "max_bytes": _max_bytes(answers),
    }


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("cpt_ray.cli.init"), undefined=jinja2.StrictUndefined, autoescape=False  # noqa: S701 (YAML)
    )  # fmt: skip
    made.filters["y"] = _yaml
    return made


def _yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _require_apart(answers: Answers) -> None:
    """Refuse texts that contain one another: duplicates between sources are dropped, so one would be left empty."""
    given = {"PATH": answers.domain, "--general": answers.general, "--probe": answers.probe}
    there = {flag: absolute(one.path).rstrip("/") + "/" for flag, one in given.items() if one is not None}
    for (flag, path), (other, inside) in itertools.permutations(there.items(), 2):
        if inside.startswith(path):
            raise ConfigError(
                f"{other} is {inside.rstrip('/')}, which {flag} contains or is itself: text can have one role only",
                fix=f"give {other} text that is not in {path.rstrip('/')}",
            )


def _with_probe(answers: Answers) -> tuple[Answers, str]:
    """The answers with a group of the general text as probe, if there is one, and what to say of it."""
    general = answers.general
    found = probe_of(general.path, _FEWEST_PROBED, _LARGEST_PROBE) if general is not None else None
    if found is None:
        return answers, "no probe: the general text has no sub-folder that can be held out whole; --probe FOLDER gives one"
    said = f"probe: {found[0].path}, the smallest group of the general text that can stand alone; no arm trains on it"
    return replace(answers, probe=found[0], general=found[1]), said


def _sources(looked: Looked, role: str, why: str, taken: set[str]) -> list[dict[str, Any]]:
    made = []
    stem = short_name(looked.stem)
    for group in looked.groups:
        name = next(one for one in (stem, f"{stem}-{role}", *(f"{stem}-{n}" for n in range(2, 1000))) if one not in taken)
        taken.add(name)
        made.append(
            {
                "name": name,
                "role": role,
                "why": why,
                "paths": list(group.paths),
                "kinds": group.kinds,
                "megabytes": f"{group.text_bytes / 1e6:.3g}",
                "documents": f"{group.documents:,.0f}",
                "fields": group.fields.named if group.fields else (),
                "encoding": group.encoding,
            }
        )
    return made


def _shares(groups: Sequence[Group], sources: Sequence[Mapping[str, Any]], whole: float) -> dict[str, float]:
    """Weights in proportion to text, which add up to `whole`."""
    total = sum(group.text_bytes for group in groups)
    weights = [round(whole * group.text_bytes / total, 3) for group in groups]
    weights[-1] = round(whole - sum(weights[:-1]), 4)
    return {source["name"]: weight for source, weight in zip(sources, weights, strict=True)}


def _sizes(answers: Answers, replay: float) -> Sizes:
    general = answers.general.text_bytes / BYTES_PER_TOKEN if answers.general else 0.0
    domain = answers.domain.text_bytes / BYTES_PER_TOKEN
    groups = [group.documents for one in (answers.domain, answers.general) if one for group in one.groups]
    looked = [one for one in (answers.domain, answers.general, answers.probe) if one]
    chain, legal = answers.template == "education", answers.template == "legal-scaling"
    amounts = Amounts(
        domain_tokens=general * _FILTERED if legal else domain,
        general_tokens=general,
        documents=max(_FEW_DOCUMENTS, min(groups)) if _max_bytes(answers) else min(groups),
        replay=replay,
        # Two budgets: a trunk of 0.8 and cooldowns of 0.2 of each; the control's largest only. See docs/schedules.md.
        runs=3.3 if legal else (1.0 if chain else 1.1) + (1.0 if general else 0.0),
        # The base and both budgets; the control at its largest, or in a chain at both; of three arms each with four points.
        models=19 if legal else 3 + (1 + chain) * bool(general),
        sets=2 * len(answers.domain.groups) + sum(len(one.groups) for one in (answers.general, answers.probe) if one),
        document_tokens=sum(one.text_bytes for one in looked) / sum(one.documents for one in looked) / BYTES_PER_TOKEN,
    )
    share = 0.4 if chain else 0.5
    return size_study(answers.hardware, answers.bases, amounts, budget=answers.budget, hours=answers.hours, first_share=share)


def _first(answers: Answers, sizes: Sizes) -> int:
    return int(sizes.budget * (0.4 if answers.template == "education" else 0.5))


def _round(tokens: int) -> int:
    return int(float(f"{tokens:.2g}"))


def _megabytes(answers: Answers) -> float:
    return sum(one.text_bytes for one in (answers.domain, answers.general) if one) / 1e6


def _max_bytes(answers: Answers) -> str | None:
    """A size at which files are cut: where there are so few documents that none could be held out, or a file is very long.

    Rows above it would be dropped, so it is set only where those are much shorter.
    """
    given = [one for one in (answers.domain, answers.general) if one]
    groups = [group for one in given for group in one.groups]
    few = any(one.documents < _FEW_DOCUMENTS for one in given) and not any(group.has_rows for group in groups)
    wanted = min(one.text_bytes for one in given) / _FEW_DOCUMENTS if few else _LONG_BYTES
    rows = max((group.fields.characters for group in groups if group.fields), default=0.0)
    longest = max((f.size_bytes for group in groups for f in group.files if format_of(f.path) in ("text", "html")), default=0)
    size = min(_LONG_BYTES, max(_SHORT_BYTES, wanted))
    return f"{size // 1000:.0f}kB" if (few or longest > 2 * size) and rows * _MUCH_SHORTER < size else None


def _replay(answers: Answers) -> tuple[float, str]:
    """The share of general text in the domain arm, and why."""
    languages = {_language(one) for one in (answers.domain, answers.general) if one} - {None}
    if len(languages) == 2:
        why = "of another language than the general text; a quarter of that keeps it (Ibrahim et al. 2024, arXiv 2403.08763)"
        return REPLAY_OF_NEW_LANGUAGE, f"your text is {why}"
    return REPLAY, "5 % general text against forgetting (Ibrahim et al. 2024, arXiv 2403.08763: 5 % where the shift is weak)"


def _language(looked: Looked) -> str | None:
    """The language of most of the first documents; None if it cannot be told here."""
    if not is_installed("py3langid"):
        return None
    found = [identify(text, 2000)[0] for text in first_texts(looked)]
    most = max(set(found), key=found.count, default=None)
    return most if most is not None and found.count(most) >= _CLEAR * len(found) else None


def _runtime(answers: Answers) -> dict[str, Any]:
    hardware = answers.hardware
    return {
        "gpu": hardware.is_gpu,
        "gpu_memory": f"{hardware.memory_bytes / 1e9:.0f}GB",
        "kind": "ray" if hardware.devices > 1 or answers.template == "cluster" else "local",
        "workers": hardware.devices,
        "precision": hardware.precision,
        "small_memory": not hardware.is_gpu and max(base.parameters for base in answers.bases) > 3e8,
    }
