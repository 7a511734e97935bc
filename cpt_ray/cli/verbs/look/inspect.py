"""Show packed rows as text, with document boundaries."""

from cpt_ray.cli.request import Request
from cpt_ray.edges.redaction import printable_line
from cpt_ray.study.inspect.rows import DecodedRow, decode_rows
from cpt_ray.study.inspect.trace import shards_of


def main(request: Request) -> None:
    """Run the verb; it only reads, so it needs no lease."""
    study = request.driver()
    model = study.config.models[0].name
    source = request.options["source"] or study.config.sources[0].name
    shards = shards_of(study.graph.cells[0], model)
    for row in decode_rows(shards, source, range(request.options["rows"])):
        request.console.say(_render(row))
    request.console.say(f"shards of model {model}: {shards.folder}")


def _render(row: DecodedRow) -> str:
    lines = [f"=== row {row.row} of source {row.source}"]
    for piece, text in row.pieces:
        cut = f", part {piece.part}, from its token {piece.offset} on" if piece.part or piece.offset else ""
        name = f"{printable_line(piece.document_id)} ({piece.identity})"
        lines += [f"--- document {name}: {piece.tokens} tokens at {piece.start}{cut}", text]
    return "\n".join([*lines, f"--- padding: {row.padding} slots"])
