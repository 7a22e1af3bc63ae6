"""Drives a pipeline in a test: records in, and out what a reader of Kafka would see."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec
from confluent_kafka import Message

from headrace.models import snapshot
from headrace.models.memory import Wide
from headrace.models.pipeline import Pipeline
from headrace.models.trained import Trained
from headrace.schemas.codec import encode
from headrace.schemas.config import Config, Given, configure
from headrace.schemas.dead_letter import CONNECT, OURS, Header, Reason
from headrace.schemas.event import Event
from headrace.schemas.span import seconds
from headrace.stream import golden
from headrace.stream.agents import Scorer
from headrace.stream.commit import Output, Outputs
from headrace.stream.monitoring import Monitoring
from headrace.stream.shared import Shared, Taught
from headrace.stream.state import Found, Memories, Memory, Where
from headrace.stream.topics import BYTES_MAX
from headrace.stream.traces import Spans, Traces

START = 1_767_225_600.0  # 2026-01-01 in UTC: any time will do, as long as it is the same in every run
PREDICTIONS, DEAD_LETTERS, ALERTS = "predictions", "dead-letters", "alerts"
OUTCOMES, QUALITY, CONTROL = "outcomes", "quality", "control"
FROM_EVENT: Any = object()  # the key is the event's own key field

Headers = Mapping[str, str | bytes | None] | Iterable[Header] | None


class Record(NamedTuple):
    """A record as it lies in one of the pipeline's topics."""

    value: bytes | None
    key: bytes | None
    headers: list[Header] | None
    partition: int
    topic: str


Value = bytes | str | Mapping[str, Any] | Event | Record | None


class DeadLetter(NamedTuple):
    """A record that was not scored: why, and as it came."""

    reason: Reason
    message: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]


class Kept(NamedTuple):
    """What the features remember, of all partitions together."""

    keys: dict[str, int]  # how many there are of each kind
    evicted: int  # keys that left because there were too many
    expired: int  # keys that left because nothing happened to them
    late: int  # events that came too late to be remembered
    bytes: int

    @property
    def key_count(self) -> int:
        """How many keys are remembered, of every kind."""
        return sum(self.keys.values())


