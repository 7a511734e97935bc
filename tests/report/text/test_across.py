"""Runs of two studies on the terminal."""

from cpt_ray.compare.across import PERPLEXITY, Pairing
from cpt_ray.report.text.across import render_pairing
from cpt_ray.report.wording import MINUS
from tests.report.made_up import BASE, delta


def test_a_pair_is_a_table_a_sentence_each_and_what_is_left_out():
    deltas = (delta("a", BASE, "licences", (1.2, 1.3), 0.01), delta("a", BASE, "news", (1.1, 1.1001), 0.2, seeds=2))
    lines = render_pairing(Pairing("runs/b:a", "runs/a:base", deltas, ("exam: only runs/b:a was scored on it", PERPLEXITY)))
    text = lines.splitlines()
    assert text[1:3] == ["subject: runs/b:a", "reference: runs/a:base"]
    (row,) = (line for line in text if line.startswith("licences"))
    assert row.split()[-1] == "better"
    assert f"{MINUS}0.1100 to {MINUS}0.0900" in row
    assert "Bits per byte on licences fell by 0.1000 (95 % interval 0.0900 to 0.1100, -7.7 % relative)." in text
    assert any(line.startswith("Bits per byte on news did not measurably change (") for line in text)
    assert text[-2:] == ["Not compared: exam: only runs/b:a was scored on it.", f"Not compared: {PERPLEXITY}."]


def test_a_pair_that_shares_nothing_has_its_reasons_only():
    assert render_pairing(Pairing("b", "a", (), ("x",))).splitlines() == ["", "subject: b", "reference: a", "Not compared: x."]
