"""Run every box of the acceptance list of clusters and object stores, and print PASS or FAIL with the evidence.

Run by `make accept-cluster`, or for selected boxes: `python -m benchmarks.acceptance.cluster 1`. Boxes 1 and 5 need root, and
Debian's packages `iproute2`, `openssh-server` and `rsync`. What has no measurement yet fails, and says what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.acceptance.evidence import check_results, run_boxes, run_tests
from benchmarks.cluster import google, link_cut, three_hosts

SCALE = (
    *("scale.cpu_growth", "scale.memory_growth", "scale.opens_per_unit", "scale.driver_bytes_per_unit"),
    *("scale.driver_cpu_s_1e5_shards", "scale.driver_mb_1e4_units", "scale.driver_cpu_s_1e4_units"),
    *("scale.noop_seconds_1e5_shards", "scale.held_out_node_gb", "scale.held_out_limited_mb", "scale.requests_per_minute"),
)
FAULTS = (
    *("control service lost", "node lost, two groups", "node lost in prepare", "disk full at a checkpoint"),
    *("a node that is not fit joins", "a worker killed at a start", "one group's worker killed"),
    *("training controllers killed", "credentials expired"),
    *(f"store fails for 30 s: {kind}" for kind in ("503", "throttled", "cut")),
)


def box_1() -> list[str]:
    """Three hosts without a shared folder make the study of a local disk: shards, sample ids, losses; the report is fetched.

    So does one with its root on `gs://`.
    """
    return [*three_hosts.main(), *google.main()]


def box_2() -> list[str]:
    """Runs train side by side with the weights of one after another, also after a kill in the overlap; the time it takes."""
    found = run_tests("cluster", 2)
    return [*found, *check_results("scale", ("scale.parallel_time_share",), made_by="make bench-parallel", met=True)]


def box_3() -> list[str]:
    """What grows with the text, and how; held-out n-grams of 41 GB of text in 16 processes; every target is met."""
    return check_results("scale", SCALE, made_by="make bench-scale", met=True)


def box_4() -> list[str]:
    """Every launch file with its planted mistakes; the Slurm job, a job that is stopped, and what nodes are asked are run.

    `ray up`, a job and `ray down` are run by box 1.
    """
    return run_tests("cluster", 4, figures=["Slurm-like launch", "ray job stop", "eight nodes asked"])


def box_5() -> Iterator[str]:
    """Faults of stores, nodes and Ray's own processes, each with what was lost."""
    yield from run_tests("cluster", 5, figures=FAULTS)
    yield from link_cut.main()


BOXES = [box_1, box_2, box_3, box_4, box_5]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
