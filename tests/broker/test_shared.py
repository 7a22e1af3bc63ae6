"""One learner for the whole stream: learned by one worker at a time, each lesson once, and the same for all."""

import itertools
import json
import random
import time
from pathlib import Path

import confluent_kafka
import pytest
from aiokafka import TopicPartition
from faults import fold as folding
from faults import reader
from faults.labeller import Labeller
from faults.stage import PARTITIONS, Stage

from headrace.models import snapshot
from headrace.models.lessons import UNTAUGHT, Lessons, Version
from headrace.stream.state import Found

pytestmark = pytest.mark.broker
LEARNING = Path(folding.__file__).with_name("learning.py")


def _records(stage: Stage, topic: str) -> list:
    return reader.records(stage.address, {TopicPartition(topic, 0): 0}, isolation="read_committed")


def _lessons(stage: Stage) -> list[tuple[Lessons, float]]:
    """Every lesson, in the order in which they lie, and when it was written."""
    found = []
    for record in _records(stage, f"{stage.group}-lessons"):
        said = snapshot.decode(record.value)
        lessons = Lessons(said["ids"], said["features"], said["labels"], said["at"])
        for row in range(lessons.size):
            some = slice(row, row + 1)
            found.append((Lessons._make(column[some] for column in lessons), record.timestamp / 1_000))
    return found


def _told(stage: Stage):
    """What was told last of the learner."""
    found = Found()
    for record in _records(stage, f"{stage.group}-learner"):
        found.take(record.key, record.value)
    return found.snapshot() if found.head else None


def _tellings(stage: Stage) -> int:
    """How often something was told of the learner."""
    return sum(record.key == b"h" for record in _records(stage, f"{stage.group}-learner"))


def _staleness(stage: Stage, topic: str) -> list[dict]:
    places = {TopicPartition(topic, one): 0 for one in range(3)}
    found = reader.records(stage.address, places, isolation="read_committed")
    reports = sorted((one.timestamp, json.loads(one.value)) for one in found if one.key.endswith(b"-all-shared"))
    return [report for _, report in reports]


def _used(stage: Stage, partition: int) -> list[tuple[Version, dict]]:
    """Every step of a partition with events in it: which learner it was scored with, and what came of it."""
    version, steps = UNTAUGHT, []
    for change in folding.changes(stage.address, stage.state_topic, partition):
        for part in change:
            version = Version(*part["learner"]) if "learner" in part else version
            if "scored" in part:
                steps.append((version, part["scored"]))
    return steps


