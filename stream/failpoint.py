"""Places where a test may kill or delay this process, at the worst moments there are.

Off unless ``arm`` was called. A crash here is a real one: SIGKILL, nothing is cleaned up.
"""

import os
import signal
import time
from collections.abc import Mapping

_armed: dict[str, tuple[int, float | None]] = {}
_reached: dict[str, int] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Read ``HEADRACE_FAILPOINT=name[:count]`` and ``HEADRACE_FAILPOINT_SLEEP=name:count:seconds``."""
    if text := environ.get("HEADRACE_FAILPOINT"):
        name, _, count = text.partition(":")
        _armed[name] = (int(count or 1), None)
    if text := environ.get("HEADRACE_FAILPOINT_SLEEP"):
        name, count, seconds = text.split(":")
        _armed[name] = (int(count), float(seconds))


def reached(name: str) -> None:
    """Do here what was armed for this place, if it is the time that was named."""
    if name not in _armed:
        return
    count, seconds = _armed[name]
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] != count:
        return
    if seconds is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        time.sleep(seconds)
