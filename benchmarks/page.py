"""What people who look at the page cost the worker: its processor time with and without a thousand of them.

``python benchmarks/page.py [LISTENERS] [SECONDS]`` runs the demo at a steady rate, and compares the processor time of
its worker while nobody looks with that while so many do. Time on the clock would say what else the machine does.
"""

import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

RATE = 1_000
PAUSE_SECONDS = 8.0  # until the demo is warm, and until all have come
TICKS = 100.0  # of processor time in a second, in /proc


class Listening(threading.Thread):
    """Reads what many pages would, and counts."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        super().__init__(daemon=True)
        self.messages = self.bytes = 0
        self.alive = count
        self.stopped = False
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            sock = socket.create_connection(address, 30)
            sock.sendall(b"GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)

    def run(self) -> None:
        while not self.stopped:
            for key, _ in self._selector.select(0.2):
                got = key.fileobj.recv(1 << 18)
                self.bytes += len(got)
                self.messages += got.count(b"\n\n")
                if not got:
                    self._selector.unregister(key.fileobj)
                    self.alive -= 1


def _used(worker: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _share(worker: int, seconds: float) -> float:
    before, began = _used(worker), time.monotonic()
    time.sleep(seconds)
    return (_used(worker) - before) / (time.monotonic() - began)


def main(count: int, seconds: float) -> None:
    """Measure, and print."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8_192), most))  # the worker inherits it
    command = [sys.executable, "-m", "headrace.stream.cli", "demo", "--rate", str(RATE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        url = ""
        for line in demo.stdout:
            url = line.split()[4] if line.startswith("Look at it on") else url
            if "a second go in" in line:
                break
        threading.Thread(target=demo.stdout.read, daemon=True).start()
        worker = int(Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()[0])
        parts = urlsplit(url)
        time.sleep(PAUSE_SECONDS)
        alone = _share(worker, seconds)
        listening = Listening((parts.hostname, parts.port), count)
        listening.start()
        time.sleep(PAUSE_SECONDS)
        first = listening.messages
        looked_at = _share(worker, seconds)
        heard = (listening.messages - first) / seconds
        listening.stopped = True
        demo.terminate()
    print(f"worker at {RATE} events/s, nobody looks: {alone:.3f} of a core")
    print(f"{listening.alive} look: {looked_at:.3f} of a core; {looked_at - alone:+.3f}")
    print(f"they hear {heard:,.0f} snapshots/s of {listening.bytes / max(1, listening.messages):,.0f} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
