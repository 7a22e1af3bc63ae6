"""A part of a topic: where it begins and ends in each partition, and its records. No group hears of it."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from headrace.schemas.config import Config
from headrace.schemas.errors import BadSlice, BrokerNotAvailable, TopicMissing
from headrace.schemas.position import COMMITTED, EARLIEST, LATEST, Asked, Position
from headrace.stream import clients

ANSWER_SECONDS_MAX = 10.0
PATIENCE_SECONDS = 60.0  # without a record and without the end of the log
BUFFER_BYTES_MIN = 1 << 20
Offsets = Mapping[int, int]


class Log(NamedTuple):
    """What a partition holds for who reads committed records: from its first offset to before its end."""

    first: int
    end: int


class Span(NamedTuple):
    """One partition's part of a slice: read from ``warm``, scored from ``begin``, to before ``end``."""

    partition: int
    warm: int
    begin: int
    end: int


class Slice(NamedTuple):
    """The spans of a topic that hold anything, and what a person should know about them.

    ``whole`` says that no record of the topic came before it, and that it ends where the worker or the log does.
    """

    topic: str
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()
    whole: bool = False

    @property
    def offset_count(self) -> int:
        """How many offsets are read, the warm-up too."""
        return sum(span.end - span.warm for span in self.spans)


def cut(
    asked: Asked, logs: Mapping[int, Log], found: Callable[[Position], Offsets], *, remembers: bool = False
) -> Slice:
    """Return the slice that was asked for, or raise with everything that is wrong with it.

    ``found`` says where a time, or what a group has committed, is in the partitions; one that it does not name
    has nothing at or after that time, or no committed offset. Without memory nothing is read before the slice.

    >>> logs = {0: Log(0, 100), 1: Log(40, 90)}
    >>> cut(Asked("cards", Position.parsed("50")), logs, lambda position: {}).spans
    (Span(partition=0, warm=50, begin=50, end=100), Span(partition=1, warm=50, begin=50, end=90))
    >>> cut(Asked("cards", Position.parsed("95")), logs, lambda position: {})
    Traceback (most recent call last):
    headrace.schemas.errors.BadSlice: no such slice (1 problem):
      --from 95: cards[1] has the offsets 40 to 90; --partition takes some partitions alone
    """
    chosen = sorted(set(asked.partitions)) if asked.partitions else sorted(logs)
    problems = [
        f"--partition {number}: {asked.topic} has the partitions {_listed(logs)}"
        for number in chosen
        if number not in logs
    ]
    chosen = [number for number in chosen if number in logs]
    places = {
        position: found(position) if position.time_ms is not None or position.said == COMMITTED else {}
        for position in {asked.begin, asked.end, asked.warm_up}
        if position is not None
    }
    for position in (asked.begin, asked.end):
        if position.said == COMMITTED and not places[position]:
            problems.append(f"{COMMITTED}: the group has no offsets of {asked.topic}; --group names another")
            raise BadSlice(problems)
    spans, past = [], {}
    for number in chosen:
        log, alone = logs[number], len(logs) == 1 or len(asked.partitions) == 1
        for flag, position in (("--from", asked.begin), ("--to", asked.end)):
            if position.offset is not None and not log.first <= position.offset <= log.end:
                hint = "" if alone else "; --partition takes some partitions alone"
                problems.append(
                    f"{flag} {position.said}: {asked.topic}[{number}] has the offsets {log.first} to {log.end}{hint}"
                )
        begin = _place(asked.begin, number, log, places)
        end = max(begin, _place(asked.end, number, log, places))
        warm = begin
        if remembers and asked.warm_up is not None and begin < end:
            warm = _place(asked.warm_up, number, log, places)
            if warm > begin:
                problems.append(
                    f"--warm-up {asked.warm_up.said}: it begins at {asked.topic}[{number}] offset {warm}, "
                    f"and the slice at {begin}"
                )
            if log.first and warm == log.first:
                past[number] = log.first
        spans.append(Span(number, warm, begin, end))
    if problems:
        raise BadSlice(problems)
    notes = [_not_whole(asked.topic, past)] if past else []
    kept = tuple(span for span in spans if span.begin < span.end)
    if not kept:
        there = ", ".join(f"{asked.topic}[{number}] {logs[number].first} to {logs[number].end}" for number in chosen)
        told = f"--from {asked.begin.said} --to {asked.end.said}: nothing is between them; the offsets are: {there}"
        raise BadSlice([told])
    whole = chosen == sorted(logs) and all(span.begin == 0 for span in spans) and asked.end.said in (LATEST, COMMITTED)
    return Slice(asked.topic, kept, tuple(notes), whole=whole)


def _place(position: Position, number: int, log: Log, places: Mapping[Position, Offsets]) -> int:
    if position.said == EARLIEST:
        return log.first
    if position.said == LATEST:
        return log.end
    # A group that has no offset in a partition has not begun there; a time that nothing follows is the end.
    otherwise = log.first if position.said == COMMITTED else log.end
    at = position.offset if position.offset is not None else places[position].get(number, otherwise)
    return min(max(at, log.first), log.end)


def _not_whole(topic: str, past: Offsets) -> str:
    there = ", ".join(f"{topic}[{number}] at {offset}" for number, offset in past.items())
    return (
        f"the past is not whole: the log begins with {there}; what was deleted before that is missing from what the "
        "features remember, and scores may differ from those of a worker that saw it"
    )


def _listed(numbers: Mapping[int, Any]) -> str:
    return f"0 to {max(numbers)}" if len(numbers) > 1 else "0 alone"


