"""Memory of a CPU run: what one step frees, the next one takes."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc takes no more
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of handing them back to the kernel; False where there is no glibc.

    Where kernels are not fused, activations of some megabytes are otherwise mapped and unmapped in every step, and the
    page faults cost a third of a training step and more of a forecast. No number changes; the process keeps its peak
    of such memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
    )
