"""An example on a broker inside this process: a producer, a worker, and a reader of what it says.

In the middle the world changes. Time is compressed: the events are made up, and between two of them lies what lies
between their times divided by some ten thousands, so that labels which come a week later come after two seconds.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.models.quality import Quality
from headrace.schemas.config import Config
from headrace.schemas.errors import HeadraceError
from headrace.stream import terminal
from headrace.stream.broker import EmbeddedBroker, free_port
from headrace.stream.shows import DAY_SECONDS, SHOWS, Course, Phase, Show, days_after
from headrace.stream.stopping import asked_to_stop

PARTITIONS = range(4)  # what the embedded broker gives every topic
SECONDS = 30.0  # for which a demo without an end is planned: the world changes in the middle
MODELS = {
    "static": "static",
    "online": "online",
    "score": "combined",
}  # what outcomes call them, and what a person does
PHASES = {
    "before": "Before the world changed",
    "after": "After the world changed",
    "again": "Since it is again what it was",
}
NUMBERS = {"log_loss": "log loss", "roc_auc": "AUC", "pr_auc": "precision-recall"}
RECENT_COUNT = 6_000  # outcomes of which a line says how good the models are
READY_SECONDS_MAX = 60.0
BEHIND_MAX = 10_000  # events for which there is no prediction yet
DRAIN_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 30.0
# The embedded broker answers a fetch that found nothing when its time is up, not when there is something.
# It looks through what it keeps for what is asked for: asked more often, or told in smaller pieces, it falls behind.
FETCH_WAIT_MS = 20
LINGER_MS = 25
QUIET = {"log.connection.close": False, "log_level": 3}


class Outcome(NamedTuple):
    """What became known of an event, and what the models had said of it."""

    event_at: float
    label: float
    scores: tuple[float, ...]  # in the order of MODELS


class Producing(threading.Thread):
    """Publishes events at a steady rate, and labels when they are due, until there is enough or it is told to stop."""

    def __init__(self, address: str, show: Show, rate: int, events_max: int, reading: "Reading") -> None:
        super().__init__(name="demo-producer", daemon=True)
        self.sent = 0
        self.labelled = 0
        self.sent_at = reading.sent_at
        self.phase: Phase = "before"
        self.stopped = threading.Event()
        self._show = show
        self._reading = reading
        self._names: dict[str, str] = {}  # of events whose label is to come
        self._rate = rate
        self._events_max = events_max
        settings: dict[str, Any] = {
            "bootstrap.servers": address,
            "partitioner": "murmur2_random",
            "linger.ms": LINGER_MS,
            **QUIET,
        }
        self._producer = Producer(settings)

    def run(self) -> None:
        """Produce what is due, a few milliseconds' worth at a time."""
        began = time.monotonic()
        while not self.stopped.is_set():
            due = int((time.monotonic() - began) * self._rate)
            if self._events_max:
                due = min(due, self._events_max)
                if self.sent == self._events_max:
                    break
            # The embedded broker keeps little: what a worker is too far behind to read in time would be gone.
            while self.sent < due and self.sent - self._reading.seen < BEHIND_MAX:
                self._publish(*next(self._show.records))
            self._producer.poll(0)
            time.sleep(0.002)
        self._producer.flush(DRAIN_SECONDS_MAX)
        del self._producer  # before its broker goes
        self.stopped.set()

    def _publish(self, topic: str, record: dict[str, Any]) -> None:
        """Publish one record; an event gets a number, by which it is found again."""
        if topic == self._show.events:
            self._names[record["id"]] = f"demo-{self.sent}"
            record["id"] = self._names[record["id"]]
            self.phase = self._show.phase(record["at"])
            self.sent_at.append(time.time())
            self.sent += 1
        else:
            record["id"] = self._names.pop(record["id"])
            self.labelled += 1
        while True:
            try:
                self._producer.produce(topic, orjson.dumps(record), record[self._show.key])
            except BufferError:  # more was asked for than the broker takes
                self._producer.poll(0.1)
            else:
                return


