"""``headrace alerts``: alerts forwarded to webhooks, listed, and acknowledged."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from headrace.schemas import slack, trace, webhook
from headrace.schemas.acknowledgement import BY_CHARACTERS_MAX, NOTE_CHARACTERS_MAX, Acknowledgement
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.errors import AlertUnknown, BadConfig, BrokerNotAvailable, TopicMissing
from headrace.stream import clients, topics
from headrace.stream.forwarding import Forwarder, printable
from headrace.stream.progress import UNKNOWN
from headrace.stream.slice import Asking, Reader
from headrace.stream.webhooks import Caller

log = logging.getLogger("headrace.alerts")

COMMIT_SECONDS = 1.0
POLL_SECONDS = 0.2
ASK_SECONDS_MAX = 10.0
SEND_SECONDS_MAX = 30.0
READ_COUNT = 1_000
_decode = msgspec.json.Decoder(Alert).decode


class Forwarding:
    """Reads the alerts as a member of a group, gives them to the forwarder, and commits how far it is."""

    def __init__(self, config: Config, forwarder: Forwarder) -> None:
        self._topic = config.topic_alerts
        self._forwarder = forwarder
        self._patience = config.alert_timeout_ms / 1_000 + 1.0
        self._committed: dict[int, tuple[int, str]] = {}
        self._committed_at = 0.0
        theirs = msgspec.structs.replace(config, group=config.alerts_group, group_instance_id="")
        settings: dict[str, Any] = {
            **clients.consumer_settings(theirs),
            "client.id": "headrace-alerts",
            "error_cb": clients.on_error,
            "on_commit": self._on_commit,
        }
        self._consumer = Consumer(settings, logger=clients.log)

    def run(self, stopping: threading.Event) -> None:
        """Forward until told to stop. What is not done by then is done by the next who runs."""
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self._forwarder.start()
        try:
            while not stopping.is_set():
                message = self._consumer.poll(POLL_SECONDS)
                if message is not None:
                    self._take(message)
                self._read_again()
                if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
                    self._commit(wait=False)
        finally:
            if not self._forwarder.stop(self._patience):
                log.warning("a webhook has not answered yet: what it was being sent is sent again by the next who runs")
            # Says how far it is as it lets go of its partitions.
            self._consumer.close()

    def _take(self, message: Message) -> None:
        partition, offset = cast("int", message.partition()), cast("int", message.offset())
        if (error := message.error()) is None:
            self._forwarder.take(partition, offset, message.value(), traceparent(message))
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
            self._forwarder.ended(partition, offset)
        elif error.code() in clients.FATAL_IN_READING or error.fatal():
            told = f"reading {self._topic}: {error.str()} ({error.name()})"
            raise TopicMissing(f"{told}; what was not sent stays there, and is sent after a restart")
        else:
            clients.on_error(error)

    def _read_again(self) -> None:
        for partition, offset in self._forwarder.to_read_again().items():
            try:
                self._consumer.seek(TopicPartition(self._topic, partition, offset))
            except KafkaException:
                continue  # not fetched yet; tried again with the next poll
            self._forwarder.reads_again(partition, offset)

    def _commit(self, *, wait: bool) -> None:
        self._committed_at = time.monotonic()
        found = self._forwarder.committed()
        news = {number: place for number, place in found.items() if self._committed.get(number) != place}
        if not news:
            return
        places = [TopicPartition(self._topic, number, *place) for number, place in news.items()]
        try:
            if wait:
                self._consumer.commit(offsets=places, asynchronous=False)
            else:
                self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._on_commit(clients.kafka_error(error), places)
            return
        self._committed.update(news)

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        if error is not None:
            log.warning("how far alerts are could not be committed, and is committed again: %s", error.str())
            self._committed.clear()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        known: dict[int, TopicPartition] = {}
        try:
            known = {one.partition: one for one in consumer.committed(partitions, timeout=ASK_SECONDS_MAX)}
        except KafkaException as error:
            log.warning(
                "what each webhook has had is not known (%s): it may get some again", clients.kafka_error(error).str()
            )
        for one in partitions:
            found = known.get(one.partition)
            offset = found.offset if found and found.offset >= 0 else UNKNOWN
            self._forwarder.assigned(one.partition, offset, (found.metadata or "") if found else "")
            self._committed.pop(one.partition, None)
        log.info("has the partitions %s of %s", sorted(one.partition for one in partitions), self._topic)

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [one.partition for one in partitions]
        self._forwarder.revoked(numbers, self._patience)
        self._commit(wait=True)
        self._forwarder.forget(numbers)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forwarder.forget([one.partition for one in partitions])


def traceparent(message: Message) -> str:
    """Return the trace that an alert's record is in, as it goes on; nothing where its header names none."""
    found = trace.of(clients.headers_of(message))
    # Written anew: what somebody else wrote to the topic becomes no header of a request.
    return "" if found is None else bytes(found).decode()


