"""Tables of domain filters: classifiers, thresholds, derived sources, documents around a threshold, what arms share.

In: `DomainFindings`. Out: tables; none for a study without filters.
"""

from __future__ import annotations

from cpt_ray.records import DomainFindings, Measured
from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.wording import integer, number, share


def classifier_tables(found: DomainFindings) -> list[Table]:
    """How well classifiers do on held-out examples, and what thresholds find."""
    if not found.classifiers:
        return []
    lead = (
        "Each classifier on held-out examples, which neither trained nor calibrated it, called positive from a probability of "
        "0.5 on; 95 % intervals. Precision holds at the share of positives among these examples; below, it is the one expected "
        "in the source."
    )
    rows = []
    for r in found.classifiers:
        f = r.fitted
        rows.append((
            Cell(r.classifier, (str(r.model),)), f"{integer(f.positive.train)} + {integer(f.negative.train)}",
            f"{integer(f.at_half.positives)} + {integer(f.at_half.negatives)}", _measured(f.at_half.precision),
            _measured(f.at_half.recall), _measured(f.at_half.f1), _measured(f.auc), float(f.calibration_error),
        ))  # fmt: skip
    header = ("classifier", "trained on", "held-out examples", "precision", "recall", "F1", "AUC", "calibration error")
    return [Table.of("classifiers", "Domain filters", header, rows, lead=lead), _yields(found)]


def _yields(found: DomainFindings) -> Table:
    rows: list[tuple[Cell | str | int | None, ...]] = []
    for y in found.yields:
        name = f"{y.classifier} on {y.source}"
        rows += [
            (
                name, _measured(t.share), f"{t.threshold:g}", t.documents, t.tokens, _measured(t.precision),
                _measured(t.held_out.recall),
            )
            for t in y.used
        ]  # fmt: skip
        if not y.used:
            rows.append((name, _measured(y.at_half.share), "none used", None, None, None, None))
    header = (
        "classifier and source", "estimated share of positives", "threshold", "documents", "tokens", "expected precision",
        "recall",
    )  # fmt: skip
    return Table.of("thresholds", "Thresholds in use", header, rows)


def selection_tables(found: DomainFindings) -> list[Table]:
    """Derived sources, documents around their thresholds, and what arms share."""
    tables = []
    if found.selections:
        rows = [
            (
                s.source, s.rule, s.parent,
                Cell(integer(s.documents), (f"of {integer(s.parent_documents)}",), raw=s.documents),
                Cell(integer(s.tokens), (f"of {integer(s.parent_tokens)}",), raw=s.tokens),
            )
            for s in found.selections
        ]  # fmt: skip
        tables.append(Table.of("derived", "Derived sources", ("source", "rule", "from", "documents", "tokens"), rows, words=3))
    for s in found.selections:
        if s.shown:
            title = f"{s.source}: {len(s.shown)} documents around the threshold of {s.rule}"
            shown = [(number(d.probability), d.side, f"{d.id} ({d.identity})", d.text) for d in s.shown]
            header = ("probability", "side", "document", "beginning of the text")
            tables.append(Table.of(f"around_{s.source}", title, header, shown, words=4, fold=True))
    shared = _shared(found)
    return [*tables, shared] if shared is not None else tables


def _shared(found: DomainFindings) -> Table | None:
    """What each arm can draw and others too; None if no source is derived, where arms share what their mixtures name."""
    if found.arms is None or not found.selections:
        return None
    rows: list[tuple[Cell | str | int, ...]] = []
    for arm, documents in found.arms.documents.items():
        tokens = found.arms.tokens[arm]
        others = tuple(
            f"{one.other}: {integer(one.documents)} documents, {integer(one.tokens)} tokens "
            f"({share(one.tokens / (tokens or 1))})"
            for one in found.arms.shared
            if one.arm == arm
        )
        rows.append((arm, Cell("", others), documents, tokens))
    lead = "Distinct documents and tokens that an arm can draw, and of those, how many each other arm can draw too."
    return Table.of("shared", "What arms share", ("arm", "shared with", "documents", "tokens"), rows, words=2, lead=lead)


def _measured(found: Measured) -> Cell:
    ends = f"{number(found.interval.low)} to {number(found.interval.high)}"
    return Cell(number(found.value), (ends,), raw=found.value)
