"""The main job on a broker inside this process: a producer, a worker, and a reader of its predictions."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.schemas.config import Config
from headrace.schemas.errors import HeadraceError
from headrace.stream.broker import EmbeddedBroker

PIPELINE = "headrace.examples.fraud.pipeline"
INPUT = "transactions"
PARTITIONS = range(4)  # what the embedded broker gives every topic
SEED = 7
CARDS = 2_000
READY_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 30.0
# The embedded broker answers a fetch that found nothing when its time is up, not when there is something.
FETCH_WAIT_MS = 5
QUIET = {"log.connection.close": False, "log_level": 3}


class Producing(threading.Thread):
    """Publishes made-up transactions at a steady rate, until it has published enough or is told to stop."""

    def __init__(self, address: str, rate: int, events_max: int) -> None:
        super().__init__(name="demo-producer", daemon=True)
        self.sent = 0
        self.stopped = threading.Event()
        self._rate = rate
        self._events_max = events_max
        settings: dict[str, Any] = {"bootstrap.servers": address, "partitioner": "murmur2_random", **QUIET}
        self._producer = Producer(settings)

    def run(self) -> None:
        """Produce what is due, a few milliseconds' worth at a time."""
        rng = random.Random(SEED)  # noqa: S311 - made-up payments
        began = time.monotonic()
        while not self.stopped.is_set():
            due = int((time.monotonic() - began) * self._rate) - self.sent
            if self._events_max:
                due = min(due, self._events_max - self.sent)
                if self.sent == self._events_max:
                    break
            for _ in range(due):
                event = some_transaction(rng, self.sent)
                self._producer.produce(INPUT, orjson.dumps(event), event["card"])
                self.sent += 1
            self._producer.poll(0)
            time.sleep(0.002)
        self._producer.flush(DRAIN_SECONDS_MAX)
        self.stopped.set()


def some_transaction(rng: random.Random, number: int) -> dict[str, Any]:
    """Return one made-up transaction, happening now.

    >>> sorted(some_transaction(random.Random(1), 5))
    ['amount', 'at', 'card', 'country', 'id', 'lat', 'lon', 'merchant']
    """
    abroad = rng.random() < 0.05
    return {
        "id": f"demo-{number}",
        "at": time.time(),
        "card": f"card-{rng.randrange(CARDS)}",
        "merchant": f"shop-{rng.randrange(300)}",
        "amount": round(rng.lognormvariate(5 if abroad else 3, 1), 2),
        "lat": round(rng.uniform(-40, 60) if abroad else rng.gauss(48.86, 0.3), 4),
        "lon": round(rng.uniform(-100, 140) if abroad else rng.gauss(2.35, 0.3), 4),
        "country": rng.choice(("US", "BR", "SG")) if abroad else "FR",
    }


class Reading(threading.Thread):
    """Reads predictions as a service would, and counts each id."""

    def __init__(self, address: str, config: Config) -> None:
        super().__init__(name="demo-reader", daemon=True)
        self.counts = bytearray()  # by the number in the event's id
        self.seen = 0
        self.strangers = 0
        self.latencies_ms: list[float] = []  # since somebody last looked
        self.before_ms: deque[float] = deque(maxlen=200_000)  # and earlier
        self.last: deque[dict[str, Any]] = deque(maxlen=3)
        self.stopped = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "demo-reader",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                **QUIET,
            }
        )
        self._consumer.assign([TopicPartition(config.topic_predictions, number, 0) for number in PARTITIONS])

    def run(self) -> None:
        """Read until stopped."""
        while not self.stopped.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            for message in [first, *self._consumer.consume(1_000, 0)]:
                value = message.value()
                if message.error() is None and value is not None:
                    self._take(orjson.loads(value))
        self._consumer.close()

    def _take(self, prediction: dict[str, Any]) -> None:
        self.latencies_ms.append((time.time() - prediction["at"]) * 1_000)
        name, _, number = prediction["id"].rpartition("-")
        if name != "demo" or not number.isdigit():
            self.strangers += 1
            return
        index = int(number)
        if index >= len(self.counts):
            self.counts.extend(bytes(index + 1_000 - len(self.counts)))
        self.counts[index] = min(255, self.counts[index] + 1)
        self.seen += self.counts[index] == 1
        self.last.append(prediction)


def demo(config: Config, *, events: int, seconds: float, rate: int, as_json: bool) -> int:
    """Run the demo; return 0 if every event came out as exactly one prediction."""
    say = _silent if as_json else _say
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, lambda _number, _frame: stop.set())
    with EmbeddedBroker() as broker:
        say(f"An embedded broker answers on {broker.address}; a worker starts.")
        for topic in (INPUT, config.topic_predictions, config.topic_alerts, config.topic_dead_letters):
            broker.create(topic)
        with _worker(broker.address, config, stop) as (worker, told):
            reading = Reading(broker.address, config)
            producing = Producing(broker.address, rate, events)
            began = time.monotonic()
            reading.start()
            producing.start()
            say(f"{rate:,} transactions a second go in. Ctrl-C stops.\n")
            _watch(producing, reading, stop, until=began + seconds if seconds else None, say=say)
            producing.stopped.set()
            producing.join()
            alive = worker.poll() is None
            if alive:
                _drain(producing, reading)
            took = time.monotonic() - began
            reading.stopped.set()
            reading.join()
            if not alive:
                raise HeadraceError(f"the demo's worker ended with {worker.returncode}; it said:\n{''.join(told)}")
            clean = _end(worker)
    summary = _summary(producing, reading, took, config, clean=clean)
    if as_json:
        print(json.dumps(summary))  # noqa: T201 - the summary is the output
    else:
        _tell(summary)
    return 0 if summary["each_event_once"] and clean else 1


