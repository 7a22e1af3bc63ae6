"""What partitions remember: made again where one arrives, kept in a changelog while it is here."""

import asyncio
import logging
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.models import snapshot
from headrace.models.memory import NEVER, Wide
from headrace.models.pipeline import Pipeline
from headrace.models.state import State
from headrace.schemas.config import Config
from headrace.schemas.errors import BrokerNotAvailable, StateLost, StateMismatch
from headrace.stream import clients, failpoint
from headrace.stream.commit import Output
from headrace.stream.poller import Partition, Place, Poller
from headrace.stream.scratch import Scratch
from headrace.stream.slice import Asking

log = logging.getLogger("headrace.state")

PIECE_BYTES_MAX = 512 << 10
SNAPSHOT_BYTES_MIN = 4 << 20  # of changes, before a snapshot is worth it
PIECES_AT_A_TIME = 1  # of a snapshot that go out with one step, so that no transaction becomes large by them
TOMBSTONES_AT_A_TIME = 100
PATIENCE_SECONDS = 5.0  # beyond the longest transaction, for what was committed to become visible
TELL_SECONDS = 2.0

_DELTA, _PIECE, HEAD = b"d", b"s", b"h"
TICKS = "ticks="  # in the note beside an offset
_FRAME = struct.Struct("<qH")  # where the next change begins, and how many pieces this one has


def _delta_key(offset: int, piece: int = 0) -> bytes:
    return _DELTA + struct.pack(">qH", offset, piece)


def _piece_key(generation: int, piece: int) -> bytes:
    return _PIECE + struct.pack(">BI", generation, piece)


class Where(NamedTuple):
    """How far a partition has come: the next offset of each topic, and how often it was only told what time it is.

    The sum of these grows with every step, so it is a name for each moment in the life of a state; where there
    is one topic it is that topic's offset.

    >>> Where({"events": 100, "labels": 40}, ticks=2).offset
    142
    """

    offsets: dict[str, int]
    ticks: int = 0

    @property
    def offset(self) -> int:
        """The name of this moment."""
        return sum(self.offsets.values()) + self.ticks


