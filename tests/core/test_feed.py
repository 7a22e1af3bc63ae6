"""``headrace demo --produce-only`` publishes what an example's workers can use, also when it starts again."""

import json
import subprocess
import sys
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from headrace.stream.broker import EmbeddedBroker

DAY_SECONDS = 86_400


def _feed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace.stream.cli", "demo", "--produce-only", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _records(address: str, topic: str, count: int) -> list[dict[str, Any]]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "log_level": 0})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(4)])
    found: list[dict[str, Any]] = []
    while len(found) < count:
        (message,) = consumer.consume(1, 30)
        record = json.loads(message.value())
        assert message.key().decode() == record["card"]
        found.append(record)
    assert not consumer.consume(1, 0.5), "there are more than were told"
    consumer.close()
    return found


def test_a_feed_ends_after_so_many_events_and_a_second_one_goes_on_after_the_first() -> None:
    with EmbeddedBroker() as broker:
        given = ("--broker", broker.address, "--events", "5000", "--rate", "10000", "--json")
        told = []
        for _ in range(2):
            done = _feed(*given)
            assert done.returncode == 0, done.stderr
            told.append(json.loads(done.stdout))
        assert all(one["events"] == 5_000 and one["labels"] > 500 and one["changed"] for one in told)
        events = _records(broker.address, "transactions", 10_000)
        labels = _records(broker.address, "labels", sum(one["labels"] for one in told))
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_run.setdefault(event["id"].split("-")[0], []).append(event)
    times = sorted([min(one["at"] for one in run), max(one["at"] for one in run)] for run in by_run.values())
    (first, last), (next_first, _) = times
    assert last < next_first < last + 2 * DAY_SECONDS
    # In whole days, because at night other things happen than at noon.
    assert abs((next_first - first) % DAY_SECONDS) < 0.01
    at = {event["id"]: event["at"] for event in events}
    assert len(at) == 10_000, "an id came twice"
    assert all(abs(label["at"] - at[label["id"]] - 7 * DAY_SECONDS) < 0.01 for label in labels)


def test_a_rate_of_nothing_is_refused_before_anything_starts() -> None:
    done = _feed("--rate", "0")
    assert done.returncode == 2
    assert "--rate 0: allowed is a whole number above zero" in done.stderr
