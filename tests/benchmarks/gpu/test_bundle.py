"""A bundle that is incomplete, damaged or made for other code is refused; parts of the base may be missing."""

import shutil

import pytest

from benchmarks.gpu import bundle


@pytest.fixture
def packed(tmp_path):
    """A small bundle, and the code that it was made for."""
    code = tmp_path / "code"
    for folder in bundle.CODE:
        (code / folder).mkdir(parents=True)
    (code / "cpt_ray" / "one.py").write_text("x = 1\n")
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "a.whl").write_bytes(b"wheel")
    base = tmp_path / "model"
    base.mkdir()
    (base / "weights").write_bytes(b"weights")
    bundle.split(base, folder / "base")
    bundle.write_list(folder, commit="abc", tiny=True, repository=code)
    return folder, code


def test_a_whole_bundle_is_taken(packed):
    folder, code = packed
    assert bundle.check(folder, repository=code) == bundle.Found(base=True, tiny=True, commit="abc")


def test_without_the_base_the_rest_is_taken(packed):
    folder, code = packed
    (folder / "base" / "part-00").unlink()
    assert not bundle.check(folder, repository=code).base


def test_a_missing_and_a_damaged_file_are_named(packed):
    folder, code = packed
    (folder / "wheels" / "a.whl").write_bytes(b"WHEEL")
    with pytest.raises(bundle.BundleError, match=r"wheels/a.whl \(damaged\)"):
        bundle.check(folder, repository=code)
    (folder / "wheels" / "a.whl").unlink()
    with pytest.raises(bundle.BundleError, match=r"wheels/a.whl \(missing\)"):
        bundle.check(folder, repository=code)


def test_a_damaged_part_of_the_base_is_not_joined(packed):
    folder, code = packed
    (folder / "base" / "part-00").write_bytes(b"cut")
    with pytest.raises(bundle.BundleError, match=r"base/part-00 \(damaged\)"):
        bundle.check(folder, repository=code)


def test_a_bundle_for_other_code_is_refused(packed):
    folder, code = packed
    (code / "cpt_ray" / "one.py").write_text("x = 2\n")
    with pytest.raises(bundle.BundleError, match=r"other code \(commit abc\).*make gpu-bundle"):
        bundle.check(folder, repository=code)


def test_a_folder_without_a_list_is_no_bundle(packed):
    folder, code = packed
    (folder / bundle.LIST).unlink()
    with pytest.raises(bundle.BundleError, match="carry the whole folder"):
        bundle.check(folder, repository=code)


def test_a_base_survives_its_parts(packed, tmp_path, monkeypatch):
    folder, _ = packed
    monkeypatch.setattr(bundle, "PART_BYTES", 3000)
    shutil.rmtree(folder / "base")
    bundle.split(tmp_path / "model", folder / "base")
    assert len(list((folder / "base").iterdir())) > 1
    bundle.join(folder / "base", tmp_path / "joined")
    assert (tmp_path / "joined" / "model" / "weights").read_bytes() == b"weights"


def test_the_study_survives_its_parts(packed, tmp_path, monkeypatch):
    import tarfile

    import pyarrow as pa

    folder, _ = packed
    monkeypatch.setattr(bundle, "PART_BYTES", 100)
    whole = pa.BufferOutputStream()
    with pa.CompressedOutputStream(whole, "zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.add(tmp_path / "model" / "weights", arcname="shards/weights")
    bundle.write_parts(whole.getvalue().to_pybytes(), folder / "root")
    assert len(list((folder / "root").iterdir())) > 1
    bundle.unpack_root(folder, tmp_path / "study")
    assert (tmp_path / "study" / "shards" / "weights").read_bytes() == b"weights"


def test_a_file_too_large_for_a_transfer_is_refused(packed, monkeypatch):
    folder, code = packed
    monkeypatch.setattr(bundle, "PART_BYTES", 4)
    with pytest.raises(bundle.BundleError, match=r"wheels/a.whl; split it"):
        bundle.write_list(folder, commit="abc", tiny=True, repository=code)
