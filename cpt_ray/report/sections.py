"""The parts of a page, in the order in which they are read: what was found, then how, then from what.

In: the index of a study's records. Out: `Opening`, the first screen, and `Section`s; the later ones are folded.
"""

from __future__ import annotations

from dataclasses import dataclass

from cpt_ray.report.blocks import Cell, Figure, Section, Table
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.figures.corpus import profile_figure, yield_figure
from cpt_ray.report.figures.efficiency import efficiency_figure
from cpt_ray.report.figures.loss import loss_figure, watched_figure
from cpt_ray.report.figures.scaling import scaling_figure
from cpt_ray.report.figures.sizes import compute_figure, ratio_figure
from cpt_ray.report.figures.trade import pairs_of, trade_figure
from cpt_ray.report.index import Index
from cpt_ray.report.tables.corpus import (
    exam_scan_tables,
    funnel_tables,
    held_out_table,
    ledger_table,
    text_notes,
    text_tables,
)
from cpt_ray.report.tables.filters import classifier_tables, selection_tables
from cpt_ray.report.tables.planned import planned_table
from cpt_ray.report.tables.results import result_tables, short_labels
from cpt_ray.report.tables.runs import arm_table, proof_tables, run_table, warning_table, watch_table
from cpt_ray.report.tables.scores import delta_tables, exam_tables, merge_table, overview, score_table
from cpt_ray.report.text.answers import answer_tables, refusals
from cpt_ray.report.wording import count, duration

NOTHING_SCORED = "Nothing was scored on held-out text."
NO_TRADE = "No model was compared with its base on both domain and general text."
_OPEN_ANSWERS = 16
"""Rows of a table of answers that is open at first: decisions are short, lists of fits are not."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The first screen.

    Attributes:
        headline: One sentence, of the model and arm that stand first.
        others: The same of the other models and arms.
        facts: What the study took, in a line.
        results: A table per model and arm, the first open.
        legend: What short names and exams stand for.
        figures: Token scaling, and gain against forgetting.
        missing: Why a figure is not there.
    """

    headline: str
    others: tuple[str, ...]
    facts: str
    results: tuple[Table, ...]
    legend: tuple[str, ...]
    figures: tuple[Figure, ...]
    missing: tuple[str, ...]


def opening(index: Index) -> Opening:
    """The first screen of a study."""
    comparison = index.contents.comparison
    first, others = _headlines(index)
    pairs, sets = pairs_of(index), index.sets
    scaling = scaling_figure(index, sets[:1], title="Token-scaling curve", compact=True)
    trade = trade_figure(index, pairs[:1], title="Gain against forgetting", compact=True)
    how = "from start to end" if index.contents.wall_s is not None else "in all stages together"
    facts = (
        f"{count(comparison.tokens_seen)} tokens seen by the model that saw the most, {count(comparison.tokens_paid)} paid by "
        f"all runs; {duration(index.contents.total_wall_s)} {how}"
    )
    legend = [f"Order of the {len(index.groups)} models and arms: {index.ordered}."] if index.ordered else []
    legend += [*index.names_legend(), *(f"{task}: {label}." for task, label in short_labels(index).items())]
    missing = [words for figure, words in ((scaling, NOTHING_SCORED), (trade, NO_TRADE)) if figure is None]
    figures = tuple(figure for figure in (scaling, trade) if figure is not None)
    return Opening(first, others, facts, tuple(result_tables(index)), tuple(legend), figures, tuple(missing))


