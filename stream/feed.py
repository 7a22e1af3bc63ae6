"""``headrace demo --produce-only``: the events and labels of an example, for workers on a broker of your own.

A producer that starts again goes on after the newest event that is on the topic: workers that remember would call
what was before it late.
"""

import math
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from headrace.schemas.config import Config
from headrace.schemas.errors import BrokerNotAvailable, NotDelivered
from headrace.stream import clients, terminal, topics
from headrace.stream.shows import DAY_SECONDS, SHOWS, Course, Phase, Show, days_after
from headrace.stream.stopping import asked_to_stop

SECONDS = 600.0  # for which a feed without an end is planned: the world changes in the middle
TELL_SECONDS = 10.0
PAUSE_SECONDS = 0.01  # from one handful of records to the next
ASK_SECONDS_MAX = 10.0
LAST = -2_001  # the offset of the last record, as librdkafka says it: one from the tail
FLUSH_SECONDS_MAX = 20.0


class Feed:
    """Publishes records at a steady rate, each event under an id that no other feed gives."""

    def __init__(self, config: Config, show: Show) -> None:
        self.sent = 0
        self.labelled = 0
        self.phase: Phase = "before"
        self._show = show
        self._run = uuid.uuid4().hex[:8]
        self._names: dict[str, str] = {}  # of events whose label is to come
        self._where = config.broker
        self._refused: KafkaError | None = None
        settings: dict[str, Any] = {
            **clients.producer_settings(config, transactional=False),
            "error_cb": clients.on_error,
            "on_delivery": self._on_delivery,
            "delivery.report.only.error": True,
        }
        self._producer = Producer(settings, logger=clients.log)

    def publish_event(self) -> None:
        """Publish the next event, and the labels that come before it."""
        before = self.sent
        while self.sent == before:
            self._publish(*next(self._show.records))

    def poll(self) -> None:
        """Hear what became of what was published; raise where a broker refused it."""
        self._producer.poll(0)
        if self._refused is not None:
            raise NotDelivered(
                f"{self._where} refuses events of the example: {self._refused.str()} ({self._refused.name()})"
            )

    def finish(self) -> None:
        """Wait until the broker has everything."""
        left = self._producer.flush(FLUSH_SECONDS_MAX)
        self.poll()
        if left:
            raise NotDelivered(f"{self._where} did not take the last {left:,} records in {FLUSH_SECONDS_MAX:.0f} s")

    def _publish(self, topic: str, record: dict[str, Any]) -> None:
        if topic == self._show.events:
            self._names[record["id"]] = f"{self._run}-{self.sent}"
            self.phase = self._show.phase(record["at"])
            record["id"] = self._names[record["id"]]
            self.sent += 1
        else:
            record["id"] = self._names.pop(record["id"])
            self.labelled += 1
        while True:
            try:
                self._producer.produce(topic, orjson.dumps(record), record[self._show.key])
            except BufferError:  # the broker has been away for long; what is due then comes later
                self._producer.poll(0.1)
            else:
                return

    def _on_delivery(self, error: KafkaError | None, _message: Any) -> None:
        self._refused = self._refused or error


def feed(
    config: Config, *, example: str, events: int, seconds: float, rate: int, as_json: bool, course: Course = "changes"
) -> int:
    """Produce until there is enough or somebody says stop; return 0 once the broker has all of it."""
    stopped = asked_to_stop()
    show = SHOWS[example](events or round(rate * (seconds or SECONDS)), course)
    say = _silent if as_json else _say
    topics.see_to(config, (show.events, show.labels), stopped=stopped.is_set)
    if stopped.is_set():
        return 0
    try:
        after = newest(config, show.events, stopped)
    except KafkaException as error:
        raise BrokerNotAvailable(f"no answer from {config.broker} ({clients.kafka_error(error).str()})") from error
    show = show.moved(days_after(after, show.begins_at) * DAY_SECONDS)
    feeding = Feed(config, show)
    say(f"{rate:,} {show.events} a second go to {config.broker}, and {show.labels} come {show.delay}.")
    phase: Phase = "before"
    for second in _paced(feeding, rate, events, seconds, stopped):
        if feeding.phase != phase:
            phase = feeding.phase
            say(show.told(phase))
        if second:
            say(f"{second:6d} s  {feeding.sent:,} {show.events}, {feeding.labelled:,} {show.labels}")
    feeding.finish()
    if as_json:
        terminal.json_line({"events": feeding.sent, "labels": feeding.labelled, "changed": feeding.phase != "before"})
    else:
        say(f"{config.broker} has {feeding.sent:,} {show.events} and {feeding.labelled:,} {show.labels}.")
    return 0


def _paced(feeding: Feed, rate: int, events: int, seconds: float, stopped: threading.Event) -> Iterator[int]:
    """Publish what is due again and again; yield after each time, now and then with how many seconds have passed."""
    began = told = time.monotonic()
    while not stopped.wait(PAUSE_SECONDS):
        now = time.monotonic()
        passed = min(now - began, seconds) if seconds else now - began
        due = min(int(passed * rate), events or int(passed * rate))
        while feeding.sent < due and not stopped.is_set():
            feeding.publish_event()
        feeding.poll()
        told = now if (tell := now - told >= TELL_SECONDS) else told
        yield round(now - began) if tell else 0
        if (events and feeding.sent == events) or (seconds and passed >= seconds):
            return


def newest(config: Config, topic: str, stopped: threading.Event) -> float:
    """Return the time of the newest event on a topic of the example's; minus infinity where there is none."""
    consumer = Consumer(clients.reader_settings(config, "feed"), logger=clients.log)
    found = -math.inf
    try:
        left = set(consumer.list_topics(topic, timeout=ASK_SECONDS_MAX).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, LAST) for number in left])
        while left and not stopped.is_set():
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error() is None:
                with suppress(ValueError, TypeError, KeyError):  # of somebody else
                    found = max(found, float(orjson.loads(message.value() or b"{}")["at"]))
            left.discard(message.partition() or 0)  # also at its end, where it is empty
    finally:
        consumer.close()
    return found


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - for whoever looks at it meanwhile


def _silent(text: str) -> None:
    del text
