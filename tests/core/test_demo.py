"""What the demo does when something goes wrong with it; that it works is shown by the docs' own examples."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def test_a_demo_whose_worker_is_killed_says_so_and_ends() -> None:
    command = [sys.executable, "-m", "headrace.stream.cli", "demo", "--seconds", "120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
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
