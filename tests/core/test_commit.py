"""What the committer hands to the client, and what it makes of an answer that is not plain yes.

Flow: a committer without a broker gets a producer that takes, refuses or is full, as each test says.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException
from core.records import config_of

from headrace.stream.commit import Batch, Committer, Output, Outputs, _raise_unless_full

FULL = KafkaError._QUEUE_FULL
LARGE = KafkaError.MSG_SIZE_TOO_LARGE


def _records(*codes: int | None) -> list[dict[str, Any]]:
    return [
        {"value": b"%d" % at, **({} if code is None else {"_error": KafkaError(code)})} for at, code in enumerate(codes)
    ]


@pytest.mark.parametrize(
    "codes", [(FULL,), (None, FULL, FULL), (None, None, FULL)], ids=["nothing", "the first", "all but the last"]
)
def test_a_queue_that_is_full_is_no_error_and_leaves_records_that_can_be_sent_again(codes: tuple) -> None:
    records = _records(*codes)
    _raise_unless_full(records)
    assert records == _records(*[None] * len(codes))


@pytest.mark.parametrize(
    "codes",
    [
        (LARGE,),
        (LARGE, None, None),
        (None, LARGE, None),
        (None, None, LARGE),
        (None, LARGE, FULL, FULL),
        (LARGE, None, None, FULL),
    ],
    ids=["alone", "the first", "in the middle", "the last", "before the queue was full", "long before that"],
)
def test_any_other_refusal_is_raised_wherever_in_the_batch_it_is(codes: tuple) -> None:
    with pytest.raises(KafkaException) as told:
        _raise_unless_full(_records(*codes))
    assert told.value.args[0].code() == LARGE


def _client(**properties: Any) -> confluent_kafka.Producer:
    # Nobody listens there; what is queued stays queued.
    return confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:9", "log_level": 0, **properties})


def test_the_client_marks_each_record_that_it_refuses_and_counts_the_others() -> None:
    # What the committer leans on: a count that is short does not say where the hole is.
    client = _client(**{"message.max.bytes": 1_000})
    records = [{"value": b"a"}, {"value": b"x" * 2_000}, {"value": b"b"}]
    assert client.produce_batch("t", records) == 2
    assert ["_error" in record for record in records] == [False, True, False]
    with pytest.raises(KafkaException):
        _raise_unless_full(records)
    client.purge()


def test_the_client_refuses_everything_after_the_first_record_for_which_it_has_no_room() -> None:
    client = _client(**{"queue.buffering.max.messages": 3})
    records: list[dict[str, Any]] = [{"value": b"a"} for _ in range(5)]
    assert client.produce_batch("t", records) == 3
    assert ["_error" in record for record in records] == [False, False, False, True, True]
    _raise_unless_full(records)
    client.purge()


class FakeProducer:
    """Takes records; refuses some values; has room for so many between two polls."""

    def __init__(self, *, room: int = 1_000, refused: tuple[bytes, ...] = ()) -> None:
        self.room = self.left = room
        self.refused = refused
        self.taken: list[bytes] = []

    def produce_batch(self, topic: str, records: list[dict[str, Any]]) -> int:
        before = len(self.taken)
        full = False
        for record in records:
            full = full or self.left == 0
            if full or record["value"] in self.refused:
                record["_error"] = KafkaError(FULL if full else LARGE)
            else:
                self.left -= 1
                self.taken.append(record["value"])
        return len(self.taken) - before

    def produce(self, topic: str, value: bytes, key: bytes, headers: Any) -> None:
        if self.left == 0:
            raise BufferError
        self.left -= 1
        self.taken.append(value)

    def poll(self, timeout: float) -> None:
        self.left = self.room

    def flush(self, timeout: float = 0.0) -> int:
        return 0


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
        committer._producer = producer  # type: ignore[assignment]
        done = await committer.carry_out(Batch(PLACE, after=after, next_offset=7, epoch=0), outputs)
        if committer._committing is not None:
            await asyncio.wait([committer._committing])
            await asyncio.sleep(0)
        pending = committer._pending
        await committer.close()
        return done, pending

    return asyncio.run(carry_out())


def _outputs(count: int, others: int = 0) -> Outputs:
    values = [b"%d" % number for number in range(count)]
    letters = [Output("d", None, b"other %d" % number) for number in range(others)]
    return Outputs("p", [{"value": value} for value in values], letters, 10)


@pytest.mark.parametrize("refused", [b"0", b"2", b"4"])
def test_a_batch_with_a_hole_is_not_committed_and_is_done_again(
    refused: bytes, poller: FakePoller, failed: list
) -> None:
    producer = FakeProducer(refused=(refused,))
    assert _carry_out(producer, poller, failed, _outputs(5)) == (False, {})
    assert poller.noted == ["rewind"]


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


@pytest.mark.parametrize("room", [1, 2, 3, 100])
def test_what_finds_no_room_follows_in_its_order_and_once(room: int, poller: FakePoller, failed: list) -> None:
    producer = FakeProducer(room=room)
    assert _carry_out(producer, poller, failed, _outputs(7, others=4)) == (True, {PLACE: 7})
    assert producer.taken == [b"%d" % number for number in range(7)] + [b"other %d" % number for number in range(4)]
    assert poller.noted == ["processed 7"]


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
