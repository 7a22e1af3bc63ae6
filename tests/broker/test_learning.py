"""What is learned is what was committed, in the order in which it was: after kills and rebalances too."""

import json
import random
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import confluent_kafka
import pytest
from faults import fold as folding
from faults import reader
from faults.labeller import Labeller
from faults.nemesis import POINTS, SOMEWHERE, Nemesis
from faults.stage import PARTITIONS, Stage
from river import datasets, linear_model, metrics, optim, preprocessing

from headrace.models import snapshot

pytestmark = [pytest.mark.broker, pytest.mark.alone]
LEARNING = Path(folding.__file__).with_name("learning.py")
PHISHING = Path(folding.__file__).with_name("phishing.py")


def _prepare(stage: Stage) -> str:
    stage.create(f"{stage.topic}-labels", PARTITIONS)
    return stage.create(f"outcomes-{stage.topic}", 3)


def _settle(stage: Stage, labeller: Labeller, events: int, known: int, outcomes: str) -> None:
    """Wait until everybody has said everything, and every event's time is up."""
    stage.wait_until(lambda: labeller.read >= events, lambda: f"the labeller has read {labeller.read}")
    labeller.stop()
    places = reader.ends(stage.address, [f"{stage.topic}-labels"])
    stage.wait_until(
        lambda: all(stage.committed().get(place, 0) == end for place, end in places.items() if end),
        lambda: f"the labels end at {places}, and {stage.committed()} is committed",
    )
    stage.wait_until(
        lambda: len(folding.published(stage.address, outcomes, 3)) >= known,
        lambda: f"of {known} events {len(folding.published(stage.address, outcomes, 3))} have an outcome",
    )


def _assert_as_folded(stage: Stage, outcomes: str, *, states: bool = True) -> Counter:
    pipeline, wanted, known = stage.load(LEARNING).pipeline, {}, {}
    by: Counter = Counter()
    for partition in range(PARTITIONS):
        parts, state = folding.fold(stage.address, pipeline, stage.state_topic, partition)
        wanted |= folding.expected(parts, "predictions")
        known |= folding.expected(parts, "outcomes")
        by.update(state.learning.waiting.counts)
        if states:
            files = list(stage.folder.rglob(f"{stage.topic}-{partition}.state"))
            newest = max(files, key=lambda path: path.stat().st_mtime)
            kept = newest.read_bytes()
            length = int.from_bytes(kept[:4], "little")
            assert snapshot.decode(kept[4 : 4 + length])["fingerprint"] == state.fingerprint
            assert kept[4 + length :] == snapshot.encode(state.dump()), f"partition {partition} knows something else"
    assert folding.published(stage.address, stage.predictions, 3) == wanted
    made = folding.published(stage.address, outcomes, 3)
    assert {one: sorted(rows) for one, rows in made.items()} == {one: sorted(rows) for one, rows in known.items()}
    return by


def test_a_worker_learns_from_labels_and_from_their_absence(stage: Stage, form) -> None:
    outcomes = _prepare(stage)
    generator = stage.generator()
    stage.watch(generator.ledger)
    labeller = Labeller(stage.address, stage.topic, PARTITIONS, seed=stage.seed)
    labeller.start()
    worker = stage.worker(pipeline=LEARNING, topic_outcomes=outcomes).start()
    ledger = generator.send(form.of(3_000, 30_000))
    stage.wait_for(ledger.outputs)
    _settle(stage, labeller, ledger.outputs, ledger.outputs + labeller.fates["nobody"], outcomes)
    stage.settle()
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    by = _assert_as_folded(stage, outcomes)
    fates = labeller.fates
    assert by["label"] + by["early"] - by["orphan"] >= fates["once"] + fates["twice"] + fates["corrected"]
    assert by["timeout"] >= fates["never"]
    assert by["orphan"] == fates["nobody"]