class Reading(threading.Thread):
    """Reads predictions and outcomes as a service would, and counts each id."""

    def __init__(self, address: str, config: Config) -> None:
        super().__init__(name="demo-reader", daemon=True)
        self.counts = bytearray()  # by the number in the event's id
        self.outcomes: list[Outcome] = []  # the first of each event, since somebody last looked
        self.known = 0  # events of which there is one
        self.sent_at: list[float] = []  # by the number in the event's id
        self._outcomes = config.topic_outcomes
        self._alerts = config.topic_alerts
        self.alerts: list[tuple[float, dict[str, Any]]] = []  # and when each was read
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
        topics = (config.topic_predictions, config.topic_outcomes, config.topic_alerts)
        self._consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in PARTITIONS])

    def run(self) -> None:
        """Read until stopped."""
        while not self.stopped.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            for message in [first, *self._consumer.consume(1_000, 0)]:
                value = message.value()
                if message.error() is None and value is not None:
                    takes = {self._outcomes: self._learn, self._alerts: self._hear}
                    takes.get(message.topic() or "", self._take)(orjson.loads(value))
        self._consumer.close()

    def _take(self, prediction: dict[str, Any]) -> None:
        name, _, number = prediction["id"].rpartition("-")
        if name != "demo" or not number.isdigit() or int(number) >= len(self.sent_at):
            self.strangers += 1
            return
        index = int(number)
        self.latencies_ms.append((time.time() - self.sent_at[index]) * 1_000)
        if index >= len(self.counts):
            self.counts.extend(bytes(index + 1_000 - len(self.counts)))
        self.counts[index] = min(255, self.counts[index] + 1)
        self.seen += self.counts[index] == 1
        self.last.append(prediction)

    def _hear(self, alert: dict[str, Any]) -> None:
        self.alerts.append((time.monotonic(), alert))

    def _learn(self, outcome: dict[str, Any]) -> None:
        if outcome["by"] in {"label", "timeout"}:  # what comes later corrects one of these
            scores = tuple(np.nan if outcome[name] is None else outcome[name] for name in MODELS)
            self.outcomes.append(Outcome(outcome["event_at"], outcome["label"], scores))
            self.known += 1


class Judging:
    """How good the models are, before and after the world changes and when that has passed, and lately."""

    def __init__(self, show: Show, course: Course) -> None:
        self._show = show
        phases = PHASES if course == "passes" else ("before", "after")
        self._phases = {phase: {name: Quality("binary") for name in MODELS} for phase in phases}
        self._recent: deque[Outcome] = deque(maxlen=RECENT_COUNT)

    def take(self, outcomes: list[Outcome]) -> None:
        """Take outcomes in."""
        self._recent.extend(outcomes)
        for phase, judges in self._phases.items():
            some = [one for one in outcomes if self._show.phase(one.event_at) == phase]
            at, labels = [one.event_at for one in some], [one.label for one in some]
            for place, judge in enumerate(judges.values()):
                if some:
                    judge.add(at, [one.scores[place] for one in some], labels)

    @property
    def lately(self) -> str:
        """The log loss of each model over the last outcomes."""
        if not self._recent:
            return ""
        labels = np.array([one.label for one in self._recent])
        scores = np.clip([one.scores for one in self._recent], 1e-15, 1 - 1e-15)
        losses = -np.log(np.where(labels[:, None] == 1, scores, 1 - scores)).mean(axis=0)
        return "   log loss " + "  ".join(
            f"{name} {loss:.4f}" for name, loss in zip(MODELS.values(), losses, strict=True)
        )

    def report(self) -> dict[str, dict[str, Any]]:
        """Return how many outcomes there are of each phase, and what their labels say of each model."""
        made: dict[str, dict[str, Any]] = {}
        for phase, judges in self._phases.items():
            told = {MODELS[name]: judge.report()["overall"] for name, judge in judges.items()}
            made[phase] = {"outcomes": int(told["combined"]["count"] or 0)}
            made[phase] |= {name: {number: one[number] for number in NUMBERS} for name, one in told.items()}
        return made


