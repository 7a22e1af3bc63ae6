"""Readers of the outputs, on aiokafka: one that looks once, and one that watches while it happens."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from faults.tally import Tally

READ_SECONDS_MAX = 60.0  # without a record, on the way to the end

# A broker that is taken away on purpose is no news, and aiokafka reports it ten times a second.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def read(address: str, tally: Tally, *, isolation: str = "read_committed") -> Tally:
    """Read both outputs from the first record to the last one that there is now."""
    asyncio.run(_read(address, tally, isolation))
    return tally


def ends(address: str, topics: Sequence[str], *, isolation: str = "read_uncommitted") -> dict[TopicPartition, int]:
    """Return the end of every partition; for ``read_committed`` what lies behind an open transaction is cut off."""

    async def ask() -> dict[TopicPartition, int]:
        async with _consumer(address, isolation) as consumer:
            return await consumer.end_offsets(await _partitions(consumer, topics))

    return asyncio.run(_again(ask))


def committed(address: str, group: str) -> dict[TopicPartition, int]:
    """Return the offsets that a group has committed."""

    async def ask() -> dict[TopicPartition, int]:
        async with _admin(address) as admin:
            offsets = await admin.list_consumer_group_offsets(group)
            return {partition: found.offset for partition, found in offsets.items()}

    return asyncio.run(_again(ask))


def members(address: str, group: str) -> int:
    """Return how many members a group has."""

    async def ask() -> int:
        async with _admin(address) as admin:
            (answer,) = await admin.describe_consumer_groups([group])
            return len(answer.groups[0][5])

    return asyncio.run(_again(ask))


def records(address: str, since: dict[TopicPartition, int], *, isolation: str = "read_uncommitted") -> list[Any]:
    """Return what was written to these partitions since these offsets."""

    async def ask() -> list[Any]:
        async with _consumer(address, isolation) as consumer:
            await _partitions(consumer, sorted({tp.topic for tp in since}))
            until = await consumer.end_offsets(list(since))
            consumer.assign(list(since))
            for tp, offset in since.items():
                consumer.seek(tp, offset)
            found: list[Any] = []
            while any([await consumer.position(tp) < end for tp, end in until.items()]):
                for some in (await consumer.getmany(timeout_ms=200)).values():
                    found += some
            return found

    return asyncio.run(_again(ask))


class LiveReader:
    """Reads both outputs from the beginning of the run on, as a service would that acts upon them.

    What it sees cannot be taken back: if it saw an event twice, somebody's card was blocked twice.
    """

    def __init__(self, address: str, tally: Tally) -> None:
        self.tally = tally
        self._address = address
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._reading = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "LiveReader":
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._reading.wait(0.05):
            self._check()
            assert time.monotonic() < deadline, "the live reader did not start within 60 s"
        return self

    def seen(self, outputs: int) -> bool:
        """Whether it has come so far; raises if it cannot go on."""
        self._check()
        return self.tally.outputs >= outputs

    def stop(self) -> Tally:
        """Read on to what is the end now, and return what was seen."""
        self._stopping.set()
        self._thread.join()  # it gives up by itself when nothing more comes
        self._check()
        return self.tally

    def abandon(self) -> None:
        """Stop at once: the test is over."""
        self._abandoned.set()
        self._stopping.set()
        self._thread.join(30)

    def _check(self) -> None:
        if self._failure is not None:
            raise AssertionError(f"the live reader failed: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            flags = (self._reading, self._stopping, self._abandoned)
            asyncio.run(_read(self._address, self.tally, "read_committed", *flags))
        except BaseException as error:  # noqa: BLE001 - told where the test is
            self._failure = error


async def _read(
    address: str,
    tally: Tally,
    isolation: str,
    reading: threading.Event | None = None,
    stopping: threading.Event | None = None,
    abandoned: threading.Event | None = None,
) -> None:
    async with _consumer(address, isolation) as consumer:
        assigned = await _partitions(consumer, [tally.predictions, tally.dead_letters])
        counts = {topic: sum(tp.topic == topic for tp in assigned) for topic in (tally.predictions, tally.dead_letters)}
        consumer.assign(assigned)
        await consumer.seek_to_beginning(*assigned)
        if reading is not None:
            reading.set()
        until: dict[TopicPartition, int] | None = None
        deadline = 0.0
        while not (abandoned and abandoned.is_set()):
            if until is None and (stopping is None or stopping.is_set()):
                until = await consumer.end_offsets(assigned)
                deadline = time.monotonic() + READ_SECONDS_MAX
            if until is not None:
                # Positions, not records: behind the last record there is at least a transaction's marker.
                behind = {tp: end for tp, end in until.items() if await consumer.position(tp) < end}
                if not behind:
                    return
                assert time.monotonic() < deadline, f"no reader gets to the end of {behind}: a transaction is open"
            for records in (await consumer.getmany(timeout_ms=200, max_records=5_000)).values():
                deadline = time.monotonic() + READ_SECONDS_MAX
                for record in records:
                    tally.take(record, counts[record.topic])


@asynccontextmanager
async def _consumer(address: str, isolation: str):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4 * 1_048_576,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def _admin(address: str):
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _partitions(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    # A client knows the partitions of a topic only once somebody asked for it, and the broker itself hears of
    # a new topic a moment after the controller has made it.
    deadline = time.monotonic() + 30
    while True:
        for topic in topics:
            await consumer._client.add_topic(topic)
        await consumer._client.force_metadata_update()
        known = {topic: sorted(consumer.partitions_for_topic(topic) or ()) for topic in topics}
        if all(known.values()):
            return [TopicPartition(topic, partition) for topic in topics for partition in known[topic]]
        assert time.monotonic() < deadline, f"no such topics: {[topic for topic in topics if not known[topic]]}"
        await asyncio.sleep(0.05)


async def _again(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Ask until it works: the broker may just be coming back."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await ask()
        except (KafkaError, AssertionError, OSError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
