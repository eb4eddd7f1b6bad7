"""What a process frees is there for its next allocation, without new pages from the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from skillnet_cli.engine.allocator import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
use = lambda: torch.ones(16 << 20)  # 64 MiB, above every threshold for a mapping of its own
for _ in range(16):  # the heap grows until it has room for the next one between the old ones
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(kept: bool) -> int:
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again() -> None:
    assert page_faults(kept=True) * 10 < page_faults(kept=False)
