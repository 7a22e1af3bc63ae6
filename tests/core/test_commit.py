"""What the committer hands to the client, and what it makes of an answer that is not plain yes.

Flow: a committer without a broker gets a producer that takes, refuses or is full, as each test says.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException
from core.records import config_of

from headrace.stream import producers
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.commit import Batch, Committer, Output, Outputs
from headrace.stream.telemetry import Tally, Telemetry

LARGE = KafkaError.MSG_SIZE_TOO_LARGE


def _client(**properties: Any) -> confluent_kafka.Producer:
    # Nobody listens there; what is queued stays queued.
    return confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:9", "log_level": 0, **properties})


def test_the_client_tells_a_record_that_it_refuses_from_one_that_it_has_no_room_for() -> None:
    # What the committer leans on: the second can be sent again a moment later, the first never.
    client = _client(**{"message.max.bytes": 1_000, "queue.buffering.max.messages": 2})
    client.produce("t", b"a")
    with pytest.raises(KafkaException) as told:
        client.produce("t", b"x" * 2_000)
    assert told.value.args[0].code() == LARGE
    client.produce("t", b"b")
    with pytest.raises(BufferError):
        client.produce("t", b"c")
    client.purge()


class FakeProducer:
    """Takes records; refuses some values; has room for so many between two polls."""

    def __init__(self, *, room: int = 1_000, refused: tuple[bytes, ...] = ()) -> None:
        self.room = self.left = room
        self.refused = refused
        self.taken: list[bytes] = []
        self.topics = {"p", "d"}
        self.partitions: list[int] = []

    def produce(self, topic: str, value: bytes, key: Any, partition: int = -1, headers: Any = None) -> None:
        if self.left == 0:
            raise BufferError
        if value in self.refused:
            raise KafkaException(KafkaError(LARGE))
        self.left -= 1
        self.taken.append(value)
        self.partitions.append(partition)

    def poll(self, timeout: float) -> None:
        self.left = self.room

    def flush(self, timeout: float = 0.0) -> int:
        return 0

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics=dict.fromkeys(self.topics))


class FakePoller:
    epoch = 0

    def __init__(self) -> None:
        self.noted: list[str] = []

    def is_next(self, place: Any, after: int | None) -> bool:
        return after == 0

    def processed(self, place: Any, offset: int) -> None:
        self.noted.append(f"processed {offset}")

    def rewind(self, committed: Any = None) -> None:
        self.noted.append("rewind")

    def commit(self, offsets: Any, *_: Any, **__: Any) -> None:
        self.noted.append(f"commit {offsets}")

    def committed(self, offsets: Any, notes: Any) -> None: ...


PLACE = ("t", 0)


@pytest.fixture
def poller() -> FakePoller:
    return FakePoller()


@pytest.fixture
def failed() -> Iterator[list[BaseException]]:
    failed: list[BaseException] = []
    yield failed
    assert failed == []


def _carry_out(
    producer: FakeProducer, poller: Any, failed: list[BaseException], outputs: Outputs, *, after: int = 0
) -> Any:
    """Carry out one batch; return whether that happened, and what would be committed with it."""

    async def carry_out() -> tuple[bool, dict]:
        # A minute is longer than the test: no commit starts by itself.
        config = config_of(guarantee="at-least-once", commit_interval_ms=60_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = producer  # type: ignore[assignment]
        done = await committer.carry_out(Batch(PLACE, after=after, next_offset=7, epoch=0), outputs)
        if committer._committing is not None:
            await asyncio.wait([committer._committing])
            await asyncio.sleep(0)
        pending = committer._pending
        await committer.close()
        return done, pending

    return asyncio.run(carry_out())


def _outputs(count: int, others: int = 0, headers: Any = None) -> Outputs:
    values = [b"%d" % number for number in range(count)]
    letters = [Output("d", None, b"other %d" % number) for number in range(others)]
    return Outputs("p", ["key"] * count, values, headers and [headers] * count, letters, 10)


def test_predictions_are_counted_when_they_are_acknowledged_and_not_when_they_are_thrown_away(
    poller: FakePoller, failed: list
) -> None:
    counted: list[float | None] = []

    async def story() -> None:
        telemetry = Telemetry()
        value = telemetry.registry.value
        config = config_of(guarantee="at-least-once", commit_interval_ms=60_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append, telemetry=telemetry)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = FakeProducer()  # type: ignore[assignment]
        outputs = _outputs(5)._replace(tally=Tally(PLACE, 5))

        async def carried_out(end: Callable[[], None]) -> None:
            assert await committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), outputs)
            counted.append(value("headrace_predictions_total"))
            end()
            if committer._committing is not None:
                await asyncio.wait([committer._committing])
                await asyncio.sleep(0)
            counted.append(value("headrace_predictions_total"))

        await carried_out(committer.start_over)
        await carried_out(committer.commit_soon)
        counted.append(value("headrace_commit_seconds"))
        await committer.close()

    asyncio.run(story())
    assert counted == [0, 0, 0, 5, 1]


@pytest.mark.parametrize("refused", [b"0", b"2", b"4"])
def test_a_batch_with_a_hole_is_not_committed_and_is_done_again(
    refused: bytes, poller: FakePoller, failed: list
) -> None:
    producer = FakeProducer(refused=(refused,))
    assert _carry_out(producer, poller, failed, _outputs(5)) == (False, {})
    assert poller.noted == ["rewind"]


@pytest.mark.parametrize("gone", ["p", "d"])
def test_a_batch_whose_topic_is_gone_ends_the_worker_and_is_not_done_again(
    gone: str, poller: FakePoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "GONE_SECONDS", 0.1)
    producer = FakeProducer(refused=(b"other 0",))
    producer.topics.remove(gone)
    failed: list[BaseException] = []
    assert _carry_out(producer, poller, failed, _outputs(5, others=1)) == (False, {})
    assert [str(error).split(" on ")[0] for error in failed] == [f"publishing: there is no topic {gone}"]
    assert poller.noted == []


def test_a_batch_with_a_hole_before_the_queue_was_full_is_not_committed_either(
    poller: FakePoller, failed: list
) -> None:
    producer = FakeProducer(room=3, refused=(b"1",))
    assert _carry_out(producer, poller, failed, _outputs(9)) == (False, {})
    assert poller.noted == ["rewind"]


def test_a_batch_before_which_records_are_missing_is_not_carried_out(poller: FakePoller, failed: list) -> None:
    producer = FakeProducer()
    assert _carry_out(producer, poller, failed, _outputs(5), after=3) == (False, {})
    assert (producer.taken, poller.noted) == ([], ["rewind"])


def test_what_was_not_stepped_on_what_the_last_batch_left_is_not_carried_out(poller: FakePoller, failed: list) -> None:
    # Two topics share a memory, so what follows in one may still not follow what was made of the other.
    async def carry_out_both(begins: int, epoch: int, memory: Any = PLACE) -> list[bool]:
        config = config_of(guarantee="at-least-once", commit_interval_ms=60_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = FakeProducer()  # type: ignore[assignment]
        first = Batch(("labels", 0), 0, 17, epoch=0, memory=PLACE, begins=100, ends=117)
        done = [await committer.carry_out(first, _outputs(1))]
        poller.epoch = epoch
        second = Batch(PLACE, 0, 7, epoch, memory=memory, begins=begins, ends=begins + 7)
        done += [await committer.carry_out(second, _outputs(1))]
        await committer.settle()
        poller.epoch = 0
        await committer.close()
        return done

    assert asyncio.run(carry_out_both(117, epoch=0)) == [True, True]
    assert asyncio.run(carry_out_both(100, epoch=0)) == [True, False]
    assert asyncio.run(carry_out_both(100, epoch=2)) == [True, True], "the first of them was thrown away"
    assert asyncio.run(carry_out_both(100, epoch=0, memory=("lessons", 0))) == [True, True], "another memory has it"


def test_half_a_batch_is_never_committed(poller: FakePoller, failed: list) -> None:
    # Its other half may never come, and then all of it comes again.
    async def commit_meanwhile() -> tuple[int, bool]:
        config = config_of(guarantee="at-least-once", commit_interval_ms=60_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = producer = FakeProducer()  # type: ignore[assignment]
        assert await committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), _outputs(1))
        producer.left = producer.room = 0
        waiting = asyncio.ensure_future(
            committer.carry_out(Batch(PLACE, after=0, next_offset=14, epoch=0), _outputs(3))
        )
        await asyncio.sleep(0)
        committer.commit_soon()
        begun = committer._committing is not None
        producer.room = 1_000
        assert await waiting
        await committer.settle()
        await committer.close()
        return len(producer.taken), begun

    assert asyncio.run(commit_meanwhile()) == (4, False)
    assert poller.noted[-1] == f"commit { {PLACE: 14} }"


@pytest.mark.parametrize("headers", [None, [("tenant", b"a")]], ids=["no headers", "headers"])
@pytest.mark.parametrize("room", [1, 2, 3, 100])
def test_what_finds_no_room_follows_in_its_order_and_once(
    room: int, headers: Any, poller: FakePoller, failed: list
) -> None:
    producer = FakeProducer(room=room)
    assert _carry_out(producer, poller, failed, _outputs(7, others=4, headers=headers)) == (True, {PLACE: 7})
    assert producer.taken == [b"%d" % number for number in range(7)] + [b"other %d" % number for number in range(4)]
    assert poller.noted == ["processed 7"]


def test_an_output_goes_to_the_partition_that_it_names_and_to_its_keys_own_where_it_names_none(
    poller: FakePoller, failed: list
) -> None:
    producer = FakeProducer()
    letters = [Output("d", b"k", b"v"), Output("d", b"k", b"v", None, 0), Output("d", b"k", b"v", partition=3)]
    outputs = Outputs("p", ["key"], [b"0"], None, letters, 10)
    assert _carry_out(producer, poller, failed, outputs) == (True, {PLACE: 7})
    assert producer.partitions == [-1, -1, 0, 3]


def test_the_client_takes_the_partition_of_the_key_where_none_is_named() -> None:
    # What the committer leans on: minus one is what the client takes no partition for.
    landed: list[int] = []
    with EmbeddedBroker() as broker:
        client = _client(**{"bootstrap.servers": broker.address, "partitioner": "murmur2_random"})
        for partition in ([], [-1], [0], [1], [2], [3]):
            client.produce("t", b"v", b"card-7", *partition, on_delivery=lambda _, m: landed.append(m.partition()))
            assert client.flush(30) == 0
    assert landed == [landed[0], landed[0], 0, 1, 2, 3]


def test_at_least_once_what_was_carried_out_while_offsets_were_on_their_way_is_committed_too(
    poller: FakePoller, failed: list
) -> None:
    # Flow: the offsets of a batch are on their way for longer than commit_interval_ms; another batch is carried out;
    # then the answer comes, and nothing else ever does. Any deviation from two commits is failure.
    asked, answer = threading.Event(), threading.Event()

    def commit(offsets: Any, *_: Any, **__: Any) -> None:
        poller.noted.append(f"commit {offsets}")
        asked.set()
        answer.wait(30)

    async def carry_out_two() -> None:
        config = config_of(guarantee="at-least-once", commit_interval_ms=10)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = FakeProducer()  # type: ignore[assignment]
        assert await committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), _outputs(1))
        await asyncio.to_thread(asked.wait, 30)
        assert await committer.carry_out(Batch(PLACE, after=0, next_offset=14, epoch=0), _outputs(1))
        await asyncio.sleep(0.1)  # its time comes while the first is still on its way
        answer.set()
        for _ in range(300):
            if len(poller.noted) == 4:
                break
            await asyncio.sleep(0.01)
        await committer.close()

    poller.commit = commit  # type: ignore[method-assign]
    asyncio.run(carry_out_two())
    assert poller.noted == ["processed 7", f"commit { {PLACE: 7} }", "processed 14", f"commit { {PLACE: 14} }"]


def test_who_waits_for_a_commit_goes_on_after_the_work_that_followed_it(poller: FakePoller, failed: list) -> None:
    async def wait_through_two() -> None:
        config = config_of(guarantee="exactly-once", commit_interval_ms=9_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._idle = True  # a commit of an idle worker holds for a moment longer, and in it comes more work
        committer._run(lambda: None)
        committer._loop.call_soon(committer.start_over)
        waiting = asyncio.ensure_future(committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), _outputs(1)))
        try:
            assert await asyncio.wait_for(waiting, 30) is False, "there is no producer"
        finally:
            await committer.close()

    asyncio.run(wait_through_two())
    assert poller.noted == ["rewind"]


FENCED = KafkaError._FENCED


@pytest.mark.parametrize(
    ("guarantee", "noted", "share"), [("exactly-once", "replaced", 1 / 8), ("at-least-once", "rewind", 1.0)]
)
def test_a_flush_that_fails_inside_the_client_leaves_it_to_the_transaction_to_say_why(
    poller: FakePoller, failed: list, monkeypatch: pytest.MonkeyPatch, guarantee: str, noted: str, share: float
) -> None:
    # As the interpreter says it when the client calls its logger with an error of its own still pending. That the
    # transaction was fenced for its age makes the next one smaller; without the reason it would be as large again.
    class Confused(FakeProducer):
        def begin_transaction(self) -> None: ...

        def send_offsets_to_transaction(self, *_: Any) -> None:
            raise KafkaException(KafkaError(FENCED))

        def flush(self, timeout: float = 0.0) -> int:
            raise SystemError("<class 'logging.LogRecord'> returned a result with an exception set")

    monkeypatch.setattr(producers.Producers, "replace", lambda _self: poller.noted.append("replaced"))
    poller.group_metadata = None  # type: ignore[attr-defined]

    async def commit() -> float:
        config = config_of(guarantee=guarantee, commit_interval_ms=9_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = Confused()  # type: ignore[assignment]
        assert await committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), _outputs(1))
        committer.commit_soon()
        assert committer._committing is not None
        await asyncio.wait([committer._committing])
        committer._producers.current = None
        await committer.close()
        return committer._share

    assert asyncio.run(commit()) == share
    assert poller.noted == ["processed 7", noted]


def test_a_coordinator_that_takes_no_offsets_holds_up_no_rebalance(
    poller: FakePoller, failed: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flow: a commit is under way; the client never returns from the call that names the offsets, which it does
    # while the group's coordinator is away; partitions go. Their going must end, and the producer be replaced.
    asked, answer = threading.Event(), threading.Event()

    class Stuck(FakeProducer):
        def begin_transaction(self) -> None: ...

        def send_offsets_to_transaction(self, *_: Any) -> None:
            asked.set()
            answer.wait(60)

    monkeypatch.setattr(producers.Producers, "replace", lambda _self: poller.noted.append("replaced"))
    poller.group_metadata = None  # type: ignore[attr-defined]

    async def lose_partitions() -> bool:
        config = config_of(guarantee="exactly-once", commit_interval_ms=9_000)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append)  # type: ignore[arg-type]
        committer._loop = asyncio.get_running_loop()
        committer._producers.current = Stuck()  # type: ignore[assignment]
        assert await committer.carry_out(Batch(PLACE, after=0, next_offset=7, epoch=0), _outputs(1))
        committer.commit_soon()
        await asyncio.to_thread(asked.wait, 30)
        going = threading.Thread(target=committer.before_revoke, daemon=True)
        going.start()
        await asyncio.to_thread(going.join, 30)
        gone = not going.is_alive()
        answer.set()
        committer._producers.current = None
        await committer.close()
        return gone

    assert asyncio.run(lose_partitions())
    assert poller.noted == ["processed 7", "replaced"]


@pytest.mark.parametrize(
    ("output", "size"),
    [
        (Output("t", None, None), 0),
        (Output("t", b"key", b"value"), 8),
        (Output("t", "é😀", b"v"), 7),
        (Output("t", None, b"v", []), 1),
        (Output("t", b"", None, [("é", b"\xff\xff"), ("none", None)]), 8),
    ],
    ids=repr,
)
def test_the_size_of_an_output_is_counted_in_bytes_with_key_and_headers(output: Output, size: int) -> None:
    assert output.size == size
