from pathlib import Path

import numpy as np
import pytest

from cpt_ray.config.prepare import NearDuplicateConfig
from cpt_ray.data.dedup.signatures import band_keys, exact_hash, key_table, read_keys, threshold, write_keys

from ..conftest import sentence

CONFIG = NearDuplicateConfig()


def shared_bands(first: str, second: str, seed: int = 0) -> int:
    _, keys = band_keys([first, second], CONFIG, seed)
    return int((keys[0] == keys[1]).sum())


def test_case_and_white_space_do_not_change_the_exact_hash() -> None:
    assert exact_hash("A  b\nC ") == exact_hash("a b c") != exact_hash("a b. c")


def test_near_duplicates_share_bands_and_strangers_do_not() -> None:
    text = sentence(300, seed=1)
    assert shared_bands(text, text.upper().replace(" ", ", ")) == CONFIG.bands
    assert shared_bands(text, text + " one more") >= 1
    assert shared_bands(text, sentence(300, seed=2)) == 0


def test_bands_do_not_depend_on_neighbours_and_do_depend_on_the_seed() -> None:
    texts = [sentence(50, seed=number) for number in range(5)]
    _, together = band_keys(texts, CONFIG, 0)
    for number, text in enumerate(texts):
        assert np.array_equal(band_keys([text], CONFIG, 0)[1][0], together[number])
    assert not (band_keys(texts, CONFIG, 1)[1] == together).any()


def test_documents_shorter_than_a_shingle_have_the_exact_key_only() -> None:
    texts = ["four words are here", sentence(9, seed=1)]
    table = key_table(texts, [exact_hash(text) for text in texts], 1 << 32, CONFIG, 0)
    owners = [reference - (1 << 32) for reference in table["document"].to_pylist()]
    assert owners.count(0) == 1
    assert owners.count(1) == 1 + CONFIG.bands
    off = key_table(texts, [exact_hash(text) for text in texts], 0, CONFIG.model_copy(update={"enabled": False}), 0)
    assert off.num_rows == 2


def test_partitions_hold_every_key_once(tmp_path: Path) -> None:
    texts = [sentence(20, seed=number) for number in range(7)]
    table = key_table(texts, [exact_hash(text) for text in texts], 0, CONFIG, 0)
    write_keys(table, tmp_path / "keys.arrow", 50)
    parts = [read_keys(tmp_path / "keys.arrow", partition) for partition in range(50)]
    assert any(part.num_rows == 0 for part in parts)
    for partition, part in enumerate(parts):
        assert all(key % 50 == partition for key in part["key"].to_pylist())
    rows = [tuple(row.values()) for part in parts for row in part.to_pylist()]
    assert sorted(rows) == sorted(tuple(row.values()) for row in table.to_pylist())


def test_the_threshold_is_that_of_the_bands() -> None:
    assert threshold(CONFIG) == pytest.approx((1 / 16) ** (1 / 8))
    assert threshold(NearDuplicateConfig(enabled=False)) is None
