"""Everything that a study file refers to, looked up before anything is built: files, bases, DeepSpeed JSON, device, packages.

In: the graph of a study. Out: lines for the console, or an error of the first thing that is refused. Nothing is written.
"""

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.domains import missing_probe
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.data.read import Survey, prove_source
from cpt_ray.edges.source_files.hub import NotReachableError, resolve_dataset
from cpt_ray.study import store
from cpt_ray.study.findings.mirror import why_not_mirrored
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.preflight.bases import say_bases, say_frozen, say_separators, warn_of_changes
from cpt_ray.study.preflight.device import say_device
from cpt_ray.study.preflight.packages import require_packages
from cpt_ray.study.stages.stage import Console
from cpt_ray.study.stages.train import TRAIN, deepspeed_path, trained_again


def _check_source(source: SourceConfig, config: StudyConfig, console: Console) -> None:
    """Say what a source holds and leaves out; a pinned dataset that cannot be reached from here does not fail the check."""
    rule = config.prepare.clean
    filters = rule.languages is not None and rule.language_id.detect == "never"
    survey, note = None, ""
    try:
        if source.dataset is not None:
            found_format, files, note = resolve_dataset(source.dataset)
            survey, note = Survey(source.format or found_format, files, []), f" ({note})"
        found = prove_source(source, survey, filters_language=filters, max_bytes=rule.max_bytes)
    except NotReachableError as error:
        console.say(f"source {source.name}: NOT LOOKED UP: {error.problem}")
        return
    console.say(f"source {source.name}: {found.files} files, {found.size_bytes / 1e6:.1f} MB{note}")
    for kind, (count, path) in found.left_out.items():
        console.say(f"  left out: {count} {kind}, such as {path}")
    for warning in found.warnings:
        console.warn(warning)


def check_study(graph: StudyGraph, console: Console) -> None:
    """Look up what the chosen cells refer to, and say what it is.

    Args:
        graph: The study.
        console: Where it is said.

    Raises:
        CptRayError: The first thing that is missing or refused.
    """
    config = graph.config
    said = say_bases(graph, console)
    warn_of_changes(graph, console)
    say_separators(graph, console, said)
    say_frozen(graph, console)
    cells = [cell.config for cell in graph.cells]
    if len(graph.grid) > 1:
        console.say(f"cells: {len(cells)} of {len(graph.grid)}, such as {graph.cells[0].cell.name}")
    for source in {one.model_dump_json(): one for cell in cells for one in cell.read_sources}.values():
        _check_source(source, config, console)
    for source in {one.model_dump_json(): one for cell in cells for one in cell.derived_sources}.values():
        console.say(f"source {source.name}: from {source.parent}, {source.rule}")
    for note in dict.fromkeys(filter(None, (missing_probe(cell.sources, cell.arms) for cell in cells))):
        console.say(note)
    for path in dict.fromkeys(deepspeed_path(cell.train.deepspeed, graph.config_path) for cell in cells):
        console.say(f"deepspeed: {path.name}, ZeRO stage {load_deepspeed(path).zero_stage}")
    say_device(config, console)
    building = {node.stage.name for node in graph.all() if not store.exists(node)}
    for cell in cells:
        require_packages(cell, building)
    if (reason := why_not_mirrored(config.tracking)) is not None:
        console.say(f"mlflow: {reason}")
    for again in trained_again(graph, graph.root):
        console.warn(again)
    there = sum(store.find(node) is not None for node in graph.all())
    console.say(f"runs: {len(graph.of(TRAIN))}; artifacts: {there} of {len(graph.all())} are there under {config.study.root}")
    console.say("check passed")
