"""``headrace dlq``: what cannot be scored, counted by reason, looked at, and scored again when it was mended."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import CONNECT, OURS, Header, as_it_came, retried, retries
from headrace.schemas.errors import BadSlice, NotDelivered
from headrace.stream import clients, failpoint, terminal
from headrace.stream.slice import Asking, Log, Reader

READ_COUNT = 500
TRANSACTION_COUNT = 1_000  # letters in one transaction
SECONDS_MAX = 30.0
SHOWN_CHARACTERS_MAX = 100


class Letter(NamedTuple):
    """One dead letter, and where the record that it was came from."""

    partition: int
    offset: int
    at: float  # when it was given up
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    reason: str
    message: str
    pipeline: str
    topic: str
    source: tuple[int, int]  # the partition and offset that it had there
    retries: int


def letter(record: Message) -> Letter:
    """Read a record of the dead letters."""
    headers: list[Any] = record.headers() or []  # type: ignore[assignment]
    said = {name: (value or b"").decode(errors="replace") for name, value in headers}
    numbers = [said.get(CONNECT + name, "") for name in ("partition", "offset")]
    partition, offset = (int(number) if number.isdecimal() else -1 for number in numbers)
    return Letter(
        record.partition() or 0,
        record.offset() or 0,
        record.timestamp()[1] / 1_000,
        record.key(),
        record.value(),
        headers,
        said.get(f"{OURS}code", "unknown"),
        said.get(f"{CONNECT}exception.message", ""),
        said.get(f"{OURS}pipeline", ""),
        said.get(f"{CONNECT}topic", ""),
        (partition, offset),
        retries(as_it_came(headers)),
    )


class Letters:
    """The dead letters of one pipeline, which may share their topic with others'."""

    def __init__(self, pipeline: Pipeline, config: Config) -> None:
        self.topic = config.topic_dead_letters
        self._pipeline = pipeline
        self._config = msgspec.structs.replace(config, group=config.group or pipeline.name)
        self._asking = Asking(self._config)
        self.logs: dict[int, Log] = self._asking.logs(self.topic)

    def read(self, partition: int, begin: int) -> Iterator[Letter]:
        """Yield the pipeline's letters of a partition, to where it ended when it was first looked at."""
        reader = Reader(self._config)
        try:
            for records in reader.read(self.topic, partition, begin, self.logs[partition].end, count=READ_COUNT):
                yield from (one for one in map(letter, records) if one.pipeline == self._pipeline.name)
        finally:
            reader.close()

    def group(self, reason: str) -> str:
        """Return the group whose offsets say which letters of a reason were retried."""
        return f"{self._config.group}-dlq-{reason}"

    def retried_to(self, reason: str) -> dict[int, int]:
        """Return to where, by partition, the letters of a reason were retried."""
        return self._asking.committed(self.group(reason), self.topic)


def ls(pipeline: Pipeline, config: Config, *, as_json: bool) -> int:
    """Print how many there are of each reason, how many of those were not retried, and the newest."""
    letters = Letters(pipeline, config)
    counts: dict[str, int] = {}
    waiting: dict[str, int] = {}
    newest: dict[str, Letter] = {}
    done: dict[str, dict[int, int]] = {}
    for partition, log in letters.logs.items():
        for one in letters.read(partition, log.first):
            if one.reason not in counts:
                done[one.reason] = letters.retried_to(one.reason)
            counts[one.reason] = counts.get(one.reason, 0) + 1
            if one.offset >= done[one.reason].get(partition, 0):
                waiting[one.reason] = waiting.get(one.reason, 0) + 1
            if one.reason not in newest or one.at >= newest[one.reason].at:
                newest[one.reason] = one
    for reason in sorted(counts, key=lambda name: (-counts[name], name)):
        last = newest[reason]
        row = {
            "reason": reason,
            "count": counts[reason],
            "not_retried": waiting.get(reason, 0),
            "newest": last.at,
            "place": f"{last.partition}:{last.offset}",
            "from": f"{last.topic}[{last.source[0]}] offset {last.source[1]}",
            "message": last.message,
        }
        if as_json:
            terminal.json_line(row)
        else:
            terminal.line(
                f"{reason:20}{row['count']:>9,}   {row['not_retried']:,} not retried   newest {_when(last.at)}"
            )
            terminal.line(f"    {row['place']:>10}  {row['from']}: {last.message}")
            terminal.line(f"    {'':10}  {_text(last.value)[:SHOWN_CHARACTERS_MAX]}")
    if not counts and not as_json:
        terminal.line(f"no dead letters of {pipeline.name} in {letters.topic}")
    return 0


def show(pipeline: Pipeline, config: Config, place: str, *, as_json: bool) -> int:
    """Print one, its headers and its value as it came."""
    letters = Letters(pipeline, config)
    numbers = place.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise BadSlice([f"{place}: expected PARTITION:OFFSET, as headrace dlq ls prints it"])
    partition, offset = map(int, numbers)
    log = letters.logs.get(partition)
    if log is None or not log.first <= offset < log.end:
        there = ", ".join(f"{number}:{one.first} to {number}:{one.end - 1}" for number, one in letters.logs.items())
        raise BadSlice([f"{place}: {letters.topic} has {there}"])
    found = next((one for one in letters.read(partition, offset) if one.offset == offset), None)
    if found is None:
        raise BadSlice([f"{place}: no dead letter of {pipeline.name} is there"])
    if as_json:
        shown = {name: _text(value) for name, value in found.headers}
        terminal.json_line({**found._asdict(), "headers": shown, "key": _text(found.key), "value": _text(found.value)})
        return 0
    terminal.line(f"{letters.topic} {place}, {_when(found.at)}: {found.reason}: {found.message}")
    terminal.line(f"from {found.topic}[{found.source[0]}] offset {found.source[1]}, retried {found.retries} times")
    for name, value in found.headers:
        terminal.line(f"  {name}: {_text(value)}")
    terminal.line(f"key: {_text(found.key)}")
    terminal.line(_text(found.value))
    return 0


