"""What the host is: device, driver, versions, and which attention and loss kernels ours picks. Run first by `run.sh`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.measure.record import describe_hardware, describe_processor, describe_versions


def main() -> None:
    """Write the facts."""
    import torch

    from cpt_ray.model.attention.isolation import kernel_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = {
        "hardware": describe_hardware(),
        "processor": describe_processor(),
        "versions": describe_versions(),
        "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu",
        "cuda": torch.version.cuda,
        "attention": {str(dtype): kernel_name(device, dtype, 64) for dtype in (torch.bfloat16, torch.float32)},
    }
    print(json.dumps(facts, indent=1))
    Path(sys.argv[1]).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
