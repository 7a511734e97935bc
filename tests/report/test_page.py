"""The page: its parts, the records' numbers, the same bytes each time, nothing loaded, everything escaped."""

import re
from dataclasses import replace

import pytest

from cpt_ray.records import Comparison, CorpusProfile, DrawnSource, RunRecord, Term
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.page import render_report, write_report
from cpt_ray.report.wording import MINUS
from tests.compare.fits.made_up import TOKENS
from tests.compare.test_answers import study
from tests.report.html import read
from tests.report.made_up import BASE, FLOPS_BASIS, LABEL, PEAK_BASIS, VERDICT, delta, make_contents, run_record, stage
from tests.report.made_up_sizes import make_sizes
from tests.run_specs import make_schedule

SECTIONS = [
    "What a token buys", "Loss curves", "Sizes and arms", "What to do next", "Verdict in full, and its caveats",
    "All scores and differences", "Data funnel", "What the text is like", "Runs and provenance",
]  # fmt: skip
HOSTILE = '</td><script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)>'


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(make_contents())


def test_what_stands_of_exams_in_the_text_is_tabled_and_what_stays_there_is_said(page):
    assert "Exams in the training text" in page
    assert "already packed: they are trained on" in page
    assert ">removed</td>" in page
    assert "&lt;b&gt;the answer&lt;/b&gt;" in page


def test_what_more_tokens_would_buy_is_tabled_with_its_fits_and_escaped():
    contents, answers = make_contents(), {"answers": study(arm=HOSTILE)}
    page = render_report(replace(contents, comparison=contents.comparison.model_copy(update=answers)))
    found = read(page)
    assert "script" not in found.tags
    for heading in ("Predicted at the next budget", "Efficiency of domain text", "Fitted curves"):
        assert f"<h3>{heading}</h3>" in page
    assert "E + (L0 - E)(1 + x/x0)^-b" in found.text
    assert "2 times the FLOPs of the largest run" in found.text


def test_a_study_without_curves_says_so_and_why():
    contents, short = make_contents(), {"answers": study(tokens=TOKENS[:2])}
    page = render_report(replace(contents, comparison=contents.comparison.model_copy(update=short)))
    assert "2 budgets: a curve needs at least 3, besides the base." in page
    assert "This study has no curve to ask." in render_report(contents)


def test_the_parts_stand_in_order_and_only_the_later_ones_are_folded(page):
    assert read(page).headings == SECTIONS
    folded = re.findall(r'<details class="part"><summary><h2>(.*?)</h2>', page)
    assert folded == SECTIONS[4:]


def test_the_first_screen_has_a_sentence_the_table_and_two_figures(page):
    first = page[: page.index("<section")]
    assert '<p class="verdict">A headline.</p>' in first
    assert re.findall(r'<figure id="([^"]*)"', first) == ["figure-scaling", "figure-forgetting"]
    text = read(first).text
    legend = "An arrow: measurable, all sets judged together (Holm)."
    for shown in ("1.215 ↓ better", "1.105 ↑ worse", "control, 57.6M", legend):
        assert shown in text, shown
    assert "1.104 " not in text  # not measurable: no arrow
    assert VERDICT not in first
    assert text.count(LABEL) == 1


def test_details_open_in_print_and_colors_follow_the_reader(page):
    assert "details::details-content{content-visibility:visible" in page
    assert "prefers-color-scheme:dark" in page
    figures = "".join(re.findall(r"<svg viewBox=\"0 0 460.*?</svg>", page, re.DOTALL))
    assert figures
    assert "#" not in re.sub(r"&#\d+;", "", figures)  # no color of its own: all are classes


def test_numbers_of_the_records_appear(page):
    text = " ".join(read(page).text.split())
    for number in ("-0.132", "-9.8 %", "-0.136 to -0.128", "-0.126", "57,600,000", "57.6M tokens seen", "27 min 19 s"):
        assert number.replace("-", MINUS) in text, number
    for number in ("118,402", "114,167", "3,120", "65,288,000", "65,536,000", "65,192,000", "1.347", "1.215", "989.0 TFLOP/s"):
        assert number in text, number


