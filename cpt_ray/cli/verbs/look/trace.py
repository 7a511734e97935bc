"""Go from a row of a run to its documents and their files, or from a document to its rows and the steps that saw it."""

import shlex

from cpt_ray.cli.request import Request
from cpt_ray.data.rows.shard_index import Placed
from cpt_ray.edges.redaction import printable_line
from cpt_ray.errors import ConfigError
from cpt_ray.report.text.table import text_table
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.grid import Grid, Member
from cpt_ray.study.inspect.trace import files_of, trace_document, trace_row


def main(request: Request) -> None:
    """Run the verb; it only reads, so it needs no lease.

    Raises:
        ConfigError: If neither a row of a run nor a document was asked for.
    """
    run, row, document = (request.options[name] for name in ("run", "row", "document"))
    graph = request.graph()
    if run is not None and row is not None and document is None:
        member = Grid(graph).run(run)
        _trace_row(request, member, row)
    elif document is not None and run is None and row is None:
        if len(graph.cells) > 1:
            raise ConfigError(
                f"a document is traced in one cell, and the study has {len(graph.cells)}",
                fix=f"choose one, e.g. --only {shlex.quote(graph.cells[0].cell.name)}",
            )
        for model in request.config.models:
            _trace_document(request, graph.cells[0], model.name, document)
    else:
        raise ConfigError("trace needs a row of a run, or a document", fix="give --run NAME and --row I, or --document NAME")


def _trace_row(request: Request, member: Member, row: int) -> None:
    graph = member.cell
    seen, pieces = trace_row(graph, member.node.name, row)
    owner = "" if seen.run == member.node.name else f", which is in run {seen.run}{member.names.suffix}"
    request.console.say(f"row {row} of run {member.name}: step {seen.step}{owner}; row {seen.row} of source {seen.source}")
    files = files_of(graph, pieces)
    header = ("document", "identity", "part", "tokens at", "tokens", "from its token", "unit", "file")
    body = [
        (
            piece.document_id,
            piece.identity,
            str(piece.part),
            str(piece.start),
            str(piece.tokens),
            str(piece.offset),
            piece.unit,
            files.get(piece.identity, "no file holds it any more"),
        )
        for piece in pieces
    ]
    request.console.say(text_table(header, body, text_columns=2))


def _trace_document(request: Request, graph: CellGraph, model: str, document: str) -> None:
    pieces, seen, waiting = trace_document(graph, model, document)
    identities: dict[tuple[str, int], list[str]] = {}
    for piece in pieces:
        identities.setdefault((piece.source, piece.row), []).append(piece.identity)
    found = list(dict.fromkeys(piece.identity for piece in pieces))
    count = f": {len(found)} documents" if len(found) > 1 else ""
    request.console.say(f"document {printable_line(document)} in the shards of model {model}{count}")
    body = [_where(piece) for piece in pieces]
    header = ("source", "identity", "document", "unit", "row", "part", "tokens at", "tokens")
    request.console.say(text_table(header, body, text_columns=4))
    files = files_of(graph, pieces)
    for identity in found:
        request.console.say(f"{identity} was read from {files.get(identity, 'a file that does not hold it any more')}")
    if seen:
        steps = [
            (
                one.run,
                one.source,
                ", ".join(dict.fromkeys(identities[one.source, one.row])),
                str(one.row),
                str(one.position),
                str(one.step),
            )
            for one in seen
        ]
        request.console.say(text_table(("run", "source", "identity", "row", "seen as row", "in step"), steps, text_columns=3))
    else:
        request.console.say("no trained run saw it")
    if waiting:
        request.console.say(f"not trained yet: {', '.join(waiting)}")


def _where(piece: Placed) -> tuple[str, ...]:
    names = piece.source, piece.identity, piece.document_id, piece.unit
    return *names, str(piece.row), str(piece.part), str(piece.start), str(piece.tokens)
