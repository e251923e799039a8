"""Freed memory stays with the process: a second use of the same block costs no page faults."""

import platform
import resource
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from nqcast.training.host_memory import keep_freed_memory
    assert keep_freed_memory()
step = lambda: [torch.ones(7_000_000) for _ in range(4)]  # 112 MB, all freed at its end
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; run on Linux with glibc")
def test_a_block_used_again_costs_no_page_faults() -> None:
    def faults(word: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True, timeout=120
        )
        return int(done.stdout)

    pages = 112_000_000 // resource.getpagesize()
    assert faults("leave") > 5 * pages
    assert faults("keep") < pages
