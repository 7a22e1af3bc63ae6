"""Alerts on their way to webhooks, on the real broker: what is committed arrives, and what was aborted does not."""

from collections.abc import Iterable

import confluent_kafka
import msgspec
import pytest
from aiokafka import TopicPartition
from core.hooks import Hook
from faults import reader
from faults.stage import SETTINGS, Stage
from faults.worker import Worker, headrace

from headrace.schemas.alert import Alert, AlertState

pytestmark = pytest.mark.broker


def _publish(stage: Stage, topic: str, transactions: Iterable[tuple[str, bool]]) -> list[str]:
    """Publish the life of an alert for each name, in a transaction of its own; return the keys of the committed."""
    producer = confluent_kafka.Producer({"bootstrap.servers": stage.address, "transactional.id": f"{topic}-monitor"})
    producer.init_transactions(30)
    keys = []
    for name, commit in transactions:
        producer.begin_transaction()
        for at, state in enumerate(AlertState):
            alert = Alert(id=name, at=float(at), kind="drift", state=state, text="amount moved")
            producer.produce(topic, msgspec.json.encode(alert), name)
            keys += [f"{name}/{state}/{float(at)}"] if commit else []
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    return keys


def _alerts(stage: Stage, name: str, topic: str, *urls: str) -> Worker:
    options = {
        "session_timeout_ms": SETTINGS["session_timeout_ms"],
        "topic_alerts": topic,
        "alert_networks": "127.0.0.1",
        "alert_pause_max_ms": "300",
        "allow_insecure": "true",
    }
    command = ["alerts", "--broker", stage.address, "--group", stage.group]
    command += [word for url in urls for word in ("--webhook", url)]
    command += [word for option, value in options.items() for word in ("--set", f"{option}={value}")]
    return stage.process(name, headrace(*command))


def _at_end(stage: Stage, topic: str) -> bool:
    ends = {place: end for place, end in reader.ends(stage.address, [topic]).items() if end}
    committed = reader.committed(stage.address, f"{stage.group}-alerts")
    return all(committed.get(TopicPartition(*place)) == end for place, end in ends.items())


def test_f48_a_webhook_is_down_and_then_everything_arrives_while_scoring_goes_on(stage: Stage) -> None:
    """Flow: one webhook is down and one is well, a worker scores. The forwarder is killed, comes back as two, and one
    of those is told to stop; then the webhook comes back. Any alert that is missing, out of order within its id, or
    of an aborted transaction is failure, and so is anything about the scores.
    """
    topic = stage.create(f"{stage.alerts}-3", 3)
    generator = stage.generator()
    stage.watch(generator.ledger)
    stage.worker().start().wait_until_ready()
    with Hook(lambda _got, _place: 503) as down, Hook() as well:
        forwarders = [_alerts(stage, f"alerts-{place}", topic, down.url, well.url) for place in range(2)]
        forwarders[0].start()
        keys = _publish(stage, topic, [(f"a{place}", place % 3 != 0) for place in range(30)])
        stage.wait_until(lambda: set(well.keys) >= set(keys), lambda: f"{len(set(well.keys))} of {len(keys)} came")
        stage.wait_until(lambda: len(down.got) > 3, lambda: "nobody tried the webhook that is down")
        ledger = generator.send(5_000)
        forwarders[0].kill()
        forwarders[0].start()
        forwarders[1].start().wait_for_line(r"has the partitions \[\d")
        keys += _publish(stage, topic, [(f"b{place}", place % 3 != 0) for place in range(30)])
        stage.wait_until(lambda: set(well.keys) >= set(keys), lambda: f"{len(set(well.keys))} of {len(keys)} came")
        forwarders[1].terminate()
        assert forwarders[1].wait() == 0, forwarders[1].tail
        # All of it is scored while the webhook is down.
        stage.wait_for(ledger.outputs)
        stage.judge(ledger)
        assert not down.accepted
        down.answer = lambda _got, _place: 200
        stage.wait_until(lambda: set(down.keys) >= set(keys), lambda: f"{len(set(down.keys))} of {len(keys)} came")
        stage.wait_until(lambda: _at_end(stage, topic), lambda: "the group did not reach the end of the alerts")
        forwarders[0].terminate()
        assert forwarders[0].wait() == 0, forwarders[0].tail
        for hook in (down, well):
            assert set(hook.keys) == set(keys), "what was aborted is no alert"
            for name in {key.split("/")[0] for key in keys}:
                first = dict.fromkeys(key.split("/")[1] for key in hook.keys if key.startswith(f"{name}/"))
                assert list(first) == list(AlertState)
        assert "hunter2" not in stage.tails
