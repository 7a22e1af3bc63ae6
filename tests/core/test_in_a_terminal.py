"""The command line as a person has it: in terminals of two sizes, which tmux draws and this looks at.

What they show is kept in benchmarks/out/terminal, for a person to look at: .txt as it reads, .ansi with its colours.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.tools import tool

from headrace.stream.broker import free_port

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "benchmarks/out/terminal"
SMALL, LARGE = (80, 24), (120, 40)
SECONDS_MAX = 60
HEADRACE = shlex.join([sys.executable, "-m", "headrace.stream.cli"])


class Terminals:
    """Terminals on a tmux of our own, with nobody's settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tmux = ["tmux", "-u", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "TMUX"))}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):  # the last two are those of the terminal that the tests run in
            inherited.pop(name, None)
        state = {"HEADRACE_STATE_DIR": str(folder / "state")}
        self._environ = {**inherited, **state, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "SHELL": "/bin/sh"}

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], cwd=self.folder, env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def open(self, name: str, command: str, size: tuple[int, int] = SMALL) -> None:
        """Run a command; its exit code is told when it has ended, and the terminal stays."""
        width, height = map(str, size)
        told = f'trap : INT; {command}; echo "exit $?"; exec sleep 600'  # Ctrl-C is for the command alone
        self._run("new-session", "-d", "-s", name, "-x", width, "-y", height, told)

    def keys(self, name: str, *keys: str) -> None:
        self._run("send-keys", "-t", name, *keys)

    def seen(self, name: str, *, past: bool = False) -> str:
        return self._run("capture-pane", "-p", "-t", name, *(("-S", "-") if past else ()))

    def wait(self, name: str, pattern: str, *, past: bool = False) -> str:
        deadline = time.monotonic() + SECONDS_MAX
        while not re.search(pattern, shown := self.seen(name, past=past)):
            assert time.monotonic() < deadline, f"{name} does not show {pattern!r}:\n{shown}"
            time.sleep(0.1)
        return shown

    def picture(self, name: str, size: tuple[int, int], *, past: bool = False, called: str = "") -> str:
        """Keep what is shown; no line of it may be too long for the terminal, or tell of a crash."""
        before = ("-S", "-") if past else ()
        for _ in range(20):  # until nothing moves between the two looks
            shown = self.seen(name, past=past)
            joined = self._run("capture-pane", "-p", "-J", "-t", name, *before)
            colours = self._run("capture-pane", "-p", "-e", "-t", name, *before)
            if self.seen(name, past=past) == shown:
                break
        stem = f"{called or name}-{size[0]}x{size[1]}"
        (OUT / f"{stem}.txt").write_text(shown)
        (OUT / f"{stem}.ansi").write_text(colours)
        lines = [line.rstrip() for line in shown.splitlines()]
        assert [line.rstrip() for line in joined.splitlines()] == lines, f"a line is wrapped:\n{shown}"
        assert all(len(line) <= size[0] for line in lines)
        assert "Traceback" not in shown
        return shown

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def terminals() -> Iterator[Terminals]:
    tool("tmux", "it is the terminal in which the command line is looked at: install tmux")
    OUT.mkdir(parents=True, exist_ok=True)
    # Short, because errors name files in it, and a terminal is narrow.
    folder = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    made = Terminals(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


def test_demo_top_doctor_and_errors_fit_a_terminal_of_every_size(terminals: Terminals) -> None:
    page = f"http://127.0.0.1:{free_port()}"
    port = page.rpartition(":")[2]
    terminals.open("demo", f"{HEADRACE} demo --rate 1000 --set web_port={port}", LARGE)

    # Whatever does not need it, while it starts.
    (terminals.folder / "broken.py").write_text("from headrace import Pipeline\n\npipeline = Pipeline(evnts=1)\n")
    terminals.open("error", f"{HEADRACE} run broken.py")
    terminals.wait("error", r"exit \d")
    shown = terminals.picture("error", SMALL)
    assert re.search(r"BAD_PIPELINE: .*\n +/tmp/hr-\w+/broken\.py:3: TypeError: ", shown), shown
    assert "exit 2" in shown
    for size in (SMALL, LARGE):
        doctor = f"{HEADRACE} doctor {ROOT / 'examples/fraud'} --broker 127.0.0.1:9"
        terminals.open(f"doctor{size[0]}", doctor, size)
    for size in (SMALL, LARGE):
        terminals.wait(f"doctor{size[0]}", r"exit \d")
        shown = terminals.picture(f"doctor{size[0]}", size)
        assert "broker-reach" in shown
        assert "nobody listens on 127.0.0.1:9" in shown
        assert "exit 2" in shown

    terminals.wait("demo", r"a second go in", past=True)
    for size in (SMALL, LARGE):
        terminals.open(f"live{size[0]}", f"{HEADRACE} top {page}", size)
    for size in (SMALL, LARGE):
        live = f"live{size[0]}"
        terminals.wait(live, r"PREDICTIONS[^\n]*\n +demo-\d+")
        terminals.wait(live, r"predictions +\d+ /s +[1-9]")
        terminals.wait(live, r"ready +0-3 ")  # the group is asked every few seconds
        shown = terminals.picture(live, size, called="live")
        assert len(shown.rstrip("\n").splitlines()) == size[1]
        for word in (
            "headrace top  fraud 1, group headrace-demo, at-least-once, up",
            "latency  p50",
            "QUALITY",
            "WORKERS",
            "PARTITIONS",
            "ALERTS",
            "DEAD LETTERS     none",
            "PREDICTIONS",
        ):
            assert word in shown, shown
        assert re.search(r"WORKERS[^\n]*\n +demo-\d+ +ready +0-3 ", shown), shown
        assert re.search(r"PARTITIONS[^\n]* transactions +labels[^\n]*\n +0 +demo-\d+ +\d", shown), shown
        assert shown.rstrip("\n").endswith("q quits")
    assert "\x1b[1mheadrace top\x1b" in (OUT / "live-80x24.ansi").read_text()

    terminals.open("once", f"NO_COLOR=1 {HEADRACE} top {page} --once")
    terminals.wait("once", r"exit \d", past=True)
    shown = terminals.picture("once", SMALL, past=True)
    assert "exit 0" in shown
    assert "PARTITIONS" in shown
    assert "\x1b" not in (OUT / "once-80x24.ansi").read_text()

    terminals.wait("demo", r"\n +log loss static ", past=True)
    shown = terminals.picture("demo", LARGE, past=True)
    assert f"Look at it on {page}/ while it runs." in shown
    terminals.keys("demo", "C-c")
    terminals.wait("demo", r"exit \d", past=True)
    shown = terminals.picture("demo", LARGE, past=True)
    assert re.search(r"every\s+event\s+has\s+exactly\s+one\s+prediction", shown), shown
    assert "exit 0" in shown

    # The worker has gone with the demo: that is told, with what was known, and q gives the terminal back.
    shown = terminals.wait("live80", r"silent for")
    terminals.picture("live80", SMALL, called="silent")
    assert f"looking again every second: {page} (" in shown
    assert re.search(r"demo-\d+ +silent", shown), shown
    terminals.keys("live80", "q")
    assert "headrace top" not in terminals.wait("live80", r"exit 0")
