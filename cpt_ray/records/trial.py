"""Records of a trial: a few real steps of a study's model on made-up rows, and what they took."""

from __future__ import annotations

from cpt_ray.records.base import Record


class Trial(Record):
    """What a trial's workers took; seconds are those of rank 0, memory is the highest of any worker."""

    base_bytes: int
    """Resident memory of the process before it loads the model: Python, torch, DeepSpeed."""
    host_peak_bytes: int | None
    """None where the kernel does not say."""
    device_peak_bytes: int | None
    """The most that torch had allocated on the GPU; None on a CPU."""
    passes: int
    """Forward passes of a step."""
    pass_s: float
    """One forward and backward pass."""
    step_s: float
    """One optimizer step after its passes."""
    first_step_s: float
    """The first step, passes included: memory is faulted in, kernels are chosen."""
    import_s: float
    """From the start of the process to its group."""
    build_s: float
    """Model and engine."""
    save_s: float
    """A checkpoint to the local disk, its figures included."""
    export_s: float
    """Whole weights, gathered."""
    score_tokens_per_s: float
    """Forward pass of a row, without gradients."""
