"""The producer of a worker: made, waited for, replaced, and let go of."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.schemas.config import Config
from headrace.schemas.errors import Fenced, NotDelivered, TopicMissing
from headrace.stream import clients
from headrace.stream.poller import Committed, Place, Poller

log = logging.getLogger("headrace.producers")

# A producer that is replaced more often than this is being replaced by somebody.
REPLACED_MAX, REPLACED_SECONDS = 5, 60.0
REQUEST_SECONDS_MAX = 5.0
BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.1, 5.0
# A broker that has just started may not know of every topic yet. One that is not there for this long is gone.
GONE_SECONDS, GONE_PAUSE_SECONDS, GONE_REQUEST_SECONDS_MAX = 3.0, 0.2, 2.0


class Dry(Protocol):
    """What stands where a broker would, in a run that publishes and commits nothing: ``DryRun``."""

    def producer(self) -> Any:
        """Return what takes a producer's place."""

    def moved(self, offsets: Any) -> None:
        """Take offsets that would have been committed."""


class Producers:
    """The producers of one worker, one after the other: at any time there is one, or none.

    Who owns what
    -------------
    ``current`` belongs to whoever holds the committer's lock, and so does every method here, but for
    ``gives_up``: call them with that lock held. There is none before ``make``, while one is being made, after
    ``drop``, and at the end; who finds None produces nothing. Two threads use one without the lock, and only to
    wait for it: a flush beside a commit or for an idle worker, each of one that it took a reference to. It may
    be replaced meanwhile, and then the flush ends because the old one is purged.

    One that is replaced belongs to a thread of its own, which purges and closes it, because closing may wait
    for a broker that is away. The new one has the same ``transactional.id``: its ``init_transactions`` ends what
    the old one left open, and fences it.

    Who gives up
    ------------
    ``init_transactions`` and the question where the group is may wait for as long as the broker is away, with
    the lock held. The poll thread needs that lock when partitions go, so it sets ``giving_up`` first; the end of
    the worker sets ``closing``. Whoever waits looks at both, leaves no producer behind, and says so with
    ``on_given_up``: it is then tried again when the partitions are gone.
    """

    def __init__(
        self,
        config: Config,
        poller: Poller,
        *,
        batch_bytes_max: int,
        on_given_up: Callable[[], None],
        dry: Dry | None = None,
    ) -> None:
        self.current: Producer | None = None
        self._dry = dry
        self.giving_up = threading.Event()
        self.closing = False
        self._broker = config.broker
        self._transactional = config.exactly_once
        self._transaction_timeout_ms = config.transaction_timeout_ms
        self._settings = clients.producer_settings(
            config, transactional=config.exactly_once, batch_bytes_max=batch_bytes_max
        )
        self._poller = poller
        self._on_given_up = on_given_up
        self._replaced: deque[float] = deque(maxlen=REPLACED_MAX)  # when
        self._refused: KafkaError | None = None

    def gives_up(self) -> bool:
        """Say whether nobody may wait for the broker any more."""
        return self.closing or self.giving_up.is_set()

    def make(self) -> bool:
        """Make one in place of the one that is there; False, and there is none, if it was given up."""
        self.drop()
        self._refused = None
        if self._dry is not None:
            self.current = self._dry.producer()
            return True
        producer = Producer(
            {
                **self._settings,
                "error_cb": clients.on_error,
                "on_delivery": self._on_delivery,
                "delivery.report.only.error": True,
            },
            logger=clients.log,
        )
        if self._transactional and not self._begin(producer):
            threading.Thread(target=_let_go, args=(producer,), daemon=True).start()
            return False
        self.current = producer
        return True

    def _begin(self, producer: Producer) -> bool:
        """End what a producer of the same name left open; False if that was given up."""
        backoff = BACKOFF_SECONDS_MIN
        while not self.gives_up():
            try:
                producer.init_transactions(REQUEST_SECONDS_MAX)
            except KafkaException as error:
                reason = clients.kafka_error(error)
                if reason.fatal() or not (reason.retriable() or reason.code() == KafkaError._TIMED_OUT):  # noqa: SLF001
                    raise NotDelivered(f"no transactions with this broker: {reason.str()} ({reason.name()})") from error
                time.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS_MAX)
            else:
                return True
        return False

    def replace(self) -> None:
        """Make a new one, which ends what the old one left, and go back to what is committed."""
        now = time.monotonic()
        if len(self._replaced) == REPLACED_MAX and now - self._replaced[0] < REPLACED_SECONDS:
            raise Fenced(
                f"producer {self._settings['transactional.id']!r} was fenced {REPLACED_MAX} times within a minute: "
                "another worker runs under the same name, give each its own instance; or no transaction ends "
                f"within transaction_timeout_ms = {self._transaction_timeout_ms}, raise it"
            )
        self._replaced.append(now)
        self.renew()

    def renew(self) -> None:
        """Make a new one and go back to what is committed; where that was given up there is none."""
        if self.make():
            committed = self._ask_committed()
            if committed is not None:
                self._poller.rewind(committed)
                return
            self.drop()
        # Partitions went while the broker gave no answer, and the poll thread waits for the lock.
        self._on_given_up()

    def _ask_committed(self) -> dict[Place, Committed] | None:
        while not self.gives_up():
            try:
                return self._poller.committed_at_broker(REQUEST_SECONDS_MAX, self.gives_up)
            except KafkaException as error:
                log.warning("where the group is, the broker does not say yet: %s", clients.kafka_error(error).str())
                time.sleep(0.2)
        return None

    def drop(self) -> None:
        """Let go of the one that is there; what it has not sent is lost with it, and its transaction stays open."""
        old, self.current = self.current, None
        if old is not None:
            # On a thread of its own: it may wait for a broker that is away, and nobody waits for it.
            threading.Thread(target=_let_go, args=(old,), name="headrace-closing", daemon=True).start()

    def raise_refused(self, topics: Iterable[str]) -> None:
        """Raise what the broker said when it refused an output for good, if it did; ``topics`` is where they went."""
        if self._refused is not None:
            # Of a topic that was deleted the client says now this and now that.
            self.raise_gone(topics)
            raise clients.named(self._refused, "publishing")

    def raise_gone(self, topics: Iterable[str]) -> None:
        """Raise if one of these topics is not there any more.

        The client does not say so: it keeps what it has for a topic that was deleted, for the topic may come
        back, until its transaction or half a minute is over, and then names many reasons. So who waits too long
        for outputs to be acknowledged, or whose commit failed, asks. A broker that gives no answer has not said
        that anything is gone.
        """
        deadline = time.monotonic() + GONE_SECONDS
        while not self.gives_up() and (gone := self._gone(topics)):
            if time.monotonic() > deadline:
                names = ", ".join(sorted(gone))
                raise TopicMissing(
                    f"publishing: there is no topic {names} on {self._broker} any more, or this worker may not see it; "
                    "what went there since the last commit was not committed. Create the topic, or set "
                    "create_topics=true, and start the worker again: what was not committed is scored again"
                )
            time.sleep(GONE_PAUSE_SECONDS)

    def _gone(self, topics: Iterable[str]) -> set[str]:
        producer, asked = self.current, set(topics)
        if producer is None or not asked or self._dry is not None:
            return set()
        try:
            # All topics, because a broker may make the one that it is asked for by name.
            known = producer.list_topics(timeout=GONE_REQUEST_SECONDS_MAX).topics
        except KafkaException as error:
            log.debug("which topics there are, the broker does not say: %s", clients.kafka_error(error).str())
            return set()
        return asked - set(known)

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        # Inside a poll or flush, on whichever thread that is.
        if error is None or error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):  # noqa: SLF001
            return  # purged because its transaction was aborted
        if self._transactional and error.code() not in clients.REFUSALS:
            return  # the transaction knows: its commit fails, and all of it is done again
        if self._refused is None:  # one line, and not one for each of the outputs that follow
            log.error("an output for %s was refused: %s (%s)", message.topic(), error.str(), error.name())
            self._refused = error


def _let_go(producer: Producer) -> None:
    try:
        producer.purge()
        producer.close()
    except (KafkaException, RuntimeError) as error:
        log.debug("closing a producer that was replaced: %s", error)
