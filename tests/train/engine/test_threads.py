"""Gloo's threads take no cores from the training thread."""

import subprocess
import sys
import textwrap

import pytest

RUN_LOOPS = 2
"""Per gloo group."""

# Threads that a run loop's OpenMP starts carry the run loop's name.
COUNT = """
    import sys
    from pathlib import Path
    import torch, torch.distributed as dist
    from cpt_ray.train.engine.threads import one_thread, settle_run_loops

    def run_loops():
        return sum(path.read_text().strip() == "pt_gloo_runloop" for path in Path("/proc/self/task").glob("*/comm"))

    torch.set_num_threads(2)
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    if sys.argv[1] == "settled":
        with one_thread():
            settle_run_loops()
    tensor, gathered = torch.ones(1 << 20), torch.empty(1 << 20)
    for work in [dist.all_gather_into_tensor(gathered, tensor, async_op=True) for _ in range(32)]:
        work.wait()
    assert torch.get_num_threads() == 2
    assert torch.equal(gathered, tensor)
    print("RESULT", run_loops())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the names of threads from /proc")
def test_run_loops_that_were_settled_begin_no_threads_of_their_own():
    found = {}
    for way in ("settled", "as they come"):
        ran = subprocess.run([sys.executable, "-c", textwrap.dedent(COUNT), way], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        found[way] = int(ran.stdout.split("RESULT")[1])
    assert found["settled"] == RUN_LOOPS
    assert found["as they come"] > RUN_LOOPS  # why `settle_run_loops` exists
