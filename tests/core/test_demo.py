"""What the demo does when something goes wrong with it; that it works is shown by the docs' own examples."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from headrace.schemas.config import configure
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.demo import BEHIND_MAX, Producing, Reading
from headrace.stream.shows import fraud

COMMAND = [sys.executable, "-m", "headrace.stream.cli", "demo", "--seconds", "120"]

# What it is given is the terminal of a session of its own, as it is for a shell; when that is closed, it hears of it.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_demo_whose_worker_is_killed_says_so_and_ends() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            while "a second go in" not in demo.stdout.readline():
                assert demo.poll() is None
            (worker,) = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
            os.kill(int(worker), signal.SIGKILL)
            _, told = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode not in (0, None)
    assert "the demo's worker ended with -9; it said:" in told
    assert "ready: fraud scores transactions" in told


def test_a_demo_whose_terminal_is_closed_takes_its_worker_with_it() -> None:
    ours, its = pty.openpty()
    demo = subprocess.Popen([sys.executable, "-c", IN_A_TERMINAL, *COMMAND], stdin=its, stdout=its, stderr=its)
    os.close(its)
    try:
        told = b""
        while b"a second go in" not in told:
            told += os.read(ours, 65_536)
        (worker,) = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        os.close(ours)
        demo.wait(60)
        assert not Path(f"/proc/{worker}").exists()
    finally:
        demo.kill()
        demo.wait()


def test_a_producer_does_not_outrun_a_worker_by_more_than_the_broker_keeps() -> None:
    with EmbeddedBroker() as broker:
        show = fraud(100_000)
        for topic in (show.events, show.labels):
            broker.create(topic)
        reading = Reading(broker.address, configure({}))  # which nobody has started: no prediction comes
        producing = Producing(broker.address, show, 200_000, 0, reading)
        producing.start()
        try:
            for seen in (0, 500):
                reading.seen = seen
                deadline = time.monotonic() + 60
                while producing.sent < seen + BEHIND_MAX and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(0.1)
                assert producing.sent == seen + BEHIND_MAX
        finally:
            producing.stopped.set()
            producing.join()
