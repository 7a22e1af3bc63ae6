"""The judge is fair: it passes a worker that is right, and fails every one that is wrong."""

import random
import sys
import time
from pathlib import Path

import faults
import pytest
from faults.stage import Stage
from faults.verifier import Unfaithful

pytestmark = pytest.mark.broker

STOCK = Path(faults.__file__).with_name("stock.py")


def test_a_correct_loop_passes_under_kill_9(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    workers = [stage.worker(name, reference=True, batch_count_max=200).start() for name in ("one", "two")]
    for worker in workers:
        worker.wait_until_ready()
    generator.start(form.of(8_000, 100_000), rate=2_000)
    chance = random.Random(stage.seed)
    for _ in range(2):
        time.sleep(chance.random())
        victim = chance.choice(workers)
        victim.kill()
        victim.start()
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


@pytest.mark.parametrize("flaw", ["offsets-first", "outside"])
def test_a_loop_that_is_wrong_is_found_out_under_kill_9(stage: Stage, flaw: str) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    generator.send(6_000)
    settings = {"reference": True, "flaw": flaw, "batch_count_max": 200, "commit_interval_ms": 0}
    worker = stage.worker(**settings).start(HEADRACE_FAILPOINT="before_commit:3")
    assert worker.wait() == -9
    worker.start()
    stage.settle()
    with pytest.raises(Unfaithful) as found:
        stage.verdict(generator.ledger)
    verdict = {"offsets-first": "predictions lost", "outside": "predictions doubled"}[flaw]
    assert verdict in str(found.value)


def test_stock_faust_with_its_own_exactly_once_is_found_out_under_kill_9(stage: Stage) -> None:
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    program = {
        "FAULTS_BROKER": stage.address,
        "FAULTS_GROUP": stage.group,
        "FAULTS_PREDICTIONS": stage.predictions,
        "PYTHONPATH": str(STOCK.parent),
    }
    command = [sys.executable, "-m", "faust", "-A", STOCK.stem, "worker", "-l", "info"]
    worker = stage.process("stock", command, program)
    generator.start(1_000_000, rate=500)
    for _ in range(2):
        worker.start().wait_for_line("Ready")
        stage.wait_for(live.tally.outputs + 500)
        worker.kill()
    ledger = generator.stop()
    worker.start()
    stage.settle()
    with pytest.raises(Unfaithful) as found:
        stage.verdict(ledger)
    assert "doubled" in str(found.value) or "lost" in str(found.value)
