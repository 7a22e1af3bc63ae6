"""SIGTERM: a worker that is told to go drains, commits, leaves, and says that all went well."""

import time

import pytest
from faults import reader
from faults.generator import SLOW_AMOUNT
from faults.stage import Stage

pytestmark = pytest.mark.broker


def test_f14_sigterm_under_load_leaves_nothing_half_done(stage: Stage, form) -> None:
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    worker = stage.worker(batch_count_max=500).start().wait_until_ready()
    generator.start(form.of(12_000, 100_000), rate=3_000)
    for _ in range(form.of(2, 10)):
        seen = live.tally.outputs
        stage.wait_for(seen + 1_000)
        worker.terminate()
        assert worker.wait(30) == 0, worker.tail
        assert not stage.open_transactions()
        assert reader.members(stage.address, stage.group) == 0, "it did not leave the group"
        assert stage.visible() == stage.committed_events(), "an output without its offset would be made again"
        worker.start().wait_until_ready()
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


def test_f14_a_second_sigterm_ends_a_worker_that_is_stuck_in_its_model_at_once(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(env={"FAULTS_SLOW_SECONDS": "25"}).start().wait_until_ready()
    generator.send(500)
    stage.wait_for(500)
    generator.send(1, amount=SLOW_AMOUNT)
    time.sleep(1)
    worker.terminate()
    time.sleep(1)
    assert worker.alive, f"it has a batch to finish: {worker.exit_code}\n{worker.tail}"
    worker.terminate()
    assert worker.wait(15) == 1, worker.tail
    _start_again_and_judge(stage, generator)


def test_f14_a_drain_that_takes_longer_than_allowed_ends_with_1_and_loses_nothing(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(drain_timeout_ms=1_000, env={"FAULTS_SLOW_SECONDS": "25"}).start().wait_until_ready()
    generator.send(500)
    stage.wait_for(500)
    generator.send(1, amount=SLOW_AMOUNT)
    time.sleep(1)
    worker.terminate()
    assert worker.wait(15) == 1, worker.tail
    _start_again_and_judge(stage, generator)


def _start_again_and_judge(stage: Stage, generator) -> None:
    stage.worker(env={"FAULTS_SLOW_SECONDS": "0"}).start()
    ledger = generator.send(500)
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
