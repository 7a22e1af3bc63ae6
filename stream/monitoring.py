"""Changes of a whole stream: slices of time published by all partitions, looked at by one worker, told as alerts.

What a partition's events were like in a slice of time that is over is published to a topic of one partition, in the
transaction of the step that ended it. The worker to which the group gives that topic puts the slices of all partitions
together and looks at them; what it has summed up is a state like that of any partition, with a changelog of its own.
So alerts are published in the transaction in which what they tell of was read: once each.

How far a worker is in making memories again it says on the topic of slices too, for the pages of the others: whoever
looks at slices passes over that.

Acknowledgements of people lie in a topic of their own. Whoever has a partition of it passes them on to the slices.
"""

import contextlib
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from confluent_kafka import KafkaException, Message, Producer

from headrace.models import snapshot
from headrace.models.memory import NEVER
from headrace.models.monitor import Monitor
from headrace.models.pipeline import Pipeline
from headrace.models.watch import Counted
from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.order import Order
from headrace.stream import clients
from headrace.stream.commit import Output, Outputs
from headrace.stream.orders import Orders
from headrace.stream.poller import Poller
from headrace.stream.state import Memories, Memory

log = logging.getLogger("headrace.monitoring")

IDLE_SECONDS = 60.0  # until it is said again: the transaction may have come to nothing
COMPRESSION = 1  # most counts are small or zero
Letter = Callable[[Message, Rejection], Output]


class Watchtower:
    """All slices of a stream, as ``Memories`` knows a pipeline: what is read, and what is remembered of it."""

    has_memory = True
    looks_back = learns = False  # a state that was lost is begun anew: nothing is scored otherwise by that

    def __init__(self, pipeline: Pipeline, topic: str) -> None:
        self.topics = (topic,)
        self._pipeline = pipeline

    def fresh(self, **_: object) -> Monitor:
        """Return a monitor that has seen nothing."""
        assert self._pipeline.watch is not None
        return Monitor(self._pipeline.watch, name=self._pipeline.name, version=self._pipeline.version)


class Passing:
    """Records that are passed on, as ``Memories`` knows a pipeline: nothing is remembered of them."""

    has_memory = looks_back = learns = False

    def __init__(self, topic: str) -> None:
        self.topics = (topic,)

    def fresh(self, **_: object) -> None:
        """Return what is remembered."""


def packed(said: Mapping[str, Any]) -> bytes:
    """Return what is said of a slice, as it is published.

    >>> unpacked(packed({"partition": 3, "idle": True}))
    {'partition': 3, 'idle': True}
    """
    return zlib.compress(snapshot.encode(dict(said)), COMPRESSION)


def unpacked(value: bytes) -> dict[str, Any]:
    """Return what was published, or raise ``Unreadable``."""
    try:
        said = snapshot.decode(zlib.decompress(value))
    except zlib.error as error:
        raise snapshot.Unreadable(str(error)) from error
    if not isinstance(said, dict):
        raise snapshot.Unreadable("it is no record of ours")
    return said


