"""lm-eval's tasks by name: found, built before anything is spent, and read as items. Imports lm-eval.

In: names of tasks and groups, or paths of task files. Out: lm-eval's own task objects, or their items as text.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.api.metrics import mean
from lm_eval.tasks import TaskManager

from cpt_ray.edges.storage import hash_bytes, hash_file
from cpt_ray.errors import ConfigError
from cpt_ray.evaluate.exam.scores import require_free
from cpt_ray.records import ExamItem

SHARES = ("acc", "exact_match", "em", "f1", "acc_norm")
"""Metrics with a share from 0 to 1 for each item, in the order in which they are chosen."""
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError)
"""datasets and the Hub raise OSError and ValueError, or subclasses, if data is missing, and RuntimeError for a data set that is
a script; lm-eval raises KeyError and TypeError for a task file that is none."""
_LONGEST_NAME = 4096
"""Longer words of a task file are no path."""


@functools.cache
def known_tasks(own: str | None) -> TaskManager:
    """lm-eval's index of tasks, with those in `evaluate.harness_path`; reading thousands of files takes seconds, once."""
    return TaskManager(include_path=own)


def require_known(task: str, own: str | None, key: str) -> None:
    """Refuse a task that lm-eval does not have.

    Raises:
        ConfigError: If `task` is neither a name that it knows nor a file; names the nearest.
    """
    known = known_tasks(own).all_tasks
    if task not in known and not Path(task).is_file():
        near = difflib.get_close_matches(task, known, n=1, cutoff=0.0)
        raise ConfigError(
            f"{key} names {task!r}, which the installed lm-eval does not have{f'; the nearest is {near[0]!r}' if near else ''}",
            fix="`lm-eval ls tasks` lists the names; custom task files go in evaluate.harness_path, or give the path of one",
        )


def build_tasks(tasks: Sequence[str], own: str | None, key: str) -> list[Any]:
    """Build tasks, which loads their data.

    Args:
        tasks: Names of tasks or groups, or paths of task files.
        own: `evaluate.harness_path`.
        key: The setting that names them, for messages.

    Returns:
        lm-eval's task objects, those of groups one by one.

    Raises:
        ConfigError: If a task is unknown, its file cannot be read, or its data is unavailable.
    """
    built: list[Any] = []
    for task in tasks:
        require_known(task, own, key)
        try:
            with quiet():
                built += known_tasks(own).load([task])["tasks"].values()
        except LOADING_ERRORS as error:
            raise unavailable(task, key, error) from error
    return built


def share_of(task: str, metrics: Collection[str], key: str, *, reported: Collection[str] = ()) -> str:
    """The metric that a task is compared by: one that gives each item a share.

    Args:
        task: Its name.
        metrics: Those to choose from.
        key: The setting that names it, for messages.
        reported: All that it reports.

    Raises:
        ConfigError: If none of them is in `SHARES`.
    """
    found = next((metric for metric in SHARES if metric in metrics), None)
    if found is None:
        raise ConfigError(
            f"{key} {task}: it reports {', '.join(reported or metrics) or 'nothing'}; models are compared item by item, which "
            f"takes {', '.join(SHARES[:-1])} or {SHARES[-1]} as a mean over the items",
            fix=f"leave {task} out of {key}; if it measures perplexity, make its text a source with role: probe, whose "
            "held-out part is scored in bits per byte",
        )
    return found


def require_scorable(tasks: Sequence[str], own: str | None, key: str, exams: Collection[str]) -> None:
    """Refuse tasks that could be run, but whose results could not be compared; builds them all.

    Args:
        tasks: Names of tasks or groups, or paths of task files.
        own: `evaluate.harness_path`.
        key: The setting that names them, for messages.
        exams: Names of exams, which a task must not have.

    Raises:
        ConfigError: See `build_tasks`; and if a task has no metric that is a mean over its items, or is named twice.
    """
    taken = set(exams)
    for entry in tasks:
        built = build_tasks([entry], own, key)
        for task in built:
            aggregations, better = task.aggregation(), task.higher_is_better()
            means = [name for name, of in aggregations.items() if of is mean and better.get(name) is not False]
            share_of(task.task_name, means, key, reported=list(aggregations))
        whole = known_tasks(own).task_index.get(entry)
        # lm-eval averages some groups over their items, under the group's name; which, only their results tell.
        averaged = whole is not None and bool((whole.cfg or {}).get("aggregate_metric_list"))
        names = [entry] if averaged else [task.task_name for task in built]
        require_free(names, taken, entry)
        taken.update(names)


