"""Faust on librdkafka: the plugin behind ``headrace://`` broker URLs.

Agents, timers, services, sensors, web views and the ``faust`` command are Faust's own. What is ours is
between them and Kafka: the poll thread, the offsets, the producer, and batches: a ``BatchTopic`` hands
its agent one Faust message for many records, because Faust's cost is per message.
"""

import asyncio
import contextlib
import logging
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import faust
from confluent_kafka import KafkaException, Message
from confluent_kafka import Producer as KafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from faust.exceptions import ImproperlyConfigured, ProducerSendError
from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP, ConsumerMessage, RecordMetadata
from mode import Service, want_seconds

from headrace.schemas.config import AT_LEAST_ONCE, KAFKA, Config, Given, configure
from headrace.stream import clients
from headrace.stream.guard import GuardedRegistry, without_reply_headers
from headrace.stream.poller import Moved, Place, Poller, Taken

log = logging.getLogger("headrace.transport")

STEPS_AT_A_TIME = 2  # how many steps' records go through Faust as one message, whose cost is per message
OUTSTANDING_MAX = 2  # batches between here and the agent: one in its hands, one waiting
WAIT_EMPTY_SECONDS_MAX = 5.0
REQUEST_SECONDS_MAX = 10.0


class RecordBatch:
    """Records of one partition in their order: the value of an event on a batch topic."""

    __slots__ = ("after", "epoch", "messages", "next_offset", "place")

    def __init__(self, place: Place, taken: Taken) -> None:
        self.place = place
        self.messages, self.after, self.next_offset, self.epoch = taken

    def __repr__(self) -> str:
        topic, number = self.place
        return f"<RecordBatch {topic}[{number}]: {len(self.messages)} records before offset {self.next_offset}>"


class BatchTopic(faust.Topic):
    """A topic whose agent gets a ``RecordBatch`` at a time, as it is: nothing is decoded on the way."""

    def _compile_decode(self) -> None:
        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's signature
            return self._create_event(message.key, message.value, message.headers, message=message)

        self.decode = decode  # type: ignore[method-assign]


class _Acks:
    """Which offsets of one partition were handed out and not yet acknowledged.

    What may be committed is the first of them, or what follows the last one handed out: gaps in the
    offsets, which transactions and compaction leave, do not matter.

    >>> acks = _Acks()
    >>> for offset in (5, 6, 9): acks.hand_out(offset, offset + 1)
    >>> acks.append(6); acks.next_offset
    5
    >>> acks.append(5); acks.next_offset
    9
    >>> acks.append(9); acks.next_offset
    10
    """

    def __init__(self, on_ack: Callable[[], None] = lambda: None) -> None:
        self._waiting: deque[int] = deque()
        self._acked: set[int] = set()
        self._after_last: int | None = None
        self._on_ack = on_ack

    def hand_out(self, offset: int, next_offset: int) -> None:
        self._waiting.append(offset)
        self._after_last = next_offset

    def append(self, offset: int) -> None:
        """Acknowledge; named like a list's method because Faust's compiled stream calls just that."""
        if self._waiting and offset >= self._waiting[0]:  # else it was handed out before a rebalance
            self._acked.add(offset)
        while self._waiting and self._waiting[0] in self._acked:
            self._acked.discard(self._waiting.popleft())
        self._on_ack()

    def reached_end(self, offset: int) -> None:
        """Note that there is nothing more before ``offset``."""
        self._after_last = max(offset, self._after_last or 0)

    @property
    def outstanding(self) -> int:
        return len(self._waiting)

    @property
    def next_offset(self) -> int | None:
        return self._waiting[0] if self._waiting else self._after_last


class _NoIndex(set[int]):
    """Faust's index of acknowledged offsets, which never has any.

    An offset that is in it is not acknowledged again. After a rebalance the same offset comes again, and who
    waits for its acknowledgement would wait for ever.
    """

    def add(self, offset: int) -> None:
        """Forget it."""


