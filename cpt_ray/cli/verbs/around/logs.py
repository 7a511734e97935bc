"""Show the last lines of the log files of a study's driver and workers, in order."""

import time
from argparse import Namespace
from collections.abc import Iterable

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.edges.store import is_mirrored
from cpt_ray.errors import ConfigError
from cpt_ray.study.live.status.logs import Entry, LogReader, errors_first, last_entries
from cpt_ray.study.live.status.place import find_study

_EVERY_S = 1.0
_EVERY_STORED_S = 10.0


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; the study is only read."""
    if options.lines < 1:
        raise ConfigError(f"--lines is {options.lines}", fix="give a number of entries from 1 on")
    with find_study(options.study, tuple(options.overrides)) as place:
        reader = LogReader(place.root, worker=options.worker, run=options.run)
        reader.require_any()
        choose = errors_first if options.errors else last_entries
        found = choose(reader.read(), options.lines)
        _say(found, console)
        if not found and not options.follow:
            console.say("no errors and no warnings" if options.errors else "the log files are empty")
        while options.follow:
            time.sleep(_EVERY_STORED_S if is_mirrored(place.root) else _EVERY_S)
            new = reader.read()
            _say(errors_first(new, len(new)) if options.errors else new, console)


def _say(entries: Iterable[Entry], console: TerminalConsole) -> None:
    for entry in entries:
        console.say(f"[{entry.source}] {entry.text}")
