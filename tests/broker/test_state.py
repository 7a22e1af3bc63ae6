"""What features remember is what was committed, after kills, rebalances and lost files; else it is refused."""

import random
import shutil
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import pytest
from faults import recount
from faults.nemesis import POINTS, SOMEWHERE, Nemesis
from faults.stage import PARTITIONS, Stage

pytestmark = pytest.mark.broker
REMEMBERING = Path(recount.__file__).with_name("remembering.py")
ALTERED = Path(recount.__file__).with_name("altered.py")


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


def test_twenty_kills_and_five_rebalances_leave_every_score_as_one_process_counts_it(stage: Stage, form) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    # Snapshots come every few hundred events instead of every hundred thousand, or no kill would meet one.
    altered = {"pipeline": ALTERED, "env": {"FAULTS_ALTERED": "hasty"}, "batch_count_max": 100}
    workers = [stage.worker(name, **altered) for name in ("one", "two", "three")]
    generator.start(1_000_000, rate=600)
    kills, moves = form.of(6, 20), []
    points = list(islice(cycle([*POINTS, SOMEWHERE]), kills))
    random.Random(stage.seed).shuffle(points)

    def meanwhile(deaths: int) -> None:
        """Let a guest come, and go, between the deaths."""
        if deaths % form.of(3, 4):
            return
        if not moves or not moves[-1].alive:
            moves.append(stage.worker(f"guest-{deaths}", **altered).start().wait_until_ready())
        else:
            moves.append(moves[-1])
            moves[-1].terminate()
            assert moves[-1].wait() == 0, moves[-1].tail

    nemesis = Nemesis(workers, seed=stage.seed, pause_max=8)
    nemesis.hunt(points, meanwhile=meanwhile)
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    assert Counter(blow.what for blow in nemesis.blows) >= Counter(points), "a point was not reached"
    assert len(moves) >= form.of(2, 5)
    _assert_same_as_recounted(stage)


@pytest.mark.parametrize("flaw", ["forgetful", "stubborn"])
def test_a_memory_that_is_wrong_is_found_out_by_the_recount(stage: Stage, flaw: str) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(2_000)
    worker = stage.worker(pipeline=ALTERED, env={"FAULTS_ALTERED": flaw}, batch_count_max=100, commit_interval_ms=10)
    worker.start()
    stage.wait_for(ledger.outputs)
    if flaw == "forgetful":
        worker.kill()
        worker.start()
    generator.send(2_000)
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)  # nothing is lost, and nothing doubled: it is the scores alone that are wrong
    assert recount.differences(stage.address, stage.topic, stage.predictions, partitions=PARTITIONS, predicted_in=3)


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
