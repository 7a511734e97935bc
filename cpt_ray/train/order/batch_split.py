"""How the rows of a global batch are dealt to workers: in blocks, so many to each that all take equally many forward passes."""


def rows_per_worker(global_batch_size: int, world_size: int) -> int:
    """Rows of a block; the last workers may get fewer, or none."""
    return -(-global_batch_size // world_size)


def accumulation_steps(global_batch_size: int, world_size: int, micro_batch_size: int) -> int:
    """Forward passes per optimizer step: the same on every worker, or collectives hang."""
    return -(-rows_per_worker(global_batch_size, world_size) // micro_batch_size)


def idle_share(global_batch_size: int, world_size: int, micro_batch_size: int) -> float:
    """Share of the rows that all workers compute which are fillers without labels: 0 where the batch divides evenly."""
    computed = world_size * accumulation_steps(global_batch_size, world_size, micro_batch_size) * micro_batch_size
    return 1 - global_batch_size / computed


def describe_idle(global_batch_size: int, world_size: int, micro_batch_size: int) -> str | None:
    """What an uneven batch split costs and which numbers of workers deal evenly; None where nothing is idle."""
    idle = idle_share(global_batch_size, world_size, micro_batch_size)
    if not idle:
        return None
    even = [str(n) for n in range(1, global_batch_size + 1) if not idle_share(global_batch_size, n, micro_batch_size)]
    wanted = f"even with {', '.join(even)} workers" if even else f"a micro-batch of {micro_batch_size} never divides it evenly"
    return (
        f"{100 * idle:.1f} % of the computed rows are idle: {global_batch_size} rows per step over {world_size} workers "
        f"in micro-batches of {micro_batch_size}; {wanted}"
    )
