"""A slice of a topic, scored again: what a worker made of these records, without touching its group."""

import heapq
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TextIO, cast

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from headrace.models.pipeline import Pipeline
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header, RejectedRecord, Rejection
from headrace.schemas.errors import BadConfig, BadFile, BadSlice, NotDelivered
from headrace.schemas.event import columns_of
from headrace.schemas.position import Asked
from headrace.stream import clients, topics
from headrace.stream.agents import Scored, Scorer
from headrace.stream.files import JSON_LINES, STANDARD, Target, format_of, letters_beside, open_sink, original
from headrace.stream.slice import Reader, Slice, Span, find
from headrace.stream.summary import Rejections

SOURCE = "headrace.source."
SOURCE_BYTES_MAX = 400  # of the headers that say where a prediction's event is
PROGRESS_SECONDS = 0.5
GAP_SECONDS_MAX = 10.0
DELIVERY_SECONDS_MAX = 60.0
PLACE = ("event_topic", "event_partition", "event_offset")


class Part(NamedTuple):
    """Records of one partition that follow each other, and what became of them."""

    topic: str
    partition: int
    messages: list[Message]
    scored: Scored

    @property
    def offsets(self) -> list[int]:
        """Where the event of each prediction is."""
        return [self.messages[at].offset() or 0 for at in self.scored.places]

    def one(self, index: int) -> "Part":
        """Return one prediction alone."""
        places, predictions, outputs, _, effects, _ = self.scored
        cut = outputs._replace(
            keys=outputs.keys[index : index + 1],
            values=outputs.values[index : index + 1],
            headers=outputs.headers[index : index + 1] if outputs.headers else None,
        )
        alone = Scored(places[index : index + 1], predictions[index : index + 1], cut, [], effects)
        return self._replace(scored=alone)


class Summary:
    """What was read, what became of it, and what a person should know about it."""

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self.notes = list(notes)
        self.warmed = 0
        self.scored = 0
        self.rejections = Rejections()
        self.partitions = 0
        self.seconds = 0.0

    @property
    def rejected(self) -> int:
        """How many records have no prediction."""
        return self.rejections.count

    @property
    def records(self) -> int:
        """How many records the slice has."""
        return self.scored + self.rejected

    def add(self, part: Part) -> None:
        """Count a part of the slice."""
        self.scored += len(part.scored.places)
        for one in part.scored.rejections:
            place = f"{part.topic}[{part.partition}] offset {part.messages[one.at].offset()}"
            self.rejections.add(place, one)

    def told(self, letters: str | None = None) -> str:
        """Return what a person is told at the end."""
        rate = f"{(self.records + self.warmed) / self.seconds:,.0f} records/s" if self.seconds else "at once"
        many = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        warm = f", after {self.warmed:,} of warm-up" if self.warmed else ""
        head = (
            f"{self.records:,} records of {many}: {self.scored:,} scored, {self.rejected:,} rejected{warm}, "
            f"in {self.seconds:.1f} s ({rate})"
        )
        where = [f"they are in {letters}"] if self.rejected and letters else []
        return "\n  ".join([head, *self.rejections.lines(examples=not letters), *where, *self.notes])