def task_versions(task: str, own: str | None) -> dict[str, object]:
    """What decides which items a task has and how they are judged, beyond the version of lm-eval; loads no data.

    Args:
        task: Name of a task or group, or path of a task file.
        own: `evaluate.harness_path`.

    Returns:
        By task, lm-eval's version of it; of a task file of one's own the content, with that of the functions and local data
        that it names.
    """
    index = known_tasks(own).task_index
    entry = index.get(task)
    if entry is None:
        return {Path(task).name: _content(Path(task))}
    found: dict[str, object] = {}
    if entry.yaml_path is not None and not _is_bundled(entry.yaml_path):
        found[task] = _content(entry.yaml_path)
    elif not entry.tags or entry.cfg is not None:
        found[task] = str(((entry.cfg or {}).get("metadata") or {}).get("version", ""))
    members = entry.tags if entry.cfg is None else (entry.cfg.get("task", ()) if "group" in entry.cfg else ())
    for member in members if isinstance(members, (list, set, tuple)) else [members]:
        name = member if isinstance(member, str) else str(member.get("task", member.get("group", "")))
        if name in index and name != task:
            found |= task_versions(name, own)
    return dict(sorted(found.items()))


def _is_bundled(path: Path) -> bool:
    return Path(lm_eval.tasks.__file__).resolve().parent in path.resolve().parents


def _content(path: Path) -> str:
    """The hash of a task file, of the Python files beside it, and of the files that it includes or names as its data."""
    words = re.split(r"[\s'\",\[\]{}]+", path.read_text(encoding="utf-8", errors="replace"))
    named = [word for word in dict.fromkeys(words) if "." in word and len(word) < _LONGEST_NAME]
    beside = [*sorted(path.parent.glob("*.py")), *(path.parent / word for word in named)]  # an absolute path stays what it is
    files = [one for one in dict.fromkeys((path, *beside, *map(Path, named))) if one.is_file()]
    return hash_bytes(json.dumps([(one.name, hash_file(one)) for one in files]).encode())


def unavailable(task: str, key: str, error: Exception) -> ConfigError:
    """The error of a task that cannot be built here."""
    detail = (str(error).splitlines() or [type(error).__name__])[0]
    if Path(task).is_file() and not isinstance(error, OSError):
        return ConfigError(f"{key}: {task} is no task file of lm-eval: {detail}", fix="`lm-eval validate --tasks` explains it")
    if isinstance(error, RuntimeError):
        return ConfigError(
            f"{key} {task}: lm-eval could not load it: {detail}",
            fix="if its data set is a script, the installed datasets refuses it: take a task with the same data as files, "
            "or provide the questions as evaluate.exams",
        )
    return ConfigError(
        f"{key} {task}: lm-eval could not load it: {detail}",
        fix="its data comes from the Hugging Face Hub: run `cpt-ray fetch-tasks` once where the Hub can be reached "
        "(HF_HUB_OFFLINE unset) and copy HF_HOME and the study's root here, or provide the questions as evaluate.exams",
    )


def task_items(tasks: Sequence[str], own: str | None) -> list[ExamItem]:
    """Fetch the items of lm-eval tasks as text: the question, and what counts as the answer.

    Args:
        tasks: Names of tasks or groups.
        own: `evaluate.harness_path`.

    Returns:
        All items that an evaluation scores, without choices; each answer is a string.

    Raises:
        ConfigError: See `build_tasks`.
    """
    loaded = build_tasks(tasks, own, "prepare.decontaminate.tasks")
    return [
        ExamItem(task=task.task_name, id=str(item.get("id", number)), **_question_and_answer(task, item))
        for task in loaded
        for number, item in enumerate(task.eval_docs)
    ]


def _question_and_answer(task: Any, item: dict[str, Any]) -> dict[str, str]:
    question, target = task.doc_to_text(item), task.doc_to_target(item)
    choices = task.doc_to_choice(item) if task.OUTPUT_TYPE == "multiple_choice" else None
    if choices and isinstance(question, int):  # the choices are contexts, and the target is their shared continuation
        return {"question": f"{choices[question]}", "answer": str(target)}
    answer = choices[target] if choices and isinstance(target, int) else target
    return {"question": str(question), "answer": "\n".join(map(str, answer)) if isinstance(answer, list) else str(answer)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's notices and progress bars, which no argument turns off, out of the study's output.

    Works on the file descriptor because lm-eval also runs `git describe`, whose error outside a repository would be printed.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            with contextlib.redirect_stderr(nowhere):  # in case sys.stderr has been replaced
                yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        logger.setLevel(level)