class Asking:
    """Asks a broker where things are. It joins no group and changes nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._heard: deque[KafkaError] = deque(maxlen=1)  # a refused password comes this way, not as an answer
        settings = {**clients.admin_settings(config), "error_cb": cast("Any", self._heard.append)}
        self._admin = AdminClient(settings, logger=clients.log)

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of the topic's partitions."""
        try:
            # All topics, because a broker may make the one that it is asked for by name.
            known = self._admin.list_topics(timeout=ANSWER_SECONDS_MAX).topics
        except KafkaException as error:
            reason = self._heard[-1] if self._heard else clients.kafka_error(error)
            raise self._silent(reason) from error
        if topic not in known:
            raise TopicMissing(f"on {self._config.broker} there is no topic {topic}, or it may not be seen")
        return sorted(known[topic].partitions)

    def logs(self, topic: str, *, uncommitted: bool = False) -> dict[int, Log]:
        """Return what each partition holds now; its end is that of what is committed, unless told otherwise."""
        numbers = self.partitions(topic)
        first = self._offsets(topic, numbers, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(topic, numbers, OffsetSpec.latest(), uncommitted=uncommitted)  # type: ignore[no-untyped-call]
        return {number: Log(first[number], end[number]) for number in numbers}

    def at(self, topic: str, time_ms: int) -> dict[int, int]:
        """Return the first record at or after a time, in those partitions that have one."""
        spec = OffsetSpec.for_timestamp(time_ms)
        answers = self._offsets(topic, self.partitions(topic), spec)
        return {number: offset for number, offset in answers.items() if offset >= 0}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return where a group is, in those partitions in which it has an offset."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, one) for one in self.partitions(topic)])
        answer = self._admin.list_consumer_group_offsets([asked], request_timeout=ANSWER_SECONDS_MAX)[group]
        try:
            found = answer.result(timeout=2 * ANSWER_SECONDS_MAX).topic_partitions
        except KafkaException as error:
            raise self._silent(clients.kafka_error(error)) from error
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def visible(self, topic: str) -> dict[int, Log]:
        """Return what each partition holds now, once all of it can be seen: transactions that are open have ended.

        What was committed becomes visible a moment later in each partition.
        """
        wanted = self.logs(topic, uncommitted=True)
        deadline = time.monotonic() + self._config.transaction_timeout_ms / 1_000 + ANSWER_SECONDS_MAX
        while any(log.end < wanted[number].end for number, log in self.logs(topic).items() if number in wanted):
            if time.monotonic() > deadline:
                raise BadSlice([f"{topic}: a transaction is open and does not end, and nobody can see what follows it"])
            time.sleep(0.05)
        return wanted

    def end(self, topic: str, number: int, *, uncommitted: bool = False) -> int:
        """Return where one partition ends for who reads committed records, or for who reads all."""
        spec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, [number], spec, uncommitted=uncommitted)[number]

    def _offsets(self, topic: str, numbers: Sequence[int], spec: Any, *, uncommitted: bool = False) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in numbers}
        isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=ANSWER_SECONDS_MAX)
        try:
            return {
                place.partition: answer.result(timeout=2 * ANSWER_SECONDS_MAX).offset
                for place, answer in answers.items()
            }
        except KafkaException as error:
            raise self._silent(clients.kafka_error(error)) from error

    def _silent(self, reason: KafkaError) -> BrokerNotAvailable:
        return BrokerNotAvailable(f"no answer from {self._config.broker} ({reason.str()})")


def find(config: Config, asked: Asked, *, remembers: bool) -> Slice:
    """Ask the broker for the slice; where it ends is settled now."""
    asking = Asking(config)

    def found(position: Position) -> Offsets:
        if position.time_ms is not None:
            return asking.at(asked.topic, position.time_ms)
        return asking.committed(config.group, asked.topic)

    return cut(asked, asking.logs(asked.topic), found, remembers=remembers)


class Reader:
    """Reads spans of a topic's partitions, one after the other. What is behind their end is not waited for."""

    def __init__(self, config: Config, *, share: int = 1) -> None:
        buffer_bytes = max(BUFFER_BYTES_MIN, config.buffer_bytes_max // share)
        ours = {
            # What is deleted while it is read must not be stepped over.
            "auto.offset.reset": "error",
            # Markers of transactions are no records, so an end behind them is heard of only when a fetch found none.
            "fetch.wait.max.ms": 20,
            "queued.max.messages.kbytes": buffer_bytes // 1024,
        }
        self._broker = config.broker
        self._consumer = Consumer({**clients.reader_settings(config, "replay"), **ours}, logger=clients.log)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def read(self, topic: str, partition: int, begin: int, end: int, *, count: int) -> Iterator[list[Message]]:
        """Yield the records from one offset to before the other, ``count`` at a time or fewer."""
        if begin >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, begin)])
        heard = time.monotonic()
        at = begin
        while at < end:
            first = self._consumer.poll(0.2)
            if first is None:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    raise BrokerNotAvailable(
                        f"{topic}[{partition}]: no record from {self._broker} for {PATIENCE_SECONDS:.0f} s, at offset "
                        f"{at} of {end}"
                    )
                continue
            heard = time.monotonic()
            records = []
            # The first record alone, and then what else is there: asking for many would wait until there are.
            for message in [first, *self._consumer.consume(count - 1, 0)]:
                if (error := message.error()) is None:
                    at = cast("int", message.offset()) + 1
                    if at <= end:
                        records.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                    # Behind the last record there may be markers of transactions.
                    at = max(at, cast("int", message.offset()))
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - as above
                    raise BadSlice([f"{topic}[{partition}]: deleted while it was read, at offset {at}: {error.str()}"])
                elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    continue  # the group is a name and nothing more
                elif error.code() in clients.REFUSALS or error.fatal():
                    raise TopicMissing(f"reading {topic}[{partition}]: {error.str()} ({error.name()})")
            if records:
                yield records