def retry(
    pipeline: Pipeline, config: Config, *, reason: str | None, limit: int | None, dry: bool, as_json: bool
) -> int:
    """Publish those that were not retried yet to the topics that they came from.

    Delivery guarantees
    -------------------
    Exactly once: which letters were retried is an offset for each reason, in the transaction of the records. A retry
    that dies in the middle is as if it had not been, and the next one goes on; of two at once, the first is fenced.
    """
    letters = Letters(pipeline, config)
    named = msgspec.structs.replace(config, group=config.group or pipeline.name)
    again = None if dry else Again(letters, pipeline, named)
    counts: dict[str, int] = {}
    done: dict[str, dict[int, int]] = {}
    if reason:
        done[reason] = letters.retried_to(reason)
    for partition, log in letters.logs.items():
        begin = max(log.first, done[reason].get(partition, 0)) if reason else log.first
        for one in letters.read(partition, begin):
            if again is not None:
                again.commit_if_old()
            if reason and one.reason != reason:
                continue
            if one.reason not in done:
                # After the producer was made: what one before it left open has ended, so this is where it came to.
                done[one.reason] = letters.retried_to(one.reason)
            if one.offset < done[one.reason].get(partition, 0):
                continue
            if limit is not None and sum(counts.values()) >= limit:
                break
            counts[one.reason] = counts.get(one.reason, 0) + 1
            if again is not None:
                again.publish(one)
    if again is not None:
        again.commit()
    did = "would be retried" if dry else "retried"
    if as_json:
        terminal.json_line({"retried": counts, "dry_run": dry})
    else:
        for name, count in sorted(counts.items()):
            terminal.line(f"{count:,} {did}: {name}")
        if not counts:
            terminal.line("nothing to retry: headrace dlq ls counts what was retried already")
    return 0


class Again:
    """Publishes letters to where they came from, and notes that in the same transactions."""

    def __init__(self, letters: Letters, pipeline: Pipeline, config: Config) -> None:
        self._letters = letters
        self._pipeline = pipeline
        self._settings = clients.consumer_settings(config)
        named = msgspec.structs.replace(config, instance="dlq")
        settings = clients.producer_settings(named, transactional=True)
        self._producer = Producer({**settings, "error_cb": clients.on_error}, logger=clients.log)
        self._open = 0
        self._began = 0.0
        self._seconds = config.transaction_timeout_ms / 4_000  # that a transaction is open, at the most
        self._offsets: dict[str, dict[int, int]] = {}
        self._call(self._producer.init_transactions, SECONDS_MAX)
        metadata = self._producer.list_topics(timeout=SECONDS_MAX).topics
        self._partitions = {name: len(metadata[name].partitions) for name in pipeline.topics if name in metadata}

    def publish(self, one: Letter) -> None:
        """Publish one as it came: key, value and headers, to its partition, with one more retry counted."""
        # Another header of that name may be older than ours; what this pipeline reads is known.
        topic = one.topic if one.topic in self._pipeline.topics else self._pipeline.topics[0]
        place = one.source[0] if topic == one.topic and one.source[0] < self._partitions.get(topic, 0) else -1
        if not self._open:
            self._producer.begin_transaction()
            self._began = time.monotonic()
        headers: Any = retried(one.headers)
        while True:
            try:
                self._producer.produce(topic, one.value, one.key, place, headers=headers)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._open += 1
        self._offsets.setdefault(one.reason, {})[one.partition] = one.offset + 1
        if self._open >= TRANSACTION_COUNT:
            self.commit()

    def commit_if_old(self) -> None:
        """Commit before the broker loses patience: what is read between two letters to retry may be much."""
        if self._open and time.monotonic() - self._began > self._seconds:
            self.commit()

    def commit(self) -> None:
        """Make what was published visible, and it known that it was."""
        if not self._open:
            return
        for reason, offsets in self._offsets.items():
            consumer = Consumer({**self._settings, "group.id": self._letters.group(reason)})
            places = [TopicPartition(self._letters.topic, number, offset) for number, offset in offsets.items()]
            metadata = consumer.consumer_group_metadata()
            self._call(self._producer.send_offsets_to_transaction, places, metadata, SECONDS_MAX)
            consumer.close()
        self._producer.flush(SECONDS_MAX)
        failpoint.reached("before_commit")
        self._call(self._producer.commit_transaction, SECONDS_MAX)
        self._open, self._offsets = 0, {}

    def _call(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except KafkaException as error:
            reason = clients.kafka_error(error)
            raise NotDelivered(
                f"retrying dead letters: {reason.str()} ({reason.name()}); nothing of the last "
                f"{TRANSACTION_COUNT} was published, and the command goes on from there when it is run again"
            ) from error


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="backslashreplace")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