class Progress:
    """Tells a terminal twice a second how far it is, and nobody else."""

    def __init__(self, total: int, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._total = max(1, total)
        self._done = self._records = 0
        self._began = self._told = time.monotonic()

    def moved(self, doing: str, offsets: int, records: int) -> None:
        """Hear that so many offsets are behind us, and records in them."""
        self._done += offsets
        self._records += records
        if self._stream is not None and (now := time.monotonic()) - self._told > PROGRESS_SECONDS:
            self._told = now
            rate = self._records / (now - self._began)
            told = f"{self._done / self._total:4.0%}  {doing}  {self._records:,} records  {rate:,.0f} records/s"
            self._stream.write(f"\r\x1b[K{told}")
            self._stream.flush()

    def close(self) -> None:
        """Leave the line empty."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class Replay:
    """Scores a slice with a state of its own for each partition, in the order of the partition.

    The step is the worker's. Where a batch is cut does not show, so neither does that this one cuts elsewhere.
    ``letters`` gets the parts in which something was rejected, in the order in which they are scored.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: Config,
        found: Slice,
        *,
        bytes_max: int,
        letters: "Letters | None" = None,
        progress: TextIO | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._config = config
        self._slice = found
        self._scorer = Scorer(pipeline, config, {config.topic_predictions: bytes_max})
        self._letters = letters
        self._progress = Progress(found.offset_count, progress)
        self.summary = Summary(found.notes)
        self.summary.partitions = len(found.spans)
        self._began = time.monotonic()

    def parts(self) -> Iterator[Part]:
        """Yield the slice partition by partition: always in the same order, with one state in memory at a time."""
        with closing(Reader(self._config)) as reader, closing(self._progress):
            for span in self._slice.spans:
                yield from self._of(span, reader)
        self._end()

    def merged(self) -> Iterator[tuple[float, Part]]:
        """Yield the predictions one by one with their event time, of all partitions the earliest first."""
        with ExitStack() as stack:
            stack.enter_context(closing(self._progress))
            share = len(self._slice.spans)
            readers = [stack.enter_context(closing(Reader(self._config, share=share))) for _ in self._slice.spans]
            spans = zip(self._slice.spans, readers, strict=True)
            yield from heapq.merge(*[self._singly(*one) for one in spans], key=_first)
        self._end()

    def _end(self) -> None:
        self.summary.seconds = time.monotonic() - self._began
        if not self.summary.records:
            spans = ", ".join(
                f"{self._slice.topic}[{one.partition}] {one.begin} to {one.end}" for one in self._slice.spans
            )
            raise BadSlice([f"there is no record between the offsets: {spans}"])

    def _singly(self, span: Span, reader: Reader) -> Iterator[tuple[float, Part]]:
        time_of = attrgetter(self._pipeline.wire.time)
        for part in self._of(span, reader):
            for index, prediction in enumerate(part.scored.predictions):
                yield float(time_of(prediction)), part.one(index)

    def _of(self, span: Span, reader: Reader) -> Iterator[Part]:
        state, topic, at = self._pipeline.fresh(), self._slice.topic, span.warm
        count = self._config.batch_count_max
        for messages in reader.read(topic, span.partition, span.warm, span.begin, count=count):
            self._scorer.remember(messages, state)
            self.summary.warmed += len(messages)
            at = self._moved("warming up", at, messages)
        for messages in reader.read(topic, span.partition, span.begin, span.end, count=count):
            part = Part(topic, span.partition, messages, self._scorer.score(messages, state))
            self.summary.add(part)
            if self._letters is not None and part.scored.rejections:
                self._letters.take(part)
            yield part
            at = self._moved("replaying", at, messages)

    def _moved(self, doing: str, at: int, messages: list[Message]) -> int:
        after = (messages[-1].offset() or 0) + 1
        self._progress.moved(f"{doing} {self._slice.topic}[{messages[0].partition()}]", after - at, len(messages))
        return after


def _first(item: tuple[float, Part]) -> float:
    return item[0]


class Pace:
    """Waits until a prediction is due: at most ``rate`` in a second, or event time at ``speed``.

    A gap in event time is waited out for ten seconds at the most; whatever is longer, forwards or backwards, is
    taken for a gap, and time goes on from the event behind it. So one absurd time holds up nothing.

    >>> now = [0.0]
    >>> def sleep(seconds):
    ...     now[0] += seconds
    >>> pace = Pace(speed=2.0, clock=lambda: now[0], sleep=sleep)
    >>> for at in (100.0, 104.0, 103.0, 9e9, 105.0, 107.0):
    ...     pace.wait(at)
    ...     print(now[0])
    0.0
    2.0
    2.0
    2.0
    2.0
    3.0
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        assert (rate is None) != (speed is None)
        self._rate = rate
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._count = 0
        self._began: float | None = None
        self._first = 0.0

    def wait(self, at: float) -> None:
        """Return when a prediction of this event time is due."""
        now = self._clock()
        if self._began is None:
            self._began, self._first = now, at
        if self._rate is not None:
            due = self._began + self._count / self._rate
            self._count += 1
        else:
            assert self._speed is not None
            due = self._began + (at - self._first) / self._speed
            if not abs(due - now) <= GAP_SECONDS_MAX:
                self._began, self._first, due = now, at, now
        if due > now:
            self._sleep(due - now)


class Door(Protocol):
    """Where predictions go."""

    def take(self, part: Part) -> None:
        """Put out the predictions of a part."""
        ...

    def finish(self) -> None:
        """Return when all that was put out is there to stay."""
        ...


class FileDoor:
    """A file as `headrace score` writes it. In CSV and Parquet each row also says where its event is.

    A line of JSON is the value that a worker publishes, byte for byte, and so has no room for that.
    """

    def __init__(self, target: Target, given: str | None, pipeline: Pipeline) -> None:
        self._target = target
        self._rows = _placed_type(pipeline) if format_of(target.path, given) != JSON_LINES else None
        self._sink = open_sink(target, given, pipeline, rows=self._rows)
        self.abandon = self._sink.abandon

    def take(self, part: Part) -> None:
        """Write the predictions of a part."""
        rows: Sequence[Any] = part.scored.predictions
        if self._rows is not None:
            parts = zip(rows, part.offsets, strict=True)
            rows = [
                self._rows(*msgspec.structs.astuple(row), part.topic, part.partition, offset) for row, offset in parts
            ]
        with self._target.writing():
            self._sink.write(rows)

    def finish(self) -> None:
        """Write what is held back, and give the file its name."""
        with self._target.writing():
            self._sink.finish()
        self._target.keep()


def _placed_type(pipeline: Pipeline) -> Any:
    prediction: Any = pipeline.prediction
    fields = list(columns_of(prediction).items())
    if taken := sorted({name for name, _ in fields}.intersection(PLACE)):
        raise BadFile(f"{pipeline.events.__name__} has a field {taken[0]}, which the file's own column is called")
    return msgspec.defstruct("Placed", [*fields, *zip(PLACE, (str, int, int), strict=True)], gc=False)


class Letters:
    """A file of dead letters: a line for each record that was not scored."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def take(self, part: Part) -> None:
        """Write the rejections of a part."""
        with self._target.writing():
            self._target.file.writelines(encode(_letter(part, one)) + b"\n" for one in part.scored.rejections)

    def finish(self) -> None:
        """Give the file its name."""
        self._target.keep()


def _letter(part: Part, rejection: Rejection) -> RejectedRecord:
    message = part.messages[rejection.at]
    value = message.value()
    return RejectedRecord(
        topic=part.topic,
        partition=part.partition,
        offset=message.offset() or 0,
        reason=rejection.reason,
        message=rejection.message,
        original=None if value is None else original(value),
    )


class TopicDoor:
    """A topic. Headers say where each prediction's event is, beside those that a worker publishes."""

    def __init__(self, config: Config, topic: str) -> None:
        self._topic = topic
        settings = {
            **clients.producer_settings(config, transactional=False),
            "message.timeout.ms": int(DELIVERY_SECONDS_MAX * 1_000),
            "error_cb": clients.on_error,
            "on_delivery": self._on_delivery,
            "delivery.report.only.error": True,
        }
        self._producer = Producer(settings, logger=clients.log)
        self._refused: KafkaError | None = None
        self._sent = 0

    def take(self, part: Part) -> None:
        """Produce the predictions of a part."""
        topic, number = part.topic.encode(), str(part.partition).encode()
        outputs = part.scored.outputs
        theirs = outputs.headers or [None] * len(outputs.values)
        for key, value, given, offset in zip(outputs.keys, outputs.values, theirs, part.offsets, strict=True):
            headers: list[Header] = [header for header in given or () if not header[0].startswith(SOURCE)]
            places = (topic, number, str(offset).encode())
            headers += zip((f"{SOURCE}topic", f"{SOURCE}partition", f"{SOURCE}offset"), places, strict=True)
            self._produce(key, value, headers)
        self._producer.poll(0)
        self._raise_refused()

    def _produce(self, key: str, value: bytes, headers: list[Header]) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=cast("Any", headers))
            except BufferError:
                self._producer.poll(0.1)
                self._raise_refused()
            else:
                self._sent += 1
                return

    def finish(self) -> None:
        """Wait until the broker has them all."""
        deadline = time.monotonic() + DELIVERY_SECONDS_MAX + 5.0  # by then the client has given up by itself
        while (left := self._producer.flush(0.5)) and time.monotonic() < deadline:
            self._raise_refused()
        self._raise_refused()
        if left:
            raise NotDelivered(f"publishing to {self._topic}: {left:,} of {self._sent:,} predictions were not taken")

    def _raise_refused(self) -> None:
        if self._refused is not None:
            raise NotDelivered(
                f"publishing to {self._topic}: {self._refused.str()} ({self._refused.name()}); of {self._sent:,} "
                "predictions some are there: take another topic before the next replay, or empty this one"
            )

    def _on_delivery(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None and self._refused is None:
            self._refused = error

    def abandon(self) -> None:
        """Let go of what is not sent."""
        self._producer.purge()


def replay(
    pipeline: Pipeline,
    config: Config,
    asked: Asked,
    *,
    out: str = STANDARD,
    out_format: str | None = None,
    force: bool = False,
    to_topic: str | None = None,
    dead_letters: str | None = None,
    rate: float | None = None,
    speed: float | None = None,
    progress: TextIO | None = None,
) -> Summary:
    """Score a slice into a file, or into a topic of its own; ``dead_letters`` is a file for what was rejected."""
    config = prepared(pipeline, config)
    if to_topic is not None:
        _check_topic(config, asked, to_topic)
        target = None
    else:
        format_of(out, out_format)
        target = Target(out, force=force)
    rejected = letters_beside(dead_letters, out if to_topic is None else "", force=force) if dead_letters else None
    found = find(config, asked, remembers=pipeline.has_memory)
    with ExitStack() as stack:
        door: Door
        if target is None:
            assert to_topic is not None
            bytes_max = topics.bytes_max(config, to_topic, create=True) - SOURCE_BYTES_MAX
            config = msgspec.structs.replace(config, topic_predictions=to_topic)
            door = into_topic = TopicDoor(config, to_topic)
            stack.callback(into_topic.abandon)
        else:
            bytes_max = topics.bytes_max(config, config.topic_predictions, create=False)
            stack.enter_context(target)
            door = into_file = FileDoor(target, out_format, pipeline)
            stack.callback(into_file.abandon)
        letters = Letters(stack.enter_context(rejected)) if rejected is not None else None
        run = Replay(pipeline, config, found, bytes_max=bytes_max, letters=letters, progress=progress)
        if rate is None and speed is None:
            for part in run.parts():
                door.take(part)
        else:
            pace = Pace(rate=rate, speed=speed)
            for at, part in run.merged():
                pace.wait(at)
                door.take(part)
        if letters is not None:
            letters.finish()
        door.finish()
    return run.summary


def prepared(pipeline: Pipeline, config: Config) -> Config:
    """Return the options with the group that a worker of this pipeline has."""
    if pipeline.labels is not None:
        raise BadSlice(
            [
                f"{pipeline.name} learns from {pipeline.labels.wire.topic}: its scores hang on which labels came "
                f"before which event, and a replay reads {pipeline.wire.topic} alone"
            ]
        )
    if pipeline.shares:
        raise BadSlice(
            [
                f"{pipeline.name} has learner='shared': its scores hang on which of the learners that were told had "
                "arrived when an event was scored, and those are not kept"
            ]
        )
    if pipeline.obeys:
        raise BadSlice(
            [
                f"{pipeline.name} does something about alerts by itself: its scores hang on when each partition did, "
                f"and a replay reads {pipeline.wire.topic} alone"
            ]
        )
    return with_group(pipeline, config)


def with_group(pipeline: Pipeline, config: Config) -> Config:
    """Return the options with a group, once it is seen that clients can have them."""
    config = msgspec.structs.replace(config, group=config.group or pipeline.name)
    clients.check(config)
    return config


def _check_topic(config: Config, asked: Asked, to_topic: str) -> None:
    taken = {
        asked.topic: "which is what is read",
        config.topic_predictions: "where workers publish (topic_predictions)",
        config.topic_dead_letters: "where workers put what they cannot score (topic_dead_letters)",
        config.topic_alerts: "where workers publish alerts (topic_alerts)",
        config.state_topic: "where workers keep what they remember (topic_state)",
    }
    if to_topic in taken:
        raise BadConfig(
            [f"--to-topic {to_topic}: {taken[to_topic]}; name another topic, which is made if it is missing"]
        )


def main(pipeline: Pipeline, config: Config, asked: Asked, **options: Any) -> None:
    """Replay, and tell on stderr what came of it."""
    summary = replay(pipeline, config, asked, progress=sys.stderr, **options)
    print(summary.told(options.get("dead_letters")), file=sys.stderr, flush=True)  # noqa: T201