class Monitoring:
    """What a worker does for the watch over the whole stream."""

    def __init__(self, pipeline: Pipeline, config: Config, bytes_max: dict[str, int], *, partitions: int) -> None:
        assert pipeline.watch is not None
        self.topic = config.slices_topic
        self.acknowledgements = config.topic_acknowledgements
        self.topics = (self.topic, self.acknowledgements)
        self.tower = Watchtower(pipeline, self.topic)
        self.memories: Memories | None = None
        self._passing: Memories | None = None
        self._plain: Producer | None = None  # for what needs no transaction
        self._partitions = partitions
        self._standing: tuple[float, dict[int, int]] = NEVER, {}  # when it was said what is made again, and what
        self.told: list[Alert] = []  # by the last step
        self.ordered: list[Order] = []
        self.orders = Orders(pipeline.name, config) if pipeline.acts else None
        self._watch = pipeline.watch
        self._config = config
        self._bytes_max = bytes_max

    # Where events are scored.

    def slices(self, counted: Sequence[Counted], memory: Memory) -> list[Output]:
        """Return what is published of slices that are over."""
        if counted:
            memory.idle_at = NEVER
        return [self._said(memory.place[1], {"slice": one.dump()}) for one in counted]

    def idle(self, memory: Memory) -> None:
        """Say, now and then, that nothing of a partition is open and nothing comes: then nobody waits for it.

        That needs no transaction. If the slices before it are in one that is open, whoever reads has to wait for its
        end; and if that comes to nothing, they come again, which takes back what was said here.
        """
        watching, now = memory.state.watching, time.monotonic()
        if watching is None or watching.has_any or now - memory.idle_at < IDLE_SECONDS:
            return
        memory.idle_at = now
        if self._plain is not None:
            said = self._said(memory.place[1], {"idle": True})
            self._plain.produce(said.topic, said.value, said.key, said.partition)
            self._plain.poll(0)

    def say_recovering(self, left: Mapping[int, int], now: float) -> None:
        """Say of which partitions the memory is made again, and how many changes are left: as long as there are any.

        That there is none is said when it has become so, and now and then, for pages that have just been opened. It
        is of no reference: those who look at slices, also of another version, take it for nothing.
        """
        at, before = self._standing
        if self._plain is None or (not left and not before and now - at < IDLE_SECONDS):
            return
        self._standing = now, dict(left)
        said = {"of": "", "worker": self._config.instance, "recovering": [list(one) for one in sorted(left.items())]}
        with contextlib.suppress(BufferError, KafkaException):  # it is said again
            self._plain.produce(self.topic, packed(said), self._config.instance, 0)
            self._plain.poll(0)

    def _said(self, partition: int, said: dict[str, Any]) -> Output:
        about = {"of": self._watch.fingerprint, "partition": partition, "partitions": self._partitions}
        return Output(self.topic, str(partition), packed({**about, **said}), partition=0)

    # Where slices are looked at.

    def memories_of(self, topic: str, memories: Memories) -> Memories:
        """Return the memories that a batch of this topic is about, which are those of the events for all others."""
        found = {self.topic: self.memories, self.acknowledgements: self._passing}.get(topic, memories)
        assert found is not None
        return found

    def step(self, messages: list[Message], memory: Memory, next_offset: int, topic: str, letter: Letter) -> Outputs:
        """Look at slices, or pass acknowledgements on; ``letter`` makes a dead letter."""
        self.told, self.ordered = [], []
        if topic == self.acknowledgements:
            return self._pass_on(messages, letter)
        monitor, others, said = cast(Monitor, memory.state), [], []
        for at, message in enumerate(messages):
            try:
                one = self._read(message.value() or b"")
            except (snapshot.Unreadable, KeyError, TypeError, ValueError) as error:
                others.append(letter(message, Rejection(at, Reason.WRONG_SLICE, str(error), type(error).__name__)))
                continue
            if one is not None:
                said.append(one)
        alerts = self.told = monitor.step(said)
        for alert in alerts:
            self._tell(alert)
        others += [Output(self._config.topic_alerts, alert.id, encode(alert)) for alert in alerts]
        if self.orders is not None:
            self.ordered = monitor.orders()
            others += self.orders.given(self.ordered)
        first = messages[0].offset() if messages else next_offset
        assert first is not None
        others += memory.keep(said or None, next_offset, first)
        return Outputs("", [], [], None, others, sum(one.size for one in others))

    def _read(self, value: bytes) -> dict[str, Any] | None:
        """Return what a record says; None where it is of bins that this pipeline does not have any more."""
        said = unpacked(value)
        if "acknowledged" in said:
            return said
        if said["of"] != self._watch.fingerprint:
            return None
        if "slice" in said:
            counted = Counted.load(said["slice"])
            if len(counted.counts) != self._watch.binner.total:
                raise ValueError(f"it has {len(counted.counts)} bins, and there are {self._watch.binner.total}")
        return said

    def _tell(self, alert: Alert) -> None:
        level = logging.INFO if alert.state in (AlertState.CLEARED, AlertState.ACKNOWLEDGED) else logging.WARNING
        log.log(level, "%s: %s (%s, %s)", alert.state.value, alert.text, alert.severity.value, alert.id)

    def _pass_on(self, messages: list[Message], letter: Letter) -> Outputs:
        others = []
        for at, message in enumerate(messages):
            try:
                one = msgspec.json.decode(message.value() or b"", type=Acknowledgement)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                reason = Rejection(at, Reason.WRONG_TYPE, str(error), f"msgspec.{type(error).__name__}")
                others.append(letter(message, reason))
                continue
            said = {"acknowledged": one.id, "by": one.by}
            others.append(Output(self.topic, one.id, packed(said), partition=0))
        return Outputs("", [], [], None, others, sum(one.size for one in others))

    # Life.

    def begin(self, poller: Poller, *, folder: Path, lineage: str) -> None:
        """Be ready to look, whenever the group says so."""
        config = msgspec.structs.replace(self._config, topic_state=self._config.slices_state_topic)
        given: dict[str, Any] = {"folder": folder, "lineage": lineage}
        bytes_max = self._bytes_max[config.state_topic]
        self.memories = Memories(cast(Pipeline, self.tower), config, poller, bytes_max=bytes_max, **given)
        settings = clients.producer_settings(config, transactional=False, batch_bytes_max=bytes_max)
        self._plain = Producer({**settings, "error_cb": clients.on_error}, logger=clients.log)
        passing = cast(Pipeline, Passing(self.acknowledgements))
        self._passing = Memories(passing, config, poller, bytes_max=bytes_max, **given)

    def give_up(self) -> None:
        """Wait for nothing any more: the worker is to end."""
        if self.memories is not None:
            self.memories.give_up()

    async def close(self) -> None:
        """Put on disk what is committed."""
        for memories in (self.memories, self._passing):
            if memories is not None:
                await memories.close()
        self._plain = None