@contextmanager
def _worker(address: str, config: Config, stop: threading.Event) -> Iterator[tuple[subprocess.Popen[str], deque[str]]]:
    """Run ``headrace run`` beside this process; give it, and what it says, when it is ready.

    When it ends, ``stop`` is set: there is nobody left to watch.
    """
    command = [sys.executable, "-m", "headrace.stream.cli", "run", PIPELINE]
    command += [
        "--broker",
        address,
        "--guarantee",
        config.guarantee,
        "--group",
        config.group or "headrace-demo",
    ]
    command += ["--set", f"instance=demo-{os.getpid()}"]
    command += ["--set", f"kafka.fetch.wait.max.ms={FETCH_WAIT_MS}"]
    worker = subprocess.Popen(  # noqa: S603 - our own command line, no shell
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    ready = threading.Event()
    told: deque[str] = deque(maxlen=20)

    def listen() -> None:
        assert worker.stderr is not None
        for line in worker.stderr:
            told.append(line)
            if "ready:" in line:
                ready.set()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not ready.wait(0.05):
            if worker.poll() is not None or time.monotonic() > deadline:
                raise HeadraceError(f"the demo's worker did not get ready; it said:\n{''.join(told)}")
            if stop.is_set() and worker.poll() is None:
                break
        yield worker, told
    finally:
        _end(worker)


def _end(worker: "subprocess.Popen[str]") -> bool:
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return worker.returncode == 0


def _watch(producing: Producing, reading: Reading, stop: threading.Event, *, until: float | None, say: Any) -> None:
    second, sent, seen = 0, 0, 0
    while not stop.wait(1.0) and not producing.stopped.is_set():
        second += 1
        latencies, reading.latencies_ms = reading.latencies_ms, []
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (float("nan"), float("nan"))
        say(
            f"{second:4d} s  in {producing.sent - sent:7,}/s   out {reading.seen - seen:7,}/s   "
            f"latency p50 {p50:6.1f} ms  p99 {p99:6.1f} ms"
        )
        sent, seen = producing.sent, reading.seen
        if second % 5 == 1:
            for one in list(reading.last):
                model = f"{one['model']} {one['version']}"
                say(f"        {one['card']:>10}  score {one['score']:.4f}  {one['id']}, model {model}")
        reading.before_ms.extend(latencies)
        if until is not None and time.monotonic() >= until:
            return


def _drain(producing: Producing, reading: Reading) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while reading.seen < producing.sent and time.monotonic() < deadline:
        time.sleep(0.02)


def _summary(producing: Producing, reading: Reading, took: float, config: Config, *, clean: bool) -> dict[str, Any]:
    counts = np.frombuffer(bytes(reading.counts[: producing.sent]), np.uint8)
    missing = producing.sent - int(np.count_nonzero(counts))
    doubled = int(np.count_nonzero(counts > 1))
    latencies = [*reading.before_ms, *reading.latencies_ms]
    p50, p99 = np.percentile(latencies, (50, 99)).round(2).tolist() if latencies else (None, None)
    return {
        "events": producing.sent,
        "predictions": reading.seen,
        "missing": missing,
        "doubled": doubled,
        "each_event_once": missing == doubled == reading.strangers == 0,
        "seconds": round(took, 2),
        "events_per_second": round(producing.sent / took),
        "latency_ms_p50": p50,
        "latency_ms_p99": p99,
        "guarantee": config.guarantee,
        "worker_stopped_cleanly": clean,
    }


def _tell(summary: dict[str, Any]) -> None:
    verdict = "every event has exactly one prediction" if summary["each_event_once"] else "NOT one prediction per event"
    _say(
        f"\n{summary['events']:,} events in, {summary['predictions']:,} predictions out in {summary['seconds']} s: "
        f"{verdict} ({summary['missing']} missing, {summary['doubled']} doubled)."
    )
    quantiles = f"p50 {summary['latency_ms_p50']} ms, p99 {summary['latency_ms_p99']} ms"
    _say(f"Latency, from the event's own time to the reader: {quantiles}.")
    _say(
        f"Guarantee: {summary['guarantee']}. (The embedded broker keeps nothing and isolates nothing; for transactions "
        "that hold, run `make broker` and `headrace run`.)"
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is a program to look at


def _silent(text: str) -> None:
    del text