def demo(
    config: Config, *, example: str, events: int, seconds: float, rate: int, as_json: bool, course: Course = "changes"
) -> int:
    """Run the demo; return 0 if every event came out as exactly one prediction."""
    say = _silent if as_json else _say
    if config.web_port == 0:
        config = msgspec.structs.replace(config, web_port=free_port())
    stop = asked_to_stop()
    planned = events or round(rate * (seconds or SECONDS))
    show = SHOWS[example](planned, course)
    # Weeks ahead of the clock: if compressed time caught up with it, events would come ever less late.
    show = show.moved(math.ceil(days_after(time.time(), show.begins_at) / 7) * 7 * DAY_SECONDS)
    judging = Judging(show, course)
    with EmbeddedBroker() as broker:
        say(f"An embedded broker answers on {broker.address}; a worker starts.")
        outputs = config.topic_predictions, config.topic_outcomes, config.topic_alerts, config.topic_dead_letters
        for topic in (show.events, show.labels, *outputs):
            broker.create(topic)
        with _worker(broker.address, example, config, stop) as (worker, said):
            reading = Reading(broker.address, config)
            producing = Producing(broker.address, show, rate, events, reading)
            began = time.monotonic()
            reading.start()
            producing.start()
            if config.page and config.web_port >= 0:
                say(f"Look at it on http://{config.web_host}:{config.web_port}/ while it runs.")
            say(f"{rate:,} {show.events} a second go in, and {show.labels} come {show.delay}. Ctrl-C stops.\n")
            _watch(producing, reading, judging, show, stop, until=began + seconds if seconds else None, say=say)
            producing.stopped.set()
            producing.join()
            alive = worker.poll() is None
            if alive:
                _drain(producing, reading)
            took = time.monotonic() - began
            reading.stopped.set()
            reading.join()
            if not alive:
                raise HeadraceError(f"the demo's worker ended with {worker.returncode}; it said:\n{''.join(said)}")
            clean = _end(worker)
    judging.take(reading.outcomes)
    summary = _summary(producing, reading, judging, took, config, clean=clean)
    if as_json:
        print(json.dumps(summary))  # noqa: T201 - the summary is the output
    else:
        _tell(summary, show)
    return 0 if summary["each_event_once"] and clean else 1


@contextmanager
def _worker(
    address: str, example: str, config: Config, stop: threading.Event
) -> Iterator[tuple[subprocess.Popen[str], deque[str]]]:
    """Run ``headrace run`` beside this process; give it, and what it says, when it is ready.

    When it ends, ``stop`` is set: there is nobody left to watch.
    """
    command = [sys.executable, "-m", "headrace.stream.cli", "run", f"headrace.examples.{example}.pipeline"]
    command += [
        "--broker",
        address,
        "--guarantee",
        config.guarantee,
        "--group",
        config.group or "headrace-demo",
    ]
    command += ["--set", f"instance=demo-{os.getpid()}"]
    command += ["--set", f"web_port={config.web_port}", "--set", f"web_host={config.web_host}"]
    command += ["--set", f"page={str(config.page).lower()}"]
    command += ["--set", f"kafka.fetch.wait.max.ms={FETCH_WAIT_MS}"]
    command += ["--log-format", "text"]  # where it goes wrong, a person is shown what it said
    command += ["--set", "event_ahead_max_ms=0"]  # compressed time may be ahead of ours
    worker = subprocess.Popen(  # noqa: S603 - our own command line, no shell
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A command line is for all to see, and the environment is not.
        env=os.environ | ({"HEADRACE_WEB_TOKEN": config.web_token} if config.web_token else {}),
    )
    ready = threading.Event()
    told: deque[str] = deque(maxlen=20)

    def listen() -> None:
        assert worker.stderr is not None
        for line in worker.stderr:
            told.append(line)
            if "ready:" in line:
                ready.set()
        # A process that is killed closes its files before it has ended, and who looks in between would call it alive.
        worker.wait()
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


