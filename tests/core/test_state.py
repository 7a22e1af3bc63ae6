"""What is kept in the changelog makes the state again, through snapshots, holes and damage. No broker is needed."""

import asyncio
import threading
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from core.records import Record, config_of

from headrace import Event, Linear, Pipeline, per
from headrace.models import snapshot
from headrace.schemas.errors import StateLost, StateMismatch
from headrace.stream import state as module
from headrace.stream.agents import Scorer, _score
from headrace.stream.commit import Output
from headrace.stream.poller import Committed
from headrace.stream.slice import Asking
from headrace.stream.state import Found, Memories, Memory

PLACE = ("payments", 3)
card = per("card")


class Payment(Event, topic="payments", key="card"):
    """What is remembered here."""

    id: str
    at: float
    card: str
    amount: float


def _pipeline(**features: Any) -> Pipeline:
    features = features or {"n": card.count("1h"), "s": card.sum("amount", "1d", exact=True)}
    return Pipeline(name="p", events=Payment, features=features, static=Linear(dict.fromkeys(features, 1.0)))


PIPELINE = _pipeline()


def _fresh() -> Memory:
    memory = Memory(PLACE, "state", PIPELINE.fresh(), None, bytes_max=400)
    memory.fresh = True
    return memory


class Worker:
    """Steps through events, and keeps what it publishes as a compacted topic would."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or _fresh()
        self.log: list[Output] = []
        self.next = self.memory.offset or 0

    def step(self, count: int) -> None:
        events = [Payment(str(at), 1.7e9 + at, f"c{at % 17}", at % 5) for at in range(self.next, self.next + count)]
        effects = PIPELINE.step(events, self.memory.state)
        first, self.next = self.next, self.next + count
        self.log += self.memory.keep(effects.change, self.next, first)

    @property
    def compacted(self) -> list[Output]:
        kept = {one.key: one for one in self.log}
        return [one for one in self.log if kept[one.key] is one and one.value is not None]


class Changelog:
    """Stands where the topic would be read, with the records that a test puts there."""

    def __init__(self, records: list[Output]) -> None:
        self.records = records
        self.reads = 0

    def tail(self, *_: Any) -> Any:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, since: float) -> None: ...

    def settled(self) -> bool:
        return True

    def read(self, found: Found) -> bool:
        self.reads += 1
        for record in self.records:
            assert record.partition == PLACE[1]
            found.take(record.key, record.value)  # type: ignore[arg-type]
        return True


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_BYTES_MIN", 1_000)


def _partition(committed: int | None) -> Any:
    return SimpleNamespace(committed=committed, note="", moved_at=0.0, resume_at=committed)


def _memories(
    records: list[Output], committed: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Memories:
    monkeypatch.setattr(module, "Tail", Changelog(records).tail)
    partition = _partition(committed)
    answer = {} if committed is None else {PLACE: Committed(committed)}
    poller: Any = SimpleNamespace(partitions={PLACE: partition}, committed_at_broker=lambda *_: answer, epoch=0)
    config = config_of(group="g", topic_state="state", transaction_timeout_ms=1_000, commit_interval_ms=10, **options)
    pipeline = options.get("pipeline", PIPELINE)
    return Memories(pipeline, config, poller, bytes_max=400, folder=folder, lineage="one")


def _same(memory: Memory, other: Memory) -> bool:
    return snapshot.encode(memory.state.dump()) == snapshot.encode(other.state.dump())


@pytest.mark.parametrize("steps", [1, 2, 9, 30, 100])
@pytest.mark.parametrize("compacted", [False, True])
def test_the_changelog_makes_the_state_again(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, *, compacted: bool
) -> None:
    lived = Worker()
    for _ in range(steps):
        lived.step(7)
    records = lived.compacted if compacted else list(lived.log)
    memory = _memories(records, 7 * steps, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(memory, lived.memory)
    assert memory.offset == 7 * steps
    heads = sum(one.key == b"h" for one in lived.log)
    assert heads > 1 if steps == 100 else heads >= 1, "of a hundred steps one was followed by a snapshot"
    again = Worker(memory)
    for _ in range(40):
        again.step(7)
        lived.step(7)
    third = _memories([*records, *again.log], 7 * (steps + 40), tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(third, lived.memory), "one worker after the other, and one that stayed"


def test_what_was_not_committed_is_not_remembered(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # At least once: changes are in the log, the offset that would have covered them is not; they come again, cut
    # in other places, and what was left of the first attempt must not be taken for a part of the second.
    first = Worker()
    for count in (5, 5, 5):
        first.step(count)
    second = Worker(_memories(first.log, 5, tmp_path, monkeypatch)._restore(PLACE[1]))
    for count in (4, 4, 9):
        second.step(count)
    third = _memories([*first.log, *second.log], 22, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(third, second.memory)


def test_the_changelog_stays_near_the_size_of_the_state(small: None) -> None:
    worker = Worker()
    for number in range(1_000):
        worker.step(5)
        if number % 50 == 49:
            held = sum(len(one.value or b"") for one in worker.compacted)
            assert held < 4 * len(snapshot.encode(worker.memory.state.dump())) + 4_000, number


def _told(memories: Memories, error: type[Exception] = StateLost) -> str:
    with pytest.raises(error) as told:
        memories._restore(PLACE[1])
    return str(told.value)


@pytest.mark.parametrize("gone", ["all", "first", "middle", "last", "head", "piece"])
def test_a_changelog_with_a_hole_is_refused_by_name(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    worker = Worker()
    for _ in range(60):
        worker.step(7)
    records = worker.compacted
    changes = [one for one in records if (one.key or b"")[:1] == b"d"]  # type: ignore[index]
    lost = {
        "all": records,
        "first": changes[:1],
        "middle": changes[len(changes) // 2 :][:1],
        "last": changes[-1:],
        "head": [one for one in records if one.key == b"h"],
        "piece": [one for one in records if one.key[:2] == b"s" + bytes([worker.memory.generation])][:1],  # type: ignore[index]
    }[gone]
    assert lost
    kept = [one for one in records if one not in lost]
    told = _told(_memories(kept, 420, tmp_path, monkeypatch))
    assert told.startswith("group g is at offset 420 of payments[3], and state[3] ")
    assert "accept_state_loss=true" in told
    memory = _memories(kept, 420, tmp_path, monkeypatch, accept_state_loss=True)._restore(PLACE[1])
    assert (memory.offset, memory.state.key_count) == (420, 0)
    anew = Worker(memory)
    for _ in range(20):
        anew.step(7)
    again = _memories([*kept, *anew.log], 560, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(again, anew.memory), "what begins with an empty memory goes on from there"


def test_a_group_whose_offsets_were_reset_is_refused(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    for _ in range(9):
        worker.step(7)
    assert "is at offset 30 of" in _told(_memories(worker.log, 30, tmp_path, monkeypatch))
    assert "leads to offset 63" in _told(_memories(worker.log, 70, tmp_path, monkeypatch))
    assert "has no offset of payments[3]" in _told(_memories(worker.log, None, tmp_path, monkeypatch))


def test_a_group_that_has_read_nothing_begins_with_an_empty_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = _memories([], None, tmp_path, monkeypatch)._restore(PLACE[1])
    assert (memory.offset, memory.state.key_count) == (None, 0)


def test_a_worker_that_is_to_end_does_not_wait_for_a_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memories = _memories([], 7, tmp_path, monkeypatch)
    reading = threading.Event()

    class Endless(Changelog):
        def read(self, found: Found) -> bool:
            reading.set()
            return False

    monkeypatch.setattr(module, "Tail", Endless([]).tail)

    async def stop_while_it_reads() -> Memory | None:
        restoring = asyncio.ensure_future(memories.restore(PLACE, 7, 0))
        await asyncio.to_thread(reading.wait, 30)
        memories.give_up()
        return await asyncio.wait_for(restoring, 30)

    assert asyncio.run(stop_while_it_reads()) is None


def test_a_worker_that_is_to_end_takes_no_more_changes_in(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A long chain takes longer than a stop may.
    worker = Worker()
    for _ in range(9):
        worker.step(7)
    memories = _memories(worker.log, 63, tmp_path, monkeypatch)
    taken: list[Any] = []

    def take(state: Any, change: Any) -> int:
        taken.append(change)
        memories.give_up()
        return 7

    monkeypatch.setattr(module.State, "take", take)
    assert asyncio.run(memories.restore(PLACE, None, 0)) is None
    assert len(taken) == 1


def test_a_step_that_took_nothing_in_and_moved_nothing_is_no_change() -> None:
    # It would have the name of the next change, and whoever reads the changelog would find two under one name.
    worker = Worker()
    worker.step(7)
    assert worker.memory.keep(None, 7, 7) == []
    assert worker.memory.whole
    assert worker.memory.keep(None, 9, 9), "markers of transactions take offsets, and are noted"


def test_features_may_change_their_order_and_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    worker.step(50)
    memories = _memories(worker.log, 50, tmp_path, monkeypatch)
    features = {"sum": card.sum("amount", "1d", exact=True), "count": card.count("1h")}
    memories._pipeline = other = _pipeline(**features)
    memory = memories._restore(PLACE[1])
    event = Payment("p", 1.7e9 + 50, "c1", 2.0)
    want = PIPELINE.transform([event], worker.memory.state)
    got = other.transform([event], memory.state)
    assert [got["count"][0], got["sum"][0]] == [want["n"][0], want["s"][0]]


def test_a_partition_that_goes_while_it_is_made_again_is_not_taken_for_one_without_an_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    worker.step(7)
    memories = _memories(worker.log, 7, tmp_path, monkeypatch)
    poller: Any = memories._poller

    def asked(*_: Any) -> dict[Any, int]:
        poller.partitions.clear()
        return {}

    poller.committed_at_broker = asked
    assert asyncio.run(memories.restore(PLACE, 7, 0)) is None


def test_the_state_of_other_features_is_refused_by_name(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    worker.step(7)
    memories = _memories(worker.log, 7, tmp_path, monkeypatch)
    memories._pipeline = _pipeline(n=card.count("2h"))
    assert "was kept by other features than this pipeline's" in _told(memories, StateMismatch)


def _saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Worker, Path]:
    worker = Worker()
    for _ in range(9):
        worker.step(7)
    memories = _memories(worker.log, 63, tmp_path, monkeypatch)
    blob = snapshot.encode(worker.memory.state.dump())
    memories._save(PLACE, 63, blob, worker.memory.notes)
    return worker, tmp_path / "payments-3.state"


def test_a_file_on_disk_spares_the_changelog(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, path = _saved(tmp_path, monkeypatch)
    assert path.stat().st_mode & 0o777 == 0o600
    memory = _memories([], 63, tmp_path, monkeypatch)._restore(PLACE[1])  # no record is there to be read
    assert _same(memory, worker.memory)
    assert memory.notes == worker.memory.notes
    before = len(worker.log)
    worker.step(7)
    memory = _memories(worker.log[before:], 70, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(memory, worker.memory), "the file, and the change since"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other topics", "other features", "ahead", "a folder"])
def test_a_file_that_cannot_be_used_costs_time_and_nothing_else(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    worker, path = _saved(tmp_path, monkeypatch)
    content = bytearray(path.read_bytes())
    committed, memories = 63, _memories(worker.log, 63, tmp_path, monkeypatch)
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other topics":
        memories._lineage = "two"
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "other features":
        memories._pipeline = _pipeline(n=card.count("2h"))
        memories._save(PLACE, 63, snapshot.encode(_pipeline(n=card.count("2h")).fresh().dump()), worker.memory.notes)
        memories._pipeline = PIPELINE
    else:
        worker.step(7)
        memories._save(PLACE, 70, snapshot.encode(worker.memory.state.dump()), worker.memory.notes)
        worker = Worker()
        for _ in range(9):
            worker.step(7)
    memory = memories._restore(PLACE[1])
    assert _same(memory, worker.memory)
    assert memory.offset == committed
    quarantined = damage in ("cut", "flipped", "empty", "a folder")
    assert path.with_suffix(".damaged").exists() == quarantined


def test_a_disk_that_is_full_loses_nothing(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    _, path = _saved(tmp_path, monkeypatch)
    assert list(path.parent.iterdir()) == []


def _pieces(worker: Worker, generation: int) -> list[Output]:
    return [one for one in worker.log if one.key[:2] == b"s" + bytes([generation])]  # type: ignore[index]


def test_the_snapshot_that_counts_is_not_written_over_by_a_worker_that_began_from_its_file(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file is written when its offset is committed, and the pieces and the head go out after that.
    first = Worker()
    while first.memory.saved is None:
        first.step(7)
    before = first.memory.generation
    memories = _memories([], first.next, tmp_path, monkeypatch)
    first.memory.partitions = {PLACE[0]: _partition(first.next)}
    memories._held[PLACE[1]] = first.memory
    memories._poller.partitions[PLACE] = first.memory.partitions[PLACE[0]]
    assert memories.ready(PLACE, first.next, 0) is first.memory
    memories._thread.shutdown()
    while first.memory.generation == before:
        first.step(7)
    # It is killed, goes on from its file, and is killed again while it sends the next snapshot.
    second = Worker(_memories(first.log, first.next, tmp_path, monkeypatch)._restore(PLACE[1]))
    assert second.memory.generation == first.memory.generation
    while not _pieces(second, 0) and not _pieces(second, 1):
        second.step(7)
    (tmp_path / "payments-3.state").unlink()
    third = _memories([*first.log, *second.log], second.next, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(third, second.memory)


def test_at_least_once_a_worker_killed_before_it_committed_what_a_snapshot_covers_loses_nothing(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outputs are out as soon as they are sent, and their offsets are committed later.
    worker = Worker()
    worker.memory.partitions = {PLACE[0]: _partition(7)}
    worker.step(7)
    kept = snapshot.encode(worker.memory.state.dump())
    for _ in range(60):
        worker.step(7)
    assert _pieces(worker, 0)
    memory = _memories(worker.compacted, 7, tmp_path, monkeypatch, guarantee="at-least-once")._restore(PLACE[1])
    assert snapshot.encode(memory.state.dump()) == kept
    worker.memory.partitions[PLACE[0]].committed = worker.next
    worker.step(7)
    assert worker.log[-1].key == b"h"


def test_what_a_snapshot_covers_is_deleted_by_the_next_worker_where_the_last_one_did_not_come_to_it(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    while sum(one.key == b"h" for one in worker.log) < 2:
        worker.step(1)
    covered = {one.key for one in worker.log if one.key[:1] == b"d"} - {  # type: ignore[index]
        module._delta_key(offset) for offset, _ in worker.memory.changes
    }
    assert len(covered) > 5
    again = Worker(_memories(worker.compacted, worker.next, tmp_path, monkeypatch)._restore(PLACE[1]))
    for _ in range(10):
        again.step(1)
    assert covered <= {one.key for one in again.log if one.value is None}


@pytest.mark.parametrize("kind", [b"d", b"h"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_record_that_cannot_be_read_is_told_as_lost_state_and_may_be_accepted(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, damage: str
) -> None:
    worker = Worker()
    for _ in range(5):
        worker.step(7)
    last = max(at for at, one in enumerate(worker.log) if one.key[:1] == kind)  # type: ignore[index]
    value = worker.log[last].value or b""
    worker.log[last] = worker.log[last]._replace(
        value={"flipped": value[:-1] + bytes([value[-1] ^ 1]), "cut": value[:9], "empty": b""}[damage]
    )
    told = _told(_memories(worker.log, 35, tmp_path, monkeypatch))
    assert told.startswith("group g is at offset 35 of payments[3], and state[3] ")
    memory = _memories(worker.log, 35, tmp_path, monkeypatch, accept_state_loss=True)._restore(PLACE[1])
    assert (memory.offset, memory.state.key_count) == (35, 0)


def test_at_least_once_what_was_committed_without_an_answer_is_not_remembered_twice(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commit of 7 came to the broker, and its answer not to the worker, which fetches all of it again.
    worker = Worker()
    worker.step(7)
    memories = _memories(worker.log, 7, tmp_path, monkeypatch, guarantee="at-least-once")
    told: list[Any] = []
    memories._poller.committed = lambda offsets, _notes: told.append(offsets)  # type: ignore[method-assign, assignment]
    committer: Any = SimpleNamespace(start_over=lambda: told.append("start over"))
    batch: Any = SimpleNamespace(place=PLACE, after=0, epoch=0, messages=["the first of them"])
    assert (
        asyncio.run(_score(batch, SimpleNamespace(shared=None, monitoring=None), committer, memories, slow=False))
        is False
    )  # type: ignore[arg-type]
    assert told == [{PLACE: 7}, "start over"]
    memory = memories._held[PLACE[1]]
    assert memory.follows[PLACE[0]] == memory.offset == 7
    assert _same(memory, worker.memory)


def test_a_batch_of_the_past_finds_no_memory_and_leaves_that_of_today_alone(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch waited for its turn while partitions went and came back, and the memory was made again meanwhile.

    Stepped on that memory, and then dropped, it would be in there, and what comes next would be written to the
    changelog behind a hole. Nothing of its topic was fetched since, so its offset does not tell either.
    """
    worker = Worker()
    worker.step(7)
    memories = _memories(worker.log, 7, tmp_path, monkeypatch)
    memories._poller.epoch = 14
    partition: Any = memories._poller.partitions[PLACE]
    partition.resume_at = None
    memory = asyncio.run(memories.restore(PLACE, None, 14))
    assert memory is not None
    assert memories.ready(PLACE, 7, epoch=10) is None
    assert asyncio.run(memories.restore(PLACE, 7, epoch=10)) is None
    assert memories.there(PLACE[1], 14) is memory, "nobody has touched it"
    # Where one got in before the epoch moved, the memory is not that of today any more.
    memory.follows[PLACE[0]] = 9
    memories._poller.epoch = 15
    assert memories.there(PLACE[1], 15) is None


