"""The story of an event on the real broker: found without a group, computed again to the last bit."""

import json
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import TopicPartition
from faults import reader, recount
from faults.stage import PARTITIONS, Stage

pytestmark = pytest.mark.broker
REMEMBERING = Path(recount.__file__).with_name("remembering.py")
LEARNING = Path(recount.__file__).with_name("learning.py")


def _records(stage: Stage, topic: str, partitions: int) -> list[Any]:
    since = {TopicPartition(topic, number): 0 for number in range(partitions)}
    return reader.records(stage.address, since, isolation="read_committed")


def _story(stage: Stage, pipeline: Path, wanted: str, *more: str) -> dict[str, Any]:
    done = stage.ask(pipeline, "explain", wanted, "--json", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_event_is_explained_by_its_id_and_by_its_place(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(2_000, poison=("not JSON", "amount missing"))
    worker = stage.worker(pipeline=REMEMBERING, batch_count_max=100, commit_interval_ms=10)
    worker.start(HEADRACE_FAILPOINT="after_produce:5")
    assert worker.wait() == -9, worker.tail
    worker.start()
    stage.wait_for(ledger.outputs)
    stage.settle()
    committed = stage.committed()

    published = {json.loads(one.value)["id"] for one in _records(stage, stage.predictions, 3)}
    offset = next(at for at in range(40, 80) if f"2-{at}" in published)
    story = _story(stage, REMEMBERING, f"{stage.topic}:2:{offset}")
    assert story["same_bits"] is True
    assert (story["event"]["partition"], story["event"]["offset"]) == (2, offset)
    assert story["published"]["value"]["score"] == story["score"]
    (past,) = story["past"]
    features = {one["name"]: one for one in story["features"]}
    assert features["first"]["value"] == pytest.approx(past["known_for_s"] or 0.0)
    assert features["count"]["per"] == ["card"]
    again = _story(stage, REMEMBERING, story["id"])
    assert again == story, "by its id it is the same story"

    done = stage.ask(REMEMBERING, "explain", story["id"])
    assert done.returncode == 0, done.stderr
    assert "  computed again it is the same, bit for bit\n" in done.stdout
    assert stage.committed() == committed

    done = stage.ask(REMEMBERING, "explain", "nobody")
    assert done.returncode == 17
    assert f"EVENT_MISSING: nobody: no event has this id; looked at {stage.topic}[0] 0 to " in done.stderr
    done = stage.ask(REMEMBERING, "explain", f"{stage.topic}:{PARTITIONS}:0")
    assert done.returncode == 17
    assert "no such partition" in done.stderr


def test_an_event_that_was_rejected_is_explained_by_its_dead_letter(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(300, poison=("amount missing",))
    stage.worker(pipeline=REMEMBERING).start()
    stage.wait_for(ledger.outputs)
    stage.settle()
    letter = _records(stage, stage.dead_letters, 1)[0]
    headers = {name: value.decode() for name, value in letter.headers}
    place = [headers[f"__connect.errors.{name}"] for name in ("topic", "partition", "offset")]
    story = _story(stage, REMEMBERING, ":".join(place))
    assert story["rejected"]["reason"] == headers["headrace.errors.code"] == "missing_field"
    assert story["dead_letter"]["at"]["offset"] == letter.offset
    assert (story["published"], story["score"]) == (None, None)


def test_what_a_learner_knew_is_in_the_story(stage: Stage) -> None:
    outcomes = stage.create(f"outcomes-{stage.topic}", 3)
    labels = stage.create(f"{stage.topic}-labels", PARTITIONS)
    producer = confluent_kafka.Producer({"bootstrap.servers": stage.address, "log_level": 0})
    worker = stage.worker(pipeline=LEARNING, topic_outcomes=outcomes)
    worker.start()
    worker.wait_until_ready()

    def send(topic: str, **fields: Any) -> None:
        producer.produce(topic, json.dumps(fields).encode(), b"c1", partition=3)

    at = 1_767_225_600.0
    for number in range(60):
        send(stage.topic, id=f"a{number}", at=at + 0.1 * number, card="c1", amount=float(number % 9), country="FR")
    producer.flush(10)
    stage.wait_until(lambda: len(_records(stage, stage.predictions, 3)) == 60, lambda: "not scored")
    for number in range(0, 60, 2):
        send(labels, id=f"a{number}", at=at + 7.0, card="c1", label=number % 9 > 4)
    producer.flush(10)
    stage.wait_until(lambda: len(_records(stage, outcomes, 3)) >= 30, lambda: "not learned")
    send(stage.topic, id="b", at=at + 8.0, card="c1", amount=8.0, country="FR")
    producer.flush(10)
    stage.wait_until(lambda: len(_records(stage, stage.predictions, 3)) == 61, lambda: "not scored")

    more = ("--set", f"topic_outcomes={outcomes}")
    story = _story(stage, LEARNING, "b", *more)
    assert story["same_bits"] is True
    assert story["online"] not in (None, 0.5)
    assert 0.0 < story["weight"] < 1.0
    assert story["past"][0]["events"] == 60
    early = _story(stage, LEARNING, "a4", *more)
    assert early["same_bits"] is True
    assert (early["online"], early["weight"]) == (0.5, 0.0)
    # On a slow machine its time is up before the label comes, which then revises that.
    assert {one["value"]["by"] for one in early["outcomes"]} & {"label", "timeout"}