class Driver:
    """Runs a pipeline without a broker, a thread or a clock, through the code that a worker runs.

    Records are decoded from bytes, stepped with a state per partition, and encoded again. Outputs can be read when
    they are committed, which by default they are at once. Options are those of a worker.

    ``guarantee="at-least-once"`` shows what that means: outputs can be read before their commit, and after a crash
    they come again.

    A learner that all partitions share learns at every commit, and scores from then on: as quick as it can be.

    >>> from headrace import Event, Linear, Pipeline, per
    >>> class Payment(Event, topic="payments", key="card"):
    ...     id: str
    ...     at: float
    ...     card: str
    ...     amount: float
    >>> recent = per("card").sum("amount", "1h")
    >>> pipeline = Pipeline(
    ...     name="p", events=Payment, features={"recent": recent}, static=Linear({"recent": 1.0}, logistic=False)
    ... )
    >>> driver = Driver(pipeline)
    >>> driver.pipe({"id": "p1", "card": "a", "amount": 5.0})
    >>> driver.pipe({"id": "p2", "card": "a", "amount": 1.0})
    >>> driver.advance("2h")
    >>> driver.pipe({"id": "p3", "card": "a", "amount": 1.0})
    >>> [(made["id"], made["score"]) for made in driver.predictions]
    [('p1', 5.0), ('p2', 6.0), ('p3', 1.0)]
    >>> driver.pipe(b'{"id": "p4"}')
    >>> driver.dead_letters[0].message
    'Object missing required field `at` - at `$.at`'
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        partitions: int = 1,
        auto_commit: bool = True,
        clock: float | str = START,
        **options: Any,
    ) -> None:
        if partitions < 1:
            raise ValueError(f"partitions = {partitions}: allowed are 1 and more")
        given = {name: Given(value, "Driver") for name, value in options.items()}
        config = configure(given)
        self._config = msgspec.structs.replace(config, group=config.group or pipeline.name)
        self._roles = {
            PREDICTIONS: self._config.topic_predictions,
            DEAD_LETTERS: self._config.topic_dead_letters,
            ALERTS: self._config.topic_alerts,
            OUTCOMES: self._config.topic_outcomes,
            QUALITY: self._config.topic_quality,
            CONTROL: self._config.control_topic,
        }
        self.auto_commit = auto_commit
        self.clock = clock if isinstance(clock, int | float) else _time(clock)
        of_learner = (self._config.lessons_topic, self._config.learner_topic, self._config.learner_state_topic)
        of_watch = (self._config.slices_topic, self._config.slices_state_topic)
        topics = (*self._roles.values(), self._changelog, *of_learner, *of_watch)
        self._published: dict[str, list[Output]] = {topic: [] for topic in topics}
        self._position = dict.fromkeys(self._roles.values(), 0)  # of whoever reads
        self._open: list[Output] = []  # published, and not to be seen before the commit
        self._since: list[Record] = []  # the records that came since the commit
        self._numbers = range(partitions)
        self._next: dict[tuple[str, int], int] = {}  # the offset of the next record
        self._committed: dict[tuple[str, int], int] = {}
        self._ticks = dict.fromkeys(self._numbers, 0)  # that are committed
        self._learned = self._looked = 0  # records of lessons, and of slices
        self._begin(pipeline)

    def __repr__(self) -> str:
        many = {role: len(self._published[topic]) for role, topic in self._roles.items()}
        counts = ", ".join(
            f"{role} {count}" for role, count in many.items() if count or role not in (OUTCOMES, QUALITY, CONTROL)
        )
        return f"<Driver {self.pipeline.name}: {counts}>"

    # Records in.

    def pipe(
        self, value: Value, *, key: str | bytes | None = FROM_EVENT, headers: Headers = None, partition: int = -1
    ) -> None:
        """Publish a record to the pipeline's topic, and let it be scored.

        An event may be a dictionary, which gets the driver's time if it has none, an instance of its class, or the
        value as bytes. The key is the event's own; ``None`` is a record without a key. The key decides on the
        partition, as Java's client takes it, where none is named.
        """
        self._step([self._record(value, key, headers, partition)])

    def label(
        self, of: Any, truth: Any, *, at: float | None = None, key: str | bytes | None = None, **others: Any
    ) -> None:
        """Publish a label for an event: its id, or the event as it was piped or as it was predicted.

        The time is the driver's where none is given. Of an id alone the key has to be said too. ``others`` are further
        fields of the label's class, by the names that they have on the wire.
        """
        labels = self.pipeline.labels
        if labels is None:
            raise ValueError(f"{self.pipeline.name} has no labels; Pipeline(labels=...) names their class")
        wire = {field.name: field for field in msgspec.structs.fields(labels)}
        said = of if isinstance(of, Mapping) else {}
        key = said.get(self._key_name, key)
        if key is None:
            raise ValueError(f"the label of {of!r} needs the key of its event: key=...")
        value = {
            wire[labels.wire.id].encode_name: said.get(self._id_name, of),
            wire[labels.wire.time].encode_name: wire[labels.wire.time].type(self.clock if at is None else at),
            wire[labels.wire.key].encode_name: key.decode() if isinstance(key, bytes) else key,
            wire[labels.truth.field].encode_name: truth,
            **others,
        }
        self._step(
            [self._record(encode(value), str(value[wire[labels.wire.key].encode_name]), topic=labels.wire.topic)]
        )

    def pipe_all(self, values: Iterable[Value]) -> None:
        """Publish records, in steps as large as a worker's.

        >>> from headrace.stream.load import load_pipeline
        >>> driver = Driver(load_pipeline("headrace.examples.fraud.pipeline"), partitions=4)
        >>> payment = {"merchant": "m", "amount": 1.0, "lat": 0.0, "lon": 0.0, "country": "FR"}
        >>> driver.pipe_all({"id": str(number), "card": f"c{number % 9}", **payment} for number in range(100))
        >>> driver
        <Driver fraud: predictions 100, dead-letters 0, alerts 0>
        """
        records = (self._record(value) for value in values)
        for _, run in groupby(records, attrgetter("topic", "partition")):
            while some := list(islice(run, self._config.batch_count_max)):
                self._step(some)

    def advance(self, span: str | float) -> None:
        """Move the clock: "5m", or so many seconds."""
        by = seconds(span) if isinstance(span, str) else span
        if by < 0:
            raise ValueError(f"{by} is negative; set driver.clock to go back")
        self.clock += by
        if len(self.pipeline.topics) > 1 or self.pipeline.watch is not None:
            for number in self._numbers:
                self._tick(number)

    def _record(
        self, value: Value, key: Any = FROM_EVENT, headers: Headers = None, partition: int = -1, topic: str = ""
    ) -> Record:
        if isinstance(value, Record):  # what a crash gave back
            return value
        if isinstance(value, str):
            value = value.encode()
        if key is FROM_EVENT:
            key = self._key_of(value)
        if isinstance(key, str):
            key = key.encode()
        count = len(self._numbers)
        number = _partition_of(key, count) if partition == -1 else partition
        if number not in self._numbers:
            raise ValueError(f"partition = {number}: there are {count}; Driver(partitions=...) says how many")
        return Record(self._bytes_of(value), key, _headers(headers), number, topic or self.pipeline.wire.topic)

    def _bytes_of(self, value: Any) -> bytes | None:
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, Mapping):
            value = {**value, self._time_name: value.get(self._time_name, self._time_type(self.clock))}
        return encode(value)

    def _key_of(self, value: Any) -> bytes | None:
        if isinstance(value, Event):
            key = getattr(value, self.pipeline.wire.key, None)
        else:
            if isinstance(value, bytes):
                try:
                    value = msgspec.json.decode(value)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    return None
            key = value.get(self._key_name) if isinstance(value, Mapping) else None
        return None if key is None else str(key).encode()

    # What a worker does.

    def _begin(self, pipeline: Pipeline) -> None:
        """Start as a worker does: with what is committed, and nothing else."""
        kept = _Changelog(pipeline, self._config, self._published[self._changelog])
        memories = {}
        for number in self._numbers:
            offsets = {
                topic: self._committed[topic, number] for topic in pipeline.topics if (topic, number) in self._committed
            }
            memories[number] = kept.memory(number, Where(offsets, self._ticks[number]) if offsets else None)
        self.pipeline, self._memories = pipeline, memories
        bytes_max = dict.fromkeys(self._published, BYTES_MAX)
        self._shared = Shared(pipeline, self._config, bytes_max) if pipeline.shares else None
        watches = pipeline.watch is not None
        self._monitoring = (
            Monitoring(pipeline, self._config, bytes_max, partitions=len(self._numbers)) if watches else None
        )
        self._traces = Traces(self._config, pipeline) if self._config.traces else None
        self._spans: list[Spans] = []  # that wait for the commit
        self._scorer = Scorer(pipeline, self._config, bytes_max, self._shared, self._monitoring, traces=self._traces)
        if self._monitoring is not None:
            self._tower = self._looking(self._monitoring)
            self._hear(self._monitoring, 0)
        if self._shared is not None:
            self._course = self._trained(self._shared)
            self._tell(self._shared)
        self._next = {(topic, number): 0 for topic in pipeline.topics for number in self._numbers} | self._committed
        self._open, self._since = [], []
        wire = {field.name: field for field in msgspec.structs.fields(pipeline.events)}
        self._id_name = wire[pipeline.wire.id].encode_name
        self._key_name, self._time_name = wire[pipeline.wire.key].encode_name, wire[pipeline.wire.time].encode_name
        self._time_type: type[int | float] = wire[pipeline.wire.time].type

    def _step(self, records: list[Record]) -> None:
        topic, number = place = records[0].topic, records[0].partition
        messages = [
            Message(
                topic=topic,
                partition=number,
                offset=offset,
                key=one.key,
                value=one.value,
                headers=cast("Any", one.headers),
            )
            for offset, one in enumerate(records, start=self._next[place])
        ]
        after = self._next[place] + len(records)
        outputs = self._scorer.step(messages, self._memories[number], after, topic)
        self._next[place] = after
        self._since += records
        self._done(outputs)

    def _tick(self, number: int) -> None:
        """Tell a partition what time it is, where that changes something."""
        memory = self._memories[number]
        if memory.state.due(self.clock, memory.state.clock):
            self._done(self._scorer.tick(memory, self.clock, memory.state.clock))

    def _trained(self, shared: Shared) -> Memory:
        """Make the learner again that all partitions share."""
        config = msgspec.structs.replace(self._config, topic_state=self._config.learner_state_topic)
        kept = _Changelog(cast(Pipeline, shared.course), config, self._published[config.state_topic])
        return kept.memory(0, Where({shared.topic: self._learned}) if self._learned else None)

    def _looking(self, monitoring: Monitoring) -> Memory:
        """Make again what looks at the slices."""
        config = msgspec.structs.replace(self._config, topic_state=self._config.slices_state_topic)
        kept = _Changelog(cast(Pipeline, monitoring.tower), config, self._published[config.state_topic])
        return kept.memory(0, Where({monitoring.topic: self._looked}) if self._looked else None)

    def _hear(self, monitoring: Monitoring, begin: int) -> None:
        """Follow what was ordered from now on."""
        if monitoring.orders is not None:
            monitoring.orders.hear([one.value for one in self._published[monitoring.orders.topic][begin:]])
            monitoring.orders.caught_up.set()

    def _look(self, monitoring: Monitoring) -> None:
        """Look at the slices that were committed, and commit that."""
        records, done = self._published[monitoring.topic], self._looked
        ordered = len(self._published[self._config.control_topic])
        messages = [
            Message(
                topic=monitoring.topic,
                partition=0,
                offset=offset,
                key=_bytes(one.key),
                value=one.value,
                headers=cast("Any", one.headers),
            )
            for offset, one in enumerate(records[done:], start=done)
        ]
        if messages:
            outputs = self._scorer.step(messages, self._tower, len(records), monitoring.topic)
            self._publish(_each(outputs))
            self._looked = len(records)
            for spans in outputs.tally.spans if outputs.tally is not None else ():
                spans.published()
        self._hear(monitoring, ordered)

    def _learn(self, shared: Shared) -> None:
        """Learn the lessons that were committed, and commit that."""
        records, done = self._published[shared.topic], self._learned
        messages = [
            Message(topic=shared.topic, partition=0, offset=offset, key=cast("bytes", one.key), value=one.value)
            for offset, one in enumerate(records[done:], start=done)
        ]
        if messages:
            self._publish(_each(self._scorer.step(messages, self._course, len(records), shared.topic)))
            self._learned = len(records)
            self._tell(shared)

    def _tell(self, shared: Shared) -> None:
        """Score with what was learned from now on."""
        told = self.pipeline.trained()
        told.load(snapshot.decode(snapshot.encode(cast(Trained, self._course.state).dump())))
        shared.newest = Taught(told.version, told.learner)

    def _done(self, outputs: Outputs) -> None:
        self._spans += outputs.tally.spans if outputs.tally is not None else ()
        if self._config.exactly_once:
            self._open += _each(outputs)
        else:
            self._publish(_each(outputs))
        if self.auto_commit:
            self.commit()

    def _publish(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self._published[output.topic].append(output)

    def commit(self) -> None:
        """Make what came since the last commit last: outputs, offsets and what is remembered, together."""
        self._publish(self._open)
        self._committed |= {place: offset for place, offset in self._next.items() if offset}
        self._ticks = {number: memory.ticks for number, memory in self._memories.items()}
        self._open, self._since = [], []
        for spans in self._spans:
            spans.published()
        self._spans = []
        if self._shared is not None:
            self._learn(self._shared)
        if self._monitoring is not None:
            self._look(self._monitoring)

    def crash(self) -> list[Record]:
        """Die before the commit, and start again: what came since the last commit never happened.

        Return its records, in their order. Kafka delivers them to the next worker: ``driver.pipe_all`` does that.
        """
        lost = self._since
        for spans in self._spans:
            spans.lost()
        self._begin(self.pipeline)
        return lost

    def restart(self, pipeline: Pipeline | None = None) -> None:
        """Stop in an orderly way, and start again with the state that the changelog makes.

        With another pipeline this is the deployment of a new version: it goes on with what was remembered, or is
        refused as a worker would be.
        """
        self.commit()
        self._begin(pipeline or self.pipeline)

    # What came of it.

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Every prediction that a reader of committed data sees, in order."""
        return [msgspec.json.decode(made.value or b"") for made in self.published(PREDICTIONS)]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """Every record that was not scored."""
        return list(map(_letter, self.published(DEAD_LETTERS)))

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Every alert."""
        return [msgspec.json.decode(made.value or b"") for made in self.published(ALERTS)]

    @property
    def orders(self) -> list[dict[str, Any]]:
        """What was done about alerts by itself, and in which partition from which event on."""
        return [msgspec.json.decode(made.value or b"") for made in self.published(CONTROL)]

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """What became known of events by their labels, and by their time being up."""
        return [msgspec.json.decode(made.value or b"") for made in self.published(OUTCOMES)]

    @property
    def quality(self) -> dict[str, dict[str, Any]]:
        """How good each model has been by now, of all partitions together."""
        judges: dict[str, Any] = {}
        for memory in self._memories.values():
            learning = memory.state.learning
            for name, judge in learning.judges.items() if learning is not None else ():
                judges[name] = judges[name].merged(judge) if name in judges else judge
        return {"combined" if name == "score" else name: judge.report() for name, judge in judges.items()}

    @property
    def waiting(self) -> int:
        """How many records were piped since the last commit."""
        return len(self._since)

    @property
    def state(self) -> Kept:
        """What the features remember."""
        keys: dict[str, int] = {}
        tables = [one for memory in self._memories.values() for one in memory.state.tables.values()]
        for table in tables:
            name = ", ".join(table.key_fields)
            keys[name] = keys.get(name, 0) + len(table)
        return Kept(
            keys,
            sum(table.evicted for table in tables),
            sum(table.expired for table in tables),
            sum(table.late for table in tables),
            sum(table.bytes for table in tables),
        )

    def published(self, topic: str = PREDICTIONS) -> list[Output]:
        """Return the committed records of a topic as they are: key, value in bytes, headers."""
        return list(self._published[self._topic(topic)])

    def read(self, topic: str = PREDICTIONS) -> Any:
        """Return the oldest that was not read yet: a prediction, a dead letter or an alert, as above.

        >>> from headrace.stream.load import load_pipeline
        >>> Driver(load_pipeline("headrace.examples.fraud.pipeline"), auto_commit=False).read("predictions")
        Traceback (most recent call last):
        LookupError: nothing to read in predictions: it has 0 records, and all were read
        """
        name = self._topic(topic)
        records, at = self._published[name], self._position[name]
        if at == len(records):
            waits = f"; of {self.waiting} records nothing is committed yet" if self.waiting else ""
            raise LookupError(f"nothing to read in {name}: it has {len(records)} records, and all were read{waits}")
        self._position[name] += 1
        if name == self._roles[DEAD_LETTERS]:
            return _letter(records[at])
        return msgspec.json.decode(records[at].value or b"")

    def assert_golden(self, path: str | Path, *, update: bool = False, rel: float = golden.REL) -> None:
        """Compare the predictions with those of a file, one in each line.

        Numbers may differ by ``rel``, because another processor may round otherwise; with 0 not by a bit. With
        ``update``, or where the environment has ``HEADRACE_UPDATE_GOLDEN=1``, the file is written instead.
        """
        if self.waiting:
            raise AssertionError(f"{self.waiting} records were piped since the last commit: call driver.commit() first")
        lines = [made.value or b"" for made in self.published(PREDICTIONS)]
        golden.check(Path(path), lines, self.pipeline.wire.id, update=update, rel=rel)

    @property
    def _changelog(self) -> str:
        return self._config.state_topic

    def _topic(self, name: str) -> str:
        topic = self._roles.get(name, name)
        if topic not in self._position:
            near = difflib.get_close_matches(name, self._position, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._position)}"
            raise ValueError(f"no topic {name!r}; {hint}")
        return topic


class _Changelog(Memories):
    """Makes states from the changelog that a driver holds; there is nothing on disk."""

    def __init__(self, pipeline: Pipeline, config: Config, records: list[Output]) -> None:
        # Nobody waits for a partition here.
        poller: Any = SimpleNamespace(partitions={})
        super().__init__(pipeline, config, poller, bytes_max=BYTES_MAX, folder=Path(), lineage="")
        self._wide = Wide
        self._records = records

    def memory(self, number: int, where: Where | None) -> Memory:
        """Return what is remembered of a partition as of where it is committed."""
        if self._none is not None:
            return self._none
        place = self.topics[0], number
        return self._new_at(place, None) if where is None else self._restored(place, where)

    def _load(self, place: tuple[str, int]) -> None:  # noqa: ARG002 - there is no file of any partition
        return None

    def _read(self, place: tuple[str, int], begin: int | None, committed: int, *, since: float = 0.0) -> Found:  # noqa: ARG002
        found = Found()
        for record in self._records:
            if record.partition == place[1]:
                found.take(cast("bytes", record.key), record.value)
        return found


def _bytes(key: bytes | str | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key


def _each(outputs: Outputs) -> Iterator[Output]:
    headers = outputs.headers or [None] * len(outputs.values)
    for parts in zip(outputs.keys, outputs.values, headers, strict=True):
        yield Output(outputs.topic, *parts)
    yield from outputs.others


def _letter(output: Output) -> DeadLetter:
    headers = output.headers or []
    said = dict(headers)
    reason = Reason((said[f"{OURS}code"] or b"").decode())
    message = (said[f"{CONNECT}exception.message"] or b"").decode(errors="replace")
    return DeadLetter(reason, message, cast("bytes | None", output.key), output.value, headers)


def _headers(given: Headers) -> list[Header] | None:
    if given is None:
        return None
    pairs = given.items() if isinstance(given, Mapping) else given
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def _time(text: str) -> float:
    """Return a time as seconds; one without a zone is in UTC.

    >>> _time("2026-01-01T00:00:00Z") == _time("2026-01-01") == START
    True
    """
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _partition_of(key: bytes | None, partitions: int) -> int:
    """Return where Java's client puts a key, and ours; a record without one goes anywhere, here to the first.

    >>> [_partition_of(key, 4) for key in (b"card-1", b"card-2", None)]
    [3, 0, 0]
    """
    return 0 if key is None else (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    mix, low = 0x5BD1E995, 0xFFFFFFFF
    hashed = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * mix & low
        word = (word ^ word >> 24) * mix & low
        hashed = (hashed * mix & low) ^ word
    if rest := key[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * mix & low
    hashed = (hashed ^ hashed >> 13) * mix & low
    return hashed ^ hashed >> 15
