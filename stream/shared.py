"""One learner for a whole stream: lessons handed in by all partitions, learned by one worker, told to all.

What becomes known of an event is a lesson. Whoever has the event's partition publishes it to a topic of one partition,
in the transaction in which it became known. The worker to which the group gives that topic learns the lessons in their
order; its learner is a state like that of any partition, with a changelog of its own. What it has learned is told by
way of a compacted topic that every worker reads (``Hearing``), and is put in place between two steps.
"""

import asyncio
import logging
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from headrace.models import snapshot
from headrace.models.learners import Learner
from headrace.models.lessons import UNTAUGHT, Lessons, Version
from headrace.models.pipeline import Pipeline
from headrace.models.trained import Trained
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadConfig, StateMismatch
from headrace.schemas.quality import QualityReport
from headrace.stream.commit import Batch, Committer, Output, Outputs
from headrace.stream.poller import Poller
from headrace.stream.state import Found, Memories, Memory, picture

log = logging.getLogger("headrace.shared")

REPORT_SECONDS = 5.0  # from one report on staleness to the next
WAIT_SECONDS = 5.0  # for a learner that was in use, once all that was told is read
TELL_SECONDS = 2.0
KNOWN_MAX = 10_000  # records of lessons of which it is known when they were written

Letter = Callable[[Message, Rejection], Output]


def check(pipeline: Pipeline, config: Config) -> None:
    """Raise with every reason for which the partitions of this pipeline cannot share a learner."""
    if not pipeline.shares:
        return
    problems = []
    if not config.exactly_once:
        problems.append(
            f"guarantee = {config.guarantee}: {pipeline.name} has learner='shared', and what comes twice would be "
            "learned twice, by all; set guarantee=exactly-once, or learner='partition'"
        )
    topics = {
        "topic_state": config.state_topic,
        "topic_lessons": config.lessons_topic,
        "topic_learner": config.learner_topic,
        "topic_learner, with -state": config.learner_state_topic,
    }
    if len(set(topics.values())) < len(topics):
        problems.append(f"{', '.join(topics)} = {', '.join(topics.values())}: must be different topics")
    if problems:
        raise BadConfig(problems)


class Course:
    """All lessons of a stream, as ``Memories`` knows a pipeline: what is read, and what is remembered of it."""

    has_memory = learns = True
    looks_back = False

    def __init__(self, pipeline: Pipeline, topic: str) -> None:
        self.topics = (topic,)
        self._pipeline = pipeline

    def fresh(self, **_: object) -> Trained:
        """Return a learner that has learned nothing. Nothing waits for labels here, so it needs no room for that."""
        return self._pipeline.trained()


class Taught(NamedTuple):
    """A learner as it was told to everybody. It only predicts."""

    version: Version
    learner: Learner


class Staleness:
    """How far what scores is behind what is known, as the lessons themselves tell it.

    Each says which learner its worker had when it was published. What was published before it and is not in that
    learner is what that worker's scores did without: so many lessons, the oldest of them so many seconds old.

    >>> staleness = Staleness()
    >>> for number in range(4):
    ...     staleness.heard(Version(1.0, min(number, 2)), 1, now=Version(1.0, number), wrote=10.0 + number)
    >>> staleness.told()
    {'lessons': 4.0, 'behind_lessons': 0.25, 'behind_lessons_max': 1.0, 'behind_seconds': 0.25,
     'behind_seconds_max': 1.0}
    """

    def __init__(self) -> None:
        self._known: deque[tuple[int, float]] = deque(
            maxlen=KNOWN_MAX
        )  # lessons until a record, and when it was written
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._lessons = self._lessons_max = self._seconds = self._seconds_max = 0.0

    def heard(self, used: Version, count: int, *, now: Version, wrote: float) -> None:
        """Take in so many lessons, written then; ``now`` is the learner that knows all that came before them."""
        has = used.lessons if used.born == now.born or not now.lessons else 0
        behind, seconds = max(0, now.lessons - has), 0.0
        if behind and self._known:
            place = bisect_right(self._known, has, key=lambda one: one[0])
            seconds = max(0.0, wrote - self._known[min(place, len(self._known) - 1)][1])
        self._known.append((now.lessons + count, wrote))
        self._count += count
        self._lessons += count * behind
        self._seconds += count * seconds
        self._lessons_max = max(self._lessons_max, float(behind))
        self._seconds_max = max(self._seconds_max, seconds)

    def told(self) -> dict[str, float | None]:
        """Return what there is to say since this was last asked, per lesson."""
        count = self._count
        made: dict[str, float | None] = {
            "lessons": float(count),
            "behind_lessons": self._lessons / count if count else None,
            "behind_lessons_max": self._lessons_max if count else None,
            "behind_seconds": self._seconds / count if count else None,
            "behind_seconds_max": self._seconds_max if count else None,
        }
        self._begin()
        return made


