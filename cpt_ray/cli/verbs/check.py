"""Check a study file and everything it refers to; costs nothing."""

from cpt_ray.cli.request import Request
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.edges.hub import NotReachableError, resolve_dataset
from cpt_ray.edges.source_files import list_source_files
from cpt_ray.study import store
from cpt_ray.study.bases import say_bases, say_separators, warn_of_changes
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.train import TRAIN, deepspeed_path


def _files(source: SourceConfig) -> str:
    """The number of files; a pinned dataset that cannot be reached from here does not fail the check."""
    note = ""
    try:
        if source.dataset is not None:
            _, files, note = resolve_dataset(source.dataset)
        else:
            files = [file for path in source.path for file in list_source_files(path)]
    except NotReachableError as error:
        return f"NOT LOOKED UP: {error.problem}"
    return f"{len(files)} files, {sum(file.size_bytes for file in files) / 1e6:.1f} MB{note and f' ({note})'}"


def main(request: Request) -> None:
    """Run the verb: schema, files, DeepSpeed JSON and artifacts."""
    config = request.config
    say_bases(config, request.console)
    graph = StudyGraph(config, request.path)
    warn_of_changes(graph, request.console)
    say_separators(graph, request.console)
    for source in config.sources:
        request.console.say(f"source {source.name}: {_files(source)}")
    path = deepspeed_path(config.train.deepspeed, request.path)
    request.console.say(f"deepspeed: {path.name}, ZeRO stage {load_deepspeed(path).zero_stage}")
    there = sum(store.find(node) is not None for node in graph.all())
    request.console.say(f"runs: {len(graph.of(TRAIN))}; artifacts: {there} of {len(graph.all())} are there under {graph.root}")
    request.console.say("check passed")
    request.next_verb("plan")