def test_kills_and_rebalances_change_nothing_about_what_is_learned(stage: Stage, form) -> None:
    outcomes = _prepare(stage)
    generator = stage.generator()
    stage.watch(generator.ledger)
    labeller = Labeller(stage.address, stage.topic, PARTITIONS, seed=stage.seed)
    labeller.start()
    altered = {
        "pipeline": LEARNING,
        "env": {"FAULTS_ALTERED": "hasty"},
        "batch_count_max": 100,
        "topic_outcomes": outcomes,
    }
    workers = [stage.worker(name, **altered) for name in ("one", "two", "three")]
    generator.start(1_000_000, rate=300)
    kills, moves = form.of(6, 20), []
    points = list(islice(cycle([*POINTS, SOMEWHERE]), kills))
    random.Random(stage.seed).shuffle(points)

    def meanwhile(deaths: int) -> None:
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
    _settle(stage, labeller, ledger.outputs, ledger.outputs + labeller.fates["nobody"], outcomes)
    stage.settle()
    stage.verdict(ledger)
    for worker in stage.workers.values():
        worker.kill()
    by = _assert_as_folded(stage, outcomes, states=False)
    assert by["timeout"] > 0
    assert Counter(blow.what for blow in nemesis.blows) >= Counter(points), "a point was not reached"


def test_an_event_times_out_within_a_second_on_a_topic_where_nothing_happens(stage: Stage) -> None:
    outcomes = _prepare(stage)
    generator = stage.generator()
    stage.watch(generator.ledger)
    worker = stage.worker(pipeline=LEARNING, topic_outcomes=outcomes).start().wait_until_ready()
    generator.send(1)
    stage.wait_for(1)
    stage.wait_until(
        lambda: bool(folding.published(stage.address, outcomes, 3)), lambda: "its time is up, and nobody says so"
    )
    ((made,),) = folding.published(stage.address, outcomes, 3).values()
    assert b'"by":"timeout"' in made
    # As the client wrote them: when the event was sent, and when its outcome was.
    sent, told = (
        reader.records(stage.address, dict.fromkeys(reader.ends(stage.address, [topic]), 0))[0].timestamp / 1_000
        for topic in (stage.topic, outcomes)
    )
    print(f"told {told - sent - 15:.2f} s after its time was up")
    assert 15 <= told - sent < 16
    worker.terminate()
    assert worker.wait() == 0, worker.tail


@pytest.mark.parametrize(("partitions", "kills"), [(1, 0), (1, 2), (4, 3)])
def test_phishing_through_the_broker_gives_the_curve_of_river_offline_to_the_last_bit(
    stage: Stage, partitions: int, kills: int
) -> None:
    topic = stage.create(f"sites-{stage.topic}", partitions)
    # Without idempotence a topic that is not quite there yet may take what was sent later first.
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": stage.address, "log_level": 0, "enable.idempotence": True}
    )
    rows: dict[int, list] = {number: [] for number in range(partitions)}
    for number, (row, truth) in enumerate(datasets.Phishing()):
        rows[number % partitions].append((str(number), row, truth))
        site = {"id": str(number), "at": float(number), "site": f"s{number}", "label": truth, **row}
        producer.produce(topic, json.dumps(site), site["site"], number % partitions)
    assert producer.flush(30) == 0
    settings = {"batch_count_max": 50, "commit_interval_ms": 10, "topic_quality": f"quality-{topic}"}
    worker = stage.worker(pipeline=PHISHING, env={"FAULTS_TOPIC": topic}, **settings)
    stage.adopt(f"quality-{topic}")
    chance = random.Random(stage.seed)
    for point in chance.choices(list(POINTS)[:3], k=kills):
        worker.start(HEADRACE_FAILPOINT=f"{point}:{chance.randint(1, 3)}")
        assert worker.wait() == -9, worker.tail
    worker.start()
    stage.wait_until(
        lambda: len(folding.published(stage.address, stage.predictions, 3)) == 1_250,
        lambda: f"{len(folding.published(stage.address, stage.predictions, 3))} of 1250 sites are scored",
    )
    worker.wait_until_ready().terminate()
    assert worker.wait() == 0, worker.tail
    made = folding.published(stage.address, stage.predictions, 3)
    right = metrics.Accuracy()
    for mine in rows.values():
        offline = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
        for name, row, truth in mine:
            (one,) = made[name]
            want = offline.predict_proba_one(row).get(True, 0.5)
            assert json.loads(one)["score"] == want, f"site {name}"
            right.update(truth, want > 0.5)
            offline.learn_one(row, truth)
    if partitions == 1:
        assert abs(right.get() - 0.8872) < 0.005, "as River's own page of benchmarks has it"