def _watch(
    producing: Producing,
    reading: Reading,
    judging: Judging,
    show: Show,
    stop: threading.Event,
    *,
    until: float | None,
    say: Any,
) -> None:
    second, sent, seen, told, phase, turned_at = 0, 0, 0, 0, "before", None
    while not stop.wait(1.0) and not producing.stopped.is_set():
        second += 1
        latencies, reading.latencies_ms = reading.latencies_ms, []
        outcomes, reading.outcomes = reading.outcomes, []
        judging.take(outcomes)
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (float("nan"), float("nan"))
        line = (
            f"{second:4d} s  in {producing.sent - sent:7,}/s   out {reading.seen - seen:7,}/s   "
            f"latency p50 {p50:6.1f} ms  p99 {p99:6.1f} ms"
        )
        lately = judging.lately
        # One line where it fits, and a line of its own where a terminal is narrow.
        narrow = sys.stdout.isatty() and len(line + lately) > shutil.get_terminal_size().columns
        say(f"{line}\n     {lately}" if narrow and lately else f"{line}{lately}")
        sent, seen = producing.sent, reading.seen
        if producing.phase != phase:
            phase, turned_at = producing.phase, time.monotonic()
            say(f"\n        {show.told(phase)}\n")
        for at, alert in reading.alerts[told:]:
            told += 1
            after = "" if turned_at is None else f", {max(0.0, at - turned_at):.1f} s after that"
            say(f"        Alert {alert['state']}{after}: {alert['text']} ({alert['severity']}).")
        if second % 5 == 1:
            for one in list(reading.last):
                model = f"{one['model']} {one['version']}"
                both = f"static {one['static']:.4f}  online {one['online']:.4f}"
                say(f"        {one['id']:>10}  score {one['score']:.4f}  ({both}), model {model}")
        reading.before_ms.extend(latencies)
        if until is not None and time.monotonic() >= until:
            return


def _drain(producing: Producing, reading: Reading) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while (reading.seen < producing.sent or reading.known < producing.labelled) and time.monotonic() < deadline:
        time.sleep(0.02)


def _summary(
    producing: Producing, reading: Reading, judging: Judging, took: float, config: Config, *, clean: bool
) -> dict[str, Any]:
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
        "labels": producing.labelled,
        "outcomes": reading.known,
        "quality": judging.report(),
        "alerts": [
            {name: alert[name] for name in ("id", "state", "kind", "series", "severity", "at", "text")}
            for _, alert in reading.alerts
        ],
        "guarantee": config.guarantee,
        "worker_stopped_cleanly": clean,
    }


def _tell(summary: dict[str, Any], show: Show) -> None:
    verdict = "every event has exactly one prediction" if summary["each_event_once"] else "NOT one prediction per event"
    _say(
        f"\n{summary['events']:,} events in, {summary['predictions']:,} predictions out in {summary['seconds']} s: "
        f"{verdict} ({summary['missing']} missing, {summary['doubled']} doubled)."
    )
    quantiles = f"p50 {summary['latency_ms_p50']} ms, p99 {summary['latency_ms_p99']} ms"
    _say(f"Latency, from the event's producer to the reader of its prediction: {quantiles}.")
    for phase, one in summary["quality"].items():
        _say(f"\n{PHASES[phase]}, {one['outcomes']:,} outcomes of {show.events}:")
        for name in MODELS.values() if one["outcomes"] else ():
            numbers = "  ".join(f"{NUMBERS[number]} {_shown(one[name][number])}" for number in NUMBERS)
            _say(f"    {name:10}{numbers}")
    _say("")
    _say(
        f"Guarantee: {summary['guarantee']}. (The embedded broker keeps nothing and isolates nothing; for transactions "
        "that hold, run `make broker` and `headrace run`.)"
    )


def _shown(number: float | None) -> str:
    return "  none" if number is None else f"{number:.4f}"


def _say(text: str) -> None:
    print(terminal.fitted(text), flush=True)  # noqa: T201 - this is a program to look at


def _silent(text: str) -> None:
    del text
