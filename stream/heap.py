"""The C library's heaps, which keep what the client's threads freed after a burst.

What one thread of the client allocates another frees, in another order, so a heap that has grown has holes
everywhere and stays. After some outages of the broker, each with its catch-up, a worker held 260 MB of which
20 were in use. With another C library than GNU's these functions do nothing.
"""

import contextlib
import ctypes

M_ARENA_MAX, HEAPS_MAX = -8, 2  # the first as malloc.h has it; unless told, there are eight for each processor


def limit() -> None:
    """Keep two heaps. To be called first of all, because a heap that a thread has made stays."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS_MAX)


def give_back() -> None:
    """Return to the system what is free, a few milliseconds of work: for a quiet moment."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
