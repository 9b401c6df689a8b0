"""Memory that is given back: a large upload or validation must not leave the process large.

glibc keeps an arena per thread and what large blocks leave behind; one arena, and blocks of 128 KiB
and more by mmap, which returns them. Measured with a 200 MB file. Elsewhere this does nothing.
"""

import ctypes
import sys
from typing import Final

# From glibc's malloc.h.
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_small() -> None:
    """Call it before the first thread."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def give_back() -> None:
    """What is free goes back to the system; takes milliseconds."""
    if libc := _libc():
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "malloc_trim") else None
