"""What a thousand people who look at the page cost the worker: its throughput with them and without, side by side.

    python benchmarks/page.py                  eight minutes; needs Java 17 and Maven

The stateless job works through the same topic on a real broker, turn by turn with nobody and with everybody looking, a
minute each. Ends with 1 if throughput falls by 5 % or more.
"""

import argparse
import resource
import selectors
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import contestants
import events
from headrace.stream.broker import RealBroker, free_port
from process import Child, stop_all
from topics import OUTPUT, Topics

EVENTS = 1_000_000  # that are made; the topic holds them over and over
STEADY = (0.1, 0.9)  # shares of the events between which the rate is taken
LOSS_MOST = 0.05
WAIT_SECONDS_MAX = 300.0


class Listening(threading.Thread):
    """Reads what many pages would, and counts."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        super().__init__(daemon=True)
        self.messages = 0
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
                self.messages += got.count(b"\n\n")
                if not got:
                    self._selector.unregister(key.fileobj)
                    self.alive -= 1


class Looked:
    """One worker that works through the topic while so many look."""

    def __init__(self, topics: Topics, number: int, listeners: int) -> None:
        self._topics = topics
        self._out = f"predictions-{number}"
        topics.create(self._out, OUTPUT)
        self._state = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
        port = free_port()
        command = [sys.executable, "-m", "headrace.stream.cli", "run", contestants.HERE / "stateless"]
        command += ["--broker", topics.broker, "--group", f"page-{number}", "--guarantee", contestants.EO]
        command += ["--set", f"topic_predictions={self._out}", "--set", f"state_dir={self._state}"]
        self._log = self._state / "worker.log"
        self._child = Child([*command, "--set", f"web_port={port}"], self._log, self._state)
        self._until(lambda: _answers(port))
        self.listening = Listening(("127.0.0.1", port), listeners)
        self.listening.start()

    def rate(self, count: int) -> tuple[float, float]:
        """Return predictions per second, and how many snapshots were heard a second."""
        first, last = (share * count for share in STEADY)
        self._until(lambda: self._done >= first)
        heard, began, begun = self.listening.messages, time.monotonic(), self._done
        self._until(lambda: self._done >= last)
        took, done = time.monotonic() - began, self._done - begun
        return done / took, (self.listening.messages - heard) / took

    def end(self) -> None:
        """Stop the worker, and drop what it made."""
        self.listening.stopped = True
        self._child.stop()
        self._topics.drop(self._out)
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def _done(self) -> int:
        return sum(self._topics.ends(self._out))

    def _until(self, there) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not there():
            if self._child.ended is not None or time.monotonic() > deadline:
                sys.exit(f"the worker did not get that far:\n{self._child.tail()}")
            time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure, print, and say whether it is within what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=1_000, help="who look at the page (default 1000)")
    parser.add_argument("--times", type=int, default=6, help="the topic holds a million events so often (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind (default 3)")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8_192), most))  # the worker inherits it
    rates: dict[int, list[float]] = {0: [], options.listeners: []}
    try:
        with RealBroker() as broker:
            topics = Topics(broker.address)
            topics.create(contestants.INPUT)
            sent = events.make(EVENTS, seed=7)
            for _ in range(options.times):
                topics.fill(contestants.INPUT, sent)
            for number in range(2 * options.rounds):
                listeners = list(rates)[(number + number // 2) % 2]  # 0, all, all, 0, 0, all
                looked = Looked(topics, number, listeners)
                rate, heard = looked.rate(options.times * EVENTS)
                print(
                    f"{looked.listening.alive:5,} look: {rate:9,.0f} events/s; {heard:7,.0f} snapshots/s are heard",
                    flush=True,
                )
                if looked.listening.alive < listeners:
                    sys.exit(f"{listeners - looked.listening.alive} were hung up on")
                rates[listeners].append(rate)
                looked.end()
            topics.close()
    finally:
        stop_all()
    nobody, everybody = map(statistics.median, rates.values())
    print(f"with {options.listeners:,} who look: {everybody / nobody:.3f} times the throughput without, in the median")
    sys.exit(0 if everybody / nobody > 1 - LOSS_MOST else 1)


if __name__ == "__main__":
    main()
