"""The study as an object, for scripts, notebooks and the command line: `from cpt_ray import Study`.

    study = Study.load("configs/demo.yaml", "train.learning_rate=1e-4")
    study.run()
    study.results().to_pandas()

In: a study file, or the root of a study. Out: what the verbs of the command line print and write, and tables and models of the
finished study. Guarantee: a method takes the study's lease only while it works, and looks at files as they are when it is
called; whatever stops it, calling it again resumes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cpt_ray.config.load import load_study, parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges import process
from cpt_ray.edges.ray_runtime import worker_environment
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import TrainingStopped
from cpt_ray.plan.hardware import HardwareProfile, Price
from cpt_ray.records import Comparison, StudyStatus
from cpt_ray.report.text.summary import render_deltas
from cpt_ray.study import store
from cpt_ray.study.api.extend import exact_count, more_budgets, reused_and_new, write_budgets
from cpt_ray.study.api.opening import as_text, find_root
from cpt_ray.study.api.plain_console import PlainConsole
from cpt_ray.study.api.planning import Shown, choose, plan
from cpt_ray.study.api.status import look, place_of
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.cost.grid import GridCost
from cpt_ray.study.cost.said import render_cost, render_grid_cost
from cpt_ray.study.findings.loaded import Loaded, choose_model, load_model
from cpt_ray.study.findings.outcome import conclude, require_all_scored, summarize, summarize_preparation
from cpt_ray.study.findings.publish import publish
from cpt_ray.study.findings.report_file import Report
from cpt_ray.study.findings.tables import loss_table, result_table
from cpt_ray.study.graph import Chosen, StudyGraph
from cpt_ray.study.inputs import read_known
from cpt_ray.study.live.continued import find_continued
from cpt_ray.study.preflight.check import check_study
from cpt_ray.study.stages.stage import Console, Stage, Verb
from cpt_ray.study.study import StudyDriver

if TYPE_CHECKING:
    import pyarrow


class Study:
    """A study: check it, plan it, run it, and ask what came out.

    Args:
        config: The validated study.
        path: The file it was read from; relative paths may start there.
        console: Where progress is reported; plain lines on stdout and stderr if none is given.
        chosen: The cells of a grid to work on; all if nothing is chosen.
        known: What the study's root says of files outside of it, which are then not looked up; see `open`.

    Attributes:
        config: The validated study, overrides included.
        path: Its file.
        console: Where progress is reported.
    """

    def __init__(
        self,
        config: StudyConfig,
        path: Path,
        *,
        console: Console | None = None,
        chosen: Chosen | None = None,
        known: Mapping[str, str | None] | None = None,
    ) -> None:
        self.config, self.path = config, path
        self._known = known
        self.console = console or PlainConsole()
        self._is_called_from_python = console is None
        self._chosen = chosen or Chosen()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *overrides: str | Mapping[str, Any],
        only: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
    ) -> Self:
        """Read a study file.

        Args:
            path: YAML file.
            overrides: `"section.key=value"`, or mappings such as `{"train.learning_rate": 1e-4}`.
            only: The cells of a grid that match, such as `("mix-half+*",)`.
            exclude: Without the cells that match.

        Raises:
            ConfigError: If the file is missing or refused, or an override names no entry.
        """
        process.quieten()
        process.choose_accelerator()
        return cls(load_study(path, as_text(overrides)), Path(path), chosen=Chosen(tuple(only), tuple(exclude)))

    @classmethod
    def open(cls, root: str | Path, *overrides: str | Mapping[str, Any], look_up: bool = True) -> Self:
        """Read the study of a root that was run before: a folder, or `s3://bucket/study`.

        Args:
            root: `study.root`, from wherever it is called.
            overrides: As of `load`.
            look_up: Whether its sources and bases are looked up, which must then be reachable under the paths that its study
                file had. Without, they are taken as the last command found them: enough for all that came out.

        Raises:
            ConfigError: If there is no study, or it was written by a newer cpt-ray.
        """
        place, path = find_root(root)
        opened = cls.load(path, {"study.root": str(root)}, *overrides)
        opened._known = None if look_up else read_known(place)
        return opened

    # Before anything is built.

    def check(self) -> None:
        """Look up everything that the study refers to: files, bases, DeepSpeed JSON, device, packages.

        Raises:
            CptRayError: The first thing that is missing or refused.
        """
        check_study(self.graph(), self.console)

    def plan(
        self,
        *,
        hardware: str | Path | HardwareProfile | None = None,
        workers: int | str | None = None,
        price: float | str | Price | None = None,
        currency: str | None = None,
        measure: bool = False,
        fit: bool = False,
        explain: bool = False,
    ) -> Cost | GridCost:
        """Estimate what the study costs, print it, and return it; of a grid, what its cells cost together.

        Args:
            hardware: Name of a profile, such as `"h100"`, or the path of one; this machine if none is given.
            workers: Training workers; those of the study if none are given.
            price: Of a GPU (or CPU) for an hour, as of today.
            currency: Of the price; USD if none is given.
            measure: Take a few real steps here first, about a minute a model.
            fit: Show the largest micro-batch that fits.
            explain: Show the arithmetic.

        Raises:
            CptRayError: If a budget repeats a source too often, or a model does not fit; not on hardware that is named.
        """
        return plan(self.driver, choose(hardware, workers, price, currency), Shown(measure, fit, explain))

    def status(self) -> StudyStatus:
        """Say how far the study is and whether its driver lives, and return it; from any process, nothing is written."""
        with place_of(self.config, self.path) as place:
            found, said = look(place)
        self.console.say(said)
        return found

    def dry_run(self, *verbs: Verb, only: Stage[Any, Any] | None = None) -> None:
        """List the artifacts of some verbs, or of one stage: those that exist, and those that would be built."""
        graph = self.graph()
        going_on = {one.node: "reuse" if one.is_whole else "extend" for one in find_continued(graph)}
        for node in graph.all(*verbs):
            if only in (None, node.stage):
                state = "reuse" if store.find(node) and store.is_whole(node) else going_on.get(node, "make ")
                self.console.say(f"  {state}  {node.label}")
        self.console.say(f"dry run: nothing was changed under {self.config.study.root}")

    # Each builds what is missing, and reuses the rest.

    def prepare(self) -> None:
        """Clean text, remove duplicates, hold out, decontaminate, tokenize and pack."""
        with self._at_work("prepare") as driver:
            driver.make("prepare")
            self.console.say(summarize_preparation(driver))
            self.console.say(f"artifacts: {driver.root}")

    def train(self) -> None:
        """Train every run to its token budget.

        Raises:
            TrainingStopped: If a signal asked it to stop, such as the interrupt of a notebook's kernel; a checkpoint is saved.
        """
        with self._at_work("train") as driver:
            self._say_allocator()
            driver.make("train")
            self.console.say(f"artifacts: {driver.root}")

    def evaluate(self) -> None:
        """Score the base models and every budget on held-out text and exams.

        Raises:
            CptRayError: If an exam or task failed, once all else is scored and kept.
        """
        with self._at_work("evaluate") as driver:
            driver.make("evaluate")
            self.console.say(f"artifacts: {driver.root}")
            require_all_scored(driver)

    def run(self) -> Report:
        """Everything: prepare, train, evaluate, compare, report.

        Raises:
            TrainingStopped: See `train`.
            CptRayError: If an exam or task failed; the report is there, without its scores.
        """
        with self._at_work("run") as driver:
            driver.preflight("prepare", "train", "evaluate")
            driver.make("prepare")
            self.console.say(summarize_preparation(driver))
            one = len(driver.graph.cells) == 1
            self.console.say(render_cost(driver.plan()) if one else render_grid_cost(driver.plan_grid()))
            self._say_allocator()
            driver.train_and_evaluate()
            self.console.say(conclude(driver))
            require_all_scored(driver)  # last: what failed leaves out a cell, not the report
            return Report.of(driver.root)

    def extend(self, budgets: str, *, overrides: tuple[str, ...] = (), dry_run: bool = False) -> Study:
        """Add larger budgets, and run the study with them: trunks go on from their last checkpoints.

        Says what is reused and what is new before it starts. The study file gets the budgets too, if that is one safe edit;
        else the override to use from now on is said.

        Args:
            budgets: `"+400M"` beyond the largest, or `"800M"`; several separated by commas.
            overrides: With which this study was read, if they belong to every command of it.
            dry_run: Only say it.

        Returns:
            The extended study.

        Raises:
            ConfigError: If a budget is there, or is smaller than one that is, or repeats its text too often.
            TrainingStopped: See `train`.
        """
        tokens = more_budgets(self.config, budgets)
        tree = self.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        tree["train"]["budgets"] = list(tokens)
        extended = Study(parse_study(tree, place=str(self.path)), self.path, console=self.console, chosen=self._chosen)
        extended._is_called_from_python = self._is_called_from_python
        extended.driver().require_budgets()  # before the file is changed: of a finished study, text may be too little
        for line in reused_and_new(extended.graph(), len(self.config.train.budgets or ())):
            self.console.say(line)
        override = f"train.budgets=[{','.join(map(exact_count, tokens))}]"
        if dry_run:
            self.console.say(f"dry run: nothing was changed; the study would have {override}")
            return extended
        if write_budgets(self.path, tokens, overrides):
            self.console.say(f"{self.path}: {override}")
        else:
            self.console.warn(f"{self.path} was not changed; give {override} to every command from now on, or write it there")
        extended.run()
        return extended

    # What came out, from records alone.

    def compare(self) -> Comparison:
        """Compare budgets with base and control: print the differences with their intervals, and return them."""
        with self._at_work("compare") as driver:
            comparison = driver.comparison()
            path = driver.root / Comparison.FILE
            write_atomic(path, comparison.to_json())
            self.console.say(summarize(driver, comparison))
            self.console.say(render_deltas(comparison.deltas))
            self.console.say(f"comparison: {path}")
            return comparison

    def report(
        self,
        *,
        hardware: str | Path | HardwareProfile | None = None,
        price: float | str | Price | None = None,
        currency: str | None = None,
    ) -> Report:
        """Write the report and mirror the records to MLflow; nothing is trained or scored.

        With a price, or hardware whose profile has one, predictions say what they would cost; see `plan`.
        """
        choice = choose(hardware, None, price, currency)
        with self._at_work("report") as driver:
            self.console.say(conclude(driver, choice))
            return Report.of(driver.root)

    def results(self) -> pyarrow.Table:
        """All scores, a row per model, set and metric.

        Returns:
            Columns: run, model, arm, seed, budget_tokens, tokens, set, metric, value, low, high. `tokens` are those that the
            model was trained on, `low` and `high` the ends of the interval, null where there is none.

        Raises:
            ConfigError: If the study is not scored yet.
        """
        return result_table(self.driver().evaluations())

    def losses(self, run: str) -> pyarrow.Table:
        """The steps of a run, finished or not.

        Args:
            run: Its name in the study, such as `smollm2-135m-legal-24000-seed0`.

        Returns:
            Columns: step, tokens_seen, loss (nats per token), learning_rate, gradient_norm, tokens_per_s, skipped.

        Raises:
            ConfigError: If there is no such run.
        """
        return loss_table(self.driver().grid.run(run).node.folder)

    def model(
        self, budget: str | int | None = None, *, arm: str | None = None, seed: int | None = None, name: str | None = None
    ) -> Loaded:
        """Load a model of the study with transformers: `model, tokenizer = study.model("400M")`.

        Args:
            budget: Tokens, the name of a run, or `base`; the largest budget that is trained if none is given.
            arm: Its arm; the domain's if none is given.
            seed: The first one if none is given.
            name: Which of `models`; the first if none is given.

        Raises:
            ConfigError: If there is no such model, or several; names those that there are.
        """
        return load_model(choose_model(self.driver(), budget, arm=arm, seed=seed, model=name))

    def export(self, run: str | int | None = None, *, to: str | Path, force: bool = False) -> Path:
        """Write a folder that is ready for a model hub: weights, tokenizer, and a card with scores, licenses and limits.

        Args:
            run: The name of a run, or a budget; the largest budget that is trained if none is given.
            to: The folder.
            force: Whether it may hold something; files of the same name are replaced.

        Returns:
            The folder.

        Raises:
            ConfigError: If there is no such run, it is not scored yet, or the folder is not empty.
        """
        driver = self.driver()
        chosen = choose_model(driver, run, arm=None, seed=None, model=None)
        folder = publish(driver, chosen, Path(to).expanduser(), force=force)
        self.console.say(f"export of {chosen.name}: {folder}")
        self.console.say(f"load it: transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})")
        return folder

    def export_source(self, run: str | int | None = None) -> Path:
        """Where the export of a run is: what `export` would copy."""
        return choose_model(self.driver(), run, arm=None, seed=None, model=None).folder

    # For code that needs more.

    def graph(self) -> StudyGraph:
        """The artifacts of the chosen cells, as the files are now."""
        return StudyGraph(self.config, self.path, chosen=self._chosen, known=self._known)

    def driver(self) -> StudyDriver:
        """What builds and reads the chosen cells' artifacts; it writes only inside `with`, where it holds the lease."""
        return StudyDriver(self.config, self.path, self.console, chosen=self._chosen, known=self._known)

    @contextlib.contextmanager
    def _at_work(self, method: str) -> Iterator[StudyDriver]:
        """A driver that holds the lease; if it is stopped from Python, it says which call resumes."""
        resume = f"call study.{method}() again to resume"
        try:
            with self.driver() as driver:
                yield driver
        except KeyboardInterrupt:
            if self._is_called_from_python:
                self.console.warn(f"interrupted: what is finished is kept, and the study is free; {resume}")
            raise
        except TrainingStopped as stopped:
            if self._is_called_from_python:
                raise TrainingStopped(stopped.problem, fix=resume) from None
            raise

    def _say_allocator(self) -> None:
        """Say that training in this process lacks settings that are read when a process starts; the command line restarts."""
        runtime = self.config.runtime
        if self._is_called_from_python and runtime.kind == "local":
            wanted = worker_environment(runtime).get(process.ALLOCATOR)
            if wanted is not None and process.ALLOCATOR not in os.environ:
                self.console.step(
                    "  training in this process, whose memory allocator was set up when Python started: steps on a CPU take up "
                    "to a fifth longer, with the same result; for a long training use cpt-ray train, or runtime.kind=ray"
                )