class Shared:
    """What a worker does for the learner that all partitions share.

    ``newest`` is put in place by whoever hears of a newer one, at any moment, and taken up by the next step.
    """

    def __init__(self, pipeline: Pipeline, config: Config, bytes_max: dict[str, int]) -> None:
        check(pipeline, config)
        self.topic = config.lessons_topic
        self.course = Course(pipeline, self.topic)
        self.memories: Memories | None = None  # of the learner, where it is learned
        self.newest = Taught(UNTAUGHT, pipeline.trained().learner)
        self.caught_up = threading.Event()  # everything that was told when the worker began was heard
        self._pipeline = pipeline
        self._config = config
        self._bytes_max = bytes_max
        self._fingerprint = pipeline.trained().fingerprint
        self._given_up = False
        self._of: tuple[Memory, int] | None = None  # what the next two are about: a memory, and in which epoch
        self._told = UNTAUGHT
        self._told_at = self._reported_at = -np.inf
        self._reported = UNTAUGHT
        self._staleness = Staleness()

    # Where events are scored.

    def adopt(self, memory: Memory) -> None:
        """Score with the newest learner from now on."""
        learning = memory.state.learning
        assert learning is not None
        newest = self.newest
        if newest.version > learning.version or learning.lacks:
            learning.adopt(*newest)

    async def ready_for(self, memory: Memory) -> None:
        """Return when a learner is here that is as new as the one that the partition was scored with last.

        What it was scored with was committed before it was read, so it can be read again, or one that is newer. It
        is not there only if somebody took the topic away; then what there is has to do until it is told again.
        """
        learning = memory.state.learning
        assert learning is not None
        asked = told = time.monotonic()
        while learning.lacks and self.newest.version < learning.version and not self._given_up:
            now = time.monotonic()
            if not self.caught_up.is_set():
                asked = now
            if now - asked > WAIT_SECONDS:
                log.warning(
                    "%s[%d] was scored with a learner of %d lessons, and %s has one of %d: it is taken until there "
                    "is a newer one. Was the topic deleted?",
                    *memory.place,
                    learning.version.lessons,
                    self._config.learner_topic,
                    self.newest.version.lessons,
                )
                return
            if now - told > TELL_SECONDS:
                told = now
                log.info("%s[%d]: waiting for a learner of %d lessons", *memory.place, learning.version.lessons)
            await asyncio.sleep(0.005)

    def lessons(self, several: Sequence[Lessons], memory: Memory) -> list[Output]:
        """Return what became known in a step, as it is published."""
        return [output for one in several for output in self._lessons(one, memory.place[1])]

    def _lessons(self, lessons: Lessons, partition: int) -> list[Output]:
        said = {
            "of": self._fingerprint,
            "partition": partition,
            "version": list(self.newest.version),  # with which an event would be scored now
            "ids": lessons.ids,
            "features": lessons.features,
            "labels": lessons.labels,
            "at": lessons.at,
        }
        output = Output(self.topic, str(partition), snapshot.encode(said), partition=0)
        if output.size <= self._bytes_max[self.topic]:
            return [output]
        if lessons.size > 1:
            return [one for half in lessons.halves() for one in self._lessons(half, partition)]
        # It teaches by its features; its name is for people, and this one is a long one.
        return [output._replace(value=snapshot.encode({**said, "ids": [None]}))]

    # Where lessons are learned.

    def memories_of(self, topic: str, memories: Memories) -> Memories:
        """Return the memories that a batch of this topic is about, which are those of the events for all others."""
        if topic != self.topic:
            return memories
        assert self.memories is not None
        return self.memories

    def step(self, messages: list[Message], memory: Memory, next_offset: int, letter: Letter) -> Outputs:
        """Learn lessons; return what is to be published, for which ``letter`` makes a dead letter."""
        trained = cast(Trained, memory.state)
        others, changes = [], []
        for at, message in enumerate(messages):
            try:
                used, lessons = self._read(message.value() or b"")
            except (snapshot.Unreadable, KeyError, TypeError, ValueError) as error:
                others.append(letter(message, Rejection(at, Reason.WRONG_LESSON, str(error), type(error).__name__)))
                continue
            wrote = _wrote(message)
            self._staleness.heard(used, lessons.size, now=trained.version, wrote=wrote)
            changes += trained.learn(lessons, wrote)
        first = messages[0].offset() if messages else next_offset
        assert first is not None
        others += memory.keep(changes or None, next_offset, first)
        others += self.tell(memory)
        return Outputs("", [], [], None, others, sum(one.size for one in others))

    def _read(self, value: bytes) -> tuple[Version, Lessons]:
        """Return what a record says: which learner its worker had, and what is to be learned."""
        said = snapshot.decode(value)
        if said["of"] != self._fingerprint:
            raise ValueError("it is of other features, or for another model, than this pipeline's")
        lessons = Lessons(said["ids"], said["features"], said["labels"], said["at"])
        if lessons.features.shape != (lessons.size, len(self._pipeline.features)) or len(lessons.at) != lessons.size:
            raise ValueError(f"it has {lessons.size} labels, and features of the shape {lessons.features.shape}")
        return Version(*said["version"]), lessons

    def tell(self, memory: Memory) -> list[Output]:
        """Return what was learned, if there is news of that and the last time was a while ago; and how stale it got."""
        trained, now = cast(Trained, memory.state), time.monotonic()
        if self._of is None or memory is not self._of[0] or memory.epoch != self._of[1]:
            # What was told last may have been in a transaction that came to nothing.
            self._of, self._told, self._told_at = (memory, memory.epoch), UNTAUGHT, -np.inf
        outputs = []
        if trained.version != self._told and now - self._told_at >= self._config.learner_interval_ms / 1_000:
            self._told, self._told_at = trained.version, now
            outputs += self._broadcast(trained)
        if trained.version != self._reported and now - self._reported_at >= REPORT_SECONDS:
            self._reported, self._reported_at = trained.version, now
            outputs.append(self._report(trained))
        return outputs

    def _broadcast(self, trained: Trained) -> list[Output]:
        topic = self._config.learner_topic
        blob = snapshot.encode(trained.dump())
        return picture(topic, 0, blob, bytes_max=self._bytes_max[topic], fingerprint=self._fingerprint)

    def _report(self, trained: Trained) -> Output:
        told = self._staleness.told()
        if told["lessons"]:
            log.info(
                "the shared learner knows %d lessons; what scored was behind by %.1f lessons and %.2f s in the mean, "
                "by %d and %.2f s at most",
                trained.version.lessons,
                *(
                    told[name]
                    for name in ("behind_lessons", "behind_seconds", "behind_lessons_max", "behind_seconds_max")
                ),
            )
        report = QualityReport(
            pipeline=self._pipeline.name,
            version=self._pipeline.version,
            partition=None,
            model="shared",
            kind=self._pipeline.kind,
            at=trained.at,
            window=REPORT_SECONDS,
            overall={"lessons": float(trained.version.lessons), "born": trained.version.born},
            recent=told,
        )
        return Output(self._config.topic_quality, report.id, encode(report))

    # Life.

    def begin(self, poller: Poller, *, folder: Path, lineage: str) -> None:
        """Be ready to learn, whenever the group says so."""
        config = msgspec.structs.replace(self._config, topic_state=self._config.learner_state_topic)
        self.memories = Memories(
            cast(Pipeline, self.course),
            config,
            poller,
            bytes_max=self._bytes_max[config.state_topic],
            folder=folder,
            lineage=lineage,
        )

    def give_up(self) -> None:
        """Wait for nothing any more: the worker is to end."""
        self._given_up = True
        if self.memories is not None:
            self.memories.give_up()

    async def close(self) -> None:
        """Put on disk what is committed."""
        if self.memories is not None:
            await self.memories.close()


