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

DRY_RUN: Arguments = {
    "--dry-run": {
        "action": "store_true",
        "help": "list what would be built and what would be reused; change nothing",
    }
}
"""The option of every verb that makes something of a study."""

STUDY: Arguments = {
    "study": {
        "metavar": "ROOT_OR_CONFIG",
        "help": "study.root of the study (a folder or s3://bucket/study), or its study file",
    },
    "overrides": {"nargs": "*", "default": [], "metavar": "section.key=value", "help": "values that override the study file"},
}
"""The study that a verb reads from its root alone; a study file only says where that is."""


@dataclass(frozen=True)
class Verb:
    """A verb and what it is given."""

    room: str
    """Room of its module in `cli/verbs/`: `make` and `look` take a study file and overrides, `around` does not."""
    summary: str
    arguments: Arguments = field(default_factory=dict)
    """Its own arguments, beside the study file and the overrides."""
    takes_root: bool = False
    """Whether a study's root does in place of its file: what came out of it is shown from there alone."""

    @property
    def takes_study(self) -> bool:
        """Whether it is given a study file; its module then has `main(request)`, else `main(options, console)`."""
        return self.room != "around"

    @property
    def makes(self) -> bool:
        """Whether it makes something of a study, and goes on from there if it is run again."""
        return "--dry-run" in {**self.arguments_of_room, **self.arguments}

    @property
    def study_argument(self) -> str:
        """How help writes the study that it is given."""
        return "ROOT_OR_CONFIG" if self.takes_root else "CONFIG"

    @property
    def arguments_of_room(self) -> Arguments:
        """What all verbs of its room are given besides: cells of a study, and a dry run where artifacts are made."""
        return {**(DRY_RUN if self.room == "make" else {}), **(CELLS if self.takes_study else {})}


