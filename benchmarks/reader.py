"""Reads what a contestant published, as any service would: read_committed, and believing nothing."""

import time
from dataclasses import asdict, dataclass, field

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

import events
from topics import PARTITIONS

STATIC_TOLERANCE = 1e-12
LEARNED_TOLERANCE = 1e-9  # after a million updates whose last digits depend on the order of additions
SAMPLES_MAX = 3


class Prediction(msgspec.Struct, gc=False):
    """What every contestant must publish; fields beyond these are ignored."""

    id: str
    at: float
    card: str
    score: float
    static: float
    online: float | None
    model: str
    version: str


@dataclass
class Verdict:
    """How the outputs differ from one right prediction per event; all zero where they do not.

    ``reordered`` counts predictions that came after a later one of the same card. It is told, but the outputs are
    the same predictions for all that.
    """

    expected: int
    distinct: int = 0
    missing: int = 0
    doubled: int = 0
    unknown: int = 0
    wrong: int = 0
    unreadable: int = 0
    reordered: int = 0
    samples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every event has its prediction, once and right."""
        return not (self.missing or self.doubled or self.unknown or self.wrong or self.unreadable)

    def as_dict(self):
        """Return this for JSON."""
        return {**asdict(self), "clean": self.clean}


class Judge:
    """Takes outputs one by one, and remembers when each prediction was first seen.

    What was learned from events that came ``before`` these is in their scores.
    """

    def __init__(self, sent: events.Events, before: events.Events | None = None):
        self._cards = sent.card.tolist()
        self._at = sent.at.tolist()
        self._static = sent.expected().tolist()
        learned = sent.learned(before)
        self._learned = None if learned is None else learned.tolist()
        self._decode = msgspec.json.Decoder(Prediction).decode
        self._newest = [-1] * events.CARDS
        self.seen = [0.0] * len(sent)
        self.verdict = Verdict(len(sent))

    def take(self, key: bytes | None, value: bytes | None, moment: float) -> None:
        """Judge one record that became readable at ``moment``."""
        verdict = self.verdict
        try:
            got = self._decode(value or b"")
            index = int(got.id[1:])
        except (msgspec.MsgspecError, ValueError) as error:
            verdict.unreadable += 1
            self._sample(f"unreadable: {error}: {value!r}")
            return
        if not 0 <= index < len(self.seen) or got.id != events.event_id(index):
            verdict.unknown += 1
            self._sample(f"unknown id: {value!r}")
            return
        if self.seen[index]:
            verdict.doubled += 1
            return
        self.seen[index] = moment
        verdict.distinct += 1
        number = self._cards[index]
        verdict.reordered += index < self._newest[number]
        self._newest[number] = max(index, self._newest[number])
        card = events.card_name(number)
        static, online = self._static[index], None if self._learned is None else self._learned[index]
        # Headrace takes the fixed score until a learner has learned something; until then that says 0.5.
        scores = [static] if online is None else [online, static] if online == 0.5 else [online]
        if not (
            abs(got.static - static) <= STATIC_TOLERANCE
            and (got.online is None if online is None else _near(got.online, online))
            and any(_near(got.score, score) for score in scores)
            and got.at == self._at[index]
            and got.card == card
            and key == card.encode()
            and (got.model, got.version) == ("fraud", "1")
        ):
            verdict.wrong += 1
            self._sample(f"wrong, static should be {static!r} and online {online!r}: key {key!r}, {value!r}")

    def close(self) -> Verdict:
        """Count what never came, and return the verdict."""
        self.verdict.missing = self.verdict.expected - self.verdict.distinct
        return self.verdict

    def _sample(self, text: str) -> None:
        if len(self.verdict.samples) < SAMPLES_MAX:
            self.verdict.samples.append(text)


def _near(got: float | None, want: float) -> bool:
    return got is not None and abs(got - want) <= LEARNED_TOLERANCE


def consumer(broker, topic, **settings):
    """Return a consumer at the start of every partition of ``topic``."""
    reader = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "socket.nagle.disable": True,
            **settings,
        }
    )
    reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    return reader


def read_all(broker, topic, judge, seconds_max=120.0):
    """Judge everything in ``topic``, by the time that the broker put on each record."""
    reader = consumer(broker, topic, **{"enable.partition.eof": True, "queued.min.messages": 100_000})
    ended = set()
    deadline = time.monotonic() + seconds_max
    while len(ended) < PARTITIONS and time.monotonic() < deadline:
        for message in reader.consume(5_000, 0.2):
            error = message.error()
            if error is None:
                judge.take(message.key(), message.value(), message.timestamp()[1] / 1000)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                ended.add(message.partition())
    reader.close()


def steady_rate(seen) -> float | None:
    """Return events per second between the 10 % and the 90 % mark of the distinct predictions.

    >>> steady_rate([t / 100 for t in range(1, 1001)])
    100.0
    """
    moments = np.sort(np.array([moment for moment in seen if moment]))
    if len(moments) < 100:
        return None
    first, last = moments[len(moments) // 10], moments[len(moments) * 9 // 10]
    # The broker's clock has milliseconds and stamps whole batches, so count what lies between the two stamps.
    count = np.searchsorted(moments, last, "right") - np.searchsorted(moments, first, "right")
    return round(float(count / (last - first)), 1) if last > first else None
