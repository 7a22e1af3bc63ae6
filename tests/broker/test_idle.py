"""A stream on which next to nothing happens."""

import time

import pytest
from faults import reader
from faults.stage import Stage

pytestmark = [pytest.mark.broker, pytest.mark.alone]


def test_f46_an_idle_worker_opens_no_transaction_and_answers_a_lone_event_at_once(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    stage.worker().start().wait_until_ready()
    ledger = generator.send(100)
    stage.wait_for(ledger.outputs)
    stage.settle()
    outputs, internal = [stage.predictions, stage.dead_letters], ["__transaction_state", "__consumer_offsets"]
    time.sleep(1)  # Kafka writes a transaction's last state after it has answered
    ends = reader.ends(stage.address, outputs)
    before = reader.ends(stage.address, internal)
    time.sleep(form.of(5, 60))
    assert reader.ends(stage.address, outputs) == ends, "something was written while nothing happened"
    group = stage.group.encode()
    idle = [record for record in reader.records(stage.address, before) if group in (record.key or b"")]
    assert idle == [], "a transaction or a commit of nothing"
    waits = []
    for _ in range(form.of(10, 60)):
        sent = time.monotonic()
        ledger = generator.send(1)
        stage.wait_for(ledger.outputs)
        waits.append(time.monotonic() - sent)
        time.sleep(0.3)
    assert sorted(waits)[len(waits) // 2] < 0.5, f"a lone event waits: {[round(wait, 3) for wait in waits]}"
    stage.judge(ledger)