class Client:
    """Stands where the broker is asked: how far the log goes, and what the consumer gets of it."""

    def __init__(self, *ends: int) -> None:
        self.ends = ends
        self.assigned: list[Any] = []

    def list_offsets(self, asked: Any, **_: Any) -> dict[Any, Any]:
        end = self.ends[-1]
        return dict.fromkeys(asked, SimpleNamespace(result=lambda **_: SimpleNamespace(offset=end)))

    def poll(self, *_: Any) -> Any:
        code = KafkaError._PARTITION_EOF
        return SimpleNamespace(error=lambda: SimpleNamespace(code=lambda: code), offset=lambda: self.ends[0])

    def consume(self, *_: Any) -> list[Any]:
        return []

    def list_topics(self, *_: Any, **__: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def offsets_for_times(self, *_: Any, **__: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def assign(self, places: list[Any]) -> None:
        self.assigned = places


def _tail(client: Client) -> Any:
    asking = object.__new__(Asking)
    asking.__dict__ |= {"_admin": client}
    tail = object.__new__(module.Tail)
    tail.__dict__ |= {"_consumer": client, "_place": TopicPartition("state", 3), "_at_end": False}
    tail._asking = lambda: asking
    return tail


def test_a_transaction_that_ended_after_the_end_was_met_is_read_before_anything_is_said_to_be_lost() -> None:
    tail = _tail(Client(5, 9))
    assert tail.read(Found())
    assert not tail.settled(), "what lies between was not visible when the end was met"
    tail._consumer.ends = (9,)
    assert tail.read(Found())
    assert tail.settled()


def test_a_broker_that_does_not_say_where_to_begin_costs_time_and_nothing_else() -> None:
    tail = _tail(Client(5))
    tail.begin(1.7e9)
    assert [one.offset for one in tail._consumer.assigned] == [-2]


def test_a_snapshot_that_is_nested_without_end_is_unreadable() -> None:
    body = b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(snapshot.Unreadable, match="recursion"):
        snapshot.decode(b"hrs\x01" + zlib.crc32(body).to_bytes(4, "little") + body)


def test_a_key_that_nobody_here_wrote_and_a_head_that_promises_too_much_are_left_out(small: None) -> None:
    found = Found()
    for key, value in ((b"d", b"x"), (b"s\x00", b"x"), (b"d" + bytes(10), bytes(10)), (b"h", snapshot.encode([1]))):
        found.take(key, value)
    assert found.head is None
    assert not found.changes
    head = {"offset": 1, "generation": 0, "pieces": 10**12, "bytes": 1, "fingerprint": ""}
    found.take(b"h", snapshot.encode(head))
    assert found.snapshot() is None


def test_a_state_that_a_step_has_changed_halfway_is_not_put_on_disk(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    worker.step(7)
    memories = _memories(worker.log, 7, tmp_path, monkeypatch)
    memory = asyncio.run(memories.restore(PLACE, 7, 0))
    assert memory is not None

    class Raises(Scorer):
        def _publish(self, *_: Any) -> Any:
            raise MemoryError("full")

    scorer = Raises(PIPELINE, config_of(), {})
    record: Any = Record(b'{"id": "1", "at": 1.7e9, "card": "c1", "amount": 1}')
    with pytest.raises(MemoryError):
        scorer.step([record], memory, 8)
    asyncio.run(memories.close())
    again = _memories(worker.log, 7, tmp_path, monkeypatch)._restore(PLACE[1])
    assert _same(again, worker.memory)
