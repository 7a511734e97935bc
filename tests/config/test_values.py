"""Quantities as people write them, parsed and formatted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.config.values import (
    check_folder,
    check_name,
    check_path,
    check_root,
    check_task,
    format_count,
    format_eta,
    parse_bytes,
    parse_count,
    parse_seconds,
)


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


@pytest.mark.parametrize("written", ["1e999", "-1e30", "9" * 400, 2**63, "1e19", "10000000T"])
def test_a_quantity_beyond_63_bits_is_refused(written):
    with pytest.raises(ValueError, match=r"expected a quantity .*such as 400M, saw") as caught:
        parse_count(written)
    assert len(str(caught.value)) < 300


def test_the_largest_quantities_are_read():
    assert parse_count(2**63 - 1) == 2**63 - 1
    assert parse_bytes("9e6TB") == 9 * 10**18


@pytest.mark.parametrize("name", ["a", "legal", "SmolLM2-1.7B", "a.b-c_D", "2024", "x" * 64, "console", "com", "aux-1"])
def test_a_name_that_is_a_file_everywhere_is_accepted(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (name, "a name has only the letters a to z and A to Z")
            for name in ("", "../../../evil", "a/b", "a\\b", "a\nb", "a b")
        ),
        *((name, "begins with a letter or digit") for name in (".", "..", ".hidden", "-rf", "_a")),
        *((name, "does not end in a dot") for name in ("a.", "a..")),
        ("leg\u0430l", r"saw 'leg\u0430l'"),  # a Cyrillic letter
        ("\uff21", r"saw '\uff21'"),
        ("legal\u200b", r"saw 'legal\u200b'"),
        ("caf\u00e9", r"saw 'caf\xe9'"),
        ("a\0", r"saw 'a\x00'"),
        ("a\n", r"saw 'a\n'"),
        ("x" * 65, "a name has at most 64 characters, saw 65"),
        *((name, "Windows keeps this name for a device") for name in ("con", "CON", "nul.txt", "Com1", "lpt9.a.b")),
    ],
)
def test_a_name_that_is_none_is_refused_in_ascii(name, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check_name(name)
    assert str(caught.value).isascii()


def test_the_name_of_a_task_may_be_longer():
    assert check_task("x" * 128) == "x" * 128
    with pytest.raises(ValueError, match="at most 128 characters, saw 129"):
        check_task("x" * 129)


@pytest.mark.parametrize(
    "root", ["hdfs:/x", "s3:x", "s3:/b/x", "memory:", "zip://a::b", "abfs://c/a", "https://a.x/y", "hf://a/b"]
)
def test_a_root_that_is_neither_folder_nor_bucket_is_refused(root):
    with pytest.raises(ValueError, match=r"^artifacts are written to a folder, or to a bucket \(s3://"):
        check_root(root)


@pytest.mark.parametrize("root", ["", " "])
def test_an_empty_root_is_refused(root):
    with pytest.raises(ValueError, match=r"^expected the path of a folder"):
        check_root(root)


@pytest.mark.parametrize("root", ["s3://bucket", "s3://bucket/", "s3:///x", "s3://b/a//c", "s3://b/../c", "gs://b/./c"])
def test_a_root_in_a_bucket_has_a_prefix_of_its_own(root):
    with pytest.raises(
        ValueError, match=r"^expected a bucket and a prefix in it that is the study's own, such as s3://bucket/st"
    ):
        check_root(root)


@pytest.mark.parametrize(
    "root", ["s3://AKIA1:very-secret@bucket/x", "s3://bucket/x?secret=very-secret", "gs://token@b/x#very-secret"]
)
def test_a_root_with_credentials_is_refused_without_repeating_them(root):
    with pytest.raises(
        ValueError, match=r"a root holds no credentials .*AWS_ACCESS_KEY_ID .* on every node, and give "
    ) as error:
        check_root(root)
    assert "very-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("root", "read"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3a://bucket/x", "s3://bucket/x"),
        ("gcs://b/x", "gs://b/x"),
        ("file:///data/x", "/data/x"),
    ],
)
def test_a_root_in_a_bucket_has_one_spelling(root, read):
    assert check_root(root) == read


def test_a_scratch_folder_is_on_a_disk():
    with pytest.raises(
        ValueError, match=r"^expected the path of a folder on a disk of the node, such as /scratch, saw 's3://b/x'"
    ):
        check_folder("s3://b/x")
    assert check_folder("/scratch") == "/scratch"


@pytest.mark.parametrize("root", ["/data/x", "runs/x", "./a b", "/a/100%/what?/[x]/#1", "/caf\u00e9", "/a:b", "C:"])
def test_a_root_with_any_characters_is_a_path(root):
    assert check_root(root) == root


def test_the_home_folder_is_expanded_in_paths_and_chains(monkeypatch):
    monkeypatch.setenv("HOME", "/people/me")
    assert check_root("~/x") == check_path("~/x") == "/people/me/x"
    assert check_path("~") == "/people/me"
    assert check_path("zip://*.csv::~/a.zip") == "zip://*.csv::/people/me/a.zip"
    for same in ("s3://b/~/x", "/a/~/b", "a~b", "org/model"):
        assert check_path(same) == same


def test_a_path_that_no_file_system_takes_is_refused():
    for path in ("x" * 256, "/a/" + "\u4e2d" * 86, "a/" * 2000):
        with pytest.raises(ValueError, match="a path has at most 3500 bytes"):
            check_path(path)
    assert check_path("s3://bucket/x?" + "y" * 1000)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")]
)
def test_time_left_is_written_the_way_people_read_it(seconds, text):
    assert format_eta(seconds) == text
