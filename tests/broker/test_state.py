"""What features remember is what was committed, after kills, rebalances and lost files; else it is refused."""

import random
import shutil
import time
from pathlib import Path

import pytest
from faults import recount
from faults.nemesis import Nemesis
from faults.stage import PARTITIONS, Stage

pytestmark = pytest.mark.broker
REMEMBERING = Path(recount.__file__).with_name("remembering.py")


def _assert_same_as_recounted(stage: Stage) -> None:
    wrong = recount.differences(stage.address, stage.topic, stage.predictions, partitions=PARTITIONS, predicted_in=3)
    assert not wrong, "\n  ".join(["scores that a recount does not give:", *wrong])


def test_f02_a_worker_killed_around_its_commits_remembers_what_was_committed_and_nothing_else(
    stage: Stage, form
) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(form.of(20_000, 100_000))
    worker = stage.worker(pipeline=REMEMBERING, batch_count_max=200, commit_interval_ms=10)
    chance = random.Random(stage.seed)
    points = ["before_commit", "after_commit", "after_produce"]
    for _ in range(form.of(5, 20)):
        worker.start(HEADRACE_FAILPOINT=f"{chance.choice(points)}:{chance.randint(1, 9)}")
        assert worker.wait() == -9, worker.tail
        if chance.random() < 0.5:  # what it had on disk may be gone, or be there and old
            shutil.rmtree(stage.folder / "state-one", ignore_errors=True)
    worker.start()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    _assert_same_as_recounted(stage)


def test_three_workers_that_are_killed_and_join_again_hand_their_memory_on(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    workers = [stage.worker(name, pipeline=REMEMBERING).start() for name in ("one", "two", "three")]
    for worker in workers:
        worker.wait_until_ready()
    generator.start(form.of(20_000, 100_000), rate=1_000)
    nemesis = Nemesis(workers, seed=stage.seed, pause_max=4)
    nemesis.rage(until=lambda: not generator.running)
    ledger = generator.join()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert nemesis.blows
    _assert_same_as_recounted(stage)


def test_at_least_once_a_killed_worker_counts_nothing_twice(stage: Stage) -> None:
    # A prediction may come twice, its event is remembered once: the last score of each id is the recount's.
    generator = stage.generator()
    ledger = generator.send(10_000)
    worker = stage.worker(pipeline=REMEMBERING, guarantee="at-least-once", batch_count_max=100, commit_interval_ms=50)
    for point in ("after_produce:30", "before_commit:2", "after_commit:2"):
        worker.start(HEADRACE_FAILPOINT=point)
        assert worker.wait() == -9, worker.tail
    worker.start()
    stage.settle()
    assert ledger.outputs == 10_000
    _assert_same_as_recounted(stage)


def test_a_worker_that_was_told_to_stop_goes_on_from_its_own_disk(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(pipeline=REMEMBERING).start()
    generator.send(5_000)
    stage.wait_for(5_000)
    stage.settle()
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    files = sorted((stage.folder / "state-one").rglob("*.state"))
    assert len(files) == PARTITIONS
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)  # F38: one of them is damaged meanwhile
    worker.start()
    generator.send(5_000)
    stage.wait_for(10_000)
    stage.judge(generator.ledger)
    assert "it is put aside as" in worker.output
    _assert_same_as_recounted(stage)


def _run_for_a_while(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    generator.send(3_000)
    worker = stage.worker(pipeline=REMEMBERING).start()
    stage.wait_for(3_000)
    stage.settle()
    worker.kill()
    generator.send(1_000)


def test_f40_a_changelog_that_was_cut_ends_the_worker_with_state_lost_and_loses_nothing_else(stage: Stage) -> None:
    _run_for_a_while(stage)
    for partition in range(PARTITIONS):
        stage.cut(stage.state_topic, partition)
    shutil.rmtree(stage.folder / "state-one", ignore_errors=True)
    before = stage.committed_events()
    worker = stage.worker(pipeline=REMEMBERING).start()
    began = time.monotonic()
    assert worker.wait() == 10, worker.tail
    assert time.monotonic() - began < 60
    last = worker.output.splitlines()[-1]
    assert last.startswith("STATE_LOST: group "), worker.tail
    assert "accept_state_loss=true" in last
    assert stage.committed_events() == before
    worker = stage.worker(pipeline=REMEMBERING, accept_state_loss=True).start()
    stage.wait_for(4_000)
    stage.settle()
    worker.kill()
    stage.worker(pipeline=REMEMBERING).start().wait_until_ready()  # it need not be accepted twice
    stage.generator().send(0)


def test_f17_an_input_that_got_more_partitions_is_refused_by_name(stage: Stage) -> None:
    _run_for_a_while(stage)
    stage.grow(stage.topic, PARTITIONS + 2)
    worker = stage.worker(pipeline=REMEMBERING).start()
    assert worker.wait() == 12, worker.tail
    assert worker.output.splitlines()[-1].startswith(
        f"PARTITIONS_CHANGED: {stage.topic} has 8 partitions, and its state in {stage.state_topic} has 6"
    )
