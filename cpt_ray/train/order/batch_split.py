"""How the rows of a global batch are split over workers: in blocks, with the same number of forward passes on every worker."""

from __future__ import annotations

from typing import NamedTuple


class BatchSplit(NamedTuple):
    """A global batch split over workers and micro-batches."""

    rows: int
    """Rows per optimizer step."""
    workers: int
    micro_batch: int
    """Rows per forward pass."""

    @property
    def rows_per_worker(self) -> int:
        """Rows of a block; the last workers may get fewer, or none."""
        return -(-self.rows // self.workers)

    @property
    def accumulation_steps(self) -> int:
        """Forward passes per optimizer step: the same on every worker, or collectives hang."""
        return -(-self.rows_per_worker // self.micro_batch)

    @property
    def idle_share(self) -> float:
        """Fraction of all computed rows that are fillers without labels: 0 if the batch divides evenly."""
        return 1 - self.rows / (self.workers * self.accumulation_steps * self.micro_batch)

    def describe_idle(self) -> str | None:
        """What an uneven split costs, and which numbers of workers split evenly; None if nothing is idle."""
        if not self.idle_share:
            return None
        even = [str(n) for n in range(1, self.rows + 1) if not self._replace(workers=n).idle_share]
        wanted = (
            f"even over {', '.join(even)} workers" if even else f"a micro-batch of {self.micro_batch} never divides it evenly"
        )
        return (
            f"{100 * self.idle_share:.1f} % of the computed rows are idle: {self.rows} rows per step over "
            f"{self.workers} workers in micro-batches of {self.micro_batch}; {wanted}"
        )
