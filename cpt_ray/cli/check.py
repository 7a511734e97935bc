"""Check a study file and what it names, without spending anything."""

from cpt_ray.cli.request import Request
from cpt_ray.config.deepspeed import load_deepspeed, zero_stage
from cpt_ray.edges.storage import list_source_files
from cpt_ray.study import store
from cpt_ray.study.graph import build_graph, deepspeed_path


def main(request: Request) -> None:
    """Run the verb: schema, files, DeepSpeed JSON and places."""
    config = request.config
    graph = build_graph(config, request.path)
    for source in config.sources:
        files = [entry for path in source.path for entry in list_source_files(path)]
        request.console.say(f"source {source.name}: {len(files)} files, {sum(size for _, size in files) / 1e6:.1f} MB")
    path = deepspeed_path(config, request.path)
    request.console.say(f"deepspeed: {path.name}, ZeRO stage {zero_stage(load_deepspeed(path))}")
    there = sum(store.find(spot) is not None for spot in graph.all())
    request.console.say(
        f"runs: {len(graph.specs)}; artifacts: {there} of {len(graph.all())} are there under {config.study.root}"
    )
    request.console.say("check passed")
    request.next_verb("plan")
