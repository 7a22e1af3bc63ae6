"""What a worker that learns should have said and should know, by one process that takes everything in the same order.

The order in which a partition's events, labels and times came is in the changelog. All else is from the inputs.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition

from faults import reader
from headrace.models import snapshot
from headrace.models.pipeline import Effects, Pipeline
from headrace.models.state import State
from headrace.schemas.codec import encode
from headrace.stream.state import Found


class Input:
    """The records of one partition of an input, in their order."""

    def __init__(self, address: str, topic: str, partition: int, kind: type[Any]) -> None:
        decode = msgspec.json.Decoder(kind).decode
        found = reader.records(address, {TopicPartition(topic, partition): 0}, isolation="read_committed")
        self.records = [(decode(one.value), one.timestamp / 1_000) for one in found]
        self.taken = 0

    def take(self, count: int) -> tuple[list[Any], Any]:
        """Return the next so many, and when they were written."""
        some = self.records[self.taken : self.taken + count]
        self.taken += count
        import numpy as np

        return [one for one, _ in some], np.array([at for _, at in some], np.float64)


def changes(address: str, topic: str, partition: int) -> Iterator[list[Any]]:
    """Yield what the changelog says that was taken in, step by step."""
    found, known = Found(), set()
    for record in reader.records(address, {TopicPartition(topic, partition): 0}, isolation="read_committed"):
        found.take(record.key, record.value)
        for offset, change in list(found.changes.items()):
            if change.whole and offset not in known:
                known.add(offset)
                if change.blob:
                    yield snapshot.decode(change.blob)


def fold(address: str, pipeline: Pipeline, state_topic: str, partition: int) -> tuple[list[Effects], State]:
    """Take everything in again; return what has to be published, and the state at the end."""
    assert pipeline.labels is not None
    events = Input(address, pipeline.topics[0], partition, pipeline.events)
    labels = Input(address, pipeline.topics[1], partition, pipeline.labels)
    state, made = pipeline.fresh(), []
    for change in changes(address, state_topic, partition):
        count = sum(part["events"]["count"] for part in change if "events" in part)
        if count:
            made.append(pipeline.step(events.records and (some := events.take(count))[0], state, some[1]))
        for part in change:
            if "told" in part:
                given, wrote = labels.take(len(part["told"]["ids"]))
                assert [one.id for one in given] == part["told"]["ids"], "labels came in another order than they lie"
                made.append(pipeline.learn(given, state, wrote))
            elif "tick" in part:
                made.append(pipeline.tick(state, **part["tick"]))
    assert events.taken == len(events.records), "events were not taken in"
    assert labels.taken == len(labels.records), "labels were not taken in"
    return made, state


def published(address: str, topic: str, partitions: int) -> dict[str, list[bytes]]:
    """Return what is in an output, by the id of the event."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for record in reader.records(
        address, {TopicPartition(topic, one): 0 for one in range(partitions)}, isolation="read_committed"
    ):
        found[msgspec.json.decode(record.value)["id"]].append(record.value)
    return found


def expected(parts: Sequence[Effects], name: str) -> dict[str, list[bytes]]:
    """Return what should be in an output, by the id of the event."""
    wanted: dict[str, list[bytes]] = defaultdict(list)
    for part in parts:
        for one in getattr(part, name):
            wanted[one.id].append(encode(one))
    return wanted
