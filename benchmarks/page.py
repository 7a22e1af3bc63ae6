"""What a thousand people who look at the page cost the worker.

``python benchmarks/page.py [LISTENERS] [SECONDS]`` runs the demo at a steady rate, lets so many look, and tells the
processor time of the threads that were not there before somebody did: those that write to all, read the alerts, and ask
for the group. Time on the clock would say what else the machine does.
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
PAUSE_SECONDS = 8.0  # until the demo is warm, and until all have heard the first
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


def _used(worker: int) -> dict[int, float]:
    """Return the processor seconds of each thread of a process."""
    found = {}
    for path in Path(f"/proc/{worker}/task").iterdir():
        fields = (path / "stat").read_text().rpartition(")")[2].split()
        found[int(path.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


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
        alone = set(_used(worker))
        listening = Listening((parts.hostname, parts.port), count)
        listening.start()
        time.sleep(PAUSE_SECONDS)
        first, before, began = listening.messages, _used(worker), time.monotonic()
        time.sleep(seconds)
        heard, after, took = listening.messages - first, _used(worker), time.monotonic() - began
        listening.stopped = True
        demo.terminate()
    spent = {number: (now - before.get(number, 0.0)) / took for number, now in after.items()}
    page = sum(share for number, share in spent.items() if number not in alone)
    print(f"{listening.alive} look at a worker at {RATE} events/s, and hear {heard / took:,.0f} snapshots/s")
    print(f"{listening.bytes / max(1, listening.messages):,.0f} bytes each")
    print(f"threads of the page: {page:.4f} of a core; all others: {sum(spent.values()) - page:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
