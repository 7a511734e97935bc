"""Rows of logits that are held at once."""

from cpt_ray.model.layers.chunks import CHUNK_ROWS, chunk_rows


def test_a_chunk_grows_only_where_the_softmax_is_compiled_for_a_gpu():
    assert chunk_rows(49_152, 2, compiled_on_gpu=False) == CHUNK_ROWS == 2048
    # 1 GiB of 49,152 columns of 2 bytes are 10,922 rows: 8,192 is the power of two below.
    assert chunk_rows(49_152, 2, compiled_on_gpu=True) == 8192
    assert chunk_rows(10_000_000, 4, compiled_on_gpu=True) == 2048
