"""The name that a worker keeps over restarts."""

import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

SLOTS_MAX = 1_000


class Instance:
    """A name that no other live worker of the group on this host has, and that the next one takes over.

    Broker and successor know a dead worker's open transaction by this name: whoever starts under it
    ends that transaction at once, instead of after its timeout. The claim is a locked file; the kernel
    lets go of it when the process dies, however it dies.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> first, second = Instance(folder, "cards"), Instance(folder, "cards")
    >>> first.slot, second.slot
    (0, 1)
    >>> first.release()
    >>> Instance(folder, "cards").slot
    0
    """

    def __init__(self, folder: Path, group: str) -> None:
        place = folder / re.sub(r"[^\w.-]", "_", group)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.slot, self._lock = _claim(place)
        self.name = f"{socket.gethostname()}-{self.slot}"

    def release(self) -> None:
        """Let another worker have the name."""
        self._lock.close()


def _claim(place: Path) -> tuple[int, IO[str]]:
    for slot in range(SLOTS_MAX):
        lock = (place / f"instance-{slot}.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        with suppress(OSError):  # the disk is full: the lock is what counts, the number is for people
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        return slot, lock
    raise RuntimeError(f"{SLOTS_MAX} workers hold a name in {place}; set instance to a name of your own")
