"""Load with a seed: an idempotent producer that remembers what it sent."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import confluent_kafka
from aiokafka.partitioner import murmur2

from faults.ledger import Fate, Ledger, Poison
from faults.poison import KINDS, Kind

EPOCH = 1_700_000_000.0
DELIVERY_SECONDS_MAX = 120.0
SLOW_AMOUNT = 13.13  # pipelines of the harness sleep on it
RAISE_AMOUNT = 66.66  # pipelines of the harness raise on it


class Generator:
    """Sends events, evenly over the partitions, and writes each into its ledger.

    Event time runs on by 10 ms an event, jitters within 10 s, and every thirtieth event or so is a minute
    late. A card always falls into the partition where its hash puts it, so that order per card means something.
    """

    def __init__(
        self,
        address: str,
        topic: str,
        partitions: int,
        *,
        seed: int,
        cards: int = 16,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.ledger = Ledger(seed, partitions)
        self._topic = topic
        self._random = random.Random(seed)
        self._cards = _cards(partitions, cards)
        self._failed: list[str] = []
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._settings = {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 5,
            "delivery.timeout.ms": int(DELIVERY_SECONDS_MAX * 1_000),
            "queue.buffering.max.messages": 200_000,
            "log_level": 0,
            **(settings or {}),
        }
        self._producer: confluent_kafka.Producer | None = None

    def send(
        self,
        count: int,
        *,
        rate: float | None = None,
        amount: float | None = None,
        padding: int = 0,
        poison: Sequence[str] | Mapping[str, Kind] = (),
        poison_every: int = 50,
        dead: str = "",
        held_back: Callable[[], bool] = lambda: False,
    ) -> Ledger:
        """Send ``count`` events and wait until the broker has them all.

        ``rate`` is in events per second; an event that is behind its time is sent at once, so a slow
        broker does not thin the load out. ``padding`` lengthens each id. Every ``poison_every``-th event
        is one of the ``poison`` kinds instead, in turn. ``dead`` is the code with which these events have to
        end in the dead letters, where the pipeline or the topic cannot take them. While ``held_back`` says
        so, nothing is sent.
        """
        kinds = poison if isinstance(poison, Mapping) else {name: KINDS[name] for name in poison}
        turns = list(kinds.items())
        started = time.monotonic()
        for index in range(count):
            while index % 1_000 == 0 and held_back() and not self._stopping.is_set():
                self._started().poll(0.05)
            if self._stopping.is_set():
                break
            if turns and index % poison_every == poison_every - 1:
                self._send_poison(*turns[index // poison_every % len(turns)])
            else:
                self._send_event(index, amount=amount, padding=padding, dead=dead)
            if rate and index % 20 == 19:
                self._wait_until(started + (index + 1) / rate)
        self._flush()
        return self.ledger

    def send_in_transactions(self, count: int, *, aborted: float, size: int = 300) -> Ledger:
        """Send ``count`` events in transactions, a share of which is aborted; the last one always is.

        After it every partition ends with records that nobody may read and a marker behind them: a
        consumer that counts records instead of offsets never reaches the end.
        """
        timeout_ms = int(DELIVERY_SECONDS_MAX * 1_000)
        self._settings |= {
            "transactional.id": f"generator-{self._topic}",
            "transaction.timeout.ms": timeout_ms,
        }
        producer = self._started()
        producer.init_transactions(30)
        left = count
        while left:
            some = min(left, self._random.randint(1, size))
            left -= some
            abort = not left or self._random.random() < aborted
            if abort and not left:
                some = max(some, 4 * self.ledger.partitions)
            producer.begin_transaction()
            for index in range(some):
                self._send_event(index, hidden=abort)
            self._flush()
            if abort:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
        return self.ledger

    def start(self, count: int, **options: Any) -> None:
        """Send in a thread of its own, to the end of which `join` waits."""
        self._thread = threading.Thread(target=self._run, args=(partial(self.send, count, **options),), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def join(self, seconds_max: float = 300.0) -> Ledger:
        if self._thread is not None:
            self._thread.join(seconds_max)
            assert not self._thread.is_alive(), f"the generator did not finish within {seconds_max:.0f} s"
        assert not self._failed, f"the generator failed: {self._failed[:3]}"
        return self.ledger

    def stop(self) -> Ledger:
        """Send no more than what is sent, and wait until the broker has that."""
        self._stopping.set()
        return self.join()

    def abandon(self) -> None:
        """Stop without a look at what was delivered: the test is over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)
        if self._producer is not None:
            self._producer.purge()

    def _run(self, send: Callable[[], Ledger]) -> None:
        try:
            send()
        except Exception as error:  # noqa: BLE001 - told in `join`, where the test is
            self._failed.append(repr(error))

    def _started(self) -> confluent_kafka.Producer:
        if self._producer is None:
            self._producer = confluent_kafka.Producer(self._settings)
        return self._producer

    def _event(self, partition: int, index: int) -> tuple[str, float, str, float, float]:
        draw = self._random.random
        at = EPOCH + index * 0.01 + draw() * 10 - (60 if draw() < 0.03 else 0)
        cards = self._cards[partition]
        amount = round(1 + draw() * draw() * 900, 2)
        if amount in (SLOW_AMOUNT, RAISE_AMOUNT):
            amount += 0.01  # only those that are meant to make trouble make it
        return cards[int(draw() * len(cards))], at, f"m-{int(draw() * 1_000)}", amount, draw()

    def _send_event(
        self,
        index: int,
        *,
        amount: float | None = None,
        padding: int = 0,
        dead: str = "",
        hidden: bool = False,
    ) -> None:
        partition = int(self._random.random() * self.ledger.partitions)
        card, at, merchant, drawn, place = self._event(partition, index)
        fate = Fate.HIDDEN if hidden else Fate.DEAD if dead else Fate.SCORED
        identity = f"{partition}-{self.ledger.add(partition, fate)}"
        name = f"{identity}-{'x' * padding}" if padding else identity
        country = "FR" if place < 0.8 else "BE"
        value = (
            f'{{"id":"{name}","at":{at:.3f},"card":"{card}","merchant":"{merchant}",'
            f'"amount":{drawn if amount is None else amount},"lat":{47 + place:.4f},"lon":{2 + place:.4f},'
            f'"country":"{country}"}}'
        )
        if dead:
            poison = Poison("event", frozenset({dead}), card.encode(), value.encode())
            self._produce_poison(partition, identity, poison)
        else:
            self._produce(partition, card, value)

    def _send_poison(self, name: str, kind: Kind) -> None:
        partition = int(self._random.random() * self.ledger.partitions)
        card, at, merchant, amount, place = self._event(partition, 0)
        identity = f"{partition}-{self.ledger.add(partition, Fate.DEAD)}"
        event = {
            "id": identity, "at": at, "card": card, "merchant": merchant, "amount": amount,
            "lat": 47 + place, "lon": 2 + place, "country": "FR",
        }  # fmt: skip
        key, value = kind.make(event)
        self._produce_poison(partition, identity, Poison(name, kind.codes, key, value))

    def _produce_poison(self, partition: int, identity: str, poison: Poison) -> None:
        self.ledger.poisons[identity] = poison
        # The id travels beside the record, because inside of it nobody may be able to read it.
        self._produce(partition, poison.key, poison.value, poison, headers={"harness.id": identity})

    def _produce(
        self,
        partition: int,
        key: str | bytes | None,
        value: str | bytes | None,
        poison: Poison | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        producer = self._started()
        more: dict[str, Any] = {"headers": headers} if headers else {}
        while True:
            try:
                producer.produce(
                    self._topic, value, key, partition, on_delivery=partial(self._delivered, poison), **more
                )
            except BufferError:
                producer.poll(0.1)
            else:
                producer.poll(0)
                return

    def _delivered(self, poison: Poison | None, error: Any, message: confluent_kafka.Message) -> None:
        if error is not None:
            self._failed.append(str(error))
        elif poison is not None:
            poison.offset = message.offset() or 0

    def _wait_until(self, then: float) -> None:
        while (left := then - time.monotonic()) > 0 and not self._stopping.is_set():
            self._started().poll(min(left, 0.05))

    def _flush(self) -> None:
        left = self._started().flush(DELIVERY_SECONDS_MAX)
        assert not left, f"the broker did not take {left} events within {DELIVERY_SECONDS_MAX:.0f} s"
        assert not self._failed, f"the broker refused events: {self._failed[:3]}"


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition in which Java's default partitioner puts ``key``."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _cards(partitions: int, each: int) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in range(partitions)]
    number = 0
    while any(len(cards) < each for cards in found):
        card = f"card-{number}"
        home = found[partition_of(card.encode(), partitions)]
        if len(home) < each:
            home.append(card)
        number += 1
    return found
