"""Text columns are flush left, numbers flush right, and no line has trailing spaces."""

from cpt_ray.report.text.table import text_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    body = [("a", "long name", "1"), ("bb", "x", "23")]
    assert text_table(("id", "name", "n"), body, text_columns=2, rule=True).splitlines() == [
        "id  name        n",
        "--  ---------  --",
        "a   long name   1",
        "bb  x          23",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert text_table(("id", ""), [], text_columns=2) == "id"
