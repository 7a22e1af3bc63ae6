"""What producers write: aborted transactions, records that cannot be scored, answers that do not fit."""

import pytest
from faults.generator import RAISE_AMOUNT
from faults.ledger import Fate
from faults.poison import KINDS, LARGE_KINDS
from faults.stage import Stage

pytestmark = pytest.mark.broker


def test_f15_aborted_transactions_in_the_input_are_never_scored_and_leave_no_lag(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    stage.worker("one").start().wait_until_ready()
    stage.worker("two").start()
    ledger = generator.send_in_transactions(form.of(12_000, 100_000), aborted=0.3)
    stage.judge(ledger)
    assert ledger.count(Fate.HIDDEN) > 0


def test_f21_an_answer_too_large_for_its_topic_is_a_dead_letter_and_spoils_no_other(
    broker, tmp_path, seed, form
) -> None:
    print(f"HEADRACE_SEED={seed}")
    limit = {"max.message.bytes": "65536"}
    with Stage(broker.address, tmp_path, seed=seed, predictions_config=limit) as stage:
        generator = stage.generator(settings={"message.max.bytes": 4_000_000})
        stage.watch(generator.ledger)
        for _ in range(form.of(3, 10)):
            generator.send(form.of(1_000, 10_000))
            generator.send(4, padding=100_000, dead="output_too_large")
        ledger = generator.send(form.of(1_000, 10_000))
        stage.worker().start().wait_until_ready()
        stage.wait_for(ledger.outputs)
        stage.judge(ledger)


def test_f23_each_kind_of_unusable_record_is_a_dead_letter_with_its_own_reason(stage: Stage, form) -> None:
    generator = stage.generator(settings={"message.max.bytes": 4_000_000})
    stage.watch(generator.ledger)
    stage.worker().start().wait_until_ready()
    generator.send(form.of(4_000, 60_000), poison=KINDS, poison_every=20)
    generator.send(20, poison=LARGE_KINDS, poison_every=5)
    generator.send(3, amount=RAISE_AMOUNT, dead="feature_failed")
    ledger = generator.send(form.of(1_000, 40_000))
    stage.wait_for(ledger.outputs)
    seen = stage.judge(ledger)
    assert {ledger.poisons[name].kind for name in ledger.poisons} == {*KINDS, *LARGE_KINDS, "event"}
    assert sum(map(sum, seen.dead)) == len(ledger.poisons)
