"""The verbs of the command line: what each is for, where its module is, and what it is given.

Imported for `--help`, so it imports nothing itself; a verb's module is imported when it is run, as some import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = Mapping[str, Mapping[str, Any]]
"""Arguments of `argparse.ArgumentParser.add_argument` by name; a name that begins with `--` is an option."""

CELLS: Arguments = {
    "--only": {
        "action": "append",
        "metavar": "PATTERN",
        "help": "only the cells of a grid that match, such as 'mix-half+*'",
    },
    "--exclude": {"action": "append", "metavar": "PATTERN", "help": "without the cells that match"},
}
"""Options of every verb that takes a study file: the cells of a study with axes; each may be repeated."""


@dataclass(frozen=True)
class Verb:
    """A verb and what it is given."""

    room: str
    """Room of its module in `cli/verbs/`: `make` and `look` take a study file and overrides, `around` does not."""
    summary: str
    arguments: Arguments = field(default_factory=dict)
    """Its own arguments, beside the study file and the overrides."""

    @property
    def takes_study(self) -> bool:
        """Whether it is given a study file; its module then has `main(request)`, else `main(options, console)`."""
        return self.room != "around"


VERBS: dict[str, Verb] = {
    "check": Verb("look", "check a study file and everything it refers to; costs nothing"),
    "plan": Verb("look", "estimate what the study will cost: tokens, epochs, steps, FLOPs, memory and disk"),
    "fetch-tasks": Verb(
        "make", "download the items of the lm-eval tasks to decontaminate against; needed once, offline afterwards"
    ),
    "prepare": Verb("make", "clean text, remove duplicates, hold out, decontaminate, tokenize and pack"),
    "train": Verb("make", "train every run to its token budget"),
    "evaluate": Verb("make", "score the base models and every budget on held-out text and exams"),
    "compare": Verb(
        "make", "compare budgets with the base and the control, or runs of several studies (ROOT:RUN ROOT:RUN ...)"
    ),
    "report": Verb("make", "write the report and mirror the records to MLflow, from records alone"),
    "run": Verb("make", "everything: prepare, train, evaluate, compare, report"),
    "extend": Verb(
        "make",
        "train a finished study on to larger budgets: its trunks continue, everything else is reused",
        {
            "--budgets": {
                "required": True,
                "metavar": "+TOKENS",
                "help": "tokens beyond the largest budget, such as +400M, or a larger budget, such as 800M",
            }
        },
    ),
    "export": Verb(
        "make",
        "write a folder that is ready for a model hub: weights, tokenizer, a card with scores and licenses",
        {
            "--run": {"metavar": "NAME", "help": "the run, or a budget (default: the largest that is trained)"},
            "--to": {"required": True, "metavar": "FOLDER", "help": "the folder to write; it must be empty"},
            "--force": {
                "action": "store_true",
                "help": "write into a folder that is not empty, over files of the same name",
            },
        },
    ),
    "inspect": Verb(
        "look",
        "show packed rows as text, with document boundaries",
        {
            "--rows": {"type": int, "default": 2, "metavar": "N", "help": "number of rows, from the first onward (default: 2)"},
            "--source": {"metavar": "S", "help": "source to read (default: the first of the study)"},
        },
    ),
    "trace": Verb(
        "look",
        "trace a row of a run to its documents and files, or a document to its rows and steps",
        {
            "--run": {"metavar": "NAME", "help": "a trained run, with --row"},
            "--row": {"type": int, "metavar": "I", "help": "a row of that run, counted from 0 in training order"},
            "--document": {"metavar": "ID", "help": "a document id: its rows, and the steps at which each run saw them"},
        },
    ),
    "verify": Verb("look", "rehash raw files, artifacts and shards, and list every file that has changed"),
    "fetch": Verb(
        "around",
        "copy the report, scores, runs or exports of a study to this machine, from its root, a folder or s3://bucket/study",
        {
            "root": {"metavar": "STUDY_ROOT", "help": "study.root of the study"},
            "what": {"metavar": "WHAT", "help": "report, scores, runs, exports, or exports/RUN"},
            "to": {"metavar": "TO", "nargs": "?", "default": ".", "help": "folder to copy to (default: the current one)"},
        },
    ),
}
