"""``headrace dlq`` on a real broker: dead letters are counted, shown, and scored again exactly once."""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from faults.stage import PIPELINE, Stage
from faults.worker import headrace

from headrace.schemas.dead_letter import Reason, Rejection, headers

pytestmark = pytest.mark.broker

TRACE = ("traceparent", b"00-1")


class Desk:
    """Dead letters of the scenarios' pipeline, and the command that looks at them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.given = ["--broker", stage.address, "--group", stage.group]
        self.given += ["--set", f"topic_dead_letters={stage.dead_letters}"]

    def put(self, reason: Reason, value: bytes, *, partition: int, offset: int, pipeline: str = "fraud") -> None:
        told = Rejection(0, reason, f"it is {reason}")
        ours = headers(told, topic=self.stage.topic, partition=partition, offset=offset, pipeline=pipeline, version="1")
        producer = confluent_kafka.Producer({"bootstrap.servers": self.stage.address, "log_level": 0})
        producer.produce(self.stage.dead_letters, value, b"card-1", headers=[TRACE, *ours])
        assert producer.flush(30) == 0

    def run(self, *arguments: str, env: dict[str, str] | None = None, code: int = 0) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        done = subprocess.run(
            headrace("dlq", arguments[0], str(PIPELINE), *arguments[1:], *self.given),
            cwd=self.stage.folder,
            env={**inherited, "FAULTS_TOPIC": self.stage.topic, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def waiting(self) -> dict[str, int]:
        rows = map(json.loads, self.run("ls", "--json").splitlines())
        return {row["reason"]: row["not_retried"] for row in rows}

    def events(self) -> list[confluent_kafka.Message]:
        """What a committed reader finds in the input."""
        return list(_read(self.stage))


def _read(stage: Stage) -> Iterator[confluent_kafka.Message]:
    settings = {"bootstrap.servers": stage.address, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"}
    consumer = confluent_kafka.Consumer({**settings, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(stage.topic, number, 0) for number in range(stage.partitions)])
    ended = 0
    while ended < stage.partitions:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is None:
            yield message
        else:
            ended += 1
    consumer.close()


@pytest.fixture
def desk(stage: Stage) -> Desk:
    desk = Desk(stage)
    for number in range(3):
        desk.put(Reason.MISSING_FIELD, b'{"id": "m%d"}' % number, partition=number, offset=10 + number)
    desk.put(Reason.NOT_JSON, b"\xff{", partition=5, offset=7)
    desk.put(Reason.NOT_JSON, b"of another", partition=0, offset=0, pipeline="other")
    return desk


def test_dead_letters_are_counted_by_reason_and_one_is_shown_as_it_came(desk: Desk) -> None:
    assert desk.waiting() == {"missing_field": 3, "not_json": 1}
    shown = desk.run("ls")
    assert shown.startswith("missing_field               3   3 not retried   newest 20")
    assert "[5] offset 7: it is not_json" in shown
    assert "of another" not in shown
    rows = [json.loads(line) for line in desk.run("ls", "--json").splitlines()]
    (place,) = [row["place"] for row in rows if row["reason"] == "not_json"]
    one = json.loads(desk.run("show", place, "--json"))
    assert (one["value"], one["key"], one["source"], one["retries"]) == ("\\xff{", "card-1", [5, 7], 0)
    assert one["headers"]["traceparent"] == "00-1"
    assert "headrace.errors.code: not_json" in desk.run("show", place)
    assert "0:9999: " in desk.run("show", "0:9999", code=13)


def test_a_retry_is_exactly_once_also_when_it_is_killed_before_its_commit(desk: Desk) -> None:
    assert "3 would be retried: missing_field" in desk.run("retry", "--dry-run")
    assert desk.events() == []
    desk.run("retry", "--reason", "missing_field", env={"HEADRACE_FAILPOINT": "before_commit:1"}, code=-signal.SIGKILL)
    assert desk.run("retry", "--reason", "missing_field", "--limit", "2") == "2 retried: missing_field\n"
    assert desk.waiting() == {"missing_field": 1, "not_json": 1}
    assert json.loads(desk.run("retry", "--json")) == {
        "retried": {"missing_field": 1, "not_json": 1},
        "dry_run": False,
    }
    assert "nothing to retry" in desk.run("retry")
    assert desk.waiting() == {"missing_field": 0, "not_json": 0}

    found = {message.value(): message for message in desk.events()}
    assert len(desk.events()) == len(found) == 4
    assert {value: message.partition() for value, message in found.items()} == {
        b'{"id": "m0"}': 0,
        b'{"id": "m1"}': 1,
        b'{"id": "m2"}': 2,
        b"\xff{": 5,
    }
    for message in found.values():
        assert message.key() == b"card-1"
        assert message.headers() == [TRACE, ("headrace.retries", b"1")]


def test_a_letter_that_fails_again_is_counted_again_and_says_how_often(desk: Desk) -> None:
    desk.run("retry", "--reason", "not_json")
    worker = desk.stage.worker().start().wait_until_ready()
    desk.stage.settle()
    worker.terminate()
    assert worker.wait() == 0
    assert desk.waiting()["not_json"] == 1
    place = [json.loads(line) for line in desk.run("ls", "--json").splitlines()]
    (place,) = [row["place"] for row in place if row["reason"] == "not_json"]
    one = json.loads(desk.run("show", place, "--json"))
    assert one["retries"] == 1
    assert one["headers"]["headrace.retries"] == "1"
    assert one["value"] == "\\xff{"


def test_a_reason_that_is_none_is_told(stage: Stage) -> None:
    told = Desk(stage).run("retry", "--reason", "bad", code=2)
    assert "--reason bad: allowed are empty_value" in told


def test_a_topic_that_is_not_there_is_told(stage: Stage, tmp_path: Path) -> None:
    desk = Desk(stage)
    desk.given += ["--set", "topic_dead_letters=nowhere"]
    assert desk.run("ls", code=4).startswith("TOPIC_MISSING")
