"""What the poll thread knows of its partitions, without the thread and without a broker.

Flow: a poller gets a consumer that is a list of offsets; partitions are assigned by calling what the
client would call; records are kept, taken, committed and thrown away in any order.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException, TopicPartition
from core.records import Record
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import Fenced, TopicMissing
from headrace.stream import poller as poller_module
from headrace.stream.poller import Moved, Partition, Place, Poller, Taken
from headrace.stream.transport import _Acks, _after

fixed = settings(derandomize=True, deadline=None, max_examples=200)
ZERO: Place = ("t", 0)
ONE: Place = ("t", 1)


class FakeConsumer:
    """What the poller asks of the client: it remembers, and fetches nothing by itself."""

    made: ClassVar[list["FakeConsumer"]] = []

    def __init__(self, settings: dict[str, Any], **_: Any) -> None:
        self.settings = settings
        self.position: dict[Place, int] = {}
        self.calls: list[tuple[str, Any]] = []
        self.seek_fails = 0
        self.made.append(self)

    def seek(self, to: TopicPartition) -> None:
        if self.seek_fails:
            self.seek_fails -= 1
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.position[to.topic, to.partition] = to.offset

    def consumer_group_metadata(self) -> str:
        return f"member of generation {len(self.calls)}"

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: Any, **_: Any) -> None:
            places = [(one.topic, one.partition) for one in arguments[0]] if arguments else []
            self.calls.append((name, places))

        return note


class Heard:
    """Everything that the poller said to its owner, in order."""

    def __init__(self) -> None:
        self.moves: list[Moved] = []
        self.poller: Poller | None = None
        self.revoked_at: list[int] = []  # the epoch at each time
        self.taken_at: list[Taken | None] = []  # what there was to take

    def before_revoke(self) -> None:
        assert self.poller is not None
        self.revoked_at.append(self.poller.epoch)
        self.taken_at += [_take(self.poller, place, 10) for place in self.poller.partitions]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def _no_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(poller_module, "Consumer", FakeConsumer)
    yield
    FakeConsumer.made.clear()


def _poller(heard: Heard | None = None, *, assignment: str = "cooperative-sticky", **limits: int) -> Poller:
    heard = heard or Heard()
    heard.poller = Poller(
        {"partition.assignment.strategy": assignment},
        buffer_count_max=limits.get("count", 1_000),
        buffer_bytes_max=limits.get("bytes", 1_000_000),
        on_arrived=lambda: None,
        on_moved=heard.moves.append,
        on_failed=lambda error: pytest.fail(str(error)),
        before_revoke=heard.before_revoke,
        on_watch=lambda _now: None,
    )
    return heard.poller


def _client(poller: Poller) -> FakeConsumer:
    client: Any = poller._consumer
    assert isinstance(client, FakeConsumer)
    return client


def _assign(poller: Poller, *places: Place) -> None:
    poller._assigned(_client(poller), [TopicPartition(*place) for place in places])  # type: ignore[arg-type]


def _revoke(poller: Poller, *places: Place) -> None:
    poller._revoked(_client(poller), [TopicPartition(*place) for place in places])  # type: ignore[arg-type]


def _keep(poller: Poller, *offsets: int, place: Place = ZERO) -> None:
    poller._keep([Record(b"v", topic=place[0], partition=place[1], offset=offset) for offset in offsets])  # type: ignore[misc]


def _end(poller: Poller, offset: int, place: Place = ZERO) -> None:
    error = KafkaError(KafkaError._PARTITION_EOF)
    poller._keep([Record(None, topic=place[0], partition=place[1], offset=offset, error=error)])  # type: ignore[list-item]


def _take(poller: Poller, place: Place, count_max: int) -> Taken | None:
    """Take as one who has heard of every rebalance."""
    return poller.take(place, count_max, poller.generation)


def _offsets(taken: Taken | None) -> list[int | None]:
    assert taken is not None
    return [message.offset() for message in taken.messages]


def _ready(*places: Place, **limits: int) -> Poller:
    poller = _poller(**limits)
    _assign(poller, *(places or (ZERO,)))
    return poller


# What is told to whoever watches.


def _stats(**connections: tuple[str, int]) -> str:
    brokers = {name: {"state": state, "rxidle": idle, "tx": 3} for name, (state, idle) in connections.items()}
    return json.dumps({"name": "consumer", "brokers": brokers, "topics": {}})


@pytest.mark.parametrize(
    ("stats", "hears"),
    [
        (_stats(), False),
        (_stats(one=("UP", 100_000)), True),
        (_stats(one=("TRY_CONNECT", 100_000), bootstrap=("DOWN", -1)), False),
        (_stats(one=("TRY_CONNECT", 100_000), coordinator=("UP", 2_900_000)), True),
        (_stats(one=("UP", 30_000_000)), False),  # a connection that leads nowhere
        (_stats(one=("UP", -1)), False),  # nothing came over it yet
    ],
)
def test_a_broker_is_heard_while_one_is_connected_and_has_answered_lately(stats: str, hears: bool) -> None:
    poller = _ready()
    assert not poller.hears_broker, "nobody has asked yet"
    poller._on_stats(stats)
    assert poller.hears_broker is hears


def test_a_broker_to_which_all_connections_are_down_is_not_heard_any_more() -> None:
    poller = _ready()
    poller._on_stats(_stats(one=("UP", 0)))
    poller._on_stats(_stats(one=("UP", -1)))
    assert poller.hears_broker, "it was heard just now"
    poller._on_stats(_stats(one=("DOWN", -1)))
    assert not poller.hears_broker


def test_the_oldest_record_that_waits_is_the_first_that_was_not_taken() -> None:
    poller = _ready()
    assert poller.oldest(ZERO) is None
    poller._keep([Record(b"v", topic="t", offset=at, written_at=1_000.0 + at) for at in range(3)])  # type: ignore[misc]
    assert (poller.oldest(ZERO), poller.buffered) == (1_000.0, 3)
    _take(poller, ZERO, 2)
    assert (poller.oldest(ZERO), poller.buffered) == (1_002.0, 1)
    assert poller.oldest(ONE) is None


# Taking.


def test_take_gives_records_in_their_order_and_at_most_so_many() -> None:
    poller = _ready()
    _keep(poller, 5, 6, 7)
    _keep(poller, 8, 9)
    first = _take(poller, ZERO, 2)
    assert (_offsets(first), first and first.next_offset) == ([5, 6], 7)
    second = _take(poller, ZERO, 2)
    assert (_offsets(second), second and second.next_offset) == ([7, 8], 9)
    third = _take(poller, ZERO, 2)
    assert (_offsets(third), third and third.next_offset) == ([9], 10)
    assert _take(poller, ZERO, 2) is None


def test_take_joins_what_came_in_several_fetches() -> None:
    poller = _ready()
    for offset in range(10):
        _keep(poller, offset)
    assert _offsets(_take(poller, ZERO, 100)) == list(range(10))


def test_take_of_a_partition_that_is_not_ours_gives_nothing() -> None:
    assert _take(_ready(ZERO), ONE, 10) is None


def test_records_of_a_partition_that_is_not_ours_are_dropped() -> None:
    poller = _ready(ZERO)
    _keep(poller, 1, 2, place=ONE)
    assert poller.waiting() == []
    assert set(poller.partitions) == {ZERO}


def test_partitions_do_not_mix() -> None:
    poller = _ready(ZERO, ONE)
    messages = [Record(b"v", topic="t", partition=number % 2, offset=number) for number in range(6)]
    poller._keep(messages)  # type: ignore[arg-type]
    assert _offsets(_take(poller, ZERO, 10)) == [0, 2, 4]
    assert _offsets(_take(poller, ONE, 10)) == [1, 3, 5]


def test_waiting_names_partitions_that_have_something() -> None:
    poller = _ready(ZERO, ONE)
    assert poller.waiting() == []
    _keep(poller, 1, place=ONE)
    assert poller.waiting() == [ONE]
    _end(poller, 7, place=ZERO)
    assert set(poller.waiting()) == {ZERO, ONE}


def test_what_is_buffered_is_counted_down_to_nothing() -> None:
    poller = _ready(count=3)
    _keep(poller, 1, 2, 3)
    assert poller._is_full()
    _take(poller, ZERO, 1)
    assert not poller._is_full()
    _take(poller, ZERO, 10)
    partition = poller.partitions[ZERO]
    assert (partition.count, partition.bytes) == (0, 0)


def test_the_buffer_is_full_by_bytes_too() -> None:
    poller = _ready(bytes=3)
    _keep(poller, 1, 2)
    assert not poller._is_full()
    _keep(poller, 3)
    assert poller._is_full()


def test_what_is_paused_does_not_fill_the_buffer() -> None:
    poller = _ready(count=1)
    _keep(poller, 1)
    poller.partitions[ZERO].paused = True
    assert not poller._is_full()


# The end of the log.


def test_the_end_of_the_log_moves_the_offset_past_markers() -> None:
    poller = _ready()
    _keep(poller, 3, 4)
    _end(poller, 6)  # 5 is the marker of a transaction
    taken = _take(poller, ZERO, 10)
    assert (_offsets(taken), taken and taken.next_offset) == ([3, 4], 6)
    assert _take(poller, ZERO, 10) is None


def test_the_end_of_the_log_waits_for_the_records_before_it() -> None:
    poller = _ready()
    _keep(poller, 3, 4)
    _end(poller, 6)
    assert _take(poller, ZERO, 1) == (poller_messages(poller, 3), 3, 4, poller.epoch)
    taken = _take(poller, ZERO, 1)
    assert (_offsets(taken), taken and taken.next_offset) == ([4], 6)


def poller_messages(poller: Poller, *offsets: int) -> Any:
    class Same(list):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, list) and [one.offset() for one in other] == list(offsets)

        __hash__ = None  # type: ignore[assignment]

    return Same()


def test_the_end_of_a_log_of_markers_alone_is_an_offset_to_commit() -> None:
    poller = _ready()
    _end(poller, 2)
    assert _take(poller, ZERO, 10) == ([], None, 2, poller.epoch)
    assert poller.partitions[ZERO].resume_at == 2


def test_the_end_of_an_empty_log_is_nothing_to_commit() -> None:
    poller = _ready()
    _end(poller, 0)
    assert _take(poller, ZERO, 10) is None
    assert poller.waiting() == []


def test_the_end_of_the_log_is_told_once() -> None:
    poller = _ready()
    _keep(poller, 0)
    _end(poller, 1)
    assert _offsets(_take(poller, ZERO, 10)) == [0]
    _end(poller, 1)
    assert _take(poller, ZERO, 10) is None


def test_the_end_of_the_log_right_after_its_records_is_nothing_that_waits() -> None:
    poller = _ready()
    _keep(poller, 0)
    assert _offsets(_take(poller, ZERO, 10)) == [0]
    _end(poller, 1)
    assert poller.waiting() == []


def test_new_records_take_the_place_of_an_older_end() -> None:
    poller = _ready()
    _keep(poller, 0)
    _end(poller, 2)
    _keep(poller, 2)
    taken = _take(poller, ZERO, 10)
    assert (_offsets(taken), taken and taken.next_offset) == ([0, 2], 3)


# Errors that come as records.


def test_an_error_that_passes_is_not_a_record() -> None:
    poller = _ready()
    poller._keep([Record(None, topic="t", error=KafkaError(KafkaError._TRANSPORT))])  # type: ignore[list-item]
    assert poller.waiting() == []


@pytest.mark.parametrize(
    ("code", "kind"), [(KafkaError.FENCED_INSTANCE_ID, Fenced), (KafkaError.TOPIC_AUTHORIZATION_FAILED, TopicMissing)]
)
def test_an_error_that_does_not_pass_ends_the_worker_by_name(code: int, kind: type[Exception]) -> None:
    poller = _ready()
    with pytest.raises(kind, match=r"^reading: "):
        poller._keep([Record(None, topic="t", error=KafkaError(code))])  # type: ignore[list-item]


# Going back.


def test_nothing_is_known_of_where_to_resume_before_the_first_record() -> None:
    assert Partition(0.0).resume_at is None


def test_resume_is_at_the_first_record_until_something_is_committed() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    _take(poller, ZERO, 10)
    assert poller.partitions[ZERO].resume_at == 5
    poller.committed({ZERO: 6})
    assert poller.partitions[ZERO].resume_at == 6


def test_what_was_done_and_not_committed_does_not_move_resume() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    _take(poller, ZERO, 10)
    poller.processed(ZERO, 7)
    assert poller.partitions[ZERO].resume_at == 5


def test_a_commit_that_ends_after_the_epoch_moved_is_noted_all_the_same() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    poller.rewind()
    poller.committed({ZERO: 7})  # it has happened, so nothing before it is fetched again
    poller._do_rewind()
    assert _client(poller).position == {ZERO: 7}


def test_a_commit_of_a_partition_that_is_gone_is_not_noted() -> None:
    poller = _ready(ZERO, ONE)
    _revoke(poller, ONE)
    poller.committed({ONE: 7})
    assert set(poller.partitions) == {ZERO}


def test_a_rewind_throws_away_what_was_fetched_and_moves_the_epoch() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    before = _take(poller, ZERO, 1)
    poller.rewind()
    assert before is not None
    assert poller.epoch == before.epoch + 1
    assert poller.waiting() == []
    assert _take(poller, ZERO, 10) is None
    partition = poller.partitions[ZERO]
    assert (partition.count, partition.bytes, partition.next, partition.end) == (0, 0, None, None)


def test_nothing_is_kept_or_taken_until_the_client_has_gone_back() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    poller.rewind()
    _keep(poller, 7)  # it was on its way
    _end(poller, 8)
    assert _take(poller, ZERO, 10) is None
    poller._do_rewind()
    assert _client(poller).position == {ZERO: 5}
    _keep(poller, 5)
    assert _offsets(_take(poller, ZERO, 10)) == [5]


def test_a_client_that_cannot_go_back_yet_is_asked_again() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    poller.rewind()
    _client(poller).seek_fails = 1
    poller._do_rewind()
    _keep(poller, 7)
    assert _take(poller, ZERO, 10) is None
    poller._do_rewind()
    _keep(poller, 5)
    assert _offsets(_take(poller, ZERO, 10)) == [5]


def test_a_rewind_to_what_the_broker_says_goes_there() -> None:
    poller = _ready(ZERO, ONE)
    _keep(poller, 5, 6)
    poller.rewind({ZERO: 6, ("other", 3): 9})
    poller._do_rewind()
    assert _client(poller).position == {ZERO: 6}


def test_a_partition_of_which_nothing_was_seen_stays_where_it_is() -> None:
    poller = _ready(ZERO, ONE)
    _keep(poller, 5)
    poller.rewind()
    poller._do_rewind()
    assert _client(poller).position == {ZERO: 5}
    _keep(poller, 9, place=ONE)
    assert _offsets(_take(poller, ONE, 10)) == [9]


def test_a_rewind_that_is_asked_for_while_the_client_goes_back_is_not_lost() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    client = _client(poller)
    seek = client.seek

    def seek_meanwhile(to: TopicPartition) -> None:
        seek(to)
        client.seek = seek  # type: ignore[method-assign]
        poller.rewind({ZERO: 7})  # a commit of which nobody knew whether it had happened

    poller.rewind()
    client.seek = seek_meanwhile  # type: ignore[method-assign]
    poller._do_rewind()
    assert client.position == {ZERO: 5}
    _keep(poller, 5, 6)
    assert _take(poller, ZERO, 10) is None, "records before the place that was meant"
    poller._do_rewind()
    assert client.position == {ZERO: 7}
    _keep(poller, 7)
    assert _offsets(_take(poller, ZERO, 10)) == [7]


# Commits that no transaction carries.


def _answers(poller: Poller, *answers: KafkaError | Exception | None) -> None:
    """Let the client take each commit and report these answers, one after another; an exception is raised at once."""
    left = list(answers)

    def commit(*, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous, "one that blocks never returns while the poll thread polls"
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        poller._on_commit(answer, offsets)

    client: Any = _client(poller)
    client.commit = commit


def test_a_commit_returns_or_raises_what_the_broker_says() -> None:
    poller = _ready()
    _answers(poller, None, KafkaError(KafkaError.REBALANCE_IN_PROGRESS), None)
    poller.commit({ZERO: 1})
    with pytest.raises(KafkaException) as told:
        poller.commit({ZERO: 2})
    assert told.value.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS
    poller.commit({ZERO: 3})
    assert not poller._commits


def test_a_commit_that_the_client_refuses_takes_no_answer_of_the_next() -> None:
    poller = _ready()
    refused = KafkaException(KafkaError(KafkaError._STATE))
    _answers(poller, refused, KafkaError(KafkaError.ILLEGAL_GENERATION), RuntimeError("closed"), None)
    unheard = itertools.count()

    def given_up() -> bool:
        return next(unheard) > 10

    with pytest.raises(KafkaException) as told:
        poller.commit({ZERO: 1}, given_up)
    assert told.value is refused
    assert not poller._commits
    with pytest.raises(KafkaException) as told:
        poller.commit({ZERO: 2}, given_up)
    assert told.value.args[0].code() == KafkaError.ILLEGAL_GENERATION, "its own answer, not that of the one before"
    with pytest.raises(RuntimeError, match="closed"):
        poller.commit({ZERO: 3}, given_up)
    poller.commit({ZERO: 4}, given_up)
    assert not poller._commits


def test_a_report_of_a_commit_that_nobody_waits_for_is_ignored() -> None:
    poller = _ready()
    poller._on_commit(None, [TopicPartition("t", 0, 5)])
    poller._on_commit(KafkaError(KafkaError.ILLEGAL_GENERATION), [])
    _answers(poller, None)
    poller.commit({ZERO: 1})


def test_a_commit_that_is_given_up_raises() -> None:
    poller = _ready()
    with pytest.raises(KafkaException) as told:
        poller.commit({ZERO: 1}, lambda: True)
    assert told.value.args[0].code() == KafkaError._TIMED_OUT


# Two topics that belong together.

LABELS: Place = ("labels", 0)


def _together() -> Poller:
    poller = _poller()
    poller.leads = {"labels": "t"}
    _assign(poller, ZERO, LABELS)
    poller._do_rewind()
    return poller


def _written(poller: Poller, place: Place, *times: int) -> None:
    begin = poller.partitions[place].next or 0
    records = [
        Record(b"v", topic=place[0], partition=place[1], offset=begin + at, written_at=float(time))
        for at, time in enumerate(times)
    ]
    poller._keep(records)  # type: ignore[arg-type]


def test_labels_wait_for_the_events_that_were_written_before_them() -> None:
    poller = _together()
    _written(poller, LABELS, 5, 15, 25)
    _written(poller, ZERO, 10, 20, 30)
    assert set(poller.waiting()) == {ZERO, LABELS}
    assert _offsets(_take(poller, LABELS, 10)) == [0], "the first is older than any event"
    assert poller.waiting() == [ZERO]
    assert _take(poller, LABELS, 10) is None
    assert _offsets(_take(poller, ZERO, 1)) == [0]
    assert _offsets(_take(poller, LABELS, 10)) == [1]
    assert _offsets(_take(poller, ZERO, 10)) == [1, 2]
    assert _offsets(_take(poller, LABELS, 10)) == [2]


def test_labels_wait_for_events_that_are_on_their_way_and_not_for_what_does_not_come() -> None:
    poller = _together()
    _written(poller, ZERO, 10)
    _written(poller, LABELS, 15)
    assert _offsets(_take(poller, ZERO, 10)) == [0]
    assert poller.waiting() == [], "the log of the events goes on"
    poller.partitions[ZERO].fetched_at -= 2.0
    assert poller.waiting() == [LABELS], "nothing came for a while"
    poller.partitions[ZERO].fetched_at += 2.0
    _end(poller, 1)
    assert poller.waiting() == [LABELS]
    assert _offsets(_take(poller, LABELS, 10)) == [0]


def test_the_end_of_a_log_that_comes_with_its_last_records_is_noted() -> None:
    """It comes once: who misses it waits for ever for what is on its way."""
    poller = _together()
    last = Record(b"v", topic="t", partition=0, offset=0)
    end = Record(None, topic="t", partition=0, offset=1, error=KafkaError(KafkaError._PARTITION_EOF))
    poller._keep([last, end])  # type: ignore[list-item]
    assert poller.partitions[ZERO].at_end
    more = Record(b"v", topic="t", partition=0, offset=2)
    poller._keep([Record(None, topic="t", partition=0, offset=2, error=end.error()), more])  # type: ignore[list-item]
    assert not poller.partitions[ZERO].at_end, "and more came"


def test_labels_make_room_where_there_is_none_for_events() -> None:
    poller = _together()
    _written(poller, ZERO, 10)
    assert _offsets(_take(poller, ZERO, 10)) == [0]
    _written(poller, LABELS, *range(20, 1_020))
    assert len(_offsets(_take(poller, LABELS, 10))) == 10
    assert _take(poller, LABELS, 10) is None


def test_records_that_nobody_noted_the_time_of_hold_nothing_up() -> None:
    poller = _together()
    for place in (ZERO, LABELS):
        records: Any = [Record(b"v", topic=place[0], partition=place[1], offset=offset) for offset in (0, 1)]
        for record in records:
            record._timestamp = (TIMESTAMP_NOT_AVAILABLE, 0)
        poller._keep(records)
    assert _offsets(_take(poller, LABELS, 10)) == [0, 1]


# Rebalances.


def test_an_assignment_tells_what_this_worker_has(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO)
    _assign(poller, ONE)
    assert heard.moves == [
        Moved(frozenset(), frozenset({ZERO}), 1),
        Moved(frozenset(), frozenset({ZERO, ONE}), 2),
    ]
    assert [call for call in _client(poller).calls if "assign" in call[0]] == [
        ("incremental_assign", [ZERO]),
        ("incremental_assign", [ONE]),
    ]


def test_a_revocation_first_leaves_nothing_uncommitted(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO, ONE)
    _keep(poller, 1)
    epoch = poller.epoch
    heard.revoked_at.clear()
    _revoke(poller, ONE)
    # Whoever carries out a batch after the abort must find out that the batch is of an older epoch.
    assert heard.revoked_at == [epoch + 1]
    assert heard.moves[-1] == Moved(frozenset({ONE}), frozenset({ZERO}), 2)
    poller._do_rewind()
    assert _client(poller).position == {ZERO: 1}, "those that stay start over from what is committed"


@pytest.mark.parametrize("change", [_assign, _revoke])
def test_nothing_is_taken_between_the_abort_and_the_new_epoch(heard: Heard, change: Callable[..., None]) -> None:
    # It would get into a transaction that is begun after the abort, and be fetched again for the same one.
    poller = _poller(heard)
    _assign(poller, ZERO)
    _keep(poller, 1, 2, 3)
    assert _offsets(_take(poller, ZERO, 2)) == [1, 2]
    heard.taken_at.clear()
    change(poller, ONE)
    assert heard.taken_at == [None]


def test_partitions_that_come_to_others_start_those_over(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO)
    _keep(poller, 1)
    heard.revoked_at.clear()
    _assign(poller, ONE)
    assert len(heard.revoked_at) == 1
    assert _take(poller, ZERO, 10) is None
    assert poller._rewind


def test_a_first_assignment_has_nothing_to_go_back_over(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO)
    assert not poller._rewind


def test_a_generation_that_changes_nothing_throws_nothing_away(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO)
    _keep(poller, 1)
    metadata = poller.group_metadata
    _assign(poller)
    assert len(heard.moves) == 1
    assert _offsets(_take(poller, ZERO, 10)) == [1]
    assert poller.group_metadata != metadata, "commits are made as the member of the new generation"


def test_a_worker_that_gets_nothing_at_first_says_so(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller)
    assert heard.moves == [Moved(frozenset(), frozenset(), 1)]


def test_who_has_not_heard_of_the_last_rebalance_gets_nothing() -> None:
    poller = _ready(ZERO)
    _keep(poller, 1, 2)
    assert poller.take(ZERO, 10, poller.generation - 1) is None
    assert _offsets(_take(poller, ZERO, 10)) == [1, 2], "and nothing is lost by it"


def test_what_follows_a_batch_that_was_lost_is_not_next() -> None:
    poller = _ready(ZERO)
    _keep(poller, 1, 2, 3)
    first, second, third = (_take(poller, ZERO, 1) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert poller.is_next(ZERO, first.after)
    poller.processed(ZERO, first.next_offset)
    assert not poller.is_next(ZERO, third.after), "the second was not dealt with"
    assert poller.is_next(ZERO, second.after)
    assert not poller.is_next(ONE, None), "it is another worker's"


def test_range_gives_up_everything_and_gets_everything(heard: Heard) -> None:
    poller = _poller(heard, assignment="range")
    _assign(poller, ZERO, ONE)
    _revoke(poller, ZERO, ONE)
    assert poller.partitions == {}
    _assign(poller, ZERO)
    assert [name for name, _ in _client(poller).calls if "assign" in name] == ["assign", "unassign", "assign"]


def test_a_partition_that_comes_back_begins_anew(heard: Heard) -> None:
    poller = _poller(heard)
    _assign(poller, ZERO)
    _keep(poller, 5)
    poller.committed({ZERO: 6})
    _revoke(poller, ZERO)
    _assign(poller, ZERO)
    assert poller.partitions[ZERO].resume_at is None, "another worker may have gone on with it"


def test_progress_is_noted_when_records_are_dealt_with() -> None:
    poller = _ready()
    _keep(poller, 5, 6)
    partition = poller.partitions[ZERO]
    assert partition.done == 5
    partition.moved_at = 0.0
    poller.processed(ZERO, 7)
    assert partition.done == 7
    assert partition.moved_at > 0.0


def test_records_after_a_silence_are_no_standstill() -> None:
    poller = _ready()
    _keep(poller, 5)
    poller.processed(ZERO, 6)
    poller.partitions[ZERO].moved_at = 0.0
    _keep(poller, 6)
    assert poller.partitions[ZERO].moved_at > 0.0
    poller.partitions[ZERO].moved_at = 0.0
    _keep(poller, 7)
    assert poller.partitions[ZERO].moved_at == 0.0, "what only piles up does not move"


# Any order of everything.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.integers(1, 6)),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("commit"), st.integers(1, 3)),
        st.tuples(st.just("rewind"), st.just(0)),
        st.tuples(st.just("rewind to broker"), st.just(0)),
        st.tuples(st.just("seek fails"), st.integers(1, 2)),
        st.tuples(st.just("generation"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.lists(st.integers(1, 3), min_size=1, max_size=40), st.integers(0, 9))
@fixed
def test_no_order_of_events_skips_an_offset_or_resumes_past_what_was_committed(
    steps: list[tuple[str, int]], gaps: list[int], start: int
) -> None:
    """Drive a poller over a log with gaps, beside the plainest model of it.

    A batch is carried out if it is of the current epoch; commits take the oldest that were. What is
    committed must be each record exactly once and in order.
    """
    log = [offset + start for offset in itertools.accumulate(gaps)]
    end = log[-1] + 2  # a marker is last
    poller = _ready()
    client = _client(poller)
    client.position[ZERO] = log[0]
    in_flight: list[Taken] = []
    committed: list[int] = []
    committed_offset: int | None = None
    for step, number in steps:
        if step == "fetch":
            poller._do_rewind()
            fetched = [offset for offset in log if offset >= client.position[ZERO]][:number]
            if fetched:
                _keep(poller, *fetched)
                client.position[ZERO] = fetched[-1] + 1
            elif client.position[ZERO] < end or not in_flight:
                _end(poller, end)
        elif step == "take":
            taken = _take(poller, ZERO, number)
            if taken is not None:
                assert len(taken.messages) <= number
                assert taken.epoch == poller.epoch
                in_flight.append(taken)
        elif step == "commit":
            done = [taken for taken in in_flight if taken.epoch == poller.epoch][:number]
            in_flight = [taken for taken in in_flight if taken.epoch == poller.epoch][number:]
            for taken in done:
                committed += [offset for offset in _offsets(taken) if offset is not None]
                committed_offset = taken.next_offset
                poller.processed(ZERO, committed_offset)
            if done and committed_offset is not None:
                poller.committed({ZERO: committed_offset})
        elif step == "rewind":
            poller.rewind()
        elif step == "rewind to broker":
            poller.rewind({ZERO: committed_offset} if committed_offset is not None else {})
        elif step == "seek fails":
            client.seek_fails = number
        else:
            _assign(poller)
        resume = poller.partitions[ZERO].resume_at
        assert committed == [offset for offset in log if committed_offset is not None and offset < committed_offset]
        assert resume is None or resume == (committed_offset if committed_offset is not None else resume)
        assert resume is None or not [offset for offset in log if offset < resume and offset not in committed]


# Acknowledgements, for agents that read by record.


@given(st.lists(st.tuples(st.sampled_from(["hand out", "ack", "end"]), st.integers(0, 5)), max_size=60))
@fixed
def test_acks_give_the_first_offset_that_nobody_acknowledged(steps: list[tuple[str, int]]) -> None:
    acks, heard = _Acks(), []
    handed: list[int] = []
    acked: set[int] = set()
    after_last: int | None = None
    position = 0
    for step, number in steps:
        if step == "hand out":
            position += number  # a gap
            acks.hand_out(position, position + 1)
            handed.append(position)
            position += 1
            after_last = position
        elif step == "ack" and (open_ := [offset for offset in handed if offset not in acked]):
            chosen = open_[number % len(open_)]
            acks.append(chosen)
            acked.add(chosen)
        elif step == "end":
            position += number
            acks.reached_end(position)
            after_last = max(position, after_last or 0)
        first_open = next((offset for offset in handed if offset not in acked), None)
        assert acks.next_offset == (after_last if first_open is None else first_open)
        heard.append(acks.outstanding)
    assert not acks._acked or acks._waiting, "what was passed is not remembered"


def test_an_ack_wakes_whoever_waits_for_room() -> None:
    heard: list[int] = []
    acks = _Acks(lambda: heard.append(1))
    acks.hand_out(1, 2)
    acks.append(1)
    assert heard == [1]


def test_nothing_handed_out_is_nothing_to_commit() -> None:
    assert _Acks().next_offset is None


@given(st.lists(st.integers(0, 5), unique=True), st.integers(0, 5))
@fixed
def test_each_partition_has_its_turn(numbers: list[int], served: int) -> None:
    places = [("t", number) for number in numbers]
    turned = _after(places, ("t", served))
    assert sorted(turned) == sorted(places)
    if ("t", served) in places:
        assert turned[-1] == ("t", served)
    else:
        assert turned == places