class Memory:
    """The state of one partition, how far it has come, and what of it is in the changelog.

    The changelog holds, per input partition, one snapshot (its pieces, and a head that names them) and
    every change since. A change is what one step took in; it begins at the offset at which the one before
    ended, so a hole is seen. When the changes weigh as much as the snapshot, a new one is written in
    pieces, one with each step, under the other of two names; its head goes out when what it covers is
    committed, and makes it count, and the changes that it covers are deleted.
    """

    def __init__(self, place: Place, topic: str, state: State, offset: int | None, *, bytes_max: int) -> None:
        self.place = place
        self.state = state
        self.offset = offset  # where the next change begins; None before the first record
        self.offsets: dict[str, int] = {} if offset is None else {place[0]: offset}  # that are next, by topic
        self.ticks = 0
        self.follows: dict[str, int] = {}  # what the next batch of a topic follows, once there was one
        self.partitions: dict[str, Partition] = {}  # by which it is known that they did not leave and come back
        self.epoch = -1
        self.label_at = self.label_wrote = NEVER  # of the newest label
        self.reported, self.reported_at = 0, 0.0  # how many labels the last report on quality knew, and when
        self.whole = True  # the state is as of the offset; not so while a step is under way, or after one that raised
        self.idle_at = NEVER  # when it was said that there is nothing to watch in it
        self.fresh = False  # nothing is remembered, and the changelog has yet to be told from where on
        self.generation = 1  # of the head that counts
        self.changes: list[tuple[int, int]] = []  # since the last snapshot: where each begins, and its pieces
        self.change_bytes = 0
        self.snapshot_bytes = 0
        self.saved: tuple[int, bytes, dict[str, Any]] | None = None  # a snapshot that is not on disk yet, and its notes
        self.begin: Where | None = None  # where it was made again
        self._topic = topic
        self._piece_bytes = max(1, min(PIECE_BYTES_MAX, bytes_max))
        self._sending: deque[Output] = deque()
        self._head_offset = 0  # of the head that is being sent
        self._covered: deque[tuple[int, int]] = deque()

    def keep(self, change: Any, next_offset: int, first_offset: int, topic: str = "") -> list[Output]:
        """Return what is to be published so that this step is not forgotten: plain data, None where it is nothing."""
        if self.offset is None:
            self.offset = first_offset
        topic = topic or self.place[0]
        self.offsets[topic] = self.follows[topic] = next_offset
        return self._kept(change)

    def keep_tick(self, change: Any) -> list[Output]:
        """Return what is to be published so that it is not forgotten what was done when time had passed."""
        self.ticks += 1
        return self._kept(change)

    def _kept(self, change: Any) -> list[Output]:
        outputs = []
        next_offset = self.where.offset
        assert self.offset is not None
        if self.fresh:
            self.fresh = False
            outputs.append(self._head(self.generation, 0, 0))
        if change is None and next_offset == self.offset:
            # The end of the log was told where it had been committed already: there is nothing to take in again, and
            # the next change begins here too.
            self.whole = True
            return outputs
        blob = snapshot.encode(change) if change is not None else b""
        pieces = _cut(blob, self._piece_bytes)
        frame = _FRAME.pack(next_offset, len(pieces))
        outputs += [
            self._output(_delta_key(self.offset, number), frame + piece if not number else piece)
            for number, piece in enumerate(pieces)
        ]
        self.changes.append((self.offset, len(pieces)))
        self.change_bytes += len(blob)
        self.offset = next_offset
        self.whole = True
        outputs += self._maintain()
        return outputs

    def _maintain(self) -> list[Output]:
        if len(self._sending) == 1 and not self._committed_past(self._head_offset):
            outputs = []
        elif self._sending:
            outputs = [self._sending.popleft() for _ in range(min(PIECES_AT_A_TIME, len(self._sending)))]
            if not self._sending:  # the last was the head, and from here on it counts
                self.generation = 1 - self.generation
        else:
            many = min(TOMBSTONES_AT_A_TIME, len(self._covered))
            gone = [self._covered.popleft() for _ in range(many)]
            outputs = [
                self._output(_delta_key(offset, number), None) for offset, pieces in gone for number in range(pieces)
            ]
            if not self._covered and self.change_bytes > max(SNAPSHOT_BYTES_MIN, self.snapshot_bytes):
                self._begin_snapshot()
        return outputs

    def _committed_past(self, offset: int) -> bool:
        """Say whether a worker that began now would need nothing that lies before the offset.

        Where no transaction holds them together, a head that is out counts although its offset was not committed.
        """
        return not self.partitions or self.committed.offset >= offset

    @property
    def where(self) -> Where:
        """How far it has come."""
        return Where(self.offsets, self.ticks)

    @property
    def committed(self) -> Where:
        """How far it has come in what was committed; before the first commit of ours, from where it began."""
        offsets = {}
        for topic, partition in self.partitions.items():
            begin = 0 if self.begin is None else self.begin.offsets.get(topic, 0)
            offsets[topic] = begin if partition.committed is None else partition.committed
        ticks = [_ticks(one.note) for one in self.partitions.values()]
        return Where(offsets, max([0 if self.begin is None else self.begin.ticks, *ticks]))

    @property
    def note(self) -> str:
        """What has to be known beside the offsets, to find this moment again."""
        return f"{TICKS}{self.ticks}" if self.ticks else ""

    def _begin_snapshot(self) -> None:
        """Take a picture of the state as it is now; it is sent with the steps that follow."""
        assert self.offset is not None
        blob = snapshot.encode(self.state.dump())
        pieces, generation = _cut(blob, self._piece_bytes), 1 - self.generation
        self._sending.extend(self._output(_piece_key(generation, at), piece) for at, piece in enumerate(pieces))
        self._sending.append(self._head(generation, len(pieces), len(blob)))
        self._head_offset = self.offset
        self._covered.extend(self.changes)
        self.changes, self.change_bytes, self.snapshot_bytes = [], 0, len(blob)
        self.saved = (self.offset, blob, self.notes)

    def _head(self, generation: int, pieces: int, size: int) -> Output:
        said = {
            "offset": self.offset,
            "generation": generation,
            "pieces": pieces,
            "bytes": size,
            "fingerprint": self.state.fingerprint,
        }
        return self._output(HEAD, snapshot.encode(said))

    def delete(self, changes: "Mapping[int, Change]", *, before: int) -> None:
        """Have these changes deleted where the snapshot covers them: whoever sent it did not come to that."""
        self._covered.extend((offset, len(one.pieces)) for offset, one in changes.items() if offset < before)

    def _output(self, key: bytes, value: bytes | None) -> Output:
        return Output(self._topic, key, value, partition=self.place[1])

    @property
    def notes(self) -> dict[str, Any]:
        """What has to be known beside the state, to go on with the changelog."""
        return {
            "generation": self.generation,
            "changes": [*self._covered, *self.changes],
            "change_bytes": self.change_bytes,
            "snapshot_bytes": self.snapshot_bytes,
        }


