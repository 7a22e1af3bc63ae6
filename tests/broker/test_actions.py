"""What is done about an alert is done once in every partition, from the event on that is told, over kills."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import TopicPartition
from faults import fold as folding
from faults import reader
from faults.stage import PARTITIONS, Stage

from headrace.schemas.codec import encode
from headrace.stream.drift import Wanted, learn

pytestmark = pytest.mark.broker
ACTING = Path(folding.__file__).with_name("acting.py")


def _records(stage: Stage, topic: str, partitions: int = 1) -> list[Any]:
    places = {TopicPartition(topic, number): 0 for number in range(partitions)}
    return list(reader.records(stage.address, places, isolation="read_committed"))


def _publish(stage: Stage, payments: Iterable[Any]) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": stage.address, "log_level": 0, "partitioner": "murmur2_random"}
    )
    for one in payments:
        producer.produce(stage.topic, encode(one), one.card)
        producer.poll(0)
    assert producer.flush(60) == 0


def test_every_partition_falls_back_once_from_the_event_on_that_is_told_over_kills(stage: Stage) -> None:
    """Flow: payments, then dearer ones, and an order; then more of them, with a kill as it is followed."""
    module = stage.load(ACTING)
    reference, events = stage.folder / "reference.json", stage.folder / "usual.jsonl"
    events.write_bytes(b"".join(encode(one) + b"\n" for one in module.payments(100, seed=2)))
    learn(module.pipeline, Wanted(reference, (), "1s"), source=str(events))
    own = {"topic_slices": f"{stage.topic}-slices", "topic_control": f"{stage.topic}-control"}
    own |= {"topic_acknowledgements": f"{stage.topic}-seen", "topic_quality": f"{stage.topic}-quality"}
    for topic in (*own.values(), f"{own['topic_slices']}-state"):
        stage.adopt(topic)
    env = {"FAULTS_REFERENCE": str(reference)}
    worker = stage.worker("one", pipeline=ACTING, env=env, batch_count_max=200, **own).start()
    _publish(stage, module.payments(20))
    _publish(stage, module.payments(20, begin=20, seed=3, dearer=0.5))

    def orders() -> list[dict[str, Any]]:
        return [json.loads(one.value) for one in _records(stage, own["topic_control"])]

    stage.wait_until(lambda: any(one["state"] == "given" for one in orders()), lambda: f"no order: {orders()}")
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    worker.start(HEADRACE_FAILPOINT="before_commit:1")  # with what is followed in a transaction that never ends
    _publish(stage, module.payments(8, begin=40, seed=4, dearer=0.5))
    assert worker.wait() == -9, worker.tail
    worker.start()
    places = reader.ends(stage.address, [stage.topic])
    stage.wait_until(
        lambda: all(stage.committed().get(place, 0) == end for place, end in places.items()),
        lambda: f"the events end at {places}, and {stage.committed()} is committed",
    )
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    told = orders()
    assert len({one["id"] for one in told}) == len(told)
    assert [one["action"] for one in told if one["state"] == "given"] == [
        "fall_back",
        "restart_learner",
        "ask_for_retraining",
    ]
    applied = {(one["action"], one["partition"]): one["offset"] for one in told if one["state"] == "applied"}
    assert sorted(applied) == sorted((name, n) for name in ("fall_back", "restart_learner") for n in range(PARTITIONS))
    made = {one["id"]: one for one in (json.loads(record.value) for record in _records(stage, stage.predictions, 3))}
    for record in _records(stage, stage.topic, PARTITIONS):
        one, since = made[json.loads(record.value)["id"]], applied["fall_back", record.partition]
        if record.offset >= since:
            assert one["score"] == one["static"], (one, since)
        elif record.offset > 100:
            assert one["score"] != one["static"], (one, since)
