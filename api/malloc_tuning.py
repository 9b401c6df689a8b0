"""glibc settings that return freed memory to the system after a large upload or validation.

By default glibc keeps one arena per thread, with the holes of large blocks. These settings use one arena, and blocks of
128 KiB or more by mmap, which returns them. Measured with a 200 MB file. On other systems these functions do nothing.
"""

import ctypes
import sys
from typing import Final

# From glibc's malloc.h.
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def limit_arenas() -> None:
    """Use one arena. Call it before the first thread starts."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def trim_heap() -> None:
    """Return free memory to the system. This takes milliseconds."""
    if libc := _libc():
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "malloc_trim") else None