def test_one_learner_survives_the_death_of_everybody_who_taught_it(stage: Stage, form) -> None:
    outcomes, quality = stage.create(f"outcomes-{stage.topic}", 3), stage.create(f"quality-{stage.topic}", 3)
    stage.create(f"{stage.topic}-labels", PARTITIONS)
    for name in ("lessons", "learner", "learner-state"):
        stage.adopt(f"{stage.group}-{name}")
    generator = stage.generator()
    stage.watch(generator.ledger)
    labeller = Labeller(stage.address, stage.topic, PARTITIONS, seed=stage.seed)
    labeller.start()
    altered = {
        "pipeline": LEARNING,
        "env": {"FAULTS_LEARNER": "shared"},
        "topic_outcomes": outcomes,
        "topic_quality": quality,
        "learner_interval_ms": 100,
    }
    workers = [stage.worker(name, **altered).start() for name in ("one", "two", "three")]
    for worker in workers:
        worker.wait_until_ready()
    generator.start(1_000_000, rate=form.of(100, 1_000))

    def learn_for_a_while() -> None:
        wanted = _tellings(stage) + 8
        stage.wait_until(lambda: _tellings(stage) >= wanted, lambda: "nothing is told of the learner any more")

    learn_for_a_while()
    chance = random.Random(stage.seed)
    # Each in turn, so that whoever learns is hit too, and whoever learns next.
    for worker in itertools.islice(itertools.cycle(workers), form.of(3, 12)):
        time.sleep(chance.uniform(2, 5))
        worker.kill()
        time.sleep(chance.random())
        worker.start().wait_until_ready()
        learn_for_a_while()
    ledger = generator.stop()
    count = ledger.outputs
    stage.wait_for(count)
    stage.wait_until(lambda: labeller.read >= count, lambda: f"the labeller has read {labeller.read} of {count}")
    labeller.stop()

    def known() -> int:
        told = _told(stage)
        return told["version"][1] if told else 0

    def missing() -> str:
        taught = {one for some, _ in _lessons(stage) for one in some.ids}
        told = folding.published(stage.address, outcomes, 3)
        first = {
            one for one, rows in told.items() if any(b'"by":"label"' in row or b'"timeout"' in row for row in rows)
        }
        scored = {one for at in range(PARTITIONS) for _, part in _used(stage, at) for one in part["ids"]}
        made = set(folding.published(stage.address, stage.predictions, 3))
        return (
            f"of {count} events {known()} are in the learner that was told, {len(taught)} in the lessons, {len(first)} "
            f"in the outcomes, {len(scored)} in the changelog; predicted, and not in the changelog: "
            f"{sorted(made - scored)[:5]}; there, and without an outcome: {sorted(scored - first)[:5]}; "
            f"with an outcome, and without a lesson: {sorted(first - taught)[:5]}"
        )

    stage.wait_until(lambda: known() == count, missing, seconds_max=60)
    stage.settle()
    stage.verdict(ledger)

    # Every event teaches once, and the learner is what a fresh one becomes that is fed with the lessons in order.
    lessons = _lessons(stage)
    ids = [one for some, _ in lessons for one in some.ids]
    made = folding.published(stage.address, stage.predictions, 3)
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == sorted(made)
    pipeline = stage.load(LEARNING, FAULTS_LEARNER="shared").pipeline
    steps = {partition: _used(stage, partition) for partition in range(PARTITIONS)}
    kept = {one for some in steps.values() for _, scored in some for one in scored["ids"]}
    assert not set(made) - kept, f"the changelog lacks steps, and what else they said: {sorted(set(made) - kept)[:9]}"
    needed = {version.lessons for some in steps.values() for version, _ in some}
    trained, learners = pipeline.trained(), {0: pipeline.trained().learner}
    for number, (some, wrote) in enumerate(lessons, start=1):
        trained.learn(some, wrote)
        if number in needed:
            held = pipeline.trained()
            held.load(snapshot.decode(snapshot.encode(trained.dump())))
            learners[number] = held.learner
    assert snapshot.encode(_told(stage)) == snapshot.encode(trained.dump())

    # Every score is that of the learner which the changelog says was in use, and that was never an older one.
    for partition, some in steps.items():
        assert [version for version, _ in some] == sorted(version for version, _ in some)
        assert {version.born for version, _ in some} <= {0.0, trained.version.born}
        for version, scored in some:
            columns = {name: scored["features"][:, at].copy() for at, name in enumerate(pipeline.features)}
            want = learners[version.lessons].predict(columns).tolist()
            assert scored["online"].tolist() == want, f"partition {partition} with {version}"
            for one, score in zip(scored["ids"], want, strict=True):
                (value,) = made[one]
                assert json.loads(value)["online"] == score
    assert len(needed) > 5, "it was told again and again"

    # All workers come to the same learner, on every partition.
    at = 1.7e9 + count * 0.01 + 20  # their time is not up before they were looked at
    numbers, producer = itertools.count(), confluent_kafka.Producer({"bootstrap.servers": stage.address})

    def converged() -> bool:
        for partition in range(PARTITIONS):
            event = {"id": f"late-{partition}-{next(numbers)}", "at": at, "card": "late", "amount": 5.0}
            producer.produce(stage.topic, json.dumps({**event, "country": "FR"}), "late", partition)
        producer.flush(10)
        return {_used(stage, one)[-1][0] for one in range(PARTITIONS)} == {trained.version}

    stage.wait_until(converged, lambda: "the partitions are scored with different learners", seconds_max=14)
    reports = [one["recent"] for one in _staleness(stage, quality)]
    assert any(one["behind_lessons"] is not None for one in reports)
    for one in reports:
        print({name: None if value is None else round(value, 3) for name, value in one.items()})
    for worker in workers:
        worker.terminate()
        assert worker.wait() == 0, worker.tail
