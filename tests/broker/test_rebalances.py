"""Partitions that move: in a storm, in the middle of a batch, and because of a name that two workers share."""

import time

import pytest
from faults.generator import SLOW_AMOUNT
from faults.stage import Stage

pytestmark = pytest.mark.broker


def test_f12_a_storm_of_rebalances_stalls_no_partition_and_turns_no_offset_back(stage: Stage, form) -> None:
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    first = [stage.worker(name).start() for name in ("one", "two")]
    for worker in first:
        worker.wait_until_ready()
    generator.start(form.of(30_000, 400_000), rate=1_000)
    rounds = form.of(4, 20)
    highest: dict = {}
    for turn in range(rounds):
        guest = stage.worker(f"guest-{turn}").start().wait_until_ready()
        _note_offsets(stage, highest)
        time.sleep(form.of(1, 10))
        guest.terminate()
        assert guest.wait() == 0, guest.tail
        _note_offsets(stage, highest)
        time.sleep(form.of(1, 10))
        if not generator.running:
            break
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    _note_offsets(stage, highest)
    stalls = [(end - begin, partition) for partition, begin, end in live.tally.gaps]
    assert not stalls or max(stalls)[0] <= 5, f"partition {max(stalls)[1]} stood still for {max(stalls)[0]:.1f} s"


def _note_offsets(stage: Stage, highest: dict) -> None:
    for partition, offset in stage.committed().items():
        assert offset >= highest.get(partition, 0), f"{partition} went back from {highest[partition]} to {offset}"
        highest[partition] = offset


def test_f13_a_batch_that_is_in_the_model_during_a_rebalance_is_scored_once_however_long_it_takes(
    stage: Stage, form
) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    # The model holds the batch for longer than a consumer may stay away from its group.
    slow = {"env": {"FAULTS_SLOW_SECONDS": "9"}, "kafka__max__poll__interval__ms": 5_000}
    holder = stage.worker("holder", **slow).start().wait_until_ready()
    generator.send(form.of(2_000, 50_000))
    stage.wait_for(1)
    generator.send(1, amount=SLOW_AMOUNT)
    generator.send(form.of(2_000, 50_000))
    time.sleep(1)  # the holder is in the slow batch, or it comes to it during the rebalance: both must do
    other = stage.worker("other", **slow).start()
    generator.send(form.of(2_000, 50_000))
    stage.wait_for(generator.ledger.outputs)
    stage.judge(generator.ledger)
    assert holder.alive, holder.tail
    assert other.alive, other.tail


def test_f19_of_two_workers_with_one_group_instance_id_the_older_one_says_fenced_and_ends(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    older = stage.worker("older", group_instance_id="same").start().wait_until_ready()
    generator.start(form.of(6_000, 50_000), rate=1_000)
    stage.wait_for(1_000)
    newer = stage.worker("newer", group_instance_id="same").start()
    assert older.wait() == 5, older.tail
    assert older.output.splitlines()[-1].startswith("FENCED"), older.tail
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert newer.alive


def test_of_two_workers_with_one_instance_one_says_fenced_and_ends_and_nothing_is_doubled(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    twins = [stage.worker(name, instance="same").start() for name in ("one", "two")]
    generator.start(1_000_000, rate=form.of(500, 2_000))
    stage.wait_until(lambda: not all(twin.alive for twin in twins), lambda: "both live on under one name")
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    ended, other = sorted(twins, key=lambda twin: twin.alive)
    assert ended.exit_code == 5, ended.tail
    assert ended.output.splitlines()[-1].startswith("FENCED"), ended.tail
    assert other.alive
