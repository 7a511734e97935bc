"""Corpora from packages: how pages and dictionaries are converted."""

from benchmarks.data.corpora.packages import FOLDER, entries, page_text, pages
from tests.integration.tiny_study import REPOSITORY

PAGE = """<html><head><title>No text</title><style>p {}</style></head><body><nav>No text</nav>
<h1>List <code>sort</code></h1><p>It is <em>stable</em>:
equal   items keep their order.</p><ul><li>first</li><li>second</li></ul><script>no()</script></body></html>"""


def test_a_page_is_a_line_per_block_without_scripts_and_menus(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    assert page_text(path).splitlines() == [
        "List sort", "It is stable:", "equal items keep their order.", "first", "second",
    ]  # fmt: skip


def test_a_manual_is_its_pages_by_name_without_second_renderings_and_empty_files(tmp_path):
    for name in ("b.html", "a.html", "a_mj.html"):
        (tmp_path / name).write_text(PAGE)
    (tmp_path / "empty.html").write_text("")
    found = list(pages(tmp_path))
    assert [record["origin"] for record in found] == ["a.html", "b.html"]
    assert found[0]["id"] == f"{tmp_path.name}/a.html"


def test_a_dictionary_is_cut_between_entries_and_loses_none():
    dictionary = "".join(f"word{number} \\Word\\ n.\n   {'meaning ' * 20}\n\n" for number in range(100))
    found = list(entries(dictionary.encode()))
    assert "\n".join(record["text"] for record in found) == dictionary
    assert all(record["text"].startswith("word") for record in found)
    assert min(len(record["text"]) for record in found[:-1]) >= 2_000


def test_corpora_are_where_the_local_studies_look_for_them():
    assert FOLDER.relative_to(REPOSITORY).as_posix() == "runs/corpora"
    assert "path: runs/corpora/web/legal.jsonl.zst" in (REPOSITORY / "configs" / "legal_scaling_local.yaml").read_text()
