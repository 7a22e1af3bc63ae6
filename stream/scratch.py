"""What is too large for memory and need not outlive the process: in a file that has no name."""

import logging
import mmap
import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from headrace.models.memory import ROWS_MIN, Wide

log = logging.getLogger("headrace.scratch")

PREFIX, SUFFIX = "waiting-", ".scratch"
REST_BYTES = 32 << 20  # that a file may have brought into memory before they are let go of
PART_BYTES = 4 << 20  # that are copied at a time
FAULT_BYTES = 16 * mmap.PAGESIZE  # that come along when one row is looked at


class Scratch:
    """Gives away places for wide rows: in memory as long as all of them together are small, else in files.

    A crash needs nothing of a file: the changelog has what is in it. So a file has no name from its first moment on,
    nobody else can open it, and it is gone when its process is. Its blocks are reserved before anything is written to
    them, so that a full disk is an error here and not a signal later. Where there is no room on the disk, the rows are
    in memory after all, which is told, and tried again when there are half as many more.
    """

    def __init__(self, folder: Path, *, memory_bytes_max: int) -> None:
        self.memory_bytes_max = memory_bytes_max
        self._folder = folder
        self._lock = threading.Lock()  # states are made again on a thread of their own
        self._given: weakref.WeakSet[_Anywhere] = weakref.WeakSet()
        self._cleared = False

    def wide(self, width: int) -> Wide:
        """Return a place for rows of so many numbers."""
        given = _Anywhere(self, width)
        with self._lock:
            self._given.add(given)
        return given

    def fits(self, asking: "_Anywhere", size: int) -> bool:
        """Say whether so many bytes may be in memory beside those that are."""
        with self._lock:
            return size + sum(one.bytes for one in self._given if one is not asking) <= self.memory_bytes_max

    def file(self) -> BinaryIO:
        """Make a file without a name, for this user alone."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._cleared:
                # Where a system has no files without names, one has a name for a moment, and a kill may come in it.
                for left in self._folder.glob(f"{PREFIX}*{SUFFIX}"):
                    left.unlink(missing_ok=True)
                self._cleared = True
            made = tempfile.TemporaryFile(  # noqa: SIM115 - it lives as long as what is in it
                buffering=0, dir=self._folder, prefix=PREFIX, suffix=SUFFIX
            )
            os.fchmod(made.fileno(), 0o600)
            return cast("BinaryIO", made)

    def told(self, size: int, error: OSError) -> None:
        """Say that rows are in memory which should be in a file."""
        log.warning(
            "%s: no room for %d bytes of events that wait for their labels (%s); they are in memory, beyond "
            "waiting_memory_bytes_max = %d, until there is room",
            self._folder,
            size,
            error.strerror or error,
            self.memory_bytes_max,
        )


class _Anywhere(Wide):
    """Rows that are in memory until there is no room for them there, and then in a file."""

    def __init__(self, scratch: Scratch, width: int) -> None:
        super().__init__(width)
        self._scratch = scratch
        self._file: BinaryIO | None = None
        self._map: mmap.mmap | None = None
        self._met = 0

    @property
    def bytes(self) -> int:
        """What it takes of memory; what a file brings there is let go of."""
        return 0 if self._map is not None else self.rows.nbytes

    @property
    def disk_bytes(self) -> int:
        """What it takes of the disk."""
        return 0 if self._map is None else len(self._map)

    def grow(self, count: int) -> None:
        """Make room for so many rows, where there is room."""
        if count <= len(self.rows):
            return
        room = max(ROWS_MIN, count, len(self.rows) * 3 // 2)
        size = room * self.rows.shape[1] * 8
        if self._map is None and self._scratch.fits(self, size):
            super().grow(count)
            return
        try:
            self._into_file(room, size)
        except OSError as error:
            self._scratch.told(size, error)
            super().grow(count)
            self._map = self._file = None

    def _into_file(self, room: int, size: int) -> None:
        file = self._file or self._scratch.file()
        _reserve(file.fileno(), size)
        held = mmap.mmap(file.fileno(), size)
        if hasattr(mmap, "MADV_RANDOM"):
            held.madvise(mmap.MADV_RANDOM)
        rows = np.frombuffer(held, np.float64).reshape(room, -1)
        before, moved, self._met = self.rows, self._map is None, 0
        self._file, self._map, self.rows = file, held, rows
        if moved:  # a file that has grown begins with what was in it
            part = max(1, PART_BYTES // (rows.shape[1] * 8))
            for begin in range(0, len(before), part):
                rows[begin : min(begin + part, len(before))] = before[begin : begin + part]
                self._let_go()

    def touched(self, count: int) -> None:
        """Let go of what the file has brought into memory, now and then."""
        if self._map is not None:
            self._met += count * max(self.rows.shape[1] * 8, min(FAULT_BYTES, len(self._map) // max(1, count)))
            if self._met > REST_BYTES:
                self._let_go()

    def _let_go(self) -> None:
        self._met = 0
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            # Of a shared mapping of a file nothing is lost: the system writes it, and reads it again when it is asked.
            self._map.madvise(mmap.MADV_DONTNEED)


def _reserve(file: int, size: int) -> None:
    """Make a file so large, with blocks of its own: to write into a hole on a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    begin = os.fstat(file).st_size
    while begin < size:
        begin += os.pwrite(file, bytes(min(PART_BYTES, size - begin)), begin)