class Consumer(FaustConsumer):
    """Hands records to Faust's conductor, and commits what its agents acknowledged."""

    logger = log

    def __init__(self, transport: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(transport, *args, **kwargs)
        _refuse(self.app)
        self.settings: Config = cast(Transport, transport).settings
        self._arrived = asyncio.Event()
        self._signalled = False
        self._moves: asyncio.Queue[Moved] = asyncio.Queue()
        self._assigned: set[TP] = set()
        self._following = False  # a rebalance that Faust has not come to the end of
        self._handed_out = -1  # the epoch of the last record that went to an agent
        # Faust's stream, compiled or not, acknowledges by appending to these; each knows what to make of it.
        self._acks: defaultdict[TP, _Acks] = defaultdict(partial(_Acks, self._arrived.set))
        self._acked = cast("Any", self._acks)
        self._acked_index = cast("Any", defaultdict(_NoIndex))
        self._batch_topics: set[str] = set()
        self.commits: Any = None  # the committer of the batch topics, if there are any
        self.scoring: Callable[[], bool] = lambda: False  # whether a batch is being scored now
        self.resumed = asyncio.Event()
        self.poller = Poller(
            clients.consumer_settings(self.settings),
            buffer_count_max=self.settings.buffer_count_max,
            buffer_bytes_max=self.settings.buffer_bytes_max,
            on_arrived=self._on_arrived,
            on_moved=self._on_moved,
            on_failed=self._on_failed,
            before_revoke=self._before_revoke,
            on_watch=self._on_watch,
        )
        self.on_watch: Callable[[float], None] = lambda _now: None

    # From the poll thread.

    def _on_arrived(self) -> None:
        if not self._signalled:
            self._signalled = True
            self._on_loop(self._arrived.set)

    def _on_moved(self, moved: Moved) -> None:
        self._on_loop(self._moves.put_nowait, moved)

    def _on_failed(self, error: BaseException) -> None:
        self._on_loop(lambda: asyncio.ensure_future(self.crash(error), loop=self.loop))

    def _on_watch(self, now: float) -> None:
        self.on_watch(now)

    def _before_revoke(self) -> None:
        if self.commits is not None:
            self.commits.before_revoke()

    def _on_loop(self, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:
            log.debug("the event loop is closed")  # we are past the end

    # Life.

    async def on_start(self) -> None:
        """Start to poll: membership needs it even before there is anything to fetch."""
        self.poller.start()

    async def on_stop(self) -> None:
        """Commit what is done, leave the group, end the thread."""
        await super().on_stop()
        if self.commits is not None:
            await self.commits.settle()
        self.poller.close()
        if self.poller.is_alive():  # else the worker ended before it began
            await self.loop.run_in_executor(None, self.poller.join, REQUEST_SECONDS_MAX)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Read these topics; the poll thread tells the group."""
        _refuse(self.app)
        names = set(topics)
        batches = {topic for channel in self.app.topics if isinstance(channel, BatchTopic) for topic in channel.topics}
        for channel in self.app.topics:
            if not isinstance(channel, BatchTopic) and (both := batches.intersection(channel.topics)):
                raise ImproperlyConfigured(
                    f"topic {both.pop()!r} is scored in batches, and {channel} reads it by record; "
                    "their offsets cannot both be right. Give the second reader an app of its own, with another id, "
                    "or let it read the predictions"
                )
        self._batch_topics = batches
        self.poller.subscribe(names)

    # Rebalances: the poll thread has done what Kafka needs, this is what Faust needs.

    @Service.task
    async def _follow_moves(self) -> None:
        while not self.should_stop:
            moved = await self._moves.get()
            revoked = set(moved.revoked)
            while not self._moves.empty():
                moved = self._moves.get_nowait()
                revoked |= moved.revoked
            assigned = {TP(*place) for place in moved.assigned}
            gone = {TP(*place) for place in revoked}
            log.info("has %d partitions now%s", len(assigned), f", gave up {len(gone)}" if gone else "")
            self._following = True
            self.app.on_rebalance_start()
            self.app.consumer_generation_id = moved.generation
            await self.on_partitions_revoked(gone)
            self._forget_acks()
            self._assigned = assigned
            await self.on_partitions_assigned(assigned, moved.generation)

    def _forget_acks(self) -> None:
        self._acks.clear()
        self._unacked_messages.clear()

    def assignment(self) -> set[TP]:
        """Return the partitions that this worker has."""
        return self._assigned

    # Fetching.

    async def _drain_messages(self, fetcher: Any) -> None:
        # Faust ends its fetcher by cancelling it, and in a rebalance would take that for a crash of the worker.
        with contextlib.suppress(asyncio.CancelledError):
            await self._deliver(fetcher)

    async def _deliver(self, fetcher: Any) -> None:
        served: Place | None = None
        while not (self.should_stop or fetcher.should_stop):
            self._arrived.clear()
            self._signalled = False
            if self._following or not self.flow_active:
                await self._arrived.wait()
                continue
            room = OUTSTANDING_MAX - self.outstanding
            delivered = False
            for place in _after(self.poller.waiting(), served):
                tp = TP(*place)
                is_batch = tp.topic in self._batch_topics
                if self._following or not self.flow_active:
                    break
                if tp not in self._active_partitions or (is_batch and room <= 0):
                    continue
                deliver = self._deliver_batch if is_batch else self._deliver_each
                if await deliver(tp, self.app.consumer_generation_id):
                    delivered, served, room = True, place, room - is_batch
            if not delivered:
                await self._arrived.wait()

    @property
    def outstanding(self) -> int:
        """How many batches are between here and the end of their step."""
        return sum(acks.outstanding for tp, acks in self._acks.items() if tp.topic in self._batch_topics)

    @property
    def drained(self) -> bool:
        """Say whether there is nothing to score beside what the agent has in its hands."""
        return self.poller.drained and self.outstanding <= 1 and not self.poller.waiting()

    def resume_flow(self) -> None:
        """Go on after a rebalance."""
        super().resume_flow()
        if self._handed_out == self.poller.epoch:
            # Faust has just emptied its queues, and something of this epoch may have been in one.
            log.info("records were on their way during a rebalance; they are fetched again")
            self._forget_acks()
            if self.commits is not None:
                self.commits.start_over()
            else:
                self.poller.rewind()
        self._following = False
        self.resumed.set()
        self._arrived.set()

    async def _deliver_batch(self, tp: TP, generation: int) -> bool:
        taken = self.poller.take((tp.topic, tp.partition), STEPS_AT_A_TIME * self.settings.batch_count_max, generation)
        if taken is None:
            return False
        batch = RecordBatch((tp.topic, tp.partition), taken)
        self._handed_out = taken.epoch
        first = taken.messages[0].offset() if taken.messages else taken.next_offset - 1
        assert first is not None
        self._acks[tp].hand_out(first, taken.next_offset)
        await self.callback(self._message(tp, first, 0.0, None, None, batch, generation))
        return True

    async def _deliver_each(self, tp: TP, generation: int) -> bool:
        taken = self.poller.take((tp.topic, tp.partition), 100, generation)
        if taken is None:
            return False
        self._handed_out = taken.epoch
        acks = self._acks[tp]
        for record in taken.messages:
            offset = cast("int", record.offset())
            acks.hand_out(offset, offset + 1)
        acks.reached_end(taken.next_offset)
        for record in taken.messages:
            if self._following or self.app.consumer_generation_id != generation:
                break  # they are fetched again by whoever has the partition now
            await self.callback(self._to_message(tp, record))
        return True

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        _, milliseconds = record.timestamp()
        headers = record.headers()
        return self._message(
            tp,
            record.offset(),
            milliseconds / 1_000,
            record.key(),
            without_reply_headers(headers) if headers else None,
            record.value(),
            self.app.consumer_generation_id,
        )

    def _message(
        self, tp: TP, offset: int, at: float, key: Any, headers: Any, value: Any, generation: int
    ) -> ConsumerMessage:
        # Without a generation, or with an old one, Faust drops the message and says nothing.
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            at,
            1,
            headers,
            key,
            value,
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Stop delivering these partitions."""
        paused = set(tps)
        super().pause_partitions(paused)
        if not self.app.rebalancing:
            self.poller.pause(paused, paused=True)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Go on delivering these partitions."""
        resumed = set(tps)
        super().resume_partitions(resumed)
        self.poller.pause(resumed, paused=False)
        self._arrived.set()

    def on_buffer_full(self, tp: TP) -> None:
        """Stop fetching what an agent has too much of."""
        super().on_buffer_full(tp)
        self.poller.pause([tp], paused=True)

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch again what an agent has room for."""
        super().on_buffer_drop(tp)
        self.poller.pause([tp], paused=False)
        self._arrived.set()

    # Offsets of record-by-record topics. Those of batch topics are the committer's.

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic in self._batch_topics:
            return None
        next_offset = self._acks[tp].next_offset
        if next_offset is not None:
            self.poller.processed((tp.topic, tp.partition), next_offset)
        return next_offset

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002
        mine = {tp: offset for tp, offset in offsets.items() if tp in self._assigned}
        if not mine:
            return False
        await self.app.producer.flush()
        if not await self._commit(mine):
            return False
        self._committed_offset.update(mine)
        self.app.monitor.on_tp_commit(mine)
        return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        wanted = {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
        try:
            await self.loop.run_in_executor(None, self.poller.commit, wanted)
        except KafkaException as error:
            # Not done is not done: the same offsets are tried again with the next commit.
            log.warning("offsets not committed: %s", clients.kafka_error(error).str())
            return False
        self.poller.committed(wanted)
        return True

    async def wait_empty(self) -> None:
        """Let agents end what they are at, and commit it."""
        if self.commits is not None:
            # Whatever waits behind the batch in the agent's hands was dropped; it is fetched again.
            while self.scoring() and not self.app.rebalancing:
                await self._wait_for_ack(timeout=1)
            if not self.app.rebalancing:
                await self.commits.settle()
        deadline = self.loop.time() + WAIT_EMPTY_SECONDS_MAX
        while self._busy() and self.loop.time() < deadline:
            await self._wait_for_ack(timeout=1)
        await self.commit_and_end_transactions()

    def _busy(self) -> bool:
        waiting = [message for message in self._unacked_messages if message.tracked and not message.acked]
        return any(message.topic not in self._batch_topics for message in waiting)

    # What is left of Faust's interface.

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109
        raise NotImplementedError("records come through the poll thread")

    async def perform_seek(self) -> None:
        """Do nothing: the poll thread has gone to where it must already."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Do nothing: the poll thread has gone to where it must already."""
        return {}

    async def _seek(self, partition: TP, offset: int) -> None:
        await self.seek_wait({partition: offset})

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Read these partitions from these offsets on."""
        places = {(tp.topic, tp.partition): offset for tp, offset in partitions.items()}
        await self.loop.run_in_executor(None, self.poller.rewind, places)
        self._forget_acks()

    async def position(self, tp: TP) -> int | None:
        """Return the offset that is next for the agents."""
        partition = self.poller.partitions.get((tp.topic, tp.partition))
        return partition.taken if partition else None

    def highwater(self, tp: TP) -> int:
        """Return the end of the partition, as the last fetch saw it."""
        marks = self.poller.watermarks((tp.topic, tp.partition))
        return marks[1] if marks else 0

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the ends of the partitions."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the starts of the partitions."""
        marks = {tp: self.poller.watermarks((tp.topic, tp.partition)) for tp in partitions}
        return {tp: found[0] if found else 0 for tp, found in marks.items()}

    def topic_partitions(self, topic: str) -> int | None:
        """Return how many partitions the topic has, where this worker knows."""
        count = sum(1 for tp in self._assigned if tp.topic == topic)
        return count or None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Refuse: which worker has a key is a question for tables, and there are none."""
        raise NotImplementedError(f"key_partition({topic!r}, {key!r}, {partition!r}): this transport serves no tables")

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        """Create the topic, unless it is there."""
        await self.app.producer.create_topic(topic, partitions, replication, **options)


def _after(places: list[Place], served: Place | None) -> list[Place]:
    """Begin with the one after who was served last, so that a busy partition does not starve the others.

    >>> _after([("t", 0), ("t", 1), ("t", 2)], ("t", 1))
    [('t', 2), ('t', 0), ('t', 1)]
    """
    if served not in places:
        return places
    turn = places.index(served) + 1
    return places[turn:] + places[:turn]


def _refuse(app: Any) -> None:
    """End the start with a sentence, where Faust would do something that this transport cannot promise."""
    if app.conf.processing_guarantee == faust.types.enums.ProcessingGuarantee.EXACTLY_ONCE:
        raise ImproperlyConfigured(
            "processing_guarantee='exactly_once': Faust's own transactions leave outputs outside of the transaction, "
            "so this transport does not offer them. A Headrace pipeline scores exactly once; agents get at_least_once"
        )
    if app.tables:
        names = ", ".join(sorted(app.tables))
        raise ImproperlyConfigured(
            f"table {names}: tables do not work on headrace:// (their changelog is not committed with the offsets); "
            "keep state in the features of a pipeline, or run this app on kafka://"
        )
    for channel in app.topics:
        name = str(channel)
        if channel.internal and not name.endswith("-__assignor-__leader"):
            raise ImproperlyConfigured(
                f"topic {name}: group_by does not work on headrace:// (what it repartitions could be lost or doubled); "
                "key the topic by the field where it is produced, or run this app on kafka://"
            )


class Producer(base.Producer):
    """Sends what agents send, idempotently; a future per record says when it arrived."""

    def __post_init__(self) -> None:
        self._client: KafkaProducer | None = None
        self._poll_thread: threading.Thread | None = None
        self._ending = threading.Event()

    async def on_start(self) -> None:
        """Be ready to send; the client comes with the first record, because many apps never send one."""
        await super().on_start()
        self._ending.clear()

    async def on_stop(self) -> None:
        """Send what waits, then let go."""
        await self.flush()
        self._ending.set()
        if self._poll_thread is not None:
            await self.loop.run_in_executor(None, self._poll_thread.join, REQUEST_SECONDS_MAX)
        self._client = None

    def _connect(self) -> KafkaProducer:
        settings = clients.producer_settings(cast(Transport, self.transport).settings, transactional=False)
        client = self._client = KafkaProducer({**settings, "error_cb": clients.on_error}, logger=clients.log)
        self._poll_thread = threading.Thread(target=self._hear, args=(client,), name="headrace-deliveries", daemon=True)
        self._poll_thread.start()
        return client

    def _hear(self, client: KafkaProducer) -> None:
        """Hear of deliveries, so that each future is done in time."""
        while not self._ending.is_set():
            client.poll(0.1)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,  # noqa: ARG002
    ) -> Awaitable[RecordMetadata]:
        """Queue a record; the future that comes back is done when the broker has it."""
        future: asyncio.Future[RecordMetadata] = self.loop.create_future()
        optional: dict[str, Any] = {}
        if partition is not None:
            optional["partition"] = partition
        if timestamp is not None:
            optional["timestamp"] = int(timestamp * 1_000)
        if headers:
            pairs = headers.items() if isinstance(headers, Mapping) else headers
            optional["headers"] = without_reply_headers([(str(name), content) for name, content in pairs])
        while True:
            if self._ending.is_set():
                raise ProducerSendError(f"record for {topic}: the producer has stopped")
            client = self._client or self._connect()
            try:
                client.produce(topic, value, key, on_delivery=partial(self._delivered, future), **optional)
            except BufferError:
                await asyncio.sleep(0.01)  # full: whoever sends waits until there is room
            except KafkaException as error:
                raise ProducerSendError(f"record for {topic}: {clients.kafka_error(error).str()}") from error
            else:
                return future

    async def send_and_wait(self, *arguments: Any, **options: Any) -> RecordMetadata:
        """Send a record and wait until the broker has it."""
        return await (await self.send(*arguments, **options))

    def _delivered(self, future: "asyncio.Future[RecordMetadata]", error: Any, message: Message) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(ProducerSendError(f"record for {message.topic()}: {error.str()}"))
                return
            tp = TP(message.topic() or "", message.partition() or 0)
            kind, milliseconds = message.timestamp()
            future.set_result(
                RecordMetadata(tp.topic, tp.partition, tp, message.offset() or 0, milliseconds / 1_000, kind)
            )

        try:
            self.loop.call_soon_threadsafe(settle)
        except RuntimeError:
            log.debug("the event loop is closed")

    async def flush(self) -> None:
        """Wait until every record that was sent is acknowledged; nothing is called sent before that."""
        while self.buffer.size:
            await self.buffer.flush()
        client = self._client
        while client is not None and await self.loop.run_in_executor(
            None, cast("Callable[[float], Any]", client.flush), 1.0
        ):
            log.info("waiting for %d records to be acknowledged", len(client))

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Any = REQUEST_SECONDS_MAX,  # noqa: ASYNC109 - Faust's signature
        retention: Any = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,  # noqa: ARG002
    ) -> None:
        """Create the topic, unless it is there."""
        options = {name: str(value) for name, value in (config or {}).items()}
        if retention:
            options["retention.ms"] = str(int(want_seconds(retention) * 1_000))
        if policy := ",".join(name for name, wanted in (("compact", compacting), ("delete", deleting)) if wanted):
            options["cleanup.policy"] = policy
        new = NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=options)
        await self.loop.run_in_executor(None, self._create, new, float(want_seconds(timeout)))

    def _create(self, topic: NewTopic, seconds: float) -> None:
        admin = AdminClient(clients.admin_settings(cast(Transport, self.transport).settings))
        if topic.topic in admin.list_topics(timeout=min(seconds, REQUEST_SECONDS_MAX)).topics:
            return
        for future in admin.create_topics([topic], operation_timeout=min(seconds, REQUEST_SECONDS_MAX)).values():
            try:
                future.result(timeout=2 * REQUEST_SECONDS_MAX)
            except KafkaException as error:
                if clients.kafka_error(error).code() != clients.TOPIC_EXISTS:
                    raise

    def supports_headers(self) -> bool:
        """Say that headers travel."""
        return True


class Transport(base.Transport):
    """``faust.App(broker="headrace://host:9092")``."""

    Consumer: ClassVar[Any] = Consumer
    Producer: ClassVar[Any] = Producer
    default_port = 9092
    driver_version = clients.version()

    def __init__(self, url: Any, app: Any, loop: Any = None) -> None:
        super().__init__(url, app, loop)
        app.serializers = GuardedRegistry(
            key_serializer=app.conf.key_serializer, value_serializer=app.conf.value_serializer
        )
        _keep_pages_home(app)
        # A Headrace worker brings its options; a plain Faust app has Faust's settings, from which ours follow.
        self.settings: Config = getattr(app, "headrace", None) or _settings_of(app, url)


def _keep_pages_home(app: Any) -> None:
    """Serve Faust's pages on loopback only, unless asked, and never what is in a table or where it lives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the app is configured already is why this is done here
        asked = getattr(getattr(app, "headrace", None), "web_host", None)  # in a worker's own options
        if app.conf.web_bind in ("0.0.0.0", "::", "") and app.conf.web_bind != asked:  # noqa: S104 - it is taken back
            app.conf.web_bind = "127.0.0.1"
        app.conf.web_tables_enabled = False
        app.conf.web_router_enabled = False


def _settings_of(app: Any, urls: Iterable[Any]) -> Config:
    conf = app.conf
    values: dict[str, Any] = {
        "broker": ",".join(f"{url.host}:{url.port or Transport.default_port}" for url in urls),
        "group": conf.id,
        "guarantee": AT_LEAST_ONCE,
        "session_timeout_ms": int(conf.broker_session_timeout * 1_000),
        "linger_ms": int(conf.producer_linger * 1_000),
        "group_instance_id": conf.consumer_group_instance_id or "",
        f"{KAFKA}auto.offset.reset": conf.consumer_auto_offset_reset,
        # Faust leaves it to the broker whether a topic that is read appears by being read; so does this.
        f"{KAFKA}allow.auto.create.topics": "true",
    }
    if conf.producer_compression_type:
        values[f"{KAFKA}compression.type"] = conf.producer_compression_type
    values.update(_credentials(conf.broker_credentials))
    return configure({name: Given(value, "faust settings") for name, value in values.items()})


def _credentials(credentials: Any) -> dict[str, Any]:
    if credentials is None:
        return {}
    given = {f"{KAFKA}security.protocol": credentials.protocol.value}
    if hasattr(credentials, "mechanism") and credentials.mechanism is not None:
        given[f"{KAFKA}sasl.mechanism"] = credentials.mechanism.value
        given[f"{KAFKA}sasl.username"] = credentials.username or ""
        given[f"{KAFKA}sasl.password"] = credentials.password or ""
    return given
