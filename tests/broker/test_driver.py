"""The driver of users' tests against the worker that it stands for: the same records, the same outputs."""

import random
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import pytest
from aiokafka import TopicPartition
from faults import reader, recount
from faults.stage import PARTITIONS, Stage

from headrace.stream.load import load_pipeline
from headrace.testing import Driver

pytestmark = pytest.mark.broker
REMEMBERING = Path(recount.__file__).with_name("remembering.py")
COUNT = 1_000
BROKEN = (b"", b"not JSON", b'{"id": "x"}', b"[]", None)
# These say which record of which topic it was, and the driver's topic has another name.
ELSEWHERE = ("__connect.errors.topic",)


def test_a_worker_publishes_what_the_driver_did(stage: Stage) -> None:
    chance = random.Random(stage.seed)
    driver = Driver(load_pipeline(str(REMEMBERING)), partitions=PARTITIONS)
    producer = confluent_kafka.Producer({"bootstrap.servers": stage.address, "partitioner": "murmur2_random"})
    for number in range(COUNT):
        driver.advance(chance.choice((0.0, 0.25, 30.0, 400.0)))
        event = {
            "id": str(number), "at": driver.clock, "card": f"c{chance.randrange(40)}", "merchant": "m",
            "amount": chance.randrange(100), "lat": 48.0, "lon": 2.0, "country": chance.choice(("FR", "DE")),
        }  # fmt: skip
        value = msgspec.json.encode(event) if chance.random() < 0.9 else chance.choice(BROKEN)
        headers: Any = [("n", str(number).encode())] if chance.random() < 0.2 else None
        driver.pipe(value, key=event["card"], headers=headers)
        producer.produce(stage.topic, value, event["card"], headers=headers or [])
    assert not producer.flush(30)
    stage.worker(pipeline=REMEMBERING).start()
    stage.settle()
    for topic, mine in ((stage.predictions, "predictions"), (stage.dead_letters, "dead-letters")):
        partitions = range(3 if topic == stage.predictions else 1)
        found = reader.records(stage.address, {TopicPartition(topic, number): 0 for number in partitions})
        want = [(_bytes(one.key), one.value, one.headers) for one in driver.published(mine)]
        assert _sorted((one.key, one.value, one.headers) for one in found) == _sorted(want)
    assert len(driver.predictions) > COUNT / 2
    assert len(driver.dead_letters) > COUNT / 50


def _bytes(key: Any) -> Any:
    return key.encode() if isinstance(key, str) else key


def _sorted(records: Any) -> list[Any]:
    told = [
        (key, value or b"", value is None, tuple(pair for pair in headers or () if pair[0] not in ELSEWHERE))
        for key, value, headers in records
    ]
    return sorted(told)
