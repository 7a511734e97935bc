"""The peak that MFU is measured against."""

from __future__ import annotations

import torch

from cpt_ray.train.monitor.peak import measure_peak_flops, peak_basis

CPU = torch.device("cpu")


def test_the_peak_is_a_plausible_rate():
    assert measure_peak_flops(CPU, torch.float32, seconds=0.02) > 1e8


def test_its_basis_names_device_size_and_type():
    threads = torch.get_num_threads()
    assert peak_basis(CPU, torch.bfloat16) == (
        f"measured on each worker (CPU, {threads} threads) as the fastest 1536 x 1536 bfloat16 matrix product, "
        "summed over workers"
    )
