"""Quantities as people write them, parsed and formatted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.config.values import format_count, parse_bytes, parse_count, parse_seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10k", 10_000),
        ("10K", 10_000),
        ("400M", 400_000_000),
        ("1B", 1_000_000_000),
        ("2T", 2 * 10**12),
        ("1.5k", 1500),
        ("1.001k", 1001),
        ("1_000", 1000),
        (" 7 k ", 7000),
        (4096, 4096),
        (4096.0, 4096),
        ("1e4", 10_000),
        ("2.5e-1k", 250),
        ("0", 0),
    ],
)
def test_a_count_means_what_people_mean(written, meant):
    assert parse_count(written) == meant


@pytest.mark.parametrize(("written", "meant"), [("64MB", 64_000_000), ("64mb", 64_000_000), ("1kB", 1000), ("12", 12)])
def test_bytes_are_decimal(written, meant):
    assert parse_bytes(written) == meant


@pytest.mark.parametrize(("written", "meant"), [("2h", 7200), ("90", 90), ("1.5m", 90), ("1d", 86400), ("30s", 30)])
def test_durations_are_seconds(written, meant):
    assert parse_seconds(written) == meant


@pytest.mark.parametrize("written", ["", "many", "10x", "k", "1,000", True, None, float("nan"), float("inf"), "400 Mio", [1]])
def test_what_is_no_quantity_is_refused_with_an_example(written):
    with pytest.raises(ValueError, match="expected a quantity such as 400M, saw"):
        parse_count(written)


@pytest.mark.parametrize("written", ["1.5", "0.1k5", 0.5, "1e-4", "1.0001k"])
def test_a_part_of_a_token_is_refused(written):
    with pytest.raises(ValueError, match=r"expected a (whole number|quantity) such as 400M, saw"):
        parse_count(written)


def test_each_kind_of_quantity_shows_its_own_example():
    with pytest.raises(ValueError, match="such as 64MB, saw '2h'"):
        parse_bytes("2h")
    with pytest.raises(ValueError, match="such as 2h, saw '64MB'"):
        parse_seconds("64MB")


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (1536, "1.54k"),
        (16_000, "16k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (999_999_999, "1B"),
        (400_000_000, "400M"),
        (10**12, "1T"),
        (-2000, "-2k"),
        (0.5, "0.5"),
    ],
)
def test_a_count_is_written_to_three_digits(count, written):
    assert format_count(count) == written


@given(st.integers(min_value=0, max_value=10**14))
def test_any_whole_number_reads_back_as_itself(number):
    assert parse_count(number) == parse_count(str(number)) == number


@given(st.integers(min_value=1, max_value=9 * 10**14))
def test_a_written_count_reads_back_within_its_three_digits(number):
    assert abs(parse_count(format_count(number)) - number) <= 0.005 * number