def test_the_same_contents_give_the_same_bytes_and_regenerate_on_disk(page, tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(path, make_contents())
    first = path.read_bytes()
    write_report(path, make_contents())
    assert path.read_bytes() == first == page.encode()


def test_nothing_is_loaded_from_anywhere(page):
    reader = read(page)
    assert reader.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"})
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert value.startswith("#"), (tag, name, value)
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_the_page_shows_what_the_corpus_looks_like_where_that_was_measured():
    page = render_report(make_contents())
    assert 'id="figure-profile"' in page
    for shown in ("licences: length", "news: repetition", "the licensed work", "41.2", "en 61,200, fr 802", "email 2,201"):
        assert shown in page, shown
    assert "Invisible characters removed from licences: soft_hyphen 1,204." in page
    assert "Ids of licences: 3 repeat, on 31 documents; identities tell these apart." in page
    bare = render_report(replace(make_contents(), profile=CorpusProfile(), languages={}, redacted={}))
    assert "figure-profile" not in bare
    assert "What sets the domain apart" not in bare
    assert "Languages and redaction" not in bare


def test_hostile_text_is_escaped_wherever_it_enters():
    contents = make_contents()
    comparison = contents.comparison
    hostile = replace(
        contents,
        study=HOSTILE,
        config_yaml=HOSTILE,
        base_note=HOSTILE,
        labels=(HOSTILE,),
        profile=contents.profile.model_copy(
            update={
                "terms": (Term(text=HOSTILE, domain=9, background=1, z=3.0),),
                "histograms": tuple(h.model_copy(update={"source": HOSTILE}) for h in contents.profile.histograms[:4]),
            }
        ),
        languages={HOSTILE: {HOSTILE: 1}},
        redacted={HOSTILE: {HOSTILE: 1}},
        samples=({"reason": "min_bytes", "identity": "law/00000/1", "id": HOSTILE, "text": HOSTILE},),
        funnel=(stage("clean", HOSTILE, (2, 20), {HOSTILE: (1, 10)}),),
        versions={HOSTILE: HOSTILE},
        runs=(*contents.runs, run_record(HOSTILE, "independent", "legal", 0, 1_000_000)),
        metrics={HOSTILE: contents.metrics[contents.runs[1].run]},
        comparison=comparison.model_copy(
            update={
                "verdict": HOSTILE,
                "points": tuple(p.model_copy(update={"set_name": HOSTILE}) for p in comparison.points),
                "deltas": (*comparison.deltas, delta(HOSTILE, BASE, "licences", (1.0, 1.2), 0.01)),
            }
        ),
    )
    page = render_report(hostile)
    reader = read(page)
    assert reader.tags.isdisjoint({"script", "img"})
    assert page.count("&lt;script&gt;") >= 12
    assert HOSTILE not in page


def test_secrets_of_the_configuration_are_masked():
    page = render_report(make_contents(config_yaml="tracking:\n  uri: http://me:hunter2@host/\n  api_key: abc123\n"))
    assert "hunter2" not in page
    assert "abc123" not in page
    assert "http://***@host/" in page


def test_labels_stand_in_every_part():
    page = render_report(make_contents(labels=("isolation: none",)))
    parts = page.split("<section")
    assert len(parts) == 1 + len(SECTIONS)
    assert all("isolation: none" in part for part in parts)
    assert "isolation: none" not in render_report(make_contents())


def test_points_without_decay_are_called_not_annealed(page):
    assert "not annealed" in page
    contents = make_contents()
    points = tuple(p for p in contents.comparison.points if p.annealed)
    clean = replace(contents, comparison=contents.comparison.model_copy(update={"points": points}))
    assert "not annealed" not in render_report(clean)


def trained_otherwise(run: RunRecord, **changes: object) -> RunRecord:
    return run.model_copy(update={"training": run.training.model_copy(update=changes)})


def test_runs_show_what_they_paid_their_rates_and_where_a_chain_came_from():
    contents = make_contents()
    schedule = make_schedule(2_000_000, start=1_800_000, peak=3e-4, final_rate=3e-5)
    first = run_record("m-legal-1000000-seed0", "chain", "legal", 0, 1_000_000, annealed=True)
    second = run_record("m-legal-2000000-seed0", "chain", "legal", 1_000_000, 2_500_000, parent=first.run, annealed=True)
    second = trained_otherwise(second, schedule=schedule)
    html = render_report(replace(contents, runs=(*contents.runs, first, second)))
    assert "chain, from m-legal-1000000-seed0 at 1,000,000 tokens, optimizer fresh" in html
    row = html.partition(">m-legal-2000000-seed0<small>")[2].partition("</tr>")[0]
    assert re.search(r"<b>2,500,000</b></td>\s*<td class=\"n\" data-of=\"tokens paid\">1,500,000</td>", row)
    assert "0.0003<small>decays to 3e\N{MINUS SIGN}05</small>" in row


def test_trajectory_points_are_marked_in_the_tables_and_take_no_color():
    contents = make_contents()
    record = contents.evals[-1]
    point = run_record("p-trajectory-1", "trajectory", "control", 7, 7, annealed=False)
    eval_record = record.model_copy(update={"run": point.run, "budget_tokens": None, "tokens_seen": 7})
    more = replace(contents, runs=(*contents.runs, point), evals=(*contents.evals, eval_record))
    page = render_report(more)
    assert "control at 7<small>not annealed, never a budget</small>" in page
    assert "control 57.6M<small>not annealed" not in page


def test_held_out_losses_during_training_are_drawn_and_never_called_scores(page):
    text = " ".join(read(page).text.split())
    assert "Held-out loss during training" in text
    assert "domain: licences, during training" in text
    assert "legal trunk, during training" in text
    assert "Not annealed, never a budget, not a score" in text
    without_them = render_report(make_contents(watched={}))
    assert "during training" not in without_them


def test_skipped_steps_and_spikes_are_counted_in_the_run_table():
    contents = make_contents()
    progress = contents.runs[1].training.progress.model_copy(update={"steps_skipped": 2, "tokens_skipped": 240_000})
    marred = trained_otherwise(contents.runs[1], progress=progress, spikes=1)
    text = read(render_report(replace(contents, runs=(contents.runs[0], marred, *contents.runs[2:])))).text
    assert "2 skipped240,000 tokens1 loss spike" in text
    assert "1 loss spike" not in read(render_report(contents)).text


def test_shares_of_time_and_the_basis_of_mfu_are_named(page):
    text = read(page).text
    assert f"Peak: {PEAK_BASIS}. FLOPs: {FLOPS_BASIS}." in text
    assert text.count(PEAK_BASIS) == 1
    row = text[text.index("Time and memory") :]
    # 254.3 s of steps, 4.2 s of checkpoints and 6.1 s of held-out losses.
    for cell in ("4 min 25 s", "1.4\xa0%", "1.6\xa0%", "2.3\xa0%", "3.41\xa0GB", "21.8\xa0GB"):
        assert cell in row, cell


def test_what_computed_the_runs_is_named_once(page):
    said = "Computed with attention: sdpa; q_proj+k_proj+v_proj in 30 layers; loss: compiled chunks."
    assert page.count(said) == 1


def test_dropout_and_paired_sources_are_named_under_the_runs(page):
    assert page.count("Dropout: none.") == 1
    assert "Order of rows" not in page  # these records do not say what was drawn
    contents = make_contents()
    shared = (DrawnSource(source="news", rows=9, sequence="s"),)
    runs = [
        run.model_copy(update={"training": run.training.model_copy(update={"drawn": shared})}) if run.training else run
        for run in contents.runs
    ]
    found = render_report(replace(contents, runs=tuple(runs)))
    assert "seed 0: legal, control drew news in the same order (paired)." in found


def test_what_was_planned_stands_beside_what_was_measured():
    contents = make_contents()
    text = read(render_report(contents)).text
    assert "GPU memory of a worker, smollm2-135m" in text[text.index("Planned beside measured") :]
    unknown = {"host_peak_bytes": None, "device_peak_bytes": None}
    bare = tuple(
        trained_otherwise(run, cost=run.training.cost.model_copy(update=unknown)) if run.training else run
        for run in contents.runs
    )
    text = read(render_report(replace(contents, runs=bare, planned=None))).text
    assert "not measured" in text[text.index("Time and memory") :]
    assert "Planned beside measured" not in text


def test_exams_carry_their_label_and_chance(page):
    text = " ".join(read(page).text.split())
    assert text.count(LABEL) == 2  # in the legend, and at its scores
    assert "chance is 25.0" in text
    assert "MMLU score" not in text.replace("not an MMLU score", "")


def test_a_stage_that_lost_documents_is_called_out():
    lossy = stage("clean", "licences", (10, 100), {"min_bytes": (2, 20)})
    lossy = lossy.model_copy(update={"kept": lossy.kept.model_copy(update={"documents": 7})})
    assert "NO: something was lost" in render_report(make_contents(funnel=(lossy,)))
    assert "NO: something was lost" not in render_report(make_contents())


def without(contents: ReportContents, arm: str) -> ReportContents:
    gone = {run.run for run in contents.runs if run.arm == arm}
    comparison = contents.comparison
    return replace(
        contents,
        runs=tuple(r for r in contents.runs if r.run not in gone),
        metrics={k: v for k, v in contents.metrics.items() if k not in gone},
        evals=tuple(e for e in contents.evals if e.run not in gone),
        arms={k: v for k, v in contents.arms.items() if k != arm},
        comparison=comparison.model_copy(
            update={
                "points": tuple(p for p in comparison.points if p.run not in gone),
                "deltas": tuple(d for d in comparison.deltas if gone.isdisjoint({d.subject, d.reference})),
            }
        ),
    )


def test_a_study_without_a_control_says_so():
    page = render_report(without(make_contents(), "control"))
    assert "control" not in read(page[: page.index("<section")]).text
    assert read(page).headings == SECTIONS


def test_a_study_without_exams_metrics_or_scores_says_so():
    contents = make_contents()
    empty = Comparison(points=(), deltas=(), notes=(), tokens_seen=0, tokens_paid=0)
    evals = tuple(e.model_copy(update={"exams": (), "held_out": ()}) for e in contents.evals)
    page = render_report(replace(contents, comparison=empty, evals=evals, metrics={}, funnel=(), samples=()))
    for sentence in (
        "No run of this study has step metrics.",
        "Nothing was scored on held-out text.",
        "No model was compared with its base on both domain and general text.",
        "This study has no exams.",
    ):
        assert sentence in page
    assert read(page).headings == SECTIONS


def test_perplexity_is_not_shown_side_by_side_for_models_with_different_tokenizers():
    contents = make_contents()
    alike = render_report(contents)
    column = '<th scope="col" class="n">perplexity</th>'
    assert column in alike
    assert '<th scope="row" class="w">' in alike
    assert "No perplexity" not in alike
    first, *others = contents.evals
    fewer = tuple(score.model_copy(update={"scored_tokens": score.scored_tokens - 9}) for score in first.held_out)
    mixed = render_report(replace(contents, evals=(first.model_copy(update={"held_out": fewer}), *others)))
    assert column not in mixed
    assert "No perplexity: it is per token, and these models have different tokenizers." in mixed
    assert '<th scope="col" class="n">bits per byte</th>' in mixed


def test_many_models_and_arms_stand_behind_the_first_and_being_chosen_is_said():
    few = render_report(make_sizes())
    assert few.count("<summary>Results of ") == 5
    assert "The same of the other 5 models and arms" in few
    assert "Order of the " not in few
    arms = [f"legal@mix-{i}" for i in range(50)]
    many = render_report(make_sizes(models=("m1",), arms=arms, budgets=(2_000_000,), seeds=(0,)))
    assert many.count("<summary>Results of ") == 29
    assert "20 more models and arms have their tables in report.json." in many
    assert "Order of the 50 models and arms: the largest model first, its arms as the study lists them" in many
    assert "10 more rows" in many


@pytest.mark.parametrize(
    "changes",
    [
        {"budgets": (2_000_000,)},
        {"seeds": (0,)},
        {"control": False},
        {"models": ("m1",), "arms": ("legal",), "budgets": (2_000_000,), "seeds": (0,), "control": False},
        {"steps": 1},
    ],
)
def test_studies_of_one_budget_seed_model_or_step_have_all_parts(changes):
    page = render_report(make_sizes(**changes))
    assert read(page).headings == SECTIONS
    assert not re.search(r"\b(nan|inf)\b", page)
