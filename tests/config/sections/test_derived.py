"""Conditions on scores."""

import pytest

from cpt_ray.config.sections.derived import Condition, parse_where


def test_conditions_are_parsed_and_written_alike():
    found = parse_where("legal >= 0.8 and  quality<5e-1")
    assert found == (Condition("legal", ">=", 0.8), Condition("quality", "<", 0.5))
    assert " and ".join(map(str, found)) == "legal >= 0.8 and quality < 0.5"


@pytest.mark.parametrize(
    "text", ["", "legal", "legal >= ", ">= 0.5", "legal >= 0.5 or quality > 0.1", "legal >= 1e", "legal => 0.5"]
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match=r"expected a condition such as 'legal >= 0\.8'"):
        parse_where(text)


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "-0.2"])
def test_a_threshold_that_no_score_crosses_is_refused(threshold):
    with pytest.raises(ValueError, match="keeps everything or nothing"):
        parse_where(f"legal >= {threshold}")