def sections(index: Index) -> list[Section]:
    """All parts below the first screen."""
    contents = index.contents
    exams: list[Table | str] = [*exam_tables(index)] or ["This study has no exams."]
    return [
        _tokens(index),
        Section(
            "loss", "Loss curves",
            "Training loss against tokens seen, all budgets on one axis. A branch starts where it left its trunk, and falls as "
            "its learning rate decays; a stage of a chain resumes where the previous one ended.",
            _present(loss_figure(index) or "No run of this study has step metrics.", watched_figure(index)),
        ),
        _sizes(index),
        _next(contents),
        _verdict(contents),
        Section(
            "scores", "All scores and differences",
            "Every model on every set; whether two differ is judged by paired differences.",
            _present(
                score_table(index), *delta_tables(index), *exams,
                merge_table(index),
            ),
            folded=True,
        ),
        Section(
            "funnel", "Data funnel",
            "From raw text to training tokens: what came in, what was kept, and which rules dropped the rest.",
            _present(
                *funnel_tables(contents), ledger_table(contents), held_out_table(contents),
                *classifier_tables(contents.domains), yield_figure(index), *selection_tables(contents.domains),
                *exam_scan_tables(contents),
            ),
            folded=True,
        ),
        Section(
            "text", "What the text is like",
            "Length, repetition, language and words of the sources, and samples of what was dropped.",
            _present(profile_figure(index), *text_tables(contents), *text_notes(contents)),
            folded=True,
        ),
        Section(
            "provenance", "Runs and provenance",
            "How each number was produced: the runs, self-tests, versions, times and the resolved configuration.",
            _present(
                run_table(index), watch_table(index), planned_table(contents), warning_table(contents), arm_table(contents),
                *proof_tables(contents),
                contents.base_note,
            ),
            folded=True,
        ),
    ]  # fmt: skip


def _headlines(index: Index) -> tuple[str, tuple[str, ...]]:
    """The sentence that opens the page, of the model and arm whose table stands first, and those of the others."""
    comparison = index.contents.comparison
    first = [(one.model, one.arm) for one in index.groups[:1]]
    said = sorted(comparison.conclusions, key=lambda one: (one.model, one.arm) not in first)
    return (said[0].headline if said else comparison.headline), tuple(one.headline for one in said[1:])


def _tokens(index: Index) -> Section:
    more_sets, more_pairs = index.sets[1:], pairs_of(index)[1:]
    return Section(
        "tokens", "What a token buys",
        "Gain on the domain per million tokens, and the curves of the sets that the first screen leaves out.",
        _present(
            efficiency_figure(index) or "No model was compared with its base on domain text, so there is no gain.",
            scaling_figure(index, more_sets, name="scaling_more", title="Token-scaling curves of the other sets"),
            trade_figure(index, more_pairs, name="forgetting_more", title="Gain against forgetting on the other sets"),
        ),
    )  # fmt: skip


def _sizes(index: Index) -> Section:
    found = _present(overview(index), compute_figure(index), ratio_figure(index))
    lead = "What model size and kind of text do to the loss that compute reaches."
    return Section("sizes", "Sizes and arms", lead, found or ("This study has one model and one arm.",))


def _next(contents: ReportContents) -> Section:
    answers = contents.comparison.answers
    tables = [
        Table(
            f"answer_{place}", found.title, found.header, tuple(tuple(Cell(cell) for cell in row) for row in found.rows),
            words=found.text_columns, answer=found.answer, notes=found.notes,
            fold=len(found.rows) > _OPEN_ANSWERS,
        )
        for place, found in enumerate(answer_tables(answers))
    ]  # fmt: skip
    lead = "What the curves through the scores say of budgets, sizes and mixtures that were not run, and what they cannot tell."
    none = "" if tables else "This study has no curve to ask."
    return Section("next", "What to do next", lead, _present(*tables, none, *refusals(answers)))


def _verdict(contents: ReportContents) -> Section:
    found = contents.comparison
    lead = "The headline with its figures, and what to keep in mind with them."
    said = [one.verdict for one in found.conclusions] or [found.verdict]
    return Section("verdict", "Verdict in full, and its caveats", lead, (*said, *found.notes), folded=True)


def _present(*blocks: Table | Figure | str | None) -> tuple[Table | Figure | str, ...]:
    return tuple(block for block in blocks if block)