async def tell(
    shared: Shared, turn: asyncio.Lock, committer: Committer, poller: Poller, *, drained: Callable[[], bool]
) -> None:
    """Tell what was learned and not told yet, if this worker is the one to learn: maybe no lesson comes any more."""
    place = shared.topic, 0
    if place not in poller.partitions or shared.memories is None:
        return
    async with turn:
        epoch = poller.epoch
        memory = shared.memories.there(0, epoch) or await shared.memories.restore(place, None, epoch)
        if memory is None or shared.topic not in memory.offsets:
            return
        if outputs := shared.tell(memory):
            size = sum(one.size for one in outputs)
            next_offset, after = memory.offsets[shared.topic], memory.follows.get(shared.topic)
            moment = memory.offset
            batch = Batch(place, after, next_offset, epoch, memory.note, memory.place, moment, moment)
            await committer.carry_out(batch, Outputs("", [], [], None, outputs, size))
    if committer.due(drained=drained()):
        committer.commit_soon()


class Hearing(Found):
    """What was heard of what the shared learner has learned, which every worker listens to."""

    def __init__(self, shared: Shared, pipeline: Pipeline, config: Config) -> None:
        super().__init__()
        self.topic = config.learner_topic
        self.caught_up = shared.caught_up
        self._shared = shared
        self._pipeline = pipeline
        self._heard: dict[str, Any] | None = None  # the head that was put in place
        self._strange: set[str] = set()  # what was left out, and told so

    def told(self) -> None:
        """Put the newest learner in place, if all of it is there."""
        if self.head is not None and self.head is not self._heard:
            self._heard = self.head
            self._hear(self.head)

    def _hear(self, head: dict[str, Any]) -> None:
        trained = self._pipeline.trained()
        of = str(head.get("fingerprint"))
        if of != trained.fingerprint:
            if of not in self._strange:
                self._strange.add(of)
                log.warning(
                    "%s has a learner of other features or of another model than this pipeline's; it is left out",
                    self.topic,
                )
            return
        data = self.snapshot()
        if not data:
            return  # a newer one is on its way: some of its pieces have taken the place of this one's
        try:
            trained.load(data)
        except (snapshot.Unreadable, StateMismatch, KeyError, TypeError, ValueError, IndexError) as error:
            log.warning("what %s has cannot be used: %s", self.topic, error)
            return
        log.debug("heard of a learner of %d lessons", trained.version.lessons)
        self._shared.newest = Taught(trained.version, trained.learner)


def _wrote(message: Message) -> float:
    kind, milliseconds = message.timestamp()
    return 0.0 if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1_000
