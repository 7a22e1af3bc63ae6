"""A worker as its operator sees it: a process, its signals, its log."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from faults.footprint import Footprint, footprint

READY_SECONDS_MAX = 60.0
END_SECONDS_MAX = 60.0
TAIL_LINES = 80
TEXT = {"HEADRACE_LOG_FORMAT": "text"}  # what a worker says is matched, and shown to a person


class Worker:
    """A command that runs as a process of its own, and never outlives its test: `kill` is always safe.

    Everything that it prints goes to ``log``, over all its starts.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._command = list(command)
        self._log = folder / f"{name}.log"
        self._folder = folder
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0  # where in the log the latest start begins

    def start(self, **env: str) -> "Worker":
        """Start the process; ``env`` is for this start only."""
        assert not self.alive, f"{self.name} runs already"
        self._begun = self._log.stat().st_size if self._log.exists() else 0
        # Options of the developer's own shell must not reach the worker.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **TEXT, **self._env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def wait_until_ready(self, seconds_max: float = READY_SECONDS_MAX) -> "Worker":
        """Wait for the line that says ``ready``."""
        return self.wait_for_line(r"\bready\b", seconds_max)

    def wait_for_line(self, pattern: str, seconds_max: float = READY_SECONDS_MAX) -> "Worker":
        deadline = time.monotonic() + seconds_max
        while not re.search(pattern, self.output):
            assert self.alive, f"{self.name} ended with {self.exit_code} before it said {pattern!r}:\n{self.tail}"
            assert time.monotonic() < deadline, f"{self.name} did not say {pattern!r}:\n{self.tail}"
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    @property
    def output(self) -> str:
        """What it printed since its latest start."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._begun)
            return log.read().decode(errors="replace")

    @property
    def tail(self) -> str:
        return "\n".join(f"    {self.name} | {line}" for line in self.output.splitlines()[-TAIL_LINES:])

    @property
    def footprint(self) -> Footprint | None:
        return footprint(self.pid) if self._process else None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            assert self._process is not None
            self._process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Works on a paused process too."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(END_SECONDS_MAX)

    def dump_stacks(self) -> None:
        """End it so that what each of its threads is at goes to the log: for a worker that is alive and stuck."""
        self.resume()
        self.signal(signal.SIGABRT)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def wait(self, seconds_max: float = END_SECONDS_MAX) -> int:
        """Wait until it ends, and return its exit code."""
        assert self._process is not None, f"{self.name} was never started"
        try:
            return self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.dump_stacks()
            raise AssertionError(f"{self.name} did not end within {seconds_max:.0f} s:\n{self.tail}") from None


def headrace(*arguments: str) -> list[str]:
    """Return the command line of Headrace's own worker."""
    return [sys.executable, "-m", "headrace.stream.cli", *arguments]
