"""The plan as printed in a terminal."""

from cpt_ray.config.sections.models.merges import InterpolateConfig, MergeConfig
from cpt_ray.report.text.plan import render_plan
from tests.plan.planned import SCHEDULE, make_plan, make_study

MEASURED = "measured     3.10e+07 FLOPs as training counts: padding too, keys of packed documents (law 20, news 10 on average)"
EXPECTED = """\
Plan of study tiny

tokens seen  4k by the model that sees the most
tokens paid  8.25k of 9k (92 % of running each budget independently)
arithmetic   1.53e+08 FLOPs, attention over 50 keys on average

Budgets, in tokens and training FLOPs
model  FLOPs per token  budget      FLOPs
m            1.860e+04      1k  1.860e+07
m            1.860e+04      4k  7.440e+07
FLOPs cover forward and backward, with attention over half a row; a budget's cover all its tokens since the base.

Tokens needed per arm, budget and source
arm      source  weight  budget  needed               available  epochs  allowed
legal    law       0.75      1k     750  unknown until prepared       ?        1
legal    news      0.25      1k     250  unknown until prepared       ?        1
legal    law       0.75      4k      3k  unknown until prepared       ?        1
legal    news      0.25      4k      1k  unknown until prepared       ?        1
control  news         1      4k      4k  unknown until prepared       ?        1

Runs, in tokens, with their learning rate
run                   kind         from     to  cooldown at  tokens paid  steps     FLOPs  rate at start    peak     end
m-legal-trunk-seed0   trunk           0     3k            -           3k    ~16  5.58e+07              0  0.0001  0.0001
m-legal-1000-seed0    cooldown      750     1k          750          250     ~2  4.65e+06         0.0001  0.0001       0
m-legal-4000-seed0    cooldown       3k     4k           3k           1k     ~6  1.86e+07         0.0001  0.0001       0
m-control-4000-seed0  independent     0     4k           3k           4k    ~22  7.44e+07              0  0.0001       0
all                                                                8.25k    ~46  1.53e+08
Steps are estimates. Share of loss-bearing row slots, assumed until prepared: legal 95.0 %, control 95.0 %. A run stops by \
tokens, not steps.
"""


def test_a_plan_is_plain_text_with_every_number_in_its_column():
    text = render_plan(make_plan(make_study()))
    shown = [line.split() for line in text.splitlines()]
    assert shown == [line.split() for line in EXPECTED.splitlines()]
    table = [line for line in text.splitlines() if line.startswith(("run ", "m-"))]
    assert len({line.index("  ", len("m-control-4000-seed0")) for line in table}) == 1
    assert len({len(line) for line in table}) == 1


def test_after_preparation_the_known_tokens_and_epochs_stand_there():
    text = render_plan(make_plan(make_study(), {"law": 6000, "news": 4000}, {"law": 100, "news": 100}))
    assert "counted in the shards" in text
    assert "unknown until prepared" not in text


def test_trajectory_marks_are_said_to_be_no_budgets():
    text = render_plan(make_plan(make_study(trajectory_points=2)))
    assert "m-legal-trunk-seed0 is also scored as is, not annealed, at 1.5k, 3k tokens.\n" in text
    assert "not annealed" not in render_plan(make_plan(make_study()))


def test_models_made_without_training_are_listed_where_there_are_any():
    config = make_study()
    assert "without training" not in render_plan(make_plan(config))
    merges = (MergeConfig(name="frontier", interpolate=InterpolateConfig(weights=(0.5,))),)
    text = render_plan(make_plan(config.model_copy(update={"merges": merges})))
    lines = text.split("Made without training, no tokens paid\n")[1].splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["model", "made", "of"],
        ["m-legal-4000-frontier-0.5-seed0", "0.5", "of", "m-legal-4000-seed0,", "0.5", "of", "the", "base"],
    ]
    assert "tokens paid  8.25k of 9k" in text


def test_mixtures_on_the_way_and_an_uneven_deal_are_printed_where_there_are_any():
    config = make_study(arm=SCHEDULE)
    assert "Mixture schedule" not in render_plan(make_plan(make_study()))
    text = render_plan(make_plan(config))
    assert [line.split() for line in text.split("Mixture schedule")[1].splitlines()[1:5]] == [
        ["arm", "budget", "from", "mixture"],
        ["legal", "1k", "0", "law", "0.75,", "news", "0.25"],
        ["legal", "1k", "500", "news", "1"],
        ["legal", "1k", "750", "law", "1"],
    ]
    uneven = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": 3})})
    assert "idle         33.3 % of the computed rows are idle" in render_plan(make_plan(uneven))
    assert "idle" not in text


def test_measured_flops_stand_beside_those_of_the_convention():
    plan = make_plan(make_study()).model_copy(update={"measured_flops": 3.1e7, "measured_keys": {"law": 20.2, "news": 10.0}})
    lines = render_plan(plan).splitlines()
    assert lines[lines.index(MEASURED) - 1].startswith("arithmetic   1.53e+08 FLOPs, attention over 50 keys")
