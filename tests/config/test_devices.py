"""CPU or GPU, and what keeps a GPU from being used: every message with its fix, from facts alone."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_ray.config.devices import choose_device, require_gpus, require_precision
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import DeviceFacts

AUTO = RuntimeConfig(kind="local")
CPU = RuntimeConfig(kind="local", device="cpu")
GPU = RuntimeConfig(kind="local", device="gpu")
RAY = RuntimeConfig(gpus_per_worker=1)


def facts(**changes: Any) -> DeviceFacts:
    """An H100 that works, with some facts changed."""
    card = {"card": "NVIDIA H100", "memory_bytes": 80 << 30, "capability": (9, 0), "driver": "580.65.06"}
    return DeviceFacts(**{**card, "torch": "2.11.0", "cuda": "13.0", "works": True, "kernels": ((7, 5), (9, 0)), **changes})


NONE = {"card": None, "memory_bytes": None, "capability": None, "driver": None, "kernels": (), "works": False}
BUILT_FOR_CPU = {"torch": "2.13.0+cpu", "cuda": None, "works": False, "kernels": ()}


def test_a_gpu_that_works_is_used_unless_the_cpu_is_asked_for():
    assert [choose_device(runtime, facts()) for runtime in (AUTO, GPU, RAY, CPU, RuntimeConfig())] == [
        *("gpu", "gpu", "gpu"),
        *("cpu", "cpu"),  # Ray's workers get the GPUs that they ask for
    ]


@pytest.mark.parametrize("changes", [NONE, NONE | BUILT_FOR_CPU, NONE | {"works": None}], ids=["cuda", "cpu", "not asked"])
def test_without_a_gpu_auto_is_the_cpu_and_asking_for_one_is_refused(changes):
    assert choose_device(AUTO, facts(**changes)) == "cpu"
    with pytest.raises(
        ConfigError, match=r"^runtime.device is gpu, but this machine has no GPU that its driver shows"
    ) as local:
        choose_device(GPU, facts(**changes))
    assert local.value.fix == (
        "run where there is one (a container needs to be given it, as with `--gpus all`), or train on the CPU with "
        "runtime.device=cpu"
    )
    with pytest.raises(ConfigError, match=r"^runtime.gpus_per_worker is 1, but this machine has no GPU") as ray:
        choose_device(RAY, facts(**changes))
    assert ray.value.fix.endswith("or train on the CPU with runtime.gpus_per_worker=0")


def test_gpus_per_worker_asks_for_one_in_this_process_too_and_device_overrides_it():
    asked = RuntimeConfig(kind="local", gpus_per_worker=1)
    with pytest.raises(ConfigError, match=r"^runtime.gpus_per_worker is 1, but this machine has no GPU"):
        choose_device(asked, facts(**NONE))
    assert choose_device(RuntimeConfig(kind="local", gpus_per_worker=1, device="cpu"), facts(**NONE)) == "cpu"


def test_a_hidden_gpu_is_left_alone_and_refused_to_who_asks_for_it():
    hidden = facts(hidden_by="", works=False)
    assert choose_device(AUTO, hidden) == "cpu"
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES='' hides every GPU") as caught:
        choose_device(GPU, hidden)
    assert caught.value.fix == "unset CUDA_VISIBLE_DEVICES, or train on the CPU with runtime.device=cpu"


@pytest.mark.parametrize("asked", [True, False], ids=["torch asked", "from files"])
@pytest.mark.parametrize("runtime", [AUTO, GPU], ids=["auto", "gpu"])
def test_a_card_beside_a_cpu_build_of_torch_is_not_passed_over(runtime, asked):
    with pytest.raises(ConfigError) as caught:
        choose_device(runtime, facts(**{**BUILT_FOR_CPU, "works": False if asked else None}))
    assert caught.value.problem == (
        "this machine has NVIDIA H100 (compute capability 9.0), but torch 2.13.0+cpu (a CPU build) cannot use it"
    )
    assert caught.value.fix == (
        "install torch's CUDA build: `make setup-gpu`, or pip install --force-reinstall torch==2.13.0 from where pip finds "
        "that build; or train on the CPU with runtime.device=cpu"
    )
    assert choose_device(CPU, facts(**BUILT_FOR_CPU)) == "cpu"


@pytest.mark.parametrize(
    ("driver", "cuda", "oldest"),
    [
        ("570.124.06", "13.0", 580),
        ("580.65.06", "13.0", None),
        ("470.256.02", "12.8", 525),
        ("525.60.13", "12.8", None),
        ("418.10", "11.8", 450),
        ("450.80.02", "11.8", None),
    ],
)
def test_a_driver_is_too_old_for_a_build_or_is_not(driver, cuda, oldest):
    seen = facts(driver=driver, cuda=cuda, works=None, kernels=())
    if oldest is None:
        assert choose_device(AUTO, seen) == "gpu"
        return
    with pytest.raises(ConfigError) as caught:
        choose_device(AUTO, seen)
    assert caught.value.problem == (
        f"the NVIDIA driver {driver} of NVIDIA H100 (compute capability 9.0) is too old for torch 2.11.0 (CUDA {cuda}), which "
        f"needs {oldest} or newer"
    )
    assert caught.value.fix == (
        "update the driver, install torch built for an older CUDA, or train on the CPU with runtime.device=cpu"
    )


def test_what_torch_says_of_a_card_that_it_cannot_use_is_passed_on():
    seen = facts(works=False, kernels=(), problem="CUDA initialization: Unexpected error from cudaGetDeviceCount()")
    with pytest.raises(ConfigError) as caught:
        choose_device(AUTO, seen)
    assert caught.value.problem == (
        "torch 2.11.0 (CUDA 13.0) cannot use NVIDIA H100 (compute capability 9.0), driver 580.65.06: CUDA initialization: "
        "Unexpected error from cudaGetDeviceCount()"
    )
    assert caught.value.fix.startswith("see `nvidia-smi` and `python -c 'import torch; torch.zeros(1).cuda()'`, or train")


def test_a_card_older_than_all_kernels_of_this_torch_is_refused():
    assert choose_device(AUTO, facts(card="Tesla T4", capability=(7, 5))) == "gpu"
    with pytest.raises(ConfigError, match=r"has kernels from compute capability 7\.5 on, and Tesla V100 .*7\.0.* is older"):
        choose_device(AUTO, facts(card="Tesla V100", capability=(7, 0)))


def test_an_amd_card_is_known_once_torch_is_asked():
    amd = {**NONE, "cuda": None, "hip": "7.1"}
    assert choose_device(GPU, facts(**{**amd, "works": None})) == "gpu"
    assert choose_device(AUTO, facts(**{**amd, "works": True, "card": "AMD MI300X", "capability": (9, 4)})) == "gpu"
    require_precision(facts(hip="7.1", cuda=None, capability=(7, 0)), {"train.precision": "bf16"})


def test_a_card_without_bf16_is_named_with_the_precisions_that_it_has():
    old = facts(card="Tesla T4", capability=(7, 5))
    with pytest.raises(ConfigError) as training:
        require_precision(old, {"train.precision": "bf16", "evaluate.precision": "fp32"})
    assert training.value.problem == "train.precision is bf16, which Tesla T4 (compute capability 7.5) does not have"
    assert training.value.fix == "set train.precision=fp16, whose loss DeepSpeed scales, or train.precision=fp32"
    with pytest.raises(ConfigError, match=r"^evaluate.precision is bf16, which Tesla T4") as scoring:
        require_precision(old, {"train.precision": "fp16", "evaluate.precision": "bf16"})
    assert scoring.value.fix == "set evaluate.precision=fp32"
    require_precision(old, {"train.precision": "fp16", "evaluate.precision": "fp32"})
    for capability in ((8, 0), (8, 9), (12, 0), None):
        require_precision(facts(capability=capability), {"train.precision": "bf16", "evaluate.precision": "bf16"})


def test_a_private_ray_is_not_waited_for_and_a_cluster_is():
    runtime = RuntimeConfig(gpus_per_worker=1, workers={"min": 3, "max": 6})
    assert require_gpus(runtime, 3, private=True) is None
    assert require_gpus(RuntimeConfig(), 0, private=True) is None
    needs = "runtime.gpus_per_worker is 1 for 3 to 6 worker(s), which is 3 GPUs, but "
    assert require_gpus(runtime, 2, private=False) == f"{needs}the cluster has 2 now: the workers wait for nodes with more"
    with pytest.raises(ConfigError) as caught:
        require_gpus(runtime, 0, private=True)
    assert caught.value.problem == f"{needs}this machine has 0"
    assert caught.value.fix == (
        "lower runtime.workers, set runtime.address to a cluster that has them, or set runtime.gpus_per_worker=0"
    )
