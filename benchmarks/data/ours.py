"""Our side of the data benchmark, one process per measurement: `python -m benchmarks.data.ours COMMAND ARGUMENTS`.

    units OUT FILE...             clean units from Parquet files, one per file, with nothing to drop: set-up, not measured
    pack UNITS MODEL OUT WORKERS  tokenize, pack and write those units on Ray Data
    plain UNITS MODEL OUT N/OF    the same tasks without Ray: every OF-th unit starting at the N-th, in this process
    start WORKERS                 start and stop Ray: what `pack` costs before any text
    prepare OUT WORKERS FILE...   read, clean, remove duplicates, hold out
    rows OUT MODEL WORKERS        pack the output of `prepare`

`plain` calls the same function that `pack` gives to Ray's workers, so the difference between them is Ray.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.data.dedup.signatures import exact_hash
from cpt_ray.data.identity import document_identity
from cpt_ray.data.rows.tokenize import ModelTokenizer, resolve_tokenizer
from cpt_ray.data.run.document_tasks import CLEAN_SCHEMA, write_parquet
from cpt_ray.data.run.training_tasks import PackUnit, pack_unit
from cpt_ray.data.run.units import Tally, UnitContext, UnitTask, finish_unit, write_content
from cpt_ray.data.split import ContainmentIndex
from cpt_ray.records import CorpusProfile, DocumentsRecord, DuplicateComponents, HeldOutRecord, Made, TextTokens, UnitFacts

SOURCE = "web"
SEPARATOR = "<|endoftext|>"
VOCABULARY = 49152
PREPARE = PrepareConfig.model_validate({"decontaminate": {"enabled": False}})
PACK_ALONE = PrepareConfig.model_validate({"decontaminate": {"enabled": False}, "held_out": {"share": 1e-9}})
"""Packs every document: the peers hold nothing out either."""


def source_of(files: list[Path]) -> SourceConfig:
    """The benchmark's only source."""
    return SourceConfig(name=SOURCE, role="domain", path=tuple(map(str, files)), format="parquet", id_field="id")


def make_units(folder: Path, files: list[Path]) -> None:
    """Write a `documents` artifact with the files as units and every document kept, and an empty held-out artifact."""
    context = UnitContext(folder=str(folder / "documents"), sources=(source_of(files),), prepare=PACK_ALONE)
    names = []
    for number, path in enumerate(files):
        task = UnitTask(unit=f"{SOURCE}-{number:05d}", source=SOURCE)
        names.append(task.unit)
        table = pq.read_table(path)
        ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
        tally = Tally("clean", SOURCE)
        for text in texts:
            tally.keep(len(text.encode()))
        named = {"identity": [document_identity(SOURCE, number, record) for record in range(len(ids))], "id": ids}
        columns = {**named, "text": texts, "bytes": [len(text.encode()) for text in texts], "exact": map(exact_hash, texts)}
        clean = pa.table({field.name: list(columns.get(field.name, [None] * len(ids))) for field in CLEAN_SCHEMA}, CLEAN_SCHEMA)
        nothing = pa.array([None] * len(ids), pa.string())
        verdicts = pa.table({"component": pa.array(ids), "reason": nothing, "duplicate_of": nothing.cast(pa.uint64())})
        facts = UnitFacts(reports=(tally.report(),))
        for stage, name, rows in (("clean", "clean", clean), ("near_duplicates", "verdicts", verdicts)):
            entry = write_content(context.root, f"{stage}/{task.unit}", ".parquet", lambda p, rows=rows: write_parquet(rows, p))
            finish_unit(task, context, stage, {name: entry}, facts)
    components = DuplicateComponents(pairs_compared=0, documents_left=0, sizes={}, largest=())
    record = DocumentsRecord(
        units=tuple(names),
        reports=(),
        task_pids={},
        near_duplicate_threshold=None,
        components=components,
        languages={},
        redacted={},
        invisible={},
        repeated_ids={},
        profile=CorpusProfile(),
    )
    (context.root / "documents.json").write_text(record.to_json())
    ContainmentIndex.build([]).save(folder / "held_out" / "containment")


def pack_on_ray(units: Path, model: Path, out: Path, workers: int) -> None:
    """Pack units as `cpt-ray prepare` does."""
    from cpt_ray.data.rows.shards import save_manifest
    from cpt_ray.data.run.pipeline import DataJob, pack_shards
    from cpt_ray.edges.ray_runtime import ray_session

    documents = DocumentsRecord.load(units / "documents" / "documents.json")
    shares = {source_of([Path("x")]).name: PACK_ALONE.held_out.share}
    held_out = HeldOutRecord(sets=(), reports=(), task_pids={}, shares=shares)
    with ray_session(RuntimeConfig(prepare_workers=workers)):
        manifest = pack_shards(
            DataJob([source_of([Path("x")])], PACK_ALONE, out, num_workers=workers),
            Made(units / "documents", documents),
            Made(units / "held_out", held_out),
            model_tokenizer(model),
            None,
        )
    save_manifest(out / "manifest.json", manifest)


def model_tokenizer(folder: Path) -> ModelTokenizer:
    """SmolLM2's tokenizer, as a study uses it for packing."""
    return ModelTokenizer(folder, TextTokens(separator=SEPARATOR, bos=None), VOCABULARY)


def pack_plainly(units: Path, model: Path, out: Path, which: int, of: int) -> None:
    """Run the tasks of `pack_on_ray` sequentially."""
    from cpt_ray.data.run.merge import unit_files
    from cpt_ray.data.run.pipeline import _pack_inputs

    inputs = {"documents": str(units / "documents"), "held_out": str(units / "held_out")}
    context = UnitContext(folder=str(out), inputs=inputs, sources=(source_of([Path("x")]),), prepare=PACK_ALONE)
    common = _pack_inputs(out, PACK_ALONE, resolve_tokenizer(model_tokenizer(model)), None, VOCABULARY)
    names = DocumentsRecord.load(units / "documents" / "documents.json").units
    for files in unit_files(units / "documents", names[which::of]):
        pack_unit(PackUnit(**files, **common, share=PACK_ALONE.held_out.share), context)


def start(workers: int) -> None:
    """Start Ray, run one no-op per worker, and shut it down."""
    import ray.data

    import cpt_ray.data.run.pipeline  # noqa: F401  (the measured commands import it, too)
    from cpt_ray.edges.ray_runtime import ray_session

    with ray_session(RuntimeConfig(prepare_workers=workers)):
        data = ray.data.from_items([{"x": number} for number in range(workers)], override_num_blocks=workers)
        data.map_batches(_nothing, num_cpus=1, batch_size=1).materialize()


def _nothing(batch: dict[str, object]) -> dict[str, object]:
    from cpt_ray.data.run import training_tasks  # noqa: F401

    return batch


def main(command: str, *arguments: str) -> None:
    """Run one command."""
    paths = [Path(argument) for argument in arguments]
    if command == "units":
        make_units(paths[0], paths[1:])
    elif command == "pack":
        pack_on_ray(paths[0], paths[1], paths[2], int(arguments[3]))
    elif command == "plain":
        which, of = map(int, arguments[3].split("/"))
        pack_plainly(paths[0], paths[1], paths[2], which, of)
    elif command == "start":
        start(int(arguments[0]))
    else:
        raise SystemExit(f"no command {command!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
