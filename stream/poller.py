"""The thread that talks to the consumer group: it polls from the first subscription to the end.

librdkafka assigns partitions, answers rebalances and keeps its membership only while somebody polls.
Faust stops fetching during a rebalance, so whoever polls for it stands still for ever after one. This
thread polls whatever Faust does, keeps what it gets per partition until somebody takes it, and lets go
of the consumer only when it ends.

Who may touch what
------------------
The ``confluent_kafka.Consumer`` belongs to this thread; others hand it work with ``call``. The
partitions are shared, and every touch of them holds ``lock``, for a few microseconds at a time.

When partitions move
--------------------
Everything that was fetched and not committed dies, for the partitions that stay too: the open
transaction is aborted, the ``epoch`` moves on, and each partition that stays is fetched again from
where it was last committed. Whoever still holds records of an older epoch finds out when it wants to
carry out what it made of them. One rule instead of many, and it costs what one commit interval costs.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.schemas.errors import HeadraceError
from headrace.stream import clients

log = logging.getLogger("headrace.poller")

T = TypeVar("T")
Place = tuple[str, int]

POLL_SECONDS_MAX = 0.1
FULL_SECONDS_MAX = 1.0
WATCH_SECONDS = 0.5
LEAD_SECONDS_MAX = 1.0  # for which labels wait for events that are on their way
STATS_MS = 2_000  # from one look at the connections to the next
HEARD_SECONDS_MAX = 8.0  # a heartbeat goes out every three seconds at the least, and is answered


class _Connection(msgspec.Struct):
    """The part that is read of what librdkafka says of a connection; ``rxidle`` is in microseconds."""

    state: str
    rxidle: int = -1


class _Stats(msgspec.Struct):
    brokers: dict[str, _Connection] = {}


class Taken(NamedTuple):
    """Records of one partition in their order, and the offset that is next after them.

    ``next_offset`` may lie further than the last record: the markers of transactions take offsets too,
    and a partition that ends in one has lag until its end is committed.
    """

    messages: list[Message]
    after: int | None  # where the records before these ended
    next_offset: int
    epoch: int


class Committed(NamedTuple):
    """Where a group is in a partition, and what it noted there."""

    offset: int
    note: str = ""


class Partition:
    """What this worker knows of one partition that it has."""

    __slots__ = (
        "at_end",
        "bytes",
        "chunks",
        "committed",
        "count",
        "done",
        "end",
        "fetched_at",
        "first",
        "moved_at",
        "newest",
        "next",
        "note",
        "paused",
        "taken",
    )

    def __init__(self, now: float) -> None:
        self.first: int | None = None  # the first offset seen since it was assigned
        self.committed: int | None = None  # the offset last committed by us
        self.note = ""  # what was noted with it
        self.chunks: deque[tuple[list[Message], int]] = deque()  # and how many bytes each is
        self.count = 0  # records in chunks
        self.bytes = 0
        self.next: int | None = None  # the offset after the last record fetched
        self.end: int | None = None  # the end of the log, when it was last reached
        self.at_end = False  # nothing came since it was reached
        self.taken: int | None = None  # the offset after the last record taken
        self.done: int | None = None  # the offset after the last record dealt with
        self.moved_at = now
        self.newest: int | None = None  # when the last record fetched was written, in milliseconds
        self.fetched_at = now
        self.paused = False

    @property
    def resume_at(self) -> int | None:
        """Where to fetch from when everything uncommitted is thrown away."""
        return self.first if self.committed is None else self.committed

    @property
    def drained(self) -> bool:
        """Say whether everything that lies in it was dealt with."""
        return self.at_end and not self.chunks and self.end is None and (self.next is None or self.next == self.done)

    def forget(self) -> None:
        """Throw away what was fetched."""
        self.at_end = self.at_end and self.resume_at is None  # it is told again where it is fetched again
        self.chunks.clear()
        self.count = self.bytes = 0
        self.next = self.taken = self.end = None
        self.done = self.resume_at


class Moved(NamedTuple):
    """What a rebalance changed, and what this worker has now."""

    revoked: frozenset[Place]
    assigned: frozenset[Place]
    generation: int


class Poller(threading.Thread):
    """Polls one consumer. See the module for who may touch what."""

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        buffer_count_max: int,
        buffer_bytes_max: int,
        on_arrived: Callable[[], None],
        on_moved: Callable[[Moved], None],
        on_failed: Callable[[BaseException], None],
        before_revoke: Callable[[], None],
        on_watch: Callable[[float], None],
    ) -> None:
        super().__init__(name="headrace-poller", daemon=True)
        self.lock = threading.Lock()
        self.partitions: dict[Place, Partition] = {}
        self.epoch = 0
        self.generation = 0
        self.drained = True
        self._heard_at = float("-inf")  # a broker
        self._heard_seconds_max = max(HEARD_SECONDS_MAX, 3e-3 * int(settings.get("heartbeat.interval.ms", 0)))
        self.group_metadata: Any = None
        self.leads: dict[str, str] = {}  # of a topic: the one of which the older records of a partition go first
        self._cooperative = settings.get("partition.assignment.strategy") == "cooperative-sticky"
        self._consumer = Consumer(
            {
                **settings,
                "error_cb": clients.on_error,
                "on_commit": self._on_commit,
                "stats_cb": self._on_stats,
                "statistics.interval.ms": STATS_MS,
            },
            logger=clients.log,
        )
        self._commits: deque[Future[None]] = deque()
        self._count_max = buffer_count_max
        self._fetch_count = max(1, buffer_count_max // 2)
        self._bytes_max = buffer_bytes_max
        self._on_arrived = on_arrived
        self._on_moved = on_moved
        self._on_failed = on_failed
        self._before_revoke = before_revoke
        self._on_watch = on_watch
        self._room = threading.Condition(self.lock)
        self._requests: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._topics: frozenset[str] = frozenset()
        self._rewind = False
        self._all_paused = False
        self._fresh: list[TopicPartition] = []  # assigned, and to be fetched whatever was before
        self._closing = threading.Event()

    # What other threads call.

    def subscribe(self, topics: Iterable[str]) -> None:
        """Read these topics from now on; the group hears of it at the next poll."""
        self._topics = frozenset(topics)
        self.call(self._subscribe)

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Do this on the poll thread, where the consumer may be touched."""
        future: Future[T] = Future()
        self._requests.append((work, future))
        if self._closing.is_set() and not self.is_alive():
            future.set_exception(RuntimeError("the poll thread has ended"))
        return future

    def take(self, place: Place, count_max: int, generation: int) -> Taken | None:
        """Take the next records of a partition, at most ``count_max``, or None if there is nothing new.

        ``generation`` is what the taker knows. One that has not heard of the last rebalance gets nothing:
        Faust drops what is of another generation than its own, and nobody would fetch it again.
        """
        with self.lock:
            partition = self.partitions.get(place)
            if partition is None or self._rewind or generation != self.generation:
                return None
            after = partition.taken if partition.taken is not None else partition.resume_at
            messages: list[Message] = []
            until = self._until(place)
            while partition.chunks and len(messages) < count_max:
                chunk, size = partition.chunks.popleft()
                room = count_max - len(messages)
                if until is not None:
                    room = min(room, _count_until(chunk, until))
                    if not room:
                        partition.chunks.appendleft((chunk, size))
                        break
                if len(chunk) > room:
                    chunk, rest = chunk[:room], chunk[room:]
                    left = sum(map(len, rest))
                    partition.chunks.appendleft((rest, left))
                    size -= left
                messages += chunk
                partition.bytes -= size
            if messages:
                partition.count -= len(messages)
                partition.taken = _offset(messages[-1]) + 1
                self._room.notify()
            if not partition.chunks and partition.end is not None:
                at_end, partition.end = partition.end, None
                if at_end > (partition.taken or after or 0):
                    partition.taken = at_end
                    partition.first = at_end if partition.first is None else partition.first
                    return Taken(messages, after, at_end, self.epoch)
            if not messages:
                return None
            assert partition.taken is not None
            return Taken(messages, after, partition.taken, self.epoch)

    def waiting(self) -> list[Place]:
        """Return the partitions that have something to take, the longest waiting first."""
        with self.lock:
            return [
                place
                for place, partition in self.partitions.items()
                if (partition.chunks and self._may_go(place, partition))
                or (not partition.chunks and partition.end is not None)
            ]

    def _until(self, place: Place) -> int | None:
        """Return up to which time records may be taken; None where there is no bound.

        Labels that are read before their events have to wait for them, and each such event is then scored alone,
        because what comes after it is scored with what it taught. After an hour's absence that would be all of them.
        So of two topics that belong together the older records go first, as they would have at the time.
        """
        leader = self.partitions.get((self.leads.get(place[0], ""), place[1]))
        if leader is None:
            return None
        if leader.chunks:
            return _written(leader.chunks[0][0][0])
        # More is on its way, unless nothing has come for a while, or there is no room for it and this has to make some.
        if time.monotonic() - leader.fetched_at > LEAD_SECONDS_MAX:
            return None
        if leader.at_end or leader.newest is None or self._has_no_room():
            return None
        return leader.newest

    def _may_go(self, place: Place, partition: Partition) -> bool:
        until = self._until(place)
        return until is None or _count_until(partition.chunks[0][0], until) > 0

    def is_next(self, place: Place, after: int | None) -> bool:
        """Say whether what follows ``after`` is what comes next in the partition, with nothing lost in between."""
        with self.lock:
            partition = self.partitions.get(place)
            return partition is not None and (after is None or partition.done is None or after == partition.done)

    def oldest(self, place: Place) -> float | None:
        """Return when the first record was written that waits to be taken; None where none does, or nobody noted it."""
        with self.lock:
            partition = self.partitions.get(place)
            first = partition.chunks[0][0][0] if partition is not None and partition.chunks else None
        if first is None:
            return None
        kind, milliseconds = first.timestamp()
        return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1_000

    @property
    def buffered(self) -> int:
        """How many records are fetched and not taken."""
        with self.lock:
            return sum(partition.count for partition in self.partitions.values())

    @property
    def hears_broker(self) -> bool:
        """Say whether a broker has answered lately: while one does, heartbeats and fetches bring something."""
        return time.monotonic() - self._heard_at < self._heard_seconds_max

    def _on_stats(self, blob: str) -> None:
        # Inside a poll. Which connection is up says little: one that leads nowhere is up until its requests time out.
        idle = [one.rxidle for one in msgspec.json.decode(blob, type=_Stats).brokers.values() if one.state == "UP"]
        heard = [one for one in idle if one >= 0]
        if heard:
            self._heard_at = time.monotonic() - min(heard) / 1_000_000
        elif not idle:
            self._heard_at = float("-inf")

    def processed(self, place: Place, next_offset: int) -> None:
        """Note that everything before ``next_offset`` was dealt with, committed or not: this is progress."""
        with self.lock:
            if partition := self.partitions.get(place):
                partition.done = next_offset
                partition.moved_at = time.monotonic()

    def committed(self, offsets: Mapping[Place, int], notes: Mapping[Place, str] | None = None) -> None:
        """Note what was committed; a rewind goes back to here."""
        with self.lock:
            for place, offset in offsets.items():
                if partition := self.partitions.get(place):
                    partition.committed = offset
                    partition.note = (notes or {}).get(place, "")
                    if self._rewind:
                        partition.done = offset  # the commit ended after the rewind was asked for, and moves its goal

    def rewind(self, committed: Mapping[Place, int | Committed] | None = None) -> None:
        """Throw away all that is not committed and fetch it again.

        ``committed`` is what the broker says, where we could not know whether our last commit happened.
        """
        with self.lock:
            for place, one in (committed or {}).items():
                if partition := self.partitions.get(place):
                    partition.committed, partition.note = one if isinstance(one, Committed) else (one, "")
            self._throw_away()

    def commit(
        self,
        offsets: Mapping[Place, int],
        given_up: Callable[[], bool] = lambda: False,
        *,
        notes: Mapping[Place, str] | None = None,
    ) -> None:
        """Commit offsets that no transaction carries; raises what the broker says, or that nobody waits any more."""
        wanted = noted(offsets, notes or {})
        if threading.current_thread() is self:
            done = self._consumer.commit(offsets=wanted, asynchronous=False)
            _raise_first(None, done)
            return
        # A commit that blocks on another thread never returns while this one polls (librdkafka 2.16); one that
        # reports back is heard by the poll.
        answer: Future[None] = Future()
        with self.lock:
            self._commits.append(answer)
            try:
                self._consumer.commit(offsets=wanted, asynchronous=True)
            except BaseException:
                self._commits.pop()
                raise
        while not given_up():
            try:
                answer.result(timeout=0.1)
            except TimeoutError:
                continue
            return
        code = KafkaError._TIMED_OUT  # noqa: SLF001 - librdkafka's own code
        raise KafkaException(KafkaError(code, "partitions are going, and the commit did not end"))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if not self._commits:
            return  # of a commit that blocked, and has its answer
        answer = self._commits.popleft()
        try:
            _raise_first(error, partitions)
        except KafkaException as failed:
            answer.set_exception(failed)
        else:
            answer.set_result(None)

    def committed_at_broker(self, timeout: float, given_up: Callable[[], bool]) -> dict[Place, Committed] | None:
        """Ask the broker where the group is, in the partitions that this worker has; None if that was given up.

        The poll thread asks: like a commit, the question never returns on another thread while this one polls.
        """
        answer = self.call(lambda: self._ask_committed(timeout))
        while not given_up():
            try:
                return answer.result(timeout=0.1)
            except TimeoutError:
                continue
        answer.cancel()
        return None

    def _ask_committed(self, timeout: float) -> dict[Place, Committed]:
        asked = [TopicPartition(*place) for place in self.partitions]
        if not asked:
            return {}
        answers = self._consumer.committed(asked, timeout=timeout)
        _raise_first(None, answers)
        return {
            (one.topic, one.partition): Committed(one.offset, one.metadata or "") for one in answers if one.offset >= 0
        }

    def watermarks(self, place: Place) -> tuple[int, int] | None:
        """Return the first and the next offset of the log as the last fetch saw them; asks nobody."""
        found = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return found if found and found[1] >= 0 else None

    def pause(self, places: Iterable[Place], *, paused: bool) -> None:
        """Stop or go on fetching these partitions; what is fetched already stays."""
        wanted = list(places)

        def change() -> None:
            with self.lock:
                changing = [
                    place for place in wanted if place in self.partitions and self.partitions[place].paused != paused
                ]
                for place in changing:
                    self.partitions[place].paused = paused
            if changing and not self._all_paused:
                self._pause_in_client(changing, paused=paused)

        self.call(change)

    def close(self) -> None:
        """Leave the group and end the thread; what was fetched and not taken is dropped."""
        self._closing.set()
        with self.lock:
            self._room.notify()

    # What runs on the thread.

    def run(self) -> None:
        """Poll until closed; an error that cannot be survived goes to ``on_failed``."""
        try:
            watched = time.monotonic()
            full_since: float | None = None
            while not self._closing.is_set():
                self._do_requests()
                self._begin_fresh()
                self._do_rewind()
                if (now := time.monotonic()) - watched > WATCH_SECONDS:
                    watched = now
                    self._on_watch(now)
                if self._is_full():
                    full_since = full_since or now
                    self._wait_for_room(since=full_since)
                    continue
                full_since = None
                self._go_on()
                self._fetch()
        except BaseException as error:  # noqa: BLE001 - the worker must hear of everything that ends this thread
            self._on_failed(error)
        finally:
            self._leave()

    def _fetch(self) -> None:
        # ``consume`` waits out its timeout even when it has records, so the first comes through ``poll``,
        # which returns at once, and the rest with no timeout at all.
        first = self._consumer.poll(POLL_SECONDS_MAX)
        if first is None:
            self.drained = True
            if self.leads:
                self._on_arrived()  # something may have waited for what did not come
            return
        rest = self._consumer.consume(self._fetch_count, 0)
        self._keep([first, *rest])
        self.drained = len(rest) < self._fetch_count
        self._on_arrived()

    def _keep(self, messages: list[Message]) -> None:
        """Put records where others can take them, in their order, by partition."""
        runs: list[tuple[Place, list[Message]]] = []
        notes: list[tuple[Message, KafkaError]] = []
        topic = number = None
        for message in messages:
            if (error := message.error()) is not None:
                notes.append((message, error))
                continue
            if message.partition() != number or message.topic() != topic:
                topic, number = message.topic(), message.partition()
                run: list[Message] = []
                runs.append((cast("Place", (topic, number)), run))
            run.append(message)
        now = time.monotonic()
        with self.lock:
            for place, run in runs:
                partition = self.partitions.get(place)
                if partition is None:
                    continue  # revoked while this was on its way
                if partition.first is None:
                    partition.first = _offset(run[0])
                    partition.done = partition.first
                if self._rewind:
                    continue  # it is fetched again
                if partition.next is None or partition.next == partition.done:
                    partition.moved_at = time.monotonic()  # it was idle until now, not stuck
                size = sum(map(len, run))
                partition.chunks.append((run, size))
                partition.count += len(run)
                partition.bytes += size
                partition.next = _offset(run[-1]) + 1
                partition.newest = _written(run[-1])
                partition.fetched_at = now
                partition.end = None
                partition.at_end = False
        # After the records: where a log ends is told behind the last of them, and once.
        for message, error in notes:
            self._note(message, error)

    def _note(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
            with self.lock:
                topic, number, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None
                assert number is not None
                assert offset is not None
                partition = self.partitions.get((topic, number))
                if partition and not self._rewind and (partition.next is None or offset >= partition.next):
                    # After records it says nothing new, unless the markers of transactions lie in between.
                    partition.end = offset if offset != partition.next else None
                    partition.at_end = True
        elif error.fatal() or error.code() in clients.FATAL_IN_READING:
            raise clients.named(error, "reading")
        else:
            log.warning("reading %s: %s", message.topic() or "", error.str())

    def _is_full(self) -> bool:
        with self.lock:
            return self._has_no_room()

    def _has_no_room(self) -> bool:
        count = bytes_ = 0
        for partition in self.partitions.values():
            if not partition.paused:
                count += partition.count
                bytes_ += partition.bytes
        return count >= self._count_max or bytes_ >= self._bytes_max

    def _wait_for_room(self, *, since: float) -> None:
        # Pausing throws away what librdkafka has prefetched, so a step's length of being full is waited
        # out. Longer than that, polling has to go on, and it may bring no records: then we pause.
        self.drained = False
        if time.monotonic() - since < FULL_SECONDS_MAX:
            with self._room:
                self._room.wait(0.001 if self._commits else 0.05)
            if not self._commits:
                return
            # What a commit has to say is heard by polling, and the room may be waiting for just that commit.
            message = self._consumer.poll(0)
            if message is not None:
                self._keep([message])
            return
        if not self._all_paused:
            self._all_paused = True
            self._pause_in_client(list(self.partitions), paused=True)
        message = self._consumer.poll(0.02)
        if message is not None:
            self._keep([message])

    def _go_on(self) -> None:
        if self._all_paused:
            self._all_paused = False
            with self.lock:
                wanted = [place for place, partition in self.partitions.items() if not partition.paused]
            self._pause_in_client(wanted, paused=False)

    def _pause_in_client(self, places: list[Place], *, paused: bool) -> None:
        if places:
            change = self._consumer.pause if paused else self._consumer.resume
            change([TopicPartition(*place) for place in places])

    def _do_requests(self) -> None:
        while self._requests:
            work, future = self._requests.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except HeadraceError:
                raise
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)

    def _begin_fresh(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            mine = [one for one in fresh if (one.topic, one.partition) in self.partitions]
            if mine:
                self._consumer.resume(mine)

    def _do_rewind(self) -> None:
        if not self._rewind:
            return
        with self.lock:
            epoch = self.epoch
            back = {place: partition.resume_at for place, partition in self.partitions.items()}
        for (topic, number), offset in back.items():
            if offset is None:
                continue  # nothing of it was seen, so there is nothing to go back over
            try:
                self._consumer.seek(TopicPartition(topic, number, offset))
            except KafkaException as error:
                # Not fetching yet, right after it was assigned: then try again before anything is taken.
                log.debug("going back to %s[%d]@%d: %s", topic, number, offset, clients.kafka_error(error).str())
                time.sleep(0.01)
                return
        with self.lock:
            self._rewind = epoch != self.epoch  # somebody asked again meanwhile, and may have meant another place

    def _subscribe(self) -> None:
        if self._topics:
            self._consumer.subscribe(
                sorted(self._topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
        else:
            self._consumer.unsubscribe()

    # The callbacks run inside poll and consume, on this thread.

    def _assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        if given:
            self._let_go()  # those that stay start over from what is committed, as on every change
        if self._cooperative:
            consumer.incremental_assign(given)
        else:
            consumer.assign(given)
        # The client remembers of a partition that it was paused, over being taken away and given again.
        self._fresh += given
        with self.lock:
            # As of now and no later: a worker that lost its membership must not commit as the member that it
            # becomes next, so whoever commits uses the membership under which its partitions were given.
            self.group_metadata = consumer.consumer_group_metadata()
            if not given and self.generation:
                return  # the group has a new generation, and this worker what it had
            self._throw_away()
            now = time.monotonic()
            for one in given:
                self.partitions[one.topic, one.partition] = Partition(now)
            self.generation += 1
            moved = Moved(frozenset(), frozenset(self.partitions), self.generation)
        self._on_moved(moved)

    def _lost(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        log.warning("the group gave %d partitions away before this worker let go of them", len(taken))
        self._revoked(consumer, taken)

    def _revoked(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        self._let_go()
        places = frozenset((one.topic, one.partition) for one in taken)
        with self.lock:
            for place in places:
                self.partitions.pop(place, None)
            self._throw_away()
            self.generation += 1
            moved = Moved(places, frozenset(self.partitions), self.generation)
        if self._cooperative:
            consumer.incremental_unassign(taken)
        else:
            consumer.unassign()
        self._on_moved(moved)

    def _let_go(self) -> None:
        """Leave nothing uncommitted: the next owner starts from what is committed.

        The epoch moves first. A batch that is carried out at this moment holds the committer's lock; it
        ends, and is aborted when ``before_revoke`` gets that lock. Whatever comes after is of an old epoch.
        In the other order a batch could slip in between the abort and the new epoch, and its offsets would
        be committed for a partition that another worker has by then. And nothing is taken until it is settled
        what this worker has: a batch of the epoch in between would go into a transaction that nobody aborts.
        """
        with self.lock:
            self.epoch += 1
            self._rewind = True
        self._before_revoke()

    def _throw_away(self) -> None:
        self.epoch += 1
        for partition in self.partitions.values():
            partition.forget()
        self._rewind = bool(self.partitions)
        self._room.notify()

    def _leave(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            self._consumer.close()
        while self._requests:
            _, future = self._requests.popleft()
            future.set_exception(RuntimeError("the poll thread has ended"))


def noted(offsets: Mapping[Place, int], notes: Mapping[Place, str]) -> list[TopicPartition]:
    """Return offsets as the client takes them, each with what is noted beside it."""
    return [TopicPartition(*place, offset, notes.get(place, "")) for place, offset in offsets.items()]


def _written(message: Message) -> int | None:
    """Return when a record was written, in milliseconds; None where nobody noted that."""
    kind, milliseconds = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds


def _count_until(messages: list[Message], until: int) -> int:
    """Return how many of the first records were not written later."""
    for count, message in enumerate(messages):
        written = _written(message)
        if written is not None and written > until:
            return count
    return len(messages)


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "a record that was fetched has an offset"
    return offset


def _raise_first(error: KafkaError | None, partitions: list[TopicPartition] | None) -> None:
    for found in (error, *(one.error for one in partitions or ())):
        if found is not None:
            raise KafkaException(found)
