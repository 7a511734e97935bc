"""Local paths: links, names with brackets, hidden files, folders, loops, and what is no file."""

import os

import pytest

from cpt_ray.edges.source_files import list_files
from cpt_ray.errors import DataError

pytestmark = pytest.mark.accept(inputs=1)


def names(listing):
    return [os.path.basename(file.path) for file in listing.files], [
        (os.path.basename(p), kind) for p, kind, _ in listing.left_out
    ]


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a.txt",
        "b.txt",
        ".hidden.txt",
        "_SUCCESS",
        "run [v2]/c.txt",
        "run [v2]/d?.txt",
        "run v/e.txt",
        ".cache/f.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_links_to_files_and_folders_are_followed_as_a_hub_cache_lays_them_out(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/x").write_text("one")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/a.txt").write_text("two")
    os.symlink("../blobs/x", tmp_path / "snapshot/b.txt")
    os.symlink("snapshot", tmp_path / "latest")
    for pattern in ("snapshot/*.txt", "snapshot", "latest/*.txt", "l*/*.txt", "latest/**/*.txt", "latest"):
        assert names(list_files(f"{tmp_path}/{pattern}")) == (["a.txt", "b.txt"], []), pattern
    (file,) = list_files(f"{tmp_path}/snapshot/b.txt").files
    assert file.size_bytes == 3


def test_a_dangling_link_is_an_error_that_names_both_ends(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    os.symlink("../gone", tmp_path / "b.txt")
    for pattern in ("*.txt", "", "b.txt", "**/*.txt"):
        with pytest.raises(DataError, match=r"b\.txt: a link to \.\./gone, which is not there"):
            list_files(f"{tmp_path}/{pattern}")


def test_a_link_to_a_folder_above_is_left_out_and_does_not_go_round(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("one")
    os.symlink("..", tmp_path / "in/up")
    os.symlink(".", tmp_path / "in/here")
    os.symlink("self", tmp_path / "in/self")
    with pytest.raises(DataError, match="in/self: a link to self, which is not there"):
        list_files(f"{tmp_path}/in")
    (tmp_path / "in/self").unlink()
    for pattern in ("in", "in/**/*.txt", "in/**"):
        files, left_out = names(list_files(f"{tmp_path}/{pattern}"))
        assert files == ["a.txt"]
        assert {("up", "loop"), ("here", "loop")} <= set(left_out)


def test_a_name_that_exists_as_it_stands_wins_over_the_pattern(tree):
    assert names(list_files(f"{tree}/run [v2]/c.txt"))[0] == ["c.txt"]
    assert names(list_files(f"{tree}/run [v2]/d?.txt"))[0] == ["d?.txt"]
    assert names(list_files(f"{tree}/run [v2]/*.txt"))[0] == ["c.txt", "d?.txt"]
    assert names(list_files(f"{tree}/run [v2]"))[0] == ["c.txt", "d?.txt"]
    assert names(list_files(f"{tree}/run [uv]/*.txt"))[0] == ["e.txt"]
    (tree / "a::b#50%.txt").write_text("chained?")
    assert names(list_files(f"{tree}/a::b#50%.txt"))[0] == ["a::b#50%.txt"]


def test_hidden_files_are_left_out_by_name_unless_the_pattern_asks(tree):
    files, left_out = names(list_files(f"{tree}/*"))
    assert files == ["a.txt", "b.txt"]
    assert set(left_out) == {(n, "hidden") for n in (".hidden.txt", "_SUCCESS", ".cache")} | {
        (n, "folder") for n in ("run [v2]", "run v")
    }
    assert names(list_files(f"{tree}/.*.txt"))[0] == [".hidden.txt"]
    assert names(list_files(f"{tree}/.cache/*.txt"))[0] == ["f.txt"]
    assert names(list_files(f"{tree}/.hidden.txt"))[0] == [".hidden.txt"]
    with pytest.raises(DataError, match=r"names no file that is read; 1 left out, such as .*_SUCCESS \(hidden\)"):
        list_files(f"{tree}/*SUCC*")


def test_a_pipe_is_left_out_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("one")
    assert names(list_files(f"{tmp_path}/*.txt")) == (["a.txt"], [("pipe.txt", "special")])
    with pytest.raises(DataError, match=r"names no file that is read; 1 left out, such as .*pipe\.txt \(special\)"):
        list_files(f"{tmp_path}/pipe.txt")


def test_a_name_that_is_not_utf_8_is_left_out_and_can_be_written_down(tmp_path):
    for name in (b"caf\xe9.txt", b".hidden \xe9", "café.txt".encode()):
        (tmp_path / os.fsdecode(name)).write_text("text")
    found, left = names(list_files(str(tmp_path)))
    assert found == ["café.txt"]
    assert sorted(left) == [(".hidden \\udce9", "hidden"), ("caf\\udce9.txt", "name_not_utf8")]
    os.remove(tmp_path / "café.txt")
    with pytest.raises(DataError, match=r"names no file that is read; 2 left out, such as .*hidden"):
        list_files(str(tmp_path))


def test_a_home_a_file_url_and_stars_inside_a_name(tmp_path, monkeypatch):
    (tmp_path / "a b.txt").write_text("one")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (
        "~/a b.txt",
        "~/*.txt",
        f"file://{tmp_path}/a b.txt",
        f"simplecache::file://{tmp_path}/a b.txt",
        "filecache::~/*.txt",
    ):
        assert [file.path for file in list_files(path).files] == [f"{tmp_path}/a b.txt"], path
    with pytest.raises(DataError, match=r"'\*\*' is only read as a whole part of a path"):
        list_files(f"{tmp_path}/**.txt")
