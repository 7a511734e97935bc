"""A study, from raw text to report: builds the stages of a verb in order, reuses what is complete, rebuilds what changed.

Every stage leaves artifacts and can be resumed: if the driver dies, re-run the same command. Ray is started only if a stage has
work for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cpt_ray.compare.comparison import compare
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.domains import drawn_roots, missing_probe, probes_of_arms
from cpt_ray.config.load import dump_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.redaction import redact
from cpt_ray.edges.storage import write_atomic
from cpt_ray.plan.budget import plan_study
from cpt_ray.plan.checks import check_cooldowns, check_epochs, check_memory
from cpt_ray.plan.memory import estimate_memory
from cpt_ray.records import (
    Comparison,
    DocumentsRecord,
    EvalRecord,
    HeldOutRecord,
    MemoryPlan,
    RunRecord,
    RunSpec,
    ShardManifest,
    StepMetrics,
    StudyPlan,
)
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.inspect.trace import shards_of
from cpt_ray.study.mirror import LiveMirror, MirrorTarget, why_not_mirrored
from cpt_ray.study.preflight.bases import say_bases, say_separators
from cpt_ray.study.preflight.device import planned_card, require_device
from cpt_ray.study.preflight.packages import require_packages
from cpt_ray.study.session import Session
from cpt_ray.study.shapes import model_shapes
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE, scored_run
from cpt_ray.study.stages.filter.derived import DERIVED
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Console, Node, Stage, Verb
from cpt_ray.study.stages.train import TRAIN, RunNode, deepspeed_path


class Study:
    """A study open for work: `with Study(config, path, console) as study: study.make("prepare")`.

    Read-only verbs use it without `with`: they need no lease.

    Args:
        config: The validated study.
        config_path: The file it was read from; relative paths may start there.
        console: Where progress is reported.
        stages: Its stages, in order; all of them if none are given.

    Raises:
        CptRayError: If an input is missing or refused; on entering, if the root cannot be written or another driver runs the
        study.
    """

    def __init__(
        self, config: StudyConfig, config_path: Path, console: Console, stages: Sequence[Stage[Any, Any]] | None = None
    ) -> None:
        self.config, self.config_path, self.console = config, config_path, console
        self.graph = StudyGraph(config, config_path, stages)
        self.root = self.graph.root
        self.session = Session(self.root, config.runtime, console, self._live_mirror)
        self._checked: set[str] = set()

    def __enter__(self) -> Self:
        self.session.__enter__()
        # After the lease: a second driver must not overwrite the configuration of the one at work.
        write_atomic(self.root / "study.yaml", dump_study(self.config, redact))
        self.graph.hashes.save()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.session.__exit__(kind, error, traceback)

    def make(self, verb: Verb) -> None:
        """Build what is missing of a verb's artifacts, stage after stage.

        Raises:
            ConfigError: If an artifact of an earlier verb is missing.
            CptRayError: What a stage refuses.
        """
        self.console.step(verb)
        self.preflight(verb)
        said = say_bases(self.config, self.console) if verb == "prepare" else {}
        if verb == "train":
            self.require_budgets()
        for stage in self.graph.stages:
            if stage.verb == verb:
                self._check_early(verb)
                self.make_stage(stage)
            if stage is MODELS and verb == "prepare":
                say_separators(self.graph, self.console, said)
        if verb == "prepare":
            self.require_budgets()

    def preflight(self, *verbs: Verb) -> None:
        """Refuse what this machine cannot build of these verbs' artifacts, before anything is built.

        Raises:
            ConfigError: If a package is missing, or the device cannot compute it.
        """
        building = {node.stage.name for node in self.graph.all(*verbs) if not store.exists(node)}
        require_packages(self.config, building)
        require_device(self.config, building)

    def make_stage(self, stage: Stage[Any, Any]) -> None:
        """Build what is missing of one stage's artifacts."""
        missing = [node for node in self.graph.of(stage) if self.session.reuse(node) is None]
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

    def _live_mirror(self, node: RunNode) -> Callable[[tuple[StepMetrics, ...]], None]:
        if why_not_mirrored(self.config.tracking) is not None:
            return _mirror_nothing
        return LiveMirror(MirrorTarget.of(self.config, self.graph), node.work.spec, node.folder, self.console)

    # Records of finished stages.

    @property
    def specs(self) -> list[RunSpec]:
        """All runs as planned, parents first."""
        return [node.work.spec for node in self.graph.of(TRAIN)]

    def documents(self) -> DocumentsRecord:
        """The documents left after cleaning and duplicate removal."""
        return store.load(self.graph.one(DOCUMENTS))

    def held_out(self) -> HeldOutRecord:
        """The held-out sets."""
        return store.load(self.graph.one(HELD_OUT))

    def shards(self, model: str) -> ShardManifest:
        """The packed shards for a model's tokenizer, those of derived sources included."""
        return shards_of(self.graph, model).record

    def runs(self) -> list[RunRecord]:
        """The base of each model, then all training runs, parents first, then their trajectory points."""
        scored = self.graph.of(EVALUATE)
        bases = [scored_run(node) for node in scored if node.work.is_base]
        points = [scored_run(node) for node in scored if node.work.mark is not None]
        return [*bases, *(store.load(node) for node in self.graph.of(TRAIN)), *points]

    def evaluations(self) -> list[EvalRecord]:
        """The scores of bases and budgets."""
        return [store.load(node) for node in self.graph.of(EVALUATE)]

    def comparison(self) -> Comparison:
        """The study's findings, from records alone."""
        # Scores first: for a study that was only prepared, the error then names the last missing step.
        evaluations, runs = self.evaluations(), self.runs()
        sources, arms = self.config.sources, self.config.arms
        shapes = model_shapes(self.graph.of(MODELS), self.config.train.lora)
        return compare(
            evaluations,
            {node.name: node.folder for node in self.graph.of(EVALUATE)},
            runs,
            self.config.compare,
            control_arms=frozenset(name for name, arm in arms.items() if arm.role == "control"),
            tokens_paid=sum(run.tokens_paid for run in runs),
            probes=probes_of_arms(sources, arms),
            control_draws=frozenset[str]().union(
                *(drawn_roots(arm, sources) for arm in arms.values() if arm.role == "control")
            ),
            caveats=tuple(filter(None, [missing_probe(sources, arms)])),
            parameters={name: shape.parameters for name, shape in shapes.items()},
            domain_sources=frozenset(source.name for source in sources if source.role == "domain"),
        )

    def plan(self) -> tuple[StudyPlan, list[MemoryPlan]]:
        """The study's cost: counted where shards exist, estimated where they do not."""
        config, specs = self.config, self.specs
        shapes = model_shapes(self.graph.of(MODELS), config.train.lora)
        first = config.models[0].name
        packed: list[Node[Any, Any]] = [
            self.graph.one(SHARDS, first),
            *(node for node in self.graph.of(DERIVED) if node.work.model == first),
        ]
        shards = self.shards(first) if all(store.find(node) for node in packed) else None
        names = [source.name for source in config.sources if source.is_packed]
        plan = plan_study(
            config,
            shapes,
            specs,
            {name: shards.loss_tokens(name) for name in names} if shards else None,
            rows={name: shards.rows(name) for name in names} if shards else None,
        )
        deepspeed = load_deepspeed(deepspeed_path(config.train.deepspeed, self.config_path))
        card = planned_card(config.runtime)
        memory = [
            estimate_memory(
                name,
                shape=shape,
                deepspeed=deepspeed,
                train=config.train,
                num_workers=config.runtime.group.min,
                specs=specs,
                card=card,
            )
            for name, shape in shapes.items()
        ]
        return plan, memory

    def require_budgets(self) -> None:
        """Reject budgets that repeat a source more often than allowed or end before their cooldown, and models that do not fit.

        Raises:
            ConfigError: Naming the budget, and the key to change.
        """
        plan, memory = self.plan()
        check_cooldowns(plan)
        check_epochs(plan)
        check_memory(memory)


def _mirror_nothing(_: tuple[StepMetrics, ...]) -> None:
    """The live mirror of a study that is not mirrored."""
