"""Rows of hidden states whose logits `model.loss` holds at once; imports no torch, so that a plan can ask too."""

CHUNK_ROWS = 2048
# On a GPU larger chunks: each one adds a product to the weight's gradient in fp32, which is a pass over 113 MB at 49k x 576.
_CHUNK_BYTES_GPU = 1 << 30


def chunk_rows(vocabulary_size: int, element_bytes: int, *, compiled_on_gpu: bool) -> int:
    """Rows of a chunk; uncompiled, their logits are held in fp32 a few times over.

    Args:
        vocabulary_size: Columns of the logits.
        element_bytes: Bytes of a logit in the compute type.
        compiled_on_gpu: Whether the softmax is compiled for a GPU.
    """
    if not compiled_on_gpu:
        return CHUNK_ROWS
    fitting = max(1, _CHUNK_BYTES_GPU // (vocabulary_size * element_bytes))
    return max(CHUNK_ROWS, 1 << (fitting.bit_length() - 1))
