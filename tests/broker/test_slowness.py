"""Everything that takes too long: the model, the commit, the network."""

import pytest
from faults.generator import SLOW_AMOUNT
from faults.stage import Stage

pytestmark = [pytest.mark.broker, pytest.mark.alone]


def test_f05_a_transaction_that_outlives_its_timeout_is_done_again_and_ends(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(transaction_timeout_ms=2_000, batch_count_max=500, commit_interval_ms=10)
    worker.start(HEADRACE_FAILPOINT_SLEEP="before_commit:3:5").wait_until_ready()
    generator.start(form.of(6_000, 100_000), rate=2_000)
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


def test_f05_a_model_too_slow_for_a_whole_batch_in_one_transaction_still_gets_on(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    generator.send(form.of(1_000, 50_000))
    generator.send(80, amount=SLOW_AMOUNT)  # eight seconds in one batch, four times what a transaction may last
    generator.send(form.of(1_000, 50_000))
    worker = stage.worker(transaction_timeout_ms=2_000, env={"FAULTS_SLOW_SECONDS": "0.1"}).start()
    worker.wait_until_ready()
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


def test_f05_a_step_that_outlasts_the_transaction_of_those_before_it_gets_one_of_its_own(
    broker, tmp_path, seed, form
) -> None:
    print(f"HEADRACE_SEED={seed}")
    # The broker looks for transactions that have timed out every ten seconds, and however small a step gets, the
    # event in it takes longer than that.
    slow = {"env": {"FAULTS_SLOW_SECONDS": "12.5"}, "transaction_timeout_ms": 2_000, "batch_count_max": 100}
    with Stage(broker.address, tmp_path, seed=seed, partitions=1) as stage:
        generator = stage.generator()
        generator.send(150)
        generator.send(1, amount=SLOW_AMOUNT)
        ledger = generator.send(form.of(150, 10_000))
        worker = stage.worker(**slow).start()
        stage.judge(ledger)
        assert worker.output.count("commit failed") in (1, 2), worker.tail


def test_f20_a_slow_network_to_the_broker_makes_the_worker_wait_and_not_drop_or_grow(
    stage: Stage, broker, form
) -> None:
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    broker.proxy.throttle(1_000_000)
    worker = stage.worker(
        broker=broker.proxy.address,
        kafka__queue__buffering__max__messages=1_000,
        transaction_timeout_ms=30_000,
    )
    worker.start().wait_until_ready()
    before = worker.footprint
    ledger = generator.send(form.of(30_000, 200_000))
    looks = []

    def done() -> bool:
        looks.append(worker.footprint)
        return live.seen(ledger.outputs)

    stage.wait_until(done, lambda: f"only {live.tally.outputs} of {ledger.outputs} came through", 240)
    stage.judge(ledger)
    assert len(looks) > 10, "the network was not slow enough to see anything"
    grown = max(look.rss_kb for look in looks if look) - before.rss_kb
    assert grown < 100_000, f"the worker grew by {grown} kB while it waited"
    assert "BufferError" not in worker.output, worker.tail
