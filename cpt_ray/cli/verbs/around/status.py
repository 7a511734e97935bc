"""Say how far a study is, whether its driver lives, and what to type next; from any shell, for any root."""

import time
from argparse import Namespace

from cpt_ray.cli.console import TerminalConsole
from cpt_ray.edges.store import is_mirrored
from cpt_ray.study.api.status import look
from cpt_ray.study.live.status.place import find_study, is_begun

_EVERY_S = 2.0
_EVERY_STORED_S = 10.0
"""Of a study in a bucket, where a look is a few requests for every run."""


def main(options: Namespace, console: TerminalConsole) -> None:
    """Run the verb; the study is only read, and with `--watch` waited for and looked at again until its command has ended."""
    with find_study(options.study, tuple(options.overrides)) as place:
        shown = ""
        while True:
            status, text = look(place, as_json=options.json)
            if not options.watch:
                return console.say(text)
            if text != shown:
                console.redraw(text)
            shown = text
            if status.state == "never started":
                console.progress("waiting for its first command; Ctrl-C ends the watch")
            elif status.state != "running":
                return None
            time.sleep(_EVERY_STORED_S if is_mirrored(place.root) else _EVERY_S)
            place = place._replace(begun=is_begun(place.root))