def forward(config: Config, stopping: threading.Event | None = None) -> None:
    """Forward alerts until told to stop by a signal, or by the event where there is one."""
    hooks = webhook.listed(config.alert_webhooks, config.alert_slack_webhooks)
    problems = []
    if not hooks:
        problems.append("alert_webhooks and alert_slack_webhooks are empty: say where alerts are forwarded to")
    if not config.alerts_group:
        problems.append("group is empty: say the workers' group, or alert_group")
    if problems:
        raise BadConfig(problems)
    if stopping is None:
        stopping = threading.Event()
        _listen(stopping, config.drain_timeout_ms / 1_000)
    topics.see_to(config, [config.topic_alerts], stopped=stopping.is_set)
    caller = Caller(webhook.networks(config.alert_networks), seconds=config.alert_timeout_ms / 1_000)
    forwarder = Forwarder(
        hooks,
        caller,
        pause_max=config.alert_pause_max_ms / 1_000,
        give_up=config.alert_give_up_ms / 1_000,
        bytes_max=config.buffer_bytes_max,
        record_bytes_max=config.event_bytes_max,
    )
    told = ", ".join(forwarder.counts)
    log.info("forwards %s as group %s to %s", config.topic_alerts, config.alerts_group, told)
    try:
        Forwarding(config, forwarder).run(stopping)
    finally:
        for name, counts in forwarder.counts.items():
            log.info(
                "%s: %d alerts taken, %d attempts, %d given up", name, counts.accepted, counts.attempts, counts.given_up
            )
        if forwarder.malformed:
            log.info("%d records were no alerts", forwarder.malformed)


def _listen(stopping: threading.Event, seconds: float) -> None:
    """Stop at the first signal, and end at the second or when stopping takes too long."""

    def on_signal(number: int, _frame: Any) -> None:
        if stopping.is_set():
            log.error("%s again: ending at once", signal.Signals(number).name)
            os._exit(1)
        log.info("%s: stopping", signal.Signals(number).name)
        stopping.set()
        deadline = threading.Timer(seconds, on_late)
        deadline.daemon = True
        deadline.start()

    def on_late() -> None:
        log.error("not stopped within drain_timeout_ms = %d: ending at once", int(seconds * 1_000))
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def open_alerts(config: Config) -> list[Alert]:
    """Return the alerts that are not cleared, as they were last said, the most severe first."""
    asking = Asking(config)
    newest: dict[str, Alert] = {}
    with closing(Reader(config)) as reader:
        for partition, log_ in asking.logs(config.topic_alerts).items():
            for messages in reader.read(config.topic_alerts, partition, *log_, count=READ_COUNT):
                for message in messages:
                    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        alert = _decode(message.value() or b"")
                        newest[alert.id] = alert
    still = [alert for alert in newest.values() if alert.state != AlertState.CLEARED]
    return sorted(still, key=lambda one: (-one.severity.rank, one.since if one.since is not None else one.at, one.id))


def show(config: Config, *, as_json: bool) -> None:
    """Print the alerts that are open, one a line."""
    found = open_alerts(config)
    for alert in found:
        print(encode(alert).decode() if as_json else line(alert))  # noqa: T201
    if not found and not as_json:
        print("no alert is open")  # noqa: T201
    sys.stdout.flush()


def line(alert: Alert) -> str:
    """Return what a person is told of an alert, in one line.

    >>> line(Alert(id="drift-7", at=12.5, kind="drift", state=AlertState.RAISED, text="amount moved", series="amount"))
    'MEDIUM  raised  drift-7  1970-01-01T00:00:12Z  amount  amount moved'
    """
    place = f"{alert.series}[{alert.slice}]" if alert.slice else alert.series
    since = alert.since if alert.since is not None else alert.at
    parts = (alert.severity.upper(), str(alert.state), alert.id, slack.when(since), place, alert.text)
    # A terminal does what control characters say, and an alert may say anything.
    return "  ".join(printable(part) for part in parts if part)


def acknowledge(config: Config, identity: str, *, by: str, note: str) -> None:
    """Publish that somebody has seen an alert that is open, or raise."""
    problems = too_long(("--by", by, BY_CHARACTERS_MAX), ("--note", note, NOTE_CHARACTERS_MAX))
    if problems:
        raise BadConfig(problems)
    found = {alert.id: alert for alert in open_alerts(config)}
    if identity not in found:
        hint = f"; open are {', '.join(list(found)[:5])}" if found else "; none is open"
        raise AlertUnknown(f"{identity}: no alert that is open on {config.topic_alerts} has this id{printable(hint)}")
    publish(config, identity, by=by, note=note)
    print(f"acknowledged: {line(found[identity])}", flush=True)  # noqa: T201


def too_long(*given: tuple[str, str, int]) -> list[str]:
    """Return what is to be said about texts that have more characters than they may.

    >>> too_long(("--by", "ada", 3), ("--note", "seen", 3))
    ['--note: 4 characters; allowed are 3']
    """
    return [f"{name}: {len(text)} characters; allowed are {most}" for name, text, most in given if len(text) > most]


def publish(
    config: Config, identity: str, *, by: str, note: str, stopped: Callable[[], bool] = lambda: False
) -> Acknowledgement:
    """Publish that somebody has seen an alert; return what was published once the broker has it.

    A broker that is away is waited for until ``stopped`` says that it is enough.
    """
    topics.see_to(config, [config.topic_acknowledgements], stopped=stopped)
    one = Acknowledgement(id=identity, at=round(time.time(), 3), by=by, note=note)
    failed: list[KafkaError] = []
    settings: dict[str, Any] = {
        **clients.producer_settings(config, transactional=False),
        "message.timeout.ms": int(SEND_SECONDS_MAX * 1_000),
        "error_cb": lambda _error: None,
    }
    producer = Producer(settings, logger=clients.log)
    producer.produce(
        config.topic_acknowledgements,
        encode(one),
        identity,
        on_delivery=lambda error, _message: failed.append(error) if error is not None else None,
    )
    left = producer.flush(SEND_SECONDS_MAX + 5.0)
    if failed or left:
        reason = f" ({failed[0].str()})" if failed else ""
        raise BrokerNotAvailable(f"{config.broker} did not take the acknowledgement{reason}; say it again")
    return one
