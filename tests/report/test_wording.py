"""Human-readable numbers."""

import pytest

from cpt_ray.report.wording import byte_size, count, duration, judgement, level, number, percent, scientific, share, signed
from tests.report.made_up import BASE, delta


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1.0623), "1.062"),
        (number(-0.0001), "0.000"),
        (number(-1234.5, 1), "\N{MINUS SIGN}1,234.5"),
        (number(None), "\N{EN DASH}"),
        (signed(0.1317), "+0.132"),
        (signed(0.0001), "0.000"),
        (percent(0.31), "+0.3\N{NO-BREAK SPACE}%"),
        (percent(-9.8), "\N{MINUS SIGN}9.8\N{NO-BREAK SPACE}%"),
        (share(0.25), "25.0\N{NO-BREAK SPACE}%"),
        (level(0.95), "95\N{NO-BREAK SPACE}%"),
        (level(0.995), "99.5\N{NO-BREAK SPACE}%"),
        (count(57_600_000), "57.6M"),
        (count(999_600), "1M"),
        (count(950), "950"),
        (byte_size(1_200_000), "1.2\N{NO-BREAK SPACE}MB"),
        (byte_size(12), "12\N{NO-BREAK SPACE}B"),
        (duration(12.34), "12.3 s"),
        (duration(245), "4 min 05 s"),
        (duration(59.97), "1 min 00 s"),
        (duration(11_220), "3 h 07 min"),
        (scientific(3.1e-3), "3.10e\N{MINUS SIGN}03"),
    ],
)
def test_numbers_read_well(shown, expected):
    assert shown == expected


def test_a_difference_without_an_interval_is_not_judged_and_none_at_all_is_not_measurable():
    changed, equal = (delta("a", BASE, "licences", (value, 1.3), 0.01, interval=None, better=None) for value in (1.2, 1.3))
    assert [judgement(changed), judgement(equal)] == ["not judged", "not measurable"]
