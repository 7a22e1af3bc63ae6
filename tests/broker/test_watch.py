"""A change of the whole stream is told once, by one worker as by three, over kills, and is cleared when it is over."""

import json
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import TopicPartition
from faults import fold as folding
from faults import reader
from faults.stage import PARTITIONS, Stage
from faults.worker import Worker

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.codec import encode
from headrace.stream.drift import Wanted, learn

pytestmark = pytest.mark.broker
WATCHING = Path(folding.__file__).with_name("watching.py")


def _alerts(stage: Stage, topic: str) -> list[dict[str, Any]]:
    found = reader.records(stage.address, {TopicPartition(topic, 0): 0}, isolation="read_committed")
    return [json.loads(one.value) for one in found]


def _states(alerts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["id"], one["state"]) for one in alerts]


def test_one_worker_and_three_tell_the_same_alerts_once_over_kills(stage: Stage) -> None:
    """Flow: payments of three minutes, the middle one dearer; one worker, then three in another group, killed."""
    module = stage.load(WATCHING)
    reference, events = stage.folder / "reference.json", stage.folder / "usual.jsonl"
    events.write_bytes(b"".join(encode(one) + b"\n" for one in module.payments(100, seed=2)))
    learn(module.pipeline, Wanted(reference, (), "1s"), source=str(events))
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": stage.address,
            "log_level": 0,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
        }
    )
    payments = [*module.payments(60), *module.payments(60, begin=60, dearer=0.5, seed=3)]
    payments += module.payments(60, begin=120, seed=4)
    for one in payments:
        producer.produce(stage.topic, encode(one), one.card)
        producer.poll(0)
    assert producer.flush(60) == 0
    told = {}
    for group, names in (("alone", ["one"]), ("many", ["two", "three", "four"])):
        alerts = stage.create(f"alerts-{group}-{stage.topic}", 1)
        predictions = stage.create(f"predictions-{group}-{stage.topic}", 3)
        own = {"topic_alerts": alerts, "topic_predictions": predictions, "topic_state": f"{group}-{stage.topic}-state"}
        own |= {"topic_slices": f"{group}-{stage.topic}-slices", "batch_count_max": 200}
        own |= {"topic_acknowledgements": f"{group}-{stage.topic}-seen", "commit_interval_ms": 50}
        stage.group = f"{group}-{stage.topic}"
        for topic in (own["topic_state"], own["topic_slices"], own["topic_acknowledgements"]):
            stage.adopt(topic)
        stage.adopt(f"{own['topic_slices']}-state")
        env = {"FAULTS_REFERENCE": str(reference)}
        workers = [stage.worker(name, pipeline=WATCHING, env=env, **own) for name in names]
        for number, worker in enumerate(workers):
            kill = {"HEADRACE_FAILPOINT": f"before_commit:{5 + 3 * number}"} if len(workers) > 1 else {}
            worker.start(**kill)
        if len(workers) > 1:
            for worker in workers:
                _killed(stage, worker, events=len(payments))
                worker.start()
        stage.wait_until(
            lambda topic=alerts: any(state == "cleared" for _, state in _states(_alerts(stage, topic))),
            lambda topic=alerts: f"nothing was cleared: {_states(_alerts(stage, topic))}",
        )
        if group == "alone":
            _acknowledge_nothing(stage, own["topic_acknowledgements"])
        for worker in workers:
            worker.wait_until_ready().terminate()
            assert worker.wait() == 0, worker.tail
        told[group] = _alerts(stage, alerts)
    for mine, other in zip(told["alone"], told["many"], strict=False):
        assert mine == other, {name: (mine[name], other[name]) for name in mine if mine[name] != other[name]}
    first = told["alone"][0]
    assert (first["state"], first["kind"], first["series"]) == ("raised", "drift", "amount")
    assert 60 < first["at"] <= 65
    assert len({one["id"] for one in told["alone"]}) == 1, "one change, one alert"
    assert told["many"] == told["alone"]
    assert PARTITIONS > 1


def _killed(stage: Stage, worker: Worker, *, events: int) -> None:
    """Wait until it was killed at its point; where the others have left it too little to commit, kill it now."""

    def committed() -> int:
        return sum(offset for place, offset in stage.committed().items() if place.topic == stage.topic)

    stage.wait_until(
        lambda: not worker.alive or committed() == events,
        lambda: f"{committed()} of {events} events are committed, and {worker.name} was not killed",
    )
    if worker.alive:
        worker.kill()
    assert worker.wait() == -9, worker.tail


def _acknowledge_nothing(stage: Stage, topic: str) -> None:
    """An acknowledgement of what nobody raised is passed on and says nothing."""
    client = confluent_kafka.Producer({"bootstrap.servers": stage.address, "log_level": 0})
    client.produce(topic, encode(Acknowledgement(id="nobody", at=0.0, by="ana")), "nobody")
    assert client.flush(30) == 0