def _ticks(note: str) -> int:
    """Return how often the time was told, as a note beside an offset says; notes of others say nothing.

    >>> _ticks("ticks=12"), _ticks(""), _ticks("ticks=many")
    (12, 0, 0)
    """
    text = note.removeprefix(TICKS)
    return int(text) if note.startswith(TICKS) and text.isdecimal() else 0


def _cut(blob: bytes, size: int) -> list[bytes]:
    return [blob[at : at + size] for at in range(0, len(blob), size)] or [b""]


def picture(topic: str, partition: int, blob: bytes, *, bytes_max: int, fingerprint: str) -> list[Output]:
    """Return a state as ``Found`` finds it, for a topic that holds nothing else.

    Head and pieces have to be in one transaction. Then whoever reads a head has read its pieces, and no other ones.
    """
    pieces = _cut(blob, max(1, min(PIECE_BYTES_MAX, bytes_max)))
    said = {"offset": 0, "generation": 0, "pieces": len(pieces), "bytes": len(blob), "fingerprint": fingerprint}
    records = [*((_piece_key(0, number), piece) for number, piece in enumerate(pieces)), (HEAD, snapshot.encode(said))]
    return [Output(topic, key, value, partition=partition) for key, value in records]


class _GivenUp(Exception):
    """The worker is to end, or the partition went, and nobody needs the memory that was being made."""


