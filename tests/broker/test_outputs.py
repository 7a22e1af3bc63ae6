"""Output topics that are deleted while the worker runs."""

import pytest
from faults import reader
from faults.ledger import Fate, Ledger
from faults.stage import Stage
from faults.tally import Tally

pytestmark = pytest.mark.broker

END_SECONDS_MAX = 30.0


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_f18_without_the_predictions_topic_a_worker_ends_with_its_name_and_commits_nothing_more(
    stage: Stage, form, guarantee: str
) -> None:
    generator = stage.generator()
    generator.send(form.of(2_000, 50_000))
    worker = stage.worker(guarantee=guarantee).start()
    stage.settle()
    before = stage.committed()
    stage.delete(stage.predictions)
    generator.send(after := form.of(2_000, 50_000))
    assert worker.wait(END_SECONDS_MAX) == 4, worker.tail
    assert f"TOPIC_MISSING: publishing: there is no topic {stage.predictions} on" in worker.output, worker.tail
    assert stage.committed() == before
    stage.create(stage.predictions, 3)
    worker.start()
    stage.settle()
    stage.wait_until_visible(after)


def test_f18_without_the_dead_letters_topic_no_offset_is_committed_past_what_can_be_read(stage: Stage, form) -> None:
    generator = stage.generator()
    worker = stage.worker(batch_count_max=50).start().wait_until_ready()
    generator.start(1_000_000, rate=1_000, poison=("not JSON",), poison_every=100)
    stage.wait_until(lambda: stage.committed_events() > form.of(1_000, 20_000), lambda: "nothing was scored")
    stage.delete(stage.dead_letters)
    assert worker.wait(END_SECONDS_MAX) == 4, worker.tail
    assert f"TOPIC_MISSING: publishing: there is no topic {stage.dead_letters} on" in worker.output, worker.tail
    ledger = generator.stop()
    stage.create(stage.dead_letters, 1)
    committed = {tp.partition: offset for tp, offset in stage.committed().items()}
    assert _scored(stage, ledger) == [
        column[: committed[number]].count(Fate.SCORED) for number, column in enumerate(ledger.fates)
    ]
    worker.start()
    stage.settle()
    assert _scored(stage, ledger) == [column.count(Fate.SCORED) for column in ledger.fates]


def _scored(stage: Stage, ledger: Ledger) -> list[int]:
    """How many predictions a reader of committed data finds, by partition of the input."""
    seen = reader.read(stage.address, Tally(ledger, stage.predictions, stage.dead_letters))
    return [sum(column) for column in seen.scored]


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_f18_a_predictions_topic_that_is_deleted_and_made_again_gets_whatever_comes_then(
    stage: Stage, form, guarantee: str
) -> None:
    generator = stage.generator()
    generator.send(form.of(2_000, 50_000))
    worker = stage.worker(guarantee=guarantee).start()
    stage.settle()
    stage.delete(stage.predictions)
    stage.create(stage.predictions, 3)
    generator.send(after := form.of(2_000, 50_000))
    stage.settle()
    stage.wait_until_visible(after)
    assert worker.alive, worker.tail
