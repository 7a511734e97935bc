"""Log files, and the warnings in them that users should see.

    ROOT/logs/driver.log          the driver of a study, appended by each command
    RUN/logs/rank-00000.log       a training worker, appended at each start

Libraries warn through `logging` and `warnings`; both go to the file. Each distinct warning is also shown once: the driver
prints it, a worker turns it into an event of its run. Deprecations are only logged.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cpt_ray.edges.redaction import printable

FOLDER = "logs"
LOCATIONS: list[Path] = []
"""Log files of this process and its workers, to be named when a command fails."""
_MOST = 20
_LONGEST = 400
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OF_PYTHON = re.compile(r"^\S+:\d+: (?P<category>\w+): (?P<text>.*)", re.DOTALL)
_ITS_OWN_STREAM = ("DeepSpeed", "transformers")
"""Libraries whose loggers print to the terminal and do not propagate."""

Tell = Callable[[str], None]


class _Printable(logging.Formatter):
    """A record with its traceback, without credentials and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Warnings(logging.Handler):
    """Reports each warning once; after `_MOST` different ones they go to the file only."""

    current: list[_Warnings] = []  # noqa: RUF012 -- shared on purpose: of nested logs, only the innermost reports

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._told = tell, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        text = _text(record)
        if text is None or self.current[-1] is not self or text in self._told or len(self._told) > _MOST:
            return
        self._told.add(text)
        self._tell(text if len(self._told) <= _MOST else f"more than {_MOST} different warnings; the rest are in the log only")


def _text(record: logging.LogRecord) -> str | None:
    message = record.getMessage()
    if record.name == "py.warnings" and (found := _OF_PYTHON.match(message)):
        if found["category"] in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ImportWarning"):
            return None
        message = found["text"].splitlines()[0]  # the source line follows
    return printable(" ".join(message.split()))[:_LONGEST]


@contextlib.contextmanager
def tell_warnings(tell: Tell) -> Iterator[None]:
    """Within, call `tell` with the text of each new warning of this process."""
    handler, root = _Warnings(tell), logging.getLogger()
    _Warnings.current.append(handler)
    root.addHandler(handler)
    logging.captureWarnings(True)
    restore = [_pass_on(name) for name in _ITS_OWN_STREAM]
    try:
        yield
    finally:
        root.removeHandler(handler)
        _Warnings.current.remove(handler)
        if not _Warnings.current:
            logging.captureWarnings(False)
            for undo in restore:
                undo()


@contextlib.contextmanager
def log_to(path: Path, tell: Tell) -> Iterator[None]:
    """Within, append what this process logs to a file, and call `tell` with the text of each new warning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler, root = logging.FileHandler(path, encoding="utf-8", delay=True), logging.getLogger()
    handler.setFormatter(_Printable(_FORMAT))
    level = root.level
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    root.addHandler(handler)
    LOCATIONS.append(path)
    try:
        with tell_warnings(tell):
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def driver_log(root: Path) -> Path:
    """Log file of a study's driver."""
    return root / FOLDER / "driver.log"


def rank_log(run_folder: Path, rank: int) -> Path:
    """Log file of a training worker."""
    return run_folder / FOLDER / f"rank-{rank:05d}.log"


def be_verbose() -> None:
    """Also print to stderr what goes to log files."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(_FORMAT))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def _pass_on(name: str) -> Callable[[], None]:
    """Propagate a library's records to the root logger instead of the terminal; returns a function that undoes it."""
    logger = logging.getLogger(name)
    handlers, passed_on = list(logger.handlers), logger.propagate
    logger.handlers, logger.propagate = [], True

    def undo() -> None:
        logger.handlers, logger.propagate = handlers, passed_on

    return undo
