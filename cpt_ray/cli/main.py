"""`cpt-ray VERB CONFIG [section.key=value ...]`: one module per verb, errors that name a fix, meaningful exit codes.

Exit codes: 0 done; 2 a problem the user can fix; 130 interrupted; 1 a defect (a traceback is printed).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NoReturn

from cpt_ray import __version__
from cpt_ray.cli.catalog import CELLS, VERBS, Verb
from cpt_ray.cli.console import TerminalConsole
from cpt_ray.edges import logs, process
from cpt_ray.edges.redaction import printable, printable_arguments
from cpt_ray.errors import CptRayError

if TYPE_CHECKING:
    from cpt_ray.config.sections.runtime import RuntimeConfig
    from cpt_ray.config.study import StudyConfig

TRAINS = ("train", "run", "extend")
_RESTARTED = "CPT_RAY_RESTARTED"
"""Set by a process for the one that replaces it."""


def program() -> int:
    """The command `cpt-ray`: `main`, in a process that may restart itself with the allocator settings that training needs."""
    restarted = os.environ.pop(_RESTARTED, None) is not None
    if restarted:
        os.environ.pop(process.ALLOCATOR)  # glibc has read it; Ray's processes get their own settings
    return main(sys.argv[1:], may_restart=not restarted)


def main(arguments: Sequence[str], *, may_restart: bool = False) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Without the program's name.
        may_restart: Whether this process may be replaced by one with the environment that training needs.
    """
    options = make_parser().parse_args(arguments)
    process.quieten()
    sys.excepthook = _print_traceback
    process.choose_accelerator()
    logs.LOCATIONS.clear()
    if options.verbose:
        logs.be_verbose()
    verb = VERBS[options.verb]
    try:
        console = TerminalConsole(quiet=options.quiet)
        if not verb.takes_study:
            _module(options.verb).main(options, console)
            return 0
        if options.verb == "compare" and _compares_runs(options, console):
            return 0
        root = options.config if verb.takes_root and _names_a_root(options.config) else None
        config, path = _read_study(options.config, tuple(options.overrides), is_root=root is not None)
        if config.runtime.kind == "local" and config.runtime.wants_gpu is False:
            os.environ.update(process.NO_GPU)
        if may_restart and options.verb in TRAINS and config.runtime.kind == "local" and not options.dry_run:
            _restart(config.runtime, arguments)
        with process.quick_imports():
            module = _module(options.verb)
            request = importlib.import_module("cpt_ray.cli.request").Request
        chosen = {name: getattr(options, name) for name in map(_attribute, (*CELLS, *verb.arguments))}
        overrides = tuple(options.overrides)
        module.main(request(config, path, console, dry_run=options.dry_run, overrides=overrides, root=root, options=chosen))
    except CptRayError as error:
        if options.debug:
            raise
        print(printable_arguments(f"cpt-ray {options.verb}: {error}{_logs()}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        resumes = "; re-run the same command to resume" if verb.makes else ""
        print(f"\ncpt-ray {options.verb}: interrupted{resumes}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`). The work may be half done; re-running the command resumes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        print(f"cpt-ray {options.verb}: a defect; please report it with the traceback{_logs()}", file=sys.stderr)
        raise
    return 0


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"cpt_ray.cli.verbs.{VERBS[verb].room}.{verb.replace('-', '_')}")


def _attribute(argument: str) -> str:
    """The name under which argparse keeps an argument."""
    return argument.lstrip("-").replace("-", "_")


def _names_a_root(argument: str) -> bool:
    """Whether a command's argument is the root of a study, and not a study file."""
    return "://" in argument or Path(argument).expanduser().is_dir()


def _read_study(argument: str, overrides: tuple[str, ...], *, is_root: bool) -> tuple[StudyConfig, Path]:
    """The study of a study file, or of a root, and the file it was read from."""
    if is_root:
        opened = importlib.import_module("cpt_ray.study.api.study").Study.open(argument, *overrides, look_up=False)
        return opened.config, opened.path
    from cpt_ray.config.load import load_study  # the schema takes longer to import than `--help` to answer

    return load_study(Path(argument), overrides), Path(argument)


def _compares_runs(options: argparse.Namespace, console: TerminalConsole) -> bool:
    """Compare runs of finished studies, if that is what the arguments name; they have no study file."""
    across = importlib.import_module("cpt_ray.study.findings.across")
    if not across.names_a_run(options.config):
        return False
    _module("compare").main_across([options.config, *options.overrides], console, dry_run=options.dry_run)
    return True


def _print_traceback(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    """What Python prints of an error that nothing caught, without the credentials that its messages may hold."""
    print(printable("".join(traceback.format_exception(kind, error, place))), end="", file=sys.stderr)


def _logs() -> str:
    """The log files, as extra lines of an error message."""
    return "".join(f"\n  log: {path}" for path in dict.fromkeys(logs.LOCATIONS))


def _restart(runtime: RuntimeConfig, arguments: Sequence[str]) -> None:
    """Replace this process with one that has a training worker's environment, part of which is read only at startup."""
    from cpt_ray.edges.ray_runtime import worker_environment

    environment = worker_environment(runtime)
    if process.ALLOCATOR in environment and process.ALLOCATOR not in os.environ:
        variables = {**environment, **os.environ, _RESTARTED: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "cpt_ray.cli.main", *arguments], variables)  # noqa: S606


class _Parser(argparse.ArgumentParser):
    """A parser whose errors, which repeat arguments, show no credentials."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_arguments(message))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="cpt-ray",
        description="Continued pretraining of language models on domain text, with an honest account of what it bought.",
        epilog="First steps: cpt-ray init, plan, run; cpt-ray demo shows a whole study. Every key: cpt-ray schema, or "
        "configs/README.md. Answers to the first questions: docs/faq.md. Exit codes: 0 done, 2 a problem you can fix (the "
        "fix is printed), 130 interrupted, 141 nobody reads its output any more, 1 a bug.",
    )
    parser.add_argument("--version", action="version", version=f"cpt-ray {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        _add(verbs.add_parser(name, help=verb.summary, description=verb.summary), verb)
    return parser


def _add(parser: argparse.ArgumentParser, verb: Verb) -> None:
    """Give the parser of a verb its arguments."""
    if verb.takes_study:
        or_root = ", or study.root of a study that was run: a folder or s3://bucket/study" if verb.takes_root else ""
        parser.add_argument("config", metavar=verb.study_argument, help=f"study file, e.g. configs/demo.yaml{or_root}")
        parser.add_argument(
            "overrides", nargs="*", default=[], metavar="section.key=value", help="values that override the study file"
        )
    parser.set_defaults(dry_run=False)
    for name, settings in {**verb.arguments_of_room, **verb.arguments}.items():
        parser.add_argument(name, **settings)
    said = parser.add_mutually_exclusive_group()
    said.add_argument("-v", "--verbose", action="store_true", help="also print the log to stderr")
    said.add_argument("-q", "--quiet", action="store_true", help="print results, warnings and errors only")
    parser.add_argument("--debug", action="store_true", help="print a traceback for every error")


if __name__ == "__main__":
    sys.exit(program())
