"""Facts about the GPU, from a real `nvidia-smi` on PATH that says what a driver says, and from torch's own files."""

from __future__ import annotations

import importlib.metadata
import os
import stat

import pytest
import torch

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import device
from cpt_ray.errors import ConfigError

MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)  Sun Jul 27\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
OLDER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\nGCC version: none\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No facts from an earlier test, no driver but the one that a test makes."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    device.read_device.cache_clear()
    device.count_cards.cache_clear()
    yield
    device.read_device.cache_clear()
    device.count_cards.cache_clear()


def install_smi(tmp_path, *lines: str, code: int = 0) -> None:
    """An `nvidia-smi` of a machine with these cards; `--id=N` chooses one, as the real one does."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    cards = "\n".join(f'  "{index}") echo "{line}";;' for index, line in enumerate(lines))
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        f"[ {code} = 0 ] || {{ echo Failed to initialize NVML: Driver/library version mismatch; exit {code}; }}\n"
        'id=0; for argument; do case "$argument" in --id=*) id="${argument#--id=}";; esac; done\n'
        f'case "$id" in\n{cards}\n  *) echo No devices were found; exit 6;;\nesac\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


H200, T4 = "NVIDIA H200, 143771, 580.65.06, 9.0", "Tesla T4, 15360, 580.65.06, 7.5"


@pytest.mark.parametrize(
    ("visible", "there"), [(None, 2), ("0,1", 2), ("1", 1), ("", 0), ("-1", 0), ("0,-1,1", 1), ("0,1,2,3", 2)]
)
def test_cards_are_counted_as_cuda_would_see_them(tmp_path, monkeypatch, visible, there):
    assert device.count_cards() == 0  # no driver
    device.count_cards.cache_clear()
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\n[ "$1" = --list-gpus ] && echo "GPU 0: NVIDIA H200 (UUID: a)\nGPU 1: NVIDIA H200 (UUID: b)"\n'
    )
    script.chmod(0o755)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.count_cards() == there


def test_the_first_card_is_described_by_nvidia_smi(tmp_path):
    install_smi(tmp_path, H200, T4)
    facts = device.read_device(ask_torch=False)
    assert (facts.card, facts.memory_bytes, facts.capability) == ("NVIDIA H200", 143771 << 20, (9, 0))
    assert (facts.driver, facts.hidden_by, facts.works) == ("580.65.06", None, None)


@pytest.mark.parametrize(("visible", "card"), [("1", "Tesla T4"), ("1,0", "Tesla T4"), (" 0 ", "NVIDIA H200")])
def test_the_first_card_is_the_first_that_is_visible(tmp_path, monkeypatch, visible, card):
    install_smi(tmp_path, H200, T4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.read_device(ask_torch=False).card == card


@pytest.mark.parametrize("visible", ["", "-1"])
def test_cards_that_are_hidden_are_known_as_hidden(tmp_path, monkeypatch, visible):
    install_smi(tmp_path, H200)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    facts = device.read_device(ask_torch=False)
    assert (facts.hidden_by, facts.card) == (visible, "NVIDIA H200")


def test_a_driver_that_does_not_answer_is_known_from_its_kernel_module(tmp_path, monkeypatch):
    install_smi(tmp_path, H200, code=18)
    assert device.read_device(ask_torch=False).card is None
    device.read_device.cache_clear()
    (tmp_path / "version").write_text(MODULE)
    monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
    facts = device.read_device(ask_torch=False)
    assert (facts.card, facts.driver, facts.memory_bytes) == ("an NVIDIA GPU", "580.65.06", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("No devices were found\n", {}),
        ("NVIDIA GB10, [N/A], 580.95.05, 12.1\n", {"memory_bytes": None, "capability": (12, 1)}),
        ("Quadro K2200, 4096, 418.10, [N/A]\n", {"memory_bytes": 4 << 30, "capability": None, "driver": "418.10"}),
    ],
)
def test_what_nvidia_smi_does_not_know_stays_unknown(text, expected):
    found = device.parse_smi(text)
    assert {key: found[key] for key in expected} == expected
    assert bool(found) is bool(expected)


@pytest.mark.parametrize(("text", "driver"), [(MODULE, "580.65.06"), (OLDER, "470.256.02")])
def test_both_kernel_modules_name_their_version(text, driver):
    assert device.parse_module(text)["driver"] == driver
    assert device.parse_module("something else") == {}


def test_torchs_build_is_read_from_its_files_and_is_what_torch_says():
    facts = device.read_device(ask_torch=False)
    assert (facts.torch, facts.cuda, facts.hip) == (torch.__version__, torch.version.cuda, torch.version.hip)
    assert facts.torch == importlib.metadata.version("torch")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_is_asked_and_a_process_without_gpu_computes_on_the_cpu():
    facts = device.read_device(ask_torch=True)
    assert (facts.works, facts.card) == (False, None)
    assert device.prove_device(RuntimeConfig(kind="local"), {"train.precision": "bf16"}) == "cpu"
    with pytest.raises(ConfigError, match=r"runtime\.device is gpu, but this machine has no GPU"):
        device.prove_device(RuntimeConfig(kind="local", device="gpu"), {})


@pytest.mark.skipif(torch.version.cuda is not None or torch.version.hip is not None, reason="torch is built for a GPU")
def test_a_card_beside_this_cpu_build_is_refused(tmp_path):
    install_smi(tmp_path, H200)
    with pytest.raises(ConfigError, match=r"this machine has NVIDIA H200 .*, but torch .*\(a CPU build\) cannot use it"):
        device.prove_device(RuntimeConfig(kind="local"), {})
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert device.prove_device(RuntimeConfig(kind="local", device="cpu"), {}) == "cpu"


@pytest.mark.gpu
def test_a_gpu_is_described_by_torch():
    facts = device.read_device(ask_torch=True)
    assert facts.works
    assert facts.memory_bytes == torch.cuda.get_device_properties(0).total_memory
    assert facts.capability == torch.cuda.get_device_capability(0)
    assert min(facts.kernels) <= facts.capability
    assert device.prove_device(RuntimeConfig(kind="local"), {}) == "gpu"


@pytest.mark.parametrize(
    ("said", "products"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16 vaes\n", "bf16"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx2 avx512f avx512_bf16 amx_bf16\n", "bf16"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512_bf16 vaes\n", "avx512"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512bw\n", "avx512"),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 vaes\n", "fp32"),
        ("Features\t: fp asimd sve bf16 i8mm\n", "bf16"),
        ("Features\t: fp asimd\n", "fp32"),
        (None, "fp32"),
    ],
)
def test_a_cpu_multiplies_as_it_says(tmp_path, monkeypatch, said, products):
    monkeypatch.setattr(device, "PROCESSORS", tmp_path / "cpuinfo")
    if said is not None:
        (tmp_path / "cpuinfo").write_text(said)
    assert device.cpu_products.__wrapped__() == products
