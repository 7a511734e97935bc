"""A study, from raw text to report: builds the stages of a verb in order, reuses what is complete, rebuilds what changed.

Every stage leaves artifacts and can be resumed: if the driver dies, re-run the same command. Ray is started only if a stage has
work for it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.config.domains import domain_text, drawn_by_controls, missing_probe, probes_of_arms
from cpt_ray.config.sections.prepare import ArmConfig, SourceConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.ray_runtime import cluster_address
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import CptRayError
from cpt_ray.records import (
    Comparison,
    DocumentsRecord,
    EvalRecord,
    HeldOutRecord,
    KnownInputs,
    RunRecord,
    ShardManifest,
)
from cpt_ray.study import store
from cpt_ray.study.cost.amounts import text_bytes
from cpt_ray.study.cost.cells import Cost, plan_cell, require_cell
from cpt_ray.study.cost.grid import GridCost, plan_grid
from cpt_ray.study.cost.paid import token_prices
from cpt_ray.study.cost.place import AS_CONFIGURED, Choice, find_place
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.findings.curves import StudyCurves, open_places
from cpt_ray.study.findings.foreseen import foresee
from cpt_ray.study.findings.mirror import LiveMirror, Mirror, MirrorTarget, why_not_mirrored
from cpt_ray.study.graph import ALL, CellGraph, Chosen, StudyGraph, distinct
from cpt_ray.study.grid import Grid
from cpt_ray.study.inspect.trace import shards_of
from cpt_ray.study.live.beside import scoring_beside
from cpt_ray.study.live.command import CommandNote, planned_study
from cpt_ray.study.live.continued import find_continued, take_over
from cpt_ray.study.live.session import Session
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.preflight.device import idle_gpus, require_device, require_placement
from cpt_ray.study.preflight.newcomers import newcomers_asked
from cpt_ray.study.preflight.nodes import Planned as PlannedRoom
from cpt_ray.study.preflight.nodes import require_nodes
from cpt_ray.study.preflight.packages import require_packages
from cpt_ray.study.preflight.tasks import require_tasks
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE, scored_run
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS, waits
from cpt_ray.study.stages.stage import Console, LiveRun, Node, ReadSteps, Stage, Verb
from cpt_ray.study.stages.train import TRAIN, RunNode, deepspeed_of, link_exports, trained_again
from cpt_ray.train.engine.state_bytes import is_offloaded


class StudyDriver:
    """A study open for work: `with StudyDriver(config, path, console) as study: study.make("prepare")`.

    Read-only verbs use it without `with`: they need no lease.

    Args:
        config: The validated study.
        config_path: The file it was read from; relative paths may start there.
        console: Where progress is reported.
        stages: Its stages, in order; all of them if none are given.
        chosen: The cells of a grid to work on; all if nothing is chosen.
        known: For a study that is read from its root: what that says of files outside of it, none of which is looked up.

    Raises:
        CptRayError: If an input is missing or refused; on entering, if the root cannot be written or another driver runs the
        study.
    """

    def __init__(
        self,
        config: StudyConfig,
        config_path: Path,
        console: Console,
        stages: Sequence[Stage[Any, Any]] | None = None,
        chosen: Chosen = ALL,
        known: Mapping[str, str | None] | None = None,
    ) -> None:
        self.config, self.config_path, self.console = config, config_path, console
        self.graph = StudyGraph(config, config_path, stages, chosen, known)
        self._is_from_root = known is not None
        self.root = self.graph.root
        self.note = CommandNote(self.root, console)
        self.session = Session(self.root, config.runtime, self.note, self._live_run)
        self._checked: set[str] = set()
        self._fit_tasks: set[str] = set()
        self._nodes_asked = self._foreseen = False
        self._watches = contextlib.ExitStack()
        """What ends the command while it is at work; left before Ray is."""

    def __enter__(self) -> Self:
        self.session.__enter__()
        try:
            # After the lease: a second driver must not overwrite the configuration of the one at work.
            store.require_own(self.root, self.config.study.name)
            if not self._is_from_root:  # else the root says already what it was read from
                write_atomic(self.root / store.STUDY_FILE, store.study_text(self.config))
                write_atomic(self.root / KnownInputs.FILE, KnownInputs(found=self.graph.inputs).to_json())
            self.graph.hashes.save()
            self.note.begin(self.session.attempt, planned_study(self.graph, self.grid))
        except BaseException:
            self.session.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self._watches.__exit__(kind, error, traceback)
        except CptRayError as found:  # by a watch: it takes the place of the interrupt, in what is noted too
            self._end(found)
            raise
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if "mirror" in self.__dict__:  # a command that opened none has none to close
            self.mirror.close(error)
        if "curves" in self.__dict__:
            self.curves.close(failed=error is not None)
        self.note.end(error)
        self.session.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def make(self, verb: Verb) -> None:
        """Build what is missing of a verb's artifacts, stage after stage.

        Raises:
            ConfigError: If an artifact of an earlier verb is missing.
            CptRayError: What a stage refuses.
        """
        self.console.step(verb)
        self.note.reach(verb)
        self.preflight(verb)
        if not self._foreseen:  # once a command: with what is made now, a plan knows more than it should foretell
            self._foreseen = True
            foresee(self.graph, self.grid)
        said = say_bases(self.graph, self.console) if verb == "prepare" else {}
        if verb == "train":
            self.require_budgets()
            for again in trained_again(self.graph, self.root):
                self.console.warn(again)
            for found in find_continued(self.graph):
                take_over(found, self.session)
        # A base that waits for no text may be refused, and that is soon.
        bases = [node for node in self.graph.of(MODELS) if verb == "prepare" and not waits(node)]
        self._make_nodes(MODELS, bases)
        say_separators(self.graph, self.console, said, bases)
        for stage in self.graph.stages:
            if stage.verb == verb:
                self._check_early(verb)
                late = [node for node in self.graph.of(stage) if node not in bases]
                self._make_nodes(stage, late)
                if stage is MODELS:
                    say_separators(self.graph, self.console, said, late)
        if verb == "prepare":
            self.require_budgets()
        if verb == "train":
            members = [*self.grid.trained(), *self.grid.merged()]
            link_exports(self.root, {one.name: one.node for one in members})

    def train_and_evaluate(self) -> None:
        """Make both verbs; on Ray, models are scored as soon as they exist, while others train.

        Raises:
            CptRayError: What a stage refuses.
        """
        with scoring_beside(distinct(self.graph.of(EVALUATE)), distinct(self.graph.of(TRAIN)), self.session):
            self.make("train")
        self.make("evaluate")

    def preflight(self, *verbs: Verb) -> None:
        """Refuse what this machine cannot build of these verbs' artifacts, before anything is built.

        Raises:
            ConfigError: If a package is missing, the device cannot compute it, a task of lm-eval cannot be built, the cluster
                has no room for training workers, or a node of it is not fit for the study.
        """
        building = {node.stage.name for node in self.graph.all(*verbs) if not store.exists(node)}
        for cell in self.graph.cells:
            require_packages(cell.config, building)
        precisions = {(one.config.train.precision, one.config.evaluate.precision): one.config for one in self.graph.cells}
        for config in precisions.values():
            require_device(config, building)
        # Once a command: a task that cannot be built any more after hours of training fails itself, not the study.
        for key, config in {one.config.evaluate.model_dump_json(): one.config for one in self.graph.cells}.items():
            if key not in self._fit_tasks and require_tasks(config, building):
                self._fit_tasks.add(key)
        # Last: everything above needs no Ray.
        placed = require_placement(self.config.runtime, building, self.session.need_ray)
        for warning in filter(None, (placed, idle_gpus(self.config.runtime, building))):
            self.console.warn(warning)
        if building and self.config.runtime.kind == "ray" and cluster_address(self.config.runtime) and not self._nodes_asked:
            self._nodes_asked = True
            self.session.need_ray()
            asked = require_nodes(self.config, self.root, self._planned_room(), self.console)
            self._watches.enter_context(newcomers_asked(asked.known, asked.judge))

    def _planned_room(self) -> PlannedRoom:
        """What preflight asks the nodes of a cluster about."""
        models = {}
        for node in self.graph.of(MODELS):
            if (found := store.find(node)) is not None:
                models[f"model {node.name}"] = node.folder / max(found.files, key=lambda file: file.size_bytes).path
        text = text_bytes(self.graph.cells[0]) or 0.0
        zero = (deepspeed_of(cell).tree.get("zero_optimization", {}) for cell in self.graph.cells)
        offloads = any(is_offloaded(one, "offload_optimizer") for one in zero)
        return PlannedRoom(self.plan().memory, text, len(distinct(self.graph.of(TRAIN))), models, offloads)

    def make_stage(self, stage: Stage[Any, Any]) -> None:
        """Build what is missing of one stage's artifacts."""
        self._make_nodes(stage, self.graph.of(stage))

    def _make_nodes(self, stage: Stage[Any, Any], nodes: Sequence[Node[Any, Any]]) -> None:
        missing = [node for node in distinct(nodes) if self.session.reuse(node) is None]
        for node in missing:
            # Only across verbs: within one, earlier stages have just been built.
            for found in node.inputs.values():
                if isinstance(found, Node) and found.stage.verb != stage.verb:
                    store.require(found)
        if missing:
            stage.build(missing, self.session)

    def _check_early(self, verb: Verb) -> None:
        """Let later stages reject what they could not build; each artifact is checked until it gives an answer."""
        for node in self.graph.all(verb):
            check = node.stage.early_check
            if check is not None and node.label not in self._checked and not store.exists(node) and check(node):
                self._checked.add(node.label)

    def _live_run(self, node: RunNode) -> LiveRun:
        member = next(one for one in self.grid.trained() if one.node is node)
        spec = member.spec(node.work.spec)
        told: list[Callable[[ReadSteps], None]] = [self.curves.follow(spec, node.folder)]
        if why_not_mirrored(self.config.tracking) is None:
            told.append(LiveMirror(self.mirror, spec, node.folder, self.console))

        def tell_all(steps: ReadSteps) -> None:
            for tell in told:
                tell(steps)

        return LiveRun(spec, tell_all)

    @functools.cached_property
    def curves(self) -> StudyCurves:
        """The study's curves in TensorBoard and Weights & Biases, where it asks for them."""
        places = open_places(self.config.tracking, self.root, self.config.study.name)
        return StudyCurves(places, self.root, self.console)

    @functools.cached_property
    def mirror(self) -> Mirror:
        """The study in MLflow."""
        return Mirror(MirrorTarget.of(self.graph, self.grid), self.console)

    # Records of finished stages, under their names in the study.

    @functools.cached_property
    def grid(self) -> Grid:
        """The runs and scores of all chosen cells."""
        return Grid(self.graph)

    def documents(self) -> DocumentsRecord:
        """The documents left after cleaning and duplicate removal, in the first cell."""
        return store.load(self.graph.one(DOCUMENTS))

    def held_out(self) -> HeldOutRecord:
        """The held-out sets of the first cell."""
        return store.load(self.graph.one(HELD_OUT))

    def shards(self, model: str) -> ShardManifest:
        """The packed shards for a model's tokenizer, those of derived sources included, of the first cell."""
        return shards_of(self.graph.cells[0], model).record

    def runs(self) -> list[RunRecord]:
        """The bases, then all training runs, parents first, then their trajectory points, then merges."""
        scored = self.grid.scored()
        bases = [one.run(scored_run(one.node)) for one in scored if one.node.work.is_base]
        points = [one.run(scored_run(one.node)) for one in scored if one.node.work.mark is not None]
        merged = [one.run(store.load(one.node)) for one in self.grid.merged()]
        return [*bases, *(one.run(store.load(one.node)) for one in self.grid.trained()), *points, *merged]

    def evaluations(self) -> list[EvalRecord]:
        """The scores of bases and budgets."""
        return [one.scores(store.load(one.node)) for one in self.grid.scored()]

    def comparison(self, choice: Choice = AS_CONFIGURED) -> Comparison:
        """The study's findings, from records alone; `choice` may have a price, for what predictions would cost.

        Raises:
            ConfigError: If a verb has to come first, or the hardware that is chosen has no price or is not that of the runs.
        """
        # Scores first: for a study that was only prepared, the error then names the last missing step.
        evaluations, runs = self.evaluations(), self.runs()
        arms, homes = self.grid.arms(), self.grid.homes()
        notes = (missing_probe(*_texts(cell)) for cell in self.graph.cells)
        return compare(
            evaluations,
            {one.name: one.node.folder for one in self.grid.scored()},
            runs,
            self.config.compare,
            Facts(
                control_arms=frozenset(name for name, arm in arms.items() if arm.role == "control"),
                controls=self.grid.controls(),
                probes={name: probes_of_arms(*_texts(cell))[plain] for name, (cell, plain) in homes.items()},
                control_draws={name: drawn_by_controls(*_texts(cell)) for name, (cell, _) in homes.items()},
                parameters=self._parameters(),
                domain_sources=frozenset[str]().union(*(domain_text(*_texts(cell)) for cell in self.graph.cells)),
                tokens_paid=self.tokens_paid(),
                prices=token_prices(runs, self.config.runtime, choice, find_place(self.config.runtime).hardware),
            ),
            caveats=tuple(dict.fromkeys(note for note in notes if note)),
        )

    def _parameters(self) -> dict[str, int]:
        """Parameters of each model, by its name in the study."""
        bases = (one for one in self.grid.scored() if one.node.work.is_base)
        return {one.names.model: model_shapes(one.cell)[one.node.work.model.name].parameters for one in bases}

    def tokens_paid(self) -> int:
        """Tokens that the runs of the chosen cells trained on; a run that cells share counts once."""
        return sum(store.load(node).tokens_paid for node in self.graph.of(TRAIN))

    def plan(self, choice: Choice = AS_CONFIGURED) -> Cost:
        """The cost of the first cell; see `plan_cell`."""
        return plan_cell(self.graph.cells[0], choice)

    def plan_grid(self, choice: Choice = AS_CONFIGURED) -> GridCost:
        """The cost of all chosen cells; see `cost.grid`."""
        return plan_grid(self.graph, choice)

    def require_budgets(self) -> None:
        """Reject budgets that repeat a source more often than allowed or end before their cooldown, and models that do not fit.

        Raises:
            ConfigError: Naming the budget, and the key to change.
        """
        for cell in self.graph.cells:
            require_cell(cell)


def _texts(cell: CellGraph) -> tuple[Sequence[SourceConfig], Mapping[str, ArmConfig]]:
    """What the rules of `config.domains` are about."""
    return cell.config.sources, cell.config.arms