VERBS: dict[str, Verb] = {
    "check": Verb("look", "check a study file and everything it refers to; costs nothing"),
    "plan": Verb(
        "look",
        "estimate what the study will cost: tokens, epochs and FLOPs, memory and disk, hours and money; and whether it fits",
        {
            "--hardware": {"metavar": "H", "help": "cpu, l4, a10g, a100-40, a100-80, h100, h200, b200, or a profile's file"},
            "--workers": {"metavar": "N", "help": "training workers (default: runtime.workers)"},
            "--price": {"metavar": "P", "help": "price of a GPU (or CPU) for an hour, as of today"},
            "--currency": {"metavar": "C", "help": "its currency (default: USD)"},
            "--measure": {"action": "store_true", "help": "take a few real steps here first, about a minute a model"},
            "--fit": {"action": "store_true", "help": "find the largest micro-batch that fits"},
            "--explain": {"action": "store_true", "help": "show the arithmetic"},
        },
    ),
    "fetch-tasks": Verb(
        "make", "download the items of the lm-eval tasks to decontaminate against; needed once, offline afterwards"
    ),
    "prepare": Verb("make", "clean text, remove duplicates, hold out, decontaminate, tokenize and pack"),
    "train": Verb("make", "train every run to its token budget"),
    "evaluate": Verb("make", "score the base models and every budget on held-out text and exams"),
    "compare": Verb(
        "make",
        "compare budgets with the base and the control, or runs of several studies (ROOT:RUN ROOT:RUN ...)",
        takes_root=True,
    ),
    "report": Verb(
        "make",
        "write the report and mirror the records to MLflow, from records alone",
        {
            "--price": {
                "metavar": "P",
                "help": "price of a GPU (or CPU) for an hour, as of today: predictions get their price",
            },
            "--currency": {"metavar": "C", "help": "its currency (default: USD)"},
            "--hardware": {"metavar": "H", "help": "or a profile's file that has a price"},
        },
        takes_root=True,
    ),
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
    "status": Verb(
        "around",
        "how far a study is, whether its driver lives, and what to type next; from any shell, also for s3:// and dead studies",
        {
            **STUDY,
            "--watch": {"action": "store_true", "help": "wait for the study's command, and look again until it has ended"},
            "--json": {"action": "store_true", "help": "all that is known, as JSON"},
        },
    ),
    "logs": Verb(
        "around",
        "the last lines of the log files of a study's driver and workers, in order",
        {
            **STUDY,
            "--follow": {"action": "store_true", "help": "print what is logged from now on, until Ctrl-C"},
            "--worker": {"type": int, "metavar": "N", "help": "only of training workers of rank N"},
            "--run": {"metavar": "NAME", "help": "only of the workers of runs whose names begin so"},
            "--errors": {"action": "store_true", "help": "only errors, then warnings, each with its traceback"},
            "--lines": {"type": int, "default": 40, "metavar": "N", "help": "number of entries (default: 40)"},
        },
    ),
    "doctor": Verb(
        "around",
        "check this machine, or with a study file what it needs of it and of every node of its cluster, with fixes to paste",
        {
            "config": {"metavar": "CONFIG", "nargs": "?", "help": "study file"},
            "overrides": {
                "nargs": "*",
                "default": [],
                "metavar": "section.key=value",
                "help": "values that override the study file",
            },
            "--step": {
                "action": "store_true",
                "help": "also train a tiny model for a few steps, on each node of a cluster; ten seconds",
            },
        },
    ),
    "demo": Verb(
        "around",
        "adapt a real 135M model to legal text on two CPU cores, in about ten minutes; writes to runs/demo",
        {
            "overrides": {"metavar": "section.key=value", "nargs": "*", "help": "values that override the demo's study file"},
            **DRY_RUN,
        },
    ),
    "fetch": Verb(
        "around",
        "copy the report, scores, runs, MLflow's records or exports of a study to this machine, from its root, a folder or s3://bucket/study",
        {
            "root": {"metavar": "ROOT_OR_CONFIG", "help": "study.root of the study, or its study file"},
            "what": {"metavar": "WHAT", "help": "report, scores, runs, mlflow, exports, or exports/RUN"},
            "to": {"metavar": "TO", "nargs": "?", "default": ".", "help": "folder to copy to (default: the current one)"},
        },
    ),
    "init": Verb(
        "around",
        "write a study file for text of your own, from options or questions, and prove it",
        {
            "path": {"metavar": "PATH", "nargs": "?", "help": "your text: a file, a folder, a pattern or a URL"},
            "--base": {
                "action": "append",
                "metavar": "MODEL",
                "help": "base model: a folder, a .gguf file or a name on the hub; several are compared",
            },
            "--parameters": {
                "metavar": "N",
                "help": "parameters of a base on the hub, if its name does not say it: 1.5B",
            },
            "--general": {"metavar": "PATH", "help": "general text, for a control arm and against forgetting"},
            "--probe": {
                "metavar": "PATH",
                "help": "text that no arm trains on, to measure forgetting (default: the smallest group of the general text)",
            },
            "--hardware": {
                "metavar": "NAME",
                "help": "here (default), cpu, l4, a10g, a100-40, a100-80, h100, h200, b200, a profile's file; several: 8xh100",
            },
            "--budget": {"metavar": "TOKENS", "help": "tokens of the largest budget, such as 400M"},
            "--hours": {"metavar": "TIME", "help": "or how long everything may take, such as 2h or 30min"},
            "--template": {
                "choices": ("laptop", "one-gpu", "cluster", "education", "legal-scaling"),
                "help": "kind of study (default: by the hardware)",
            },
            "--name": {"metavar": "NAME", "help": "name of the study (default: that of PATH)"},
            "--output": {"metavar": "FILE", "default": "study.yaml", "help": "file to write (default: study.yaml)"},
            "--force": {"action": "store_true", "help": "replace the file if it exists"},
            "--yes": {"action": "store_true", "help": "take the default of everything that is not given, without asking"},
        },
    ),
    "schema": Verb("around", "print the JSON Schema of study files, with which editors complete and check them"),
    "completion": Verb(
        "around",
        "print a script that completes verbs, options and keys in a shell",
        {"shell": {"metavar": "SHELL", "choices": ("bash", "zsh"), "help": "bash or zsh"}},
    ),
}
