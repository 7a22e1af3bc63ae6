"""Workers that die, that come back from the dead, and commits of which nobody knows what became."""

import random
import time

import pytest
from faults.nemesis import Nemesis
from faults.proxy import END_TXN, PRODUCE
from faults.stage import SETTINGS, Stage

pytestmark = [pytest.mark.broker, pytest.mark.alone]


def test_f01_a_worker_killed_between_produce_and_commit_leaves_nothing_that_anybody_can_read(
    stage: Stage, form
) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(form.of(20_000, 100_000))
    worker = stage.worker(batch_count_max=200, commit_interval_ms=10)
    chance = random.Random(stage.seed)
    for _ in range(form.of(3, 20)):
        worker.start(HEADRACE_FAILPOINT=f"before_commit:{chance.randint(1, 4)}")
        assert worker.wait() == -9, worker.tail
        # The offsets are in the transaction by then; outputs that were still on their way died with the process.
        assert stage.pending_offsets(), "it died outside of a transaction"
        assert stage.committed_events() < ledger.outputs
        assert stage.visible() == stage.committed_events()
    worker.start()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


def test_f03_three_workers_under_random_kill_9_come_back_within_the_session_timeout_and_five_seconds(
    stage: Stage, form
) -> None:
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    workers = [stage.worker(name).start() for name in ("one", "two", "three")]
    for worker in workers:
        worker.wait_until_ready()
    generator.start(form.of(20_000, 100_000), rate=1_000)
    nemesis = Nemesis(workers, seed=stage.seed, pause_max=6)
    nemesis.rage(until=lambda: not generator.running, actions=("kill",))
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    seen = stage.judge(ledger)
    limit = int(SETTINGS["session_timeout_ms"]) / 1_000 + 5
    worst = nemesis.silences(live.tally)[:1]
    assert seen.outputs
    assert not worst or worst[0][0] <= limit, f"{worst[0][1]}, allowed {limit:.0f} s"


def test_f04_a_worker_that_wakes_up_after_its_partitions_have_moved_writes_nothing_that_counts(
    stage: Stage, form
) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    generator.send(form.of(6_000, 50_000))
    # Its transaction stays open while it sleeps: it has to be refused for its place in the group, not for its age.
    zombie = stage.worker("zombie", transaction_timeout_ms=60_000, batch_count_max=100, commit_interval_ms=1_000)
    zombie.start().wait_until_ready()
    generator.start(form.of(6_000, 50_000), rate=2_000)
    _pause_in_a_transaction(stage, zombie)
    stopped_at = stage.committed_events()
    heir = stage.worker("heir").start()
    ledger = generator.join()
    stage.wait_until(
        lambda: stage.committed_events() == ledger.outputs,
        lambda: f"the heir did not take over: {stage.committed_events()} of {ledger.outputs}, {stopped_at} before",
    )
    zombie.resume()
    generator.start(1_000, rate=1_000)
    generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert heir.alive
    assert zombie.alive or zombie.exit_code == 5, f"a zombie rejoins or says FENCED:\n{zombie.tail}"


def _pause_in_a_transaction(stage: Stage, worker) -> None:
    for _ in range(200):
        worker.pause()
        # With its offsets pending too, Kafka itself makes the heir wait until the transaction has timed out, and
        # then it is its age for which the zombie is refused.
        if stage.open_transactions() and not stage.pending_offsets():
            return
        worker.resume()
        time.sleep(0.02)
    raise AssertionError("the worker was never caught in a transaction")


@pytest.mark.parametrize("close_too", [True, False], ids=["connection lost", "answer lost"])
def test_f10_a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten(
    stage: Stage, broker, form, close_too: bool
) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(broker=broker.proxy.address, batch_count_max=500).start()
    worker.wait_until_ready()
    generator.start(1_000_000, rate=1_000)
    before = broker.proxy.dropped
    for _ in range(form.of(2, 10)):
        passed = broker.proxy.seen.get(END_TXN, 0)
        stage.wait_until(
            lambda passed=passed: broker.proxy.seen.get(END_TXN, 0) > passed + 3,
            lambda: "no transaction was ended",
        )
        dropped = broker.proxy.dropped
        broker.proxy.drop_responses(END_TXN, 1, close_too=close_too)
        stage.wait_until(lambda dropped=dropped: broker.proxy.dropped > dropped, lambda: "no answer was dropped")
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert broker.proxy.dropped > before


def test_at_least_once_a_send_whose_answer_is_lost_is_repeated_and_published_once(stage: Stage, broker, form) -> None:
    # No transaction hides a repetition here: it is the broker that drops it.
    generator = stage.generator()
    stage.watch(generator.ledger)
    # An answer that is taken away is one of a worker: the generator goes to the broker itself.
    worker = stage.worker(broker=broker.proxy.address, guarantee="at-least-once").start().wait_until_ready()
    generator.start(1_000_000, rate=1_000)
    for _ in range(form.of(2, 10)):
        dropped = broker.proxy.dropped
        broker.proxy.drop_responses(PRODUCE, 1, close_too=True)
        stage.wait_until(lambda dropped=dropped: broker.proxy.dropped > dropped, lambda: "no answer was dropped")
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert worker.alive, worker.tail
