"""Outputs and offsets, committed together or not at all."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header
from headrace.schemas.errors import HeadraceError
from headrace.stream import clients, failpoint
from headrace.stream.helper import Helper
from headrace.stream.poller import Place, Poller, noted
from headrace.stream.producers import REQUEST_SECONDS_MAX, Dry, Producers
from headrace.stream.telemetry import Tally, Telemetry

log = logging.getLogger("headrace.commit")

TELL_SECONDS = 10.0
FLUSH_SECONDS_MIN, HURRY_SECONDS_MAX = 0.001, 0.05
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX, COLLISION_SECONDS = 0.0005, 0.008, 0.018
SHRINK, GROW = 8, 1.02
ROOM_SECONDS = 0.01  # from one look for room in the producer's queue to the next


class Output(NamedTuple):
    """One record to be published."""

    topic: str
    key: bytes | str | None
    value: bytes | None
    headers: list[Header] | None = None
    partition: int = -1  # the key decides, as the client takes it, where none is named

    @property
    def size(self) -> int:
        """How many bytes it weighs, without what the broker's format adds."""
        key = self.key.encode() if isinstance(self.key, str) else self.key or b""
        headers = sum(len(name.encode()) + len(content or b"") for name, content in self.headers or ())
        return len(key) + len(self.value or b"") + headers


class Outputs(NamedTuple):
    """What one batch gives: many records for one topic, as columns, and few that are each their own."""

    topic: str
    keys: list[str]
    values: list[bytes]
    headers: list[list[Header] | None] | None  # None where no record has any, which is nearly always
    others: list[Output]
    size: int
    tally: Tally | None = None  # what is to be counted when they are published


class Batch(NamedTuple):
    """Where the outputs come from."""

    place: Place
    after: int | None
    next_offset: int
    epoch: int
    note: str = ""  # goes with the offset
    memory: Place | None = None  # what remembers it, of which there may be several for a number of a partition
    begins: int | None = None  # the moment in the life of that memory that it went on from
    ends: int | None = None  # and the one that it has come to