class Memories:
    """The states of the partitions that this worker has.

    A state is right for one offset. Before a batch is scored it is compared with where the batch begins:
    after a rebalance, an abort or a restart they differ, and the state is made again from what was
    committed. So nothing has to be undone, and nothing that was not committed is ever remembered.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: Config,
        poller: Poller,
        *,
        bytes_max: int,
        folder: Path,
        lineage: str,
        on_restored: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._on_restored = on_restored
        self.recovering: dict[int, int] = {}  # partitions that are made again, and how many changes are left
        self._pipeline = pipeline
        self._config = config
        self._poller = poller
        self._bytes_max = bytes_max - _FRAME.size
        self._folder = folder
        self._lineage = lineage
        self._wide: Callable[[int], Wide] = Scratch(folder, memory_bytes_max=config.waiting_memory_bytes_max).wide
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-state")
        self._held: dict[int, Memory] = {}  # by the number of the partition
        self._none = None if pipeline.has_memory else Memory(("", 0), "", pipeline.fresh(), None, bytes_max=1)
        # Of a pipeline that only has a breaker, which begins closed, nothing is lost that anybody would miss.
        self._may_lose = config.accept_state_loss or not (pipeline.looks_back or pipeline.learns)
        self.topics = pipeline.topics
        self._closing = False

    def ready(self, place: Place, after: int | None, epoch: int) -> Memory | None:
        """Return the partition's memory if it is right for a batch that follows ``after``; None for one of the past."""
        if self._none is not None:
            return self._none
        topic, number = place
        memory = self._held.get(number)
        if memory is None or not self._stayed(memory, epoch):
            return None
        follows = memory.follows.get(topic)
        if follows is None:  # the first of this topic since the memory was made again
            begin = memory.offsets.get(topic)
            if after is not None and begin is not None and after < begin:
                return None
        elif follows != after:
            return None
        if memory.saved is not None and memory.committed.offset >= memory.saved[0]:
            (offset, blob, notes), memory.saved = memory.saved, None
            self._thread.submit(self._save, memory.place, offset, blob, notes)
        return memory

    def _stayed(self, memory: Memory, epoch: int) -> bool:
        """Say whether nothing of what it took in has to come again, and whoever asks is of today.

        A batch that was taken before the last rebalance, and waited for its turn while the memory was made again,
        will not be carried out: it must not get into the memory, where nothing would tell that it is there.
        """
        if epoch != self._poller.epoch:
            return False
        number = memory.place[1]
        for topic, partition in memory.partitions.items():
            if self._poller.partitions.get((topic, number)) is not partition:
                return False
            goes_on_at, follows = partition.resume_at, memory.follows.get(topic)
            # Of a topic of which nothing is open, something may be: the other one's labels were learned from.
            if memory.epoch != epoch and follows is not None and goes_on_at != follows:
                return False
        if memory.epoch != epoch and memory.ticks != memory.committed.ticks:
            return False
        memory.epoch = epoch
        return True

    async def restore(self, place: Place, after: int | None, epoch: int) -> Memory | None:
        """Make the partition's memory as it was when its offset was committed; None if nobody needs it any more."""
        topic, number = place
        if epoch != self._poller.epoch:
            return None
        self._held = {one: memory for one, memory in self._held.items() if self._has(one) and one != number}
        partitions = {name: self._poller.partitions.get((name, number)) for name in self.topics}
        loop = asyncio.get_running_loop()
        try:
            memory = await loop.run_in_executor(self._thread, self._restore, number)
        except _GivenUp:
            return None
        memory.partitions = {name: one for name, one in partitions.items() if one is not None}
        memory.epoch = epoch
        committed = memory.offsets.get(topic)
        if after is not None:
            memory.follows[topic] = after
            if committed is not None and committed > after and partitions[topic] is not None:
                # A commit of which nothing was heard did happen.
                self._poller.committed({place: committed}, {place: memory.note})
                memory.follows[topic] = committed
        self._held[number] = memory
        return memory if epoch == self._poller.epoch else None

    def _has(self, number: int) -> bool:
        return any((topic, number) in self._poller.partitions for topic in self.topics)

    @property
    def states(self) -> dict[int, State]:
        """The states of the partitions that are here, by number."""
        return {number: memory.state for number, memory in self._held.items() if self._has(number)}

    def there(self, number: int, epoch: int) -> Memory | None:
        """Return a partition's memory if it is there, and nothing of what it took in has to come again."""
        memory = self._held.get(number)
        return memory if memory is not None and self._stayed(memory, epoch) else None

    def give_up(self) -> None:
        """Wait for nothing any more: the worker is to end."""
        self._closing = True

    async def close(self) -> None:
        """Put on disk what is committed, so that the next start is quick."""
        self._closing = True
        for memory in self._held.values():
            # The partitions were given back by now; what was committed of them is still known.
            is_committed = bool(memory.partitions) and memory.committed.offset == memory.offset
            if memory.whole and memory.offset is not None and is_committed and memory.changes:
                blob = snapshot.encode(memory.state.dump())
                self._thread.submit(self._save, memory.place, memory.offset, blob, memory.notes)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    # On the state thread.

    def _restore(self, number: int) -> Memory:
        began = time.monotonic()
        place = self.topics[0], number
        self.recovering[number] = 0  # it is not known yet how many
        try:
            memory = self._restored(place, self._committed(number))
        finally:
            del self.recovering[number]
        self._on_restored(time.monotonic() - began)
        if memory.offset is not None:
            keys, took = memory.state.key_count, time.monotonic() - began
            log.info("%s[%d]: %d keys as of offset %s, in %.1f s", *place, keys, memory.offset, took)
        return memory

    def _committed(self, number: int) -> Where | None:
        """Return where the group is; None where it has no offset."""
        told = time.monotonic()
        places = [(topic, number) for topic in self.topics]
        partitions = {place: self._poller.partitions.get(place) for place in places}
        while not self._closing:
            try:
                answer = self._poller.committed_at_broker(PATIENCE_SECONDS, lambda: self._closing)
                # Of a partition that went meanwhile nothing is said, which must not be taken for having no offset.
                moved = any(one is None or self._poller.partitions.get(at) is not one for at, one in partitions.items())
                if answer is None or moved:
                    raise _GivenUp
                found = {place: answer[place] for place in places if place in answer}
                ticks = max((_ticks(one.note) for one in found.values()), default=0)
                return Where({topic: one.offset for (topic, _), one in found.items()}, ticks) if found else None
            except RuntimeError as error:
                raise _GivenUp from error  # the poll thread has ended: the worker was told to stop meanwhile
            except KafkaException as error:
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    reason = clients.kafka_error(error).str()
                    log.warning("where the group is, the broker does not say yet: %s", reason)
                time.sleep(0.1)
        raise _GivenUp

    def _restored(self, place: Place, where: Where | None) -> Memory:
        local = self._load(place)
        if where is None:
            if self._config.exactly_once and not self._may_lose:
                self._refuse_orphan(place)
            self._path(place).unlink(missing_ok=True)
            return self._new_at(place, None)
        committed = where.offset
        if local is not None and local["offset"] <= committed:
            memory = self._new(place, where)
            found = self._read(place, local["offset"], committed, since=local["saved_at"])
            if found is not None and self._goes_to(memory, local, found, committed):
                return memory
        memory = self._new(place, where)
        found = self._read(place, None, committed)
        assert found is not None
        begin = found.head
        if begin is None or self._chain(found.changes, begin["offset"], committed) is None:
            return self._lost(place, where, found)
        if begin["fingerprint"] != memory.state.fingerprint:
            return self._mismatch(place, where)
        data = found.snapshot()
        if data is None:
            return self._lost(place, where, found)
        start = {"offset": begin["offset"], "state": data, "notes": {"generation": begin["generation"]}}
        if not self._goes_to(memory, start, found, committed):
            return self._lost(place, where, found)
        memory.snapshot_bytes = begin["bytes"]
        memory.delete(found.changes, before=begin["offset"])
        return memory

    def _goes_to(self, memory: Memory, start: Mapping[str, Any], found: "Found", committed: int) -> bool:
        """Take the state that ``start`` has through the changes to what is committed."""
        chain = self._chain(found.changes, start["offset"], committed)
        if chain is None:
            return False
        if start["state"]:
            memory.state.load(start["state"])
        notes = start["notes"]
        # What is on disk knows of no head that came after it, and the pieces of the one that counts must stay.
        memory.generation = notes["generation"] if found.head is None else found.head["generation"]
        memory.changes = [tuple(one) for one in notes.get("changes", ())]
        memory.change_bytes = notes.get("change_bytes", 0)
        memory.snapshot_bytes = notes.get("snapshot_bytes", 0)
        done, told = 0, time.monotonic()
        for left, offset in zip(range(len(chain), 0, -1), chain, strict=True):
            if self._closing:
                raise _GivenUp
            self.recovering[memory.place[1]] = left
            blob, pieces = found.changes[offset].blob, len(found.changes[offset].pieces)
            if blob:
                try:
                    done += memory.state.take(snapshot.decode(blob))
                except (snapshot.Unreadable, KeyError, TypeError, ValueError, IndexError) as error:
                    log.warning("%s[%d]: the change at offset %d cannot be read: %s", *memory.place, offset, error)
                    return False
            memory.changes.append((offset, pieces))
            memory.change_bytes += len(blob)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                log.info("%s[%d]: %d events taken in again", *memory.place, done)
                self._moves(memory.place)
        memory.offset = committed
        return True

    def _chain(self, changes: "Mapping[int, Change]", begin: int, committed: int) -> list[int] | None:
        """Return the changes that lead from one offset to the other, or None where one is missing."""
        chain = []
        while begin < committed:
            change = changes.get(begin)
            if change is None or not change.whole or not begin < change.next_offset <= committed:
                return None
            chain.append(begin)
            begin = change.next_offset
        return chain if begin == committed else None

    def _read(self, place: Place, begin: int | None, committed: int, *, since: float = 0.0) -> "Found | None":
        """Read the changelog: all of it, or what was written lately. None where that is not enough.

        What was committed becomes visible a moment later in each partition, so a chain that is not whole yet
        is waited for, as long as a transaction may last.
        """
        found = Found()
        if begin == committed and self._config.exactly_once:
            return found  # at least once, a head may be there that is newer than what was committed
        deadline = time.monotonic() + self._config.transaction_timeout_ms / 1_000 + PATIENCE_SECONDS
        with Tail(self._config, TopicPartition(self._config.state_topic, place[1])) as tail:
            tail.begin(since)
            while not self._closing:
                at_end = tail.read(found)
                self._moves(place)
                first = begin if begin is not None else (found.head or {}).get("offset")
                if at_end and first is not None and self._chain(found.changes, first, committed) is not None:
                    return found
                if at_end and since:
                    return None
                if at_end and (time.monotonic() > deadline or tail.settled()):
                    return found
        raise _GivenUp

    def _refuse_orphan(self, place: Place) -> None:
        """The group is nowhere and yet there is state: its offsets were lost or reset, and state does not go back."""
        found = Found()
        with Tail(self._config, TopicPartition(self._config.state_topic, place[1])) as tail:
            tail.begin(0.0)
            while not tail.read(found):
                self._moves(place)
                if self._closing:
                    raise _GivenUp
        if found.head is not None:
            raise StateLost(self._told(place, None, found))

    def _moves(self, place: Place) -> None:
        """Say that the partition does not stand still: its past is being read."""
        if partition := self._poller.partitions.get(place):
            partition.moved_at = time.monotonic()

    def _lost(self, place: Place, where: Where, found: "Found") -> Memory:
        told = self._told(place, where, found)
        if not self._may_lose:
            raise StateLost(told)
        return self._anew(place, where, told)

    def _told(self, place: Place, where: Where | None, found: "Found") -> str:
        topic, number = place
        committed = None if where is None else where.offset
        at = "has no offset" if committed is None else f"is at offset {committed}"
        if found.head is None:
            there = "holds no state" if not found.changes else f"holds {len(found.changes)} changes and no snapshot"
        else:
            reached = found.head["offset"]
            while (change := found.changes.get(reached)) is not None and change.whole and change.next_offset > reached:
                reached = change.next_offset
            there = f"leads to offset {reached}" + (", but cannot be read" if reached == committed else "")
        return (
            f"group {self._config.group} {at} of {topic}[{number}], and {self._config.state_topic}[{number}] "
            f"{there}: what the features remember cannot be made again. Was the changelog deleted or cut, or were the "
            "group's offsets reset? Bring back what was there, take a new group, or begin with an empty memory by "
            "accept_state_loss=true"
        )

    def _mismatch(self, place: Place, where: Where) -> Memory:
        told = (
            f"the state of {place[0]}[{place[1]}] in {self._config.state_topic} was kept by other features than this "
            f"pipeline's: it cannot be carried over. Take a new group (it reads the topic anew), or begin with an "
            "empty memory by accept_state_loss=true"
        )
        if not self._may_lose:
            raise StateMismatch(told)
        return self._anew(place, where, told)

    def _anew(self, place: Place, where: Where, told: str) -> Memory:
        if self._config.accept_state_loss:
            log.error("%s; accept_state_loss is set: this partition begins with an empty memory", told)
        else:
            log.info("%s[%d]: no feature has a memory, and the static model's breaker begins closed", *place)
        return self._new_at(place, where)

    def _new(self, place: Place, where: Where | None) -> Memory:
        memory = Memory(place, self._config.state_topic, self._fresh(), None, bytes_max=self._bytes_max)
        if where is not None:
            memory.begin = where
            memory.offset, memory.offsets, memory.ticks = where.offset, dict(where.offsets), where.ticks
        return memory

    def _fresh(self) -> State:
        return self._pipeline.fresh(wide=self._wide)

    def _new_at(self, place: Place, where: Where | None) -> Memory:
        memory = self._new(place, where)
        memory.fresh = True
        return memory

    # The file on disk: only there to be quick. Whatever is wrong with it, the changelog has it all.

    def _path(self, place: Place) -> Path:
        return self._folder / f"{place[0]}-{place[1]}.state"

    def _save(self, place: Place, offset: int, blob: bytes, notes: Mapping[str, Any]) -> None:
        path = self._path(place)
        fresh = path.with_suffix(".new")
        head = {
            "lineage": self._lineage,
            "fingerprint": self._pipeline.fresh().fingerprint,
            "offset": offset,
            "saved_at": time.time(),
            "notes": dict(notes),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            told = snapshot.encode(head)
            with fresh.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(struct.pack("<I", len(told)) + told + blob)
                file.flush()
                os.fsync(file.fileno())
            failpoint.reached("before_snapshot_rename")
            fresh.replace(path)
        except OSError as error:
            log.warning("%s was not written (%s); a restart takes a little longer", path, error)
            fresh.unlink(missing_ok=True)

    def _load(self, place: Place) -> dict[str, Any] | None:
        path = self._path(place)
        try:
            content = memoryview(path.read_bytes())
            length = struct.unpack_from("<I", content)[0]
            head = snapshot.decode(content[4 : 4 + length])
            if head["lineage"] != self._lineage or head["fingerprint"] != self._pipeline.fresh().fingerprint:
                log.info("%s is of other topics or other features; the changelog is read instead", path)
                return None
            return {**head, "state": snapshot.decode(content[4 + length :])}
        except FileNotFoundError:
            return None
        except (OSError, snapshot.Unreadable, struct.error, KeyError, TypeError) as error:
            aside = path.with_suffix(".damaged")
            log.warning("%s cannot be used (%s); it is put aside as %s, and the changelog is read", path, error, aside)
            try:
                path.replace(aside)
            except OSError as refused:
                log.warning("it could not be put aside: %s", refused)
            return None


class Change:
    """What one step took in, as it lies in the changelog."""

    __slots__ = ("next_offset", "pieces")

    def __init__(self, next_offset: int, count: int) -> None:
        self.next_offset = next_offset
        self.pieces: list[bytes | None] = [None] * count

    @property
    def whole(self) -> bool:
        """Say whether every piece is there."""
        return None not in self.pieces

    @property
    def blob(self) -> bytes:
        """The pieces together."""
        return b"".join(piece for piece in self.pieces if piece is not None)


class Found:
    """What was read from one partition of the changelog; of what was written twice, the last."""

    def __init__(self) -> None:
        self.head: dict[str, Any] | None = None
        self.changes: dict[int, Change] = {}
        self._pieces: dict[tuple[int, int], bytes] = {}

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record in; what cannot be read is as good as not there."""
        try:
            self._take(key, value)
        except (snapshot.Unreadable, struct.error, IndexError) as error:
            log.warning("a record in the changelog cannot be read (key %r): %s", key[:16], error)

    def _take(self, key: bytes, value: bytes | None) -> None:
        kind, rest = key[:1], key[1:]
        if kind == HEAD and value is not None:
            self.head = None
            head = snapshot.decode(value)
            self.head = head if isinstance(head, dict) else None
        elif kind == _PIECE and value is not None:
            generation, number = struct.unpack(">BI", rest)
            self._pieces[generation, number] = value
        elif kind == _DELTA:
            offset, number = struct.unpack(">qH", rest)
            if value is None:
                self.changes.pop(offset, None)
            elif number == 0:
                self.changes.pop(offset, None)
                next_offset, count = _FRAME.unpack_from(value)
                change = Change(next_offset, count)
                change.pieces[0] = value[_FRAME.size :]
                self.changes[offset] = change
            elif (known := self.changes.get(offset)) is not None and number < len(known.pieces):
                known.pieces[number] = value

    def snapshot(self) -> Any:
        """Return the state that the head names: empty where there was none yet, None where pieces are missing."""
        assert self.head is not None
        count, generation = self.head["pieces"], self.head["generation"]
        if not count:
            return {}
        if count > len(self._pieces):
            log.warning("a snapshot in the changelog has %d pieces, and %d are there", count, len(self._pieces))
            return None
        pieces = [self._pieces.get((generation, number), b"") for number in range(count)]
        try:
            return snapshot.decode(b"".join(pieces))
        except snapshot.Unreadable as error:
            log.warning("a snapshot in the changelog cannot be used: %s", error)
            return None


class Takes(Protocol):
    """What takes in the records of a partition, one after the other."""

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record in."""


class Tail:
    """Reads one partition of a topic to its end, and on."""

    def __init__(self, config: Config, place: TopicPartition, *, wait_ms: int = 20) -> None:
        # An end behind a marker of a transaction is heard of only when a fetch found nothing.
        ours = {"fetch.wait.max.ms": wait_ms}
        self._consumer = Consumer({**clients.reader_settings(config, "state"), **ours}, logger=clients.log)
        self._config = config
        self._place = place
        self._at_end = False
        self._end = 0  # of the log, when it was last met

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def begin(self, since: float) -> None:
        """Begin with what was written at this time, or with all that there is."""
        begin = TopicPartition(self._place.topic, self._place.partition, -2)  # the beginning
        try:
            # A client that is assigned a topic of which it knows nothing looks for its leader half a second later.
            self._consumer.list_topics(self._place.topic, timeout=2.0)
        except KafkaException as error:
            log.debug("where the changelog is, the broker does not say: %s", clients.kafka_error(error).str())
        if since:
            asked = TopicPartition(self._place.topic, self._place.partition, int((since - 60.0) * 1_000))
            try:
                (answer,) = self._consumer.offsets_for_times([asked], timeout=10.0)
            except KafkaException as error:
                log.debug("where to begin, the broker does not say: %s", clients.kafka_error(error).str())
            else:
                begin = answer if answer.error is None and answer.offset >= 0 else begin
        self._consumer.assign([begin])

    def _asking(self) -> Asking:
        return Asking(self._config)  # a client of its own, which a changelog that is whole never needs

    def settled(self) -> bool:
        """Say whether all was read and no transaction is open, so that nothing more will become visible by itself."""
        topic, number = self._place.topic, self._place.partition
        asking = self._asking()
        try:
            ends = {asking.end(topic, number, uncommitted=uncommitted) for uncommitted in (False, True)}
        except (BrokerNotAvailable, TimeoutError):
            return False
        # A transaction that ended since the end was met has more to read.
        return len(ends) == 1 and self._end >= ends.pop()

    def read(self, found: "Takes") -> bool:
        """Take in what is there; True at the end of what is there."""
        first = self._consumer.poll(0.2)
        # The first record alone, and then what else is there: asking for many would wait until there are.
        for message in [] if first is None else [first, *self._consumer.consume(10_000, 0)]:
            error = message.error()
            if error is None:
                self._at_end = False
                found.take(message.key() or b"", message.value())
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                self._at_end = True  # it is told once, until more comes
                self._end = message.offset() or 0
            elif error.code() in clients.REFUSALS or error.fatal():
                raise clients.named(error, "reading the changelog")
        return self._at_end
