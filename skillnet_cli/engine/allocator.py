"""How the C library keeps memory between updates.

Every update asks for the same large tensors and frees them again. glibc maps each of them anew and gives it back to
the kernel, which clears every page before the next use; keeping freed memory instead takes up to a third of the time
off an update on a CPU (``docs/results.md``).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
"""``mallopt``'s names and numbers (glibc, ``malloc.h``)."""

NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for its next allocations; False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
