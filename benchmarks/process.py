"""Child processes: started, watched, and ended by their own id, whatever happens to us; and where they run."""

import os
import platform
import resource
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

STOP_SECONDS_MAX = 15.0
_running = []


class Child:
    """One process of ours; what it says goes to a file."""

    def __init__(self, command, log, folder):
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for us; we end our children
            )
        _running.append(self)

    @property
    def ended(self):
        """The exit code, or None while it runs."""
        return self._process.poll()

    def usage(self):
        """Return the processor seconds used so far and the largest memory in MiB; zeros where unknown.

        Some start a process of their own: it counts.
        """
        family = _family(self._process.pid)
        return sum(map(_cpu_seconds, family)), sum(map(_memory_mib, family))

    def wait(self, seconds_max):
        """Wait for the process to end by itself; end it where it does not."""
        try:
            self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.stop()
        self._forget()

    def stop(self):
        """Ask the process to end, insist after a while, and return whether asking was enough."""
        asked = self._process.poll() is None
        if asked:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            asked = False
        for pid in _family(self._process.pid):
            with suppress(ProcessLookupError):  # it may end by itself just now
                os.kill(pid, signal.SIGKILL)
        self._forget()
        return asked

    def tail(self, lines=8):
        """Return the end of what the process said."""
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])

    def _forget(self):
        if self in _running:
            _running.remove(self)


class Neighbours:
    """How much of the machine somebody else used while a measurement ran.

    Everything that kept a processor busy, less the broker, the contestant, the sender and ourselves. A round
    with busy neighbours says little, and the record should show which rounds those were.
    """

    def __init__(self, broker_pid, child):
        self._broker_pid = broker_pid
        self._child = child
        # The child may have run for a moment already; that belongs to it from now on.
        self._before = self._now()

    def percent(self):
        """Return their share of all processors since the start, or None where it is unknown."""
        wall, busy, ours = (after - before for after, before in zip(self._now(), self._before, strict=True))
        return round(max(0.0, busy - ours) / (wall * (os.cpu_count() or 1)) * 100, 1) if busy else None

    def _now(self):
        ours = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        ours += _cpu_seconds(self._broker_pid) + self._child.usage()[0]
        try:
            ticks = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
        except OSError:
            return time.monotonic(), 0.0, ours
        idle = ticks[3] + ticks[4]
        return time.monotonic(), (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), ours


def _cpu_seconds(pid):
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0 kB")
    return int(peak.split()[1]) / 1024


def _family(pid):
    """Return the processes of the session that ``pid`` leads, or led."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def machine():
    """Return what this machine is, for the record."""
    try:
        cpu = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def stop_all():
    """End every child that still runs."""
    for child in tuple(_running):
        child.stop()
