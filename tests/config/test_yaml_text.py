"""YAML as a tree of plain values, and the message of everything in YAML that is not one."""

import re

import pytest

from cpt_ray.config.plain_text import MOST_LEVELS
from cpt_ray.config.yaml_text import MOST_VALUES, YamlSyntaxError, parse_yaml
from cpt_ray.errors import ConfigError

pytestmark = pytest.mark.accept(inputs=2)

_LEVELS = "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMB = f"a: &a [x, x, x, x, x, x, x, x, x, x]\n{_LEVELS}\n"
"""A billion values in ten lines."""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("5", 5),
        ("-1_000", -1000),
        ("2.5", 2.5),
        ("1.5e+3", 1500.0),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("1e-4", "1e-4"),
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99 25:61:61", "2024-99-99 25:61:61"),
        ("0x1F", "0x1F"),
        ("017", "017"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("=", "="),
        ("9223372036854775807", 2**63 - 1),
        ("|\n  two\n  lines", "two\nlines"),
        ("[1, [a, {b: c}]]", [1, ["a", {"b": "c"}]]),
    ],
)
def test_a_value_is_read(written, read):
    value = parse_yaml(f"key: {written}", "file")["key"]
    assert value == read
    assert type(value) is type(read)


def test_no_text_is_no_value():
    assert parse_yaml("# nothing\n", "file") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nx: !!int abc", "line 2: the tag '!!int' is not allowed"),
        ("x: !!python/object/apply:os.system [true]", "the tag '!!python/object/apply:os.system' is not allowed"),
        ("x: !!binary aGVsbG8=", "the tag '!!binary'"),
        ("x: !!set {a, b}", "the tag '!!set'"),
        ("x: !!timestamp 2024-01-01", "the tag '!!timestamp'"),
        ("x: !mine 1", "the tag '!mine'"),
        ("? [a, b]\n: 1", "line 1: a list or section is used as a key"),
        ("? {a: b}\n: 1", "a list or section is used as a key"),
        ("x: &x [1]\n*x : 2", "line 2: key [1] is read as [1], not as a name"),
        ("2024: 1", "line 1: key '2024' is read as 2024, not as a name"),
        ("a:\n  no: 1", "line 2: key 'no' is read as False, not as a name"),
        ("~: 1", "key '~' is read as None"),
        ("a: 1\nb: 2\n\na: 3", "line 4: key 'a' is given twice, first in line 1"),
        ("- {a: 1, a: 2}", "line 1: key 'a' is given twice, first in line 1"),
        ("a: " + "9" * 5000, "99999999999999999999... does not fit 64 bits"),
        ("a: 9223372036854775808", "does not fit 64 bits"),
        ('a: "b\\0"', "line 1: a value holds the character U+0000, which is not text"),
        ('a: 1\n"b\\e": 1', "line 2: a value holds the character U+001B"),
        ("a: 1\nb: \x07", "line 2: holds the character U+0007"),
        ("a: \udcff", "holds the character U+DCFF"),
        ("a: &a [1, *a]", "line 1: &a contains itself"),
        ("--- 1\n--- 2", "line 2: a second document begins here"),
        ("<<: 5", "line 1: `<<` merges sections, and this is none"),
        ("[" * 1000, f"line 1: nested deeper than {MOST_LEVELS} levels"),
        ("- " * 1000, f"nested deeper than {MOST_LEVELS} levels"),
        ("{a: " * 1000, f"nested deeper than {MOST_LEVELS} levels"),
        (f"a: &a {'[' * 40}{']' * 40}\nb: {'[' * 40}*a{']' * 40}", "line 2: nested deeper"),
        (BOMB, f"more than {MOST_VALUES:,} values, aliases expanded"),
        (f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 1000}]", f"more than {MOST_VALUES:,} values"),
        (f"a: &a {{k: {'x' * 100_000}}}\nb: [{'*a, ' * 1000}]", f"more than {MOST_VALUES:,} values"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_what_is_no_plain_value_is_refused_by_line_with_a_fix(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        parse_yaml(text, "file")
    assert caught.value.problem.startswith("file, line ")
    assert caught.value.fix
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\ta: 1", "a: *nowhere", "%YAML 9.9\n--- a", "'", "@"])
def test_what_is_no_yaml_is_named_as_such(text):
    with pytest.raises(YamlSyntaxError, match=r"line [12]: "):
        parse_yaml(text, "file")


def test_an_anchor_is_copied_so_that_a_change_of_one_place_leaves_the_others():
    tree = parse_yaml("a: &a {x: [1]}\nb: *a", "file")
    tree["a"]["x"].append(2)
    assert tree["b"] == {"x": [1]}


def test_a_merged_section_yields_to_the_keys_next_to_it():
    tree = parse_yaml("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}", "file")
    assert tree["c"] == {"x": 1, "y": 1, "z": 3}
    assert parse_yaml("'<<': 1", "file") == {"<<": 1}


def test_a_large_file_without_aliases_is_read():
    lines = "\n".join(f"key{number}: [a, 1]" for number in range(MOST_VALUES // 5))
    assert len(parse_yaml(lines, "file")) == MOST_VALUES // 5
