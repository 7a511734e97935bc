"""Go from a row of a run to its documents and their files, or from a document to its rows and the steps that saw it."""

from cpt_ray.cli.request import Request
from cpt_ray.data.rows.shard_index import Placed
from cpt_ray.edges.redaction import printable_line
from cpt_ray.errors import ConfigError
from cpt_ray.report.text.table import text_table
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.inspect.trace import files_of, trace_document, trace_row


def main(request: Request) -> None:
    """Run the verb; it only reads, so it needs no lease.

    Raises:
        ConfigError: If neither a row of a run nor a document was asked for.
    """
    run, row, document = (request.options[name] for name in ("run", "row", "document"))
    graph = StudyGraph(request.config, request.path)
    if run is not None and row is not None and document is None:
        _trace_row(request, graph, run, row)
    elif document is not None and run is None and row is None:
        for model in request.config.models:
            _trace_document(request, graph, model.name, document)
    else:
        raise ConfigError("trace needs a row of a run, or a document", fix="give --run NAME and --row I, or --document ID")


def _trace_row(request: Request, graph: StudyGraph, run: str, row: int) -> None:
    seen, pieces = trace_row(graph, run, row)
    owner = "" if seen.run == run else f", which is in run {seen.run}"
    request.console.say(f"row {row} of run {run}: step {seen.step}{owner}; row {seen.row} of source {seen.source}")
    files = files_of(graph, pieces)
    header = ("document", "part", "tokens at", "tokens", "from its token", "unit", "file")
    body = [
        (
            piece.document_id,
            str(piece.part),
            str(piece.start),
            str(piece.tokens),
            str(piece.offset),
            piece.unit,
            ", ".join(files[piece.unit, piece.document_id]) or "no file holds it any more",
        )
        for piece in pieces
    ]
    request.console.say(text_table(header, body, text_columns=1))


def _trace_document(request: Request, graph: StudyGraph, model: str, document: str) -> None:
    pieces, seen, waiting = trace_document(graph, model, document)
    request.console.say(f"document {printable_line(document)} in the shards of model {model}")
    body = [_where(piece) for piece in pieces]
    request.console.say(text_table(("source", "unit", "row", "part", "tokens at", "tokens"), body, text_columns=2))
    for (unit, _), files in files_of(graph, pieces).items():
        request.console.say(f"unit {unit} was read from {', '.join(files) or 'a file that does not hold it any more'}")
    if seen:
        steps = [(one.run, one.source, str(one.row), str(one.position), str(one.step)) for one in seen]
        request.console.say(text_table(("run", "source", "row", "seen as row", "in step"), steps, text_columns=2))
    else:
        request.console.say("no trained run saw it")
    if waiting:
        request.console.say(f"not trained yet: {', '.join(waiting)}")


def _where(piece: Placed) -> tuple[str, ...]:
    return piece.source, piece.unit, str(piece.row), str(piece.part), str(piece.start), str(piece.tokens)
