"""What a process takes of the machine, from /proc."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_TICKS = os.sysconf("SC_CLK_TCK")


class Footprint(NamedTuple):
    """One look at one process."""

    at: float
    rss_kb: int
    threads: int
    files: int
    cpu_seconds: float


def footprint(pid: int) -> Footprint | None:
    """Look at a process; None if it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        # The command's name may hold spaces and brackets, so count the fields from its end.
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
        rss_kb = int((folder / "statm").read_text().split()[1]) * _PAGE_KB
        files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - only the count, and the entries vanish meanwhile
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat[0] == "Z":
        return None
    return Footprint(time.monotonic(), rss_kb, int(stat[17]), files, (int(stat[11]) + int(stat[12])) / _TICKS)


def growth(looks: Sequence[Footprint], name: str, *, warm_up: float = 0.3) -> float:
    """Return how much a straight line through the looks rises from the end of the warm-up to the last one.

    >>> looks = [Footprint(float(at), 100 + at, 7, 20, 0.0) for at in range(11)]
    >>> round(growth(looks, "rss_kb", warm_up=0.5)), round(growth(looks, "threads"))
    (5, 0)
    """
    first, last = looks[0].at, looks[-1].at
    warm = [look for look in looks if look.at >= first + (last - first) * warm_up]
    if len(warm) < 3:
        raise ValueError(f"{len(looks)} looks are too few to see a slope: sample for longer or more often")
    ats = [look.at - warm[0].at for look in warm]
    values = [float(getattr(look, name)) for look in warm]
    mean_at, mean = sum(ats) / len(ats), sum(values) / len(values)
    spread = sum((at - mean_at) ** 2 for at in ats)
    slope = sum((at - mean_at) * (value - mean) for at, value in zip(ats, values, strict=True)) / spread
    return slope * ats[-1]