class Committer:
    """Carries out what batches gave, and commits it with the offset that is next.

    Delivery guarantees
    -------------------
    *Exactly once*: outputs and offsets share one transaction. A crash at any moment leaves either both
    or neither visible to readers of committed data. *At least once*: offsets are committed after every
    output before them was acknowledged; a crash may repeat the outputs since the last commit.

    How a commit goes
    -----------------
    1. Nothing new is taken: ``carry_out`` waits. The next batch may be stepped meanwhile.
    2. The offsets go into the transaction, under the membership that the partitions were given to.
    3. What was produced is flushed; where there is no transaction, this comes before the offsets.
    4. The transaction is committed.
    5. Only then it is noted that it happened.

    What can go wrong, and what happens then
    ----------------------------------------
    - *The broker asks for an abort* (a stale generation, a failed send): abort, rewind, go on.
    - *A fatal error* (fenced, timed out, an abort that was not allowed): the producer is replaced
      (``Producers``). ``init_transactions`` of the new one ends whatever the old one left open.
    - *No answer*: the same call is repeated, which librdkafka allows. If there is none for as long as a
      transaction may last, nobody knows whether it happened: the producer is replaced, and the broker is
      asked where the group is before a single record is fetched again.
    - *An output is refused for good* (not authorised), or its topic was deleted: the worker ends with the error.

    The lock is held by whoever touches the transaction: ``carry_out`` on the event loop, a commit on its
    own thread, an abort on the poll thread when partitions are revoked. Order: this lock, then the
    poller's.
    """

    def __init__(
        self,
        config: Config,
        poller: Poller,
        *,
        batch_bytes_max: int,
        on_failed: Callable[[BaseException], None],
        telemetry: Telemetry | None = None,
        dry: Dry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self._config = config
        self._dry = dry
        self._poller = poller
        self._on_failed = on_failed
        self._producers = Producers(
            config, poller, batch_bytes_max=batch_bytes_max, on_given_up=self._renew_later, dry=dry
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-commit")
        self._helper = Helper("headrace-commit-helper")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._committing: asyncio.Future[None] | None = None  # a commit is under way
        self._holding: asyncio.Future[None] | None = None  # and nothing may be produced until it has got on
        self._timer: asyncio.TimerHandle | None = None
        self._open = False  # a transaction was begun
        self._pending: dict[Place, int] = {}
        self._notes: dict[Place, str] = {}
        self._moments: dict[Place, tuple[int, int]] = {}  # by memory: in which epoch, and what it has come to
        self._unfinished = False  # a batch is produced in part, because the producer's queue was full
        self._bytes = 0  # produced since the last flush
        self._topics: set[str] = set()  # where to
        self._began = 0.0
        self._ended = False
        self._hurrying = False  # a flush is under way
        self._waits = False  # something came too late for it
        self._idle = False  # the last commit came because nothing else was there to do
        self._pause = PAUSE_SECONDS_MIN
        self._share = 1.0  # of a full step that is done at a time; shrinks when transactions time out
        self.commits = 0
        self.aborts = 0

    # On the event loop.

    async def start(self) -> None:
        """Make the producer, and end what a dead worker of the same name left open."""
        self._loop = asyncio.get_running_loop()
        await self._loop.run_in_executor(self._thread, self._producers.make)

    async def carry_out(self, batch: Batch, outputs: Outputs) -> bool:
        """Produce the outputs and note the offset; False if the batch is of an older epoch and dropped."""
        assert self._loop is not None
        sent, began = 0, time.perf_counter()
        while True:
            while self._holding is not None:
                await asyncio.wait([self._holding])
            if not self._lock.acquire(blocking=False):
                await asyncio.sleep(0.001)  # the poll thread aborts, because partitions go
                continue
            try:
                if batch.epoch != self._poller.epoch or self._producers.current is None or self._ended:
                    self._unfinished = False
                    return False
                if not (self._poller.is_next(batch.place, batch.after) and self._goes_on(batch)):
                    # Never seen, and never to be: between this batch and the last one, records were lost in
                    # this process. Their offsets must not be committed with what follows them.
                    log.error(
                        "records before offset %d of %s are missing; starting over", batch.next_offset, batch.place
                    )
                    self._run(self._start_over)
                    return False
                self._begin()
                sent = self._produce(outputs, sent)
                self._unfinished = sent < len(outputs.values) + len(outputs.others)
            except clients.FAILURES as error:
                self._run(self._recover_guarded, clients.kafka_error(error))
                return False
            else:
                if not self._unfinished:
                    failpoint.reached("after_produce")
                    self._pending[batch.place] = batch.next_offset
                    if batch.memory is not None and batch.ends is not None:
                        self._moments[batch.memory] = batch.epoch, batch.ends
                    self._notes[batch.place] = batch.note
                    self._bytes += outputs.size
                    self._poller.processed(batch.place, batch.next_offset)
                    self._telemetry.sent(outputs.tally, time.perf_counter() - began)
                    return True
            finally:
                self._lock.release()
            # The queue of the producer is full: the rest follows when there is room. Fetching stops by
            # itself, because no further batch is taken before this one is done.
            await asyncio.sleep(ROOM_SECONDS)

    def _goes_on(self, batch: Batch) -> bool:
        """Say whether the batch was stepped on what the last one left its memory: else the changelog has a hole."""
        if batch.memory is None or batch.begins is None:
            return True  # nothing is remembered of it, or it is the first
        epoch, moment = self._moments.get(batch.memory, (-1, 0))
        return epoch != batch.epoch or moment == batch.begins

    @property
    def has_producer(self) -> bool:
        """Say whether there is a producer: not before the first is made, and not while one is replaced."""
        return self._producers.current is not None

    @property
    def step_count_max(self) -> int:
        """How many events to score before the next commit may come."""
        return max(1, int(self._config.batch_count_max * self._share))

    @property
    def careful(self) -> bool:
        """Say whether a transaction has timed out lately, so that none should be open during a step."""
        return self._share < 1.0

    @property
    def holding(self) -> bool:
        """Say whether a commit is under way and nothing can be carried out before it has got on."""
        return self._holding is not None

    def due(self, *, drained: bool) -> bool:
        """Say whether it is time to commit: at once when idle, at the latest after the interval."""
        if not self._pending or self._committing is not None:
            return False
        self._idle = drained
        late = time.monotonic() - self._began >= self._config.commit_interval_ms / 1_000
        if self._bytes >= self._config.output_bytes_max // 2:
            return True
        if self._config.exactly_once:
            return drained or late
        return late

    def commit_soon(self) -> None:
        """Start a commit, unless one is under way."""
        if self._committing is not None or not self._pending or self._ended:
            return
        self._cancel_timer()
        if self._unfinished:
            # Half a batch would be committed without its offset, and come twice if the other half never came.
            assert self._loop is not None
            self._timer = self._loop.call_later(ROOM_SECONDS, self._on_timer)
            return
        self._run(self._commit_guarded)

    def hurry(self) -> None:
        """Send what waits for company: the input is drained, and none is coming.

        With transactions the commit does that, and it is due. Without, a flush does.
        """
        producer = self._producers.current
        if self._config.exactly_once or producer is None:
            return
        self._waits = self._hurrying
        if self._hurrying:
            # While one flush lasts the client lets nothing linger, but looks at new records only when woken.
            producer.flush(0)
        else:
            assert self._loop is not None
            self._hurrying = True
            flushing = asyncio.wrap_future(self._helper.submit(self._flush_soon), loop=self._loop)
            flushing.add_done_callback(self._hurried)

    def _hurried(self, _future: "asyncio.Future[None]") -> None:
        self._hurrying = False
        if self._waits:
            self.hurry()

    async def settle(self) -> None:
        """Commit what was carried out, and return when that is done."""
        while (self._pending and not self._ended) or self._committing is not None:
            self.commit_soon()
            if self._committing is not None:
                await asyncio.wait([self._committing])
            else:
                await asyncio.sleep(ROOM_SECONDS)

    async def close(self) -> None:
        """Let go of the producer; what is not committed is aborted."""
        self._cancel_timer()
        self._producers.closing = True
        assert self._loop is not None
        await self._loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        self._helper.end()

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        if self._holding is None:  # else somebody waits for the one that is there
            self._holding = self._loop.create_future()
        self._committing = self._loop.run_in_executor(self._thread, work, *arguments)
        self._committing.add_done_callback(self._committed)

    def _run_when_free(self, work: Callable[[], None]) -> None:
        """Run it when no commit is under way, unless there is nothing to commit any more."""
        if self._committing is not None:
            self._committing.add_done_callback(lambda _future: self._run_when_free(work))
        elif not self._ended and not self._producers.closing:
            self._run(work)

    def _release(self) -> None:
        if self._holding is not None:
            self._holding.set_result(None)
            self._holding = None

    def _committed(self, future: "asyncio.Future[None]") -> None:
        self._committing = None
        if not future.cancelled() and (error := future.exception()) is not None:
            self._ended = True  # nothing is committed any more; the worker ends, and the next one goes on from here
            self._on_failed(error)
        assert self._loop is not None
        if self._config.exactly_once and self._idle:
            self._loop.call_later(self._pause, self._release_unless_committing)
        else:
            self._release()

    def _release_unless_committing(self) -> None:
        if self._committing is None:
            self._release()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        producer = self._producers.current
        assert producer is not None
        if not self._pending and not self._open:
            self._began = time.monotonic()
            if self._timer is None and self._loop is not None:
                # Whatever becomes of the stream, what was begun is committed in time.
                self._timer = self._loop.call_later(self._config.commit_interval_ms / 1_000, self._on_timer)
        if self._config.exactly_once and not self._open:
            producer.begin_transaction()
            self._open = True

    def _on_timer(self) -> None:
        self._timer = None
        if self._committing is not None and self._loop is not None:
            # Its offsets are on their way, and what was carried out meanwhile is not among them. If nothing came any
            # more, nobody else would ask for the next commit.
            self._timer = self._loop.call_later(ROOM_SECONDS, self._on_timer)
            return
        self.commit_soon()

    def _produce(self, outputs: Outputs, sent: int) -> int:
        """Queue what follows the first ``sent`` records; return how many are queued now."""
        producer = self._producers.current
        assert producer is not None
        produce, topic, many = producer.produce, outputs.topic, len(outputs.values)
        if many:
            self._topics.add(topic)
        if outputs.others:
            self._topics.update(output.topic for output in outputs.others)
        try:
            if outputs.headers is None:
                for key, value in islice(zip(outputs.keys, outputs.values, strict=True), sent, None):
                    produce(topic, value, key)
                    sent += 1
            else:
                columns = zip(outputs.keys, outputs.values, outputs.headers, strict=True)
                for key, value, headers in islice(columns, sent, None):
                    produce(topic, value, key, headers=cast("Any", headers))
                    sent += 1
            for output in outputs.others[sent - many :]:
                headers = cast("Any", output.headers)
                produce(output.topic, output.value, output.key, output.partition, headers=headers)
                sent += 1
        except BufferError:
            pass  # the queue is full; the rest follows when there is room
        producer.poll(0)
        return sent

    # On the threads for commits and flushes.

    def _flush_soon(self) -> None:
        producer, until = self._producers.current, self._telemetry.until
        if producer is not None and not producer.flush(HURRY_SECONDS_MAX):
            self._telemetry.published(until)

    def _commit_guarded(self) -> None:
        with self._lock:
            if not self._pending:
                return
            self._producers.raise_refused(self._topics)
            began = time.perf_counter()
            try:
                if self._config.exactly_once:
                    self._commit_transaction()
                    self._took(began)
                    return
                if not self._flush():
                    return
            except clients.FAILURES as error:
                self._recover(clients.kafka_error(error))
                return
            self._telemetry.published()
            flushed, notes = self._pending, self._notes
            self._forget()
        # The outputs are safe, and there is no transaction that the next ones could get into: they may go on
        # while the offsets are on their way.
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._release)
        try:
            self._commit_offsets(flushed, notes)
        except clients.FAILURES as error:
            self._recover_guarded(clients.kafka_error(error))
        else:
            self._took(began)

    def _took(self, began: float) -> None:
        self._telemetry.registry.observe("headrace_commit_seconds", time.perf_counter() - began)

    def start_over(self) -> None:
        """Throw away what is not committed, and have it fetched again."""
        self._run_when_free(self._start_over)

    def _start_over(self) -> None:
        with self._lock:
            self.aborts += self._open
            if self._open and not self._abort():
                self._replace_producer()
                return
            self._forget()
            self._poller.rewind()

    def _recover_guarded(self, reason: KafkaError) -> None:
        with self._lock:
            self._recover(reason)

    def _commit_transaction(self) -> None:
        producer = self._producers.current
        assert producer is not None
        if not self._open:
            self._commit_offsets(
                self._pending, self._notes
            )  # only offsets moved: markers of the input's own transactions
            self._telemetry.published()
            self._forget()
            return
        offsets = noted(self._pending, self._notes)
        sending = self._helper.submit(
            self._patiently,
            lambda seconds: producer.send_offsets_to_transaction(offsets, self._poller.group_metadata, seconds),
        )
        # A commit flushes, and waits for ``linger_ms`` as it does; a flush does not. It runs beside the offsets.
        flush_seconds = _flush_timed(producer)
        self._hear(sending)
        self._pace(flush_seconds)
        if flush_seconds >= REQUEST_SECONDS_MAX:
            self._producers.raise_gone(self._topics)
        failpoint.reached("before_commit")
        self._patiently(producer.commit_transaction)
        failpoint.reached("after_commit")
        self._done(self._pending, self._notes)
        self._telemetry.published()
        self._forget()

    def _hear(self, sending: "Future[None]") -> None:
        """Wait until the offsets are in the transaction, or raise what was said against it.

        While the group's coordinator is away, librdkafka 2.16 forgets how long it may take and never returns.
        So the call has a thread of its own, which is left behind with its producer where that happens.
        """
        deadline = time.monotonic() + 2 * REQUEST_SECONDS_MAX + self._config.transaction_timeout_ms / 1_000
        while True:
            try:
                sending.result(timeout=0.1)
            except TimeoutError:
                if not self._producers.gives_up() and time.monotonic() < deadline:
                    continue
                self._helper.end()
                self._helper = Helper("headrace-commit-helper")
                code = KafkaError._TIMED_OUT  # noqa: SLF001 - librdkafka's own code
                raise KafkaException(KafkaError(code, "the group's coordinator took no offsets")) from None
            return

    def _pace(self, flush_seconds: float) -> None:
        """Learn how long to wait between two transactions when there is time to.

        A transaction that follows another before the coordinator has written the markers of the first is told
        to come again, and librdkafka comes again after 20 ms. A pause of a few milliseconds is cheaper. How
        many depends on the broker, so it grows with every such collision and shrinks without.
        """
        if flush_seconds > COLLISION_SECONDS:
            self._pause = min(PAUSE_SECONDS_MAX, 2 * self._pause)
        else:
            self._pause = max(PAUSE_SECONDS_MIN, 0.98 * self._pause)

    def _flush(self, *, patience: float = float("inf")) -> bool:
        """Wait until every output is acknowledged; False if that was given up."""
        producer = self._producers.current
        assert producer is not None
        began = told = asked = time.monotonic()
        seconds = FLUSH_SECONDS_MIN
        while left := producer.flush(seconds):
            # Another thread may have heard of the last delivery, and then this call would not notice for 10 ms.
            seconds = min(1.0, 1.2 * seconds)
            self._producers.raise_refused(self._topics)
            now = time.monotonic()
            if self._producers.gives_up() or now - began > patience:
                return False
            if now - asked > REQUEST_SECONDS_MAX:
                self._producers.raise_gone(self._topics)
                asked = time.monotonic()
            if now - told > TELL_SECONDS:
                told = now
                log.warning("%d outputs are not acknowledged yet; nothing is committed before they are", left)
        self._producers.raise_refused(self._topics)
        return True

    def _commit_offsets(self, offsets: dict[Place, int], notes: dict[Place, str]) -> None:
        failpoint.reached("before_commit")
        if self._dry is not None:  # here and in its producer a dry run leaves out what others would see
            self._dry.moved(noted(offsets, notes))
        else:
            self._poller.commit(offsets, self._producers.gives_up, notes=notes)
        failpoint.reached("after_commit")
        self._done(offsets, notes)

    def _done(self, offsets: dict[Place, int], notes: dict[Place, str]) -> None:
        self._poller.committed(offsets, notes)
        self._share = min(1.0, self._share * GROW)
        self.commits += 1

    def _forget(self) -> None:
        self._pending, self._notes = {}, {}
        self._open = False
        self._bytes = 0
        self._topics = set()
        self._telemetry.dropped()

    def _patiently(self, call: Callable[[float], Any]) -> None:
        """Repeat the call while the broker gives no answer, for as long as a transaction may last."""
        deadline = time.monotonic() + self._config.transaction_timeout_ms / 1_000
        while True:
            try:
                call(REQUEST_SECONDS_MAX)
            except clients.FAILURES as error:
                reason = clients.kafka_error(error)
                if not reason.retriable() or self._producers.gives_up() or time.monotonic() > deadline:
                    raise
                log.debug("%s; asking again", reason.str())
                time.sleep(0.05)
            else:
                return

    def _recover(self, reason: KafkaError) -> None:
        """Get from a failed commit to where nothing uncommitted is left and work can go on."""
        self._producers.raise_refused(self._topics)
        if clients.is_fenced_instance(reason):
            raise clients.named(reason, "committing")
        self._producers.raise_gone(self._topics)
        log.warning("commit failed: %s (%s); what it held is done again", reason.str(), reason.name())
        self.aborts += 1
        if not self._config.exactly_once:
            # Outputs are out, their offsets are not: they will come again, which this guarantee allows.
            self._forget()
            self._poller.rewind()
            return
        if reason.txn_requires_abort() and self._abort():
            self._poller.rewind()
            return
        if reason.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError._TIMED_OUT):  # noqa: SLF001
            self._share = max(self._share / SHRINK, 1 / self._config.batch_count_max)
        self._replace_producer()

    def _abort(self) -> bool:
        """Abort the open transaction; False if the producer is of no more use."""
        producer = self._producers.current
        assert producer is not None
        try:
            self._patiently(producer.abort_transaction)
        except clients.FAILURES as error:
            log.warning("abort failed: %s; the producer is replaced", clients.kafka_error(error).str())
            return False
        self._forget()
        return True

    def _replace_producer(self) -> None:
        self._forget()
        self._producers.replace()

    def _renew_later(self) -> None:
        if self._loop is not None and not self._producers.closing:
            self._loop.call_soon_threadsafe(self._run_when_free, self._renew_guarded)

    def _renew_guarded(self) -> None:
        with self._lock:
            if self._producers.current is None:
                self._producers.renew()

    def _close(self) -> None:
        with self._lock:
            if self._open:
                self._abort()
            elif self._producers.current is not None and not self._ended:
                self._producers.current.flush(REQUEST_SECONDS_MAX)
            self._producers.current = None

    # On the poll thread.

    def before_revoke(self) -> None:
        """Leave nothing uncommitted; the partitions go when this returns."""
        self._producers.giving_up.set()  # a commit that waits for the broker gives up, and its transaction with it
        with self._lock:
            self._producers.giving_up.clear()
            if self._config.exactly_once:
                if self._open:
                    self.aborts += 1
                    if not self._abort():
                        # A new one is made on the commit thread: this one must go on polling.
                        self._forget()
                        self._producers.drop()
                        self._renew_later()
                else:
                    self._forget()
            elif self._pending and not self._ended:
                try:
                    if self._flush(patience=REQUEST_SECONDS_MAX):
                        self._telemetry.published()
                        self._commit_offsets(self._pending, self._notes)
                except (*clients.FAILURES, HeadraceError) as error:
                    log.warning("not committed before the partitions went: %s", error)
                self._forget()


def _flush_timed(producer: Producer) -> float:
    began = time.perf_counter()
    try:
        producer.flush(REQUEST_SECONDS_MAX)
    except SystemError as error:
        # It called back, to log what it holds against the transaction, with that as an error still pending. The
        # requests beside the flush and after it say the same in a way that can be acted upon.
        log.debug("the client raised %s", error)
    return time.perf_counter() - began
