"""lm-eval's tasks by name: found, built before anything is spent, and read as items. Imports lm-eval.

In: names of tasks and groups, or paths of task files. Out: lm-eval's own task objects, or their items as text.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from cpt_ray.errors import ConfigError
from cpt_ray.records import ExamItem


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
        # datasets and the Hub raise OSError and ValueError, or subclasses, if data is missing, and RuntimeError for a data set
        # that is a script; lm-eval raises KeyError and TypeError for a task file that is none.
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise unavailable(task, key, error) from error
    return built


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
