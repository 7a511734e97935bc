"""DeepSpeed's compiled operators: a lock that a killed process left beside them.

Torch takes a lock file while it builds or looks at an operator, and waits for it without a limit (`torch.utils.file_baton`).
The file stays behind when its process is killed, and every later run would hang there, silently.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

logger = logging.getLogger(__name__)

ABANDONED_AFTER_S = 300.0
"""A lock this old belongs to nobody: a build takes about a minute."""


def free_abandoned_locks(folder: Path | None = None) -> list[Path]:
    """Remove locks of operators that are older than any build takes.

    Args:
        folder: Where operators are built; torch's own choice (`TORCH_EXTENSIONS_DIR`, else its cache) if none is given.

    Returns:
        The locks that were removed.
    """
    place = folder or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    freed = []
    for lock in sorted(place.glob("*/lock")):
        try:
            if time.time() - lock.stat().st_mtime > ABANDONED_AFTER_S:
                lock.unlink()
                freed.append(lock)
        except OSError:  # another worker was faster, or it is another user's
            continue
    for lock in freed:
        logger.warning("removed %s, which a killed process had left: training would have waited for it for ever", lock)
    return freed
