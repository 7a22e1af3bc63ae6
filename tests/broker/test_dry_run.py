"""A dry run on a live topic: it tells what it would do, and does none of it."""

import json
import signal
import time
from pathlib import Path

import pytest
from broker.test_watch import WATCHING
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from faults import reader
from faults.poison import KINDS
from faults.stage import Stage

from headrace.schemas.codec import encode
from headrace.stream.drift import Wanted, learn

pytestmark = pytest.mark.broker

LEARNING = Path(__file__).parents[1] / "faults/learning.py"


def test_a_dry_run_counts_what_it_would_publish_and_nothing_is_written_or_moved(stage: Stage) -> None:
    admin = AdminClient({"bootstrap.servers": stage.address, "log_level": 0})
    generator = stage.generator()
    generator.send(300, poison=list(KINDS)[:2])
    before = set(admin.list_topics(timeout=10).topics)
    worker = stage.worker(kafka__auto__offset__reset="earliest", instance=None)
    worker._command += ["--dry-run", "--json"]
    worker.start().wait_until_ready()
    ledger = generator.send(900)
    deadline = time.monotonic() + 90
    while _last(worker.output).get("events", 0) < ledger.outputs and time.monotonic() < deadline:
        time.sleep(0.2)
        assert worker.alive, worker.tail
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.tail

    said = _last(worker.output)
    assert said["last"] is True
    assert said["events"] == ledger.outputs
    assert sum(said["outputs"].values()) == ledger.outputs
    letters = said["outputs"][stage.dead_letters]
    assert 0 < letters == sum(said["dead_letters"].values())
    assert "score" in json.loads(said["samples"][stage.predictions]["value"])
    assert sum(said["offsets"].values()) == sum(reader.ends(stage.address, [stage.topic]).values())

    written = reader.ends(stage.address, [stage.predictions, stage.dead_letters, stage.alerts])
    assert set(written.values()) == {0}, "nothing was written, not even what was aborted"
    assert not _made(admin, before, stage)
    groups = [one.group_id for one in admin.list_consumer_groups().result(30).valid]
    dry = [name for name in groups if name.startswith(f"{stage.group}-dryrun-")]
    for group in [stage.group, *dry]:
        assert not any(reader.committed(stage.address, group).values()), group


def _made(admin: AdminClient, before: set[str], stage: Stage) -> set[str]:
    """Return the topics that have come; a broker may have been late with the stage's own, and nobody made its own."""
    own = {stage.topic, stage.predictions, stage.dead_letters, stage.alerts, "__consumer_offsets"}
    return set(admin.list_topics(timeout=10).topics) - before - own


def _last(output: str) -> dict:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


@pytest.mark.parametrize("learner", ["partition", "shared"])
def test_a_dry_run_remembers_and_learns_without_a_changelog(stage: Stage, learner: str) -> None:
    stage.create(f"{stage.topic}-labels", stage.partitions)
    generator = stage.generator()
    worker = stage.worker(pipeline=LEARNING, instance=None, env={"FAULTS_LEARNER": learner})
    worker._command += ["--dry-run"]
    worker.start().wait_until_ready()
    generator.send(400)
    worker.wait_for_line("  400 events")  # a report may come while some of them are not read yet
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.tail
    assert "in all  400 events" in worker.output
    admin = AdminClient({"bootstrap.servers": stage.address, "log_level": 0})
    assert not [name for name in admin.list_topics(timeout=10).topics if name.startswith(stage.group)]
    assert not list(stage.folder.rglob("*.state"))


def test_a_dry_run_counts_slices_of_a_watched_stream_and_nobody_looks_at_them(stage: Stage) -> None:
    module = stage.load(WATCHING)
    reference, events = stage.folder / "reference.json", stage.folder / "usual.jsonl"
    events.write_bytes(b"".join(encode(one) + b"\n" for one in module.payments(100, seed=2)))
    learn(module.pipeline, Wanted(reference, (), "1s"), source=str(events))
    producer = Producer({"bootstrap.servers": stage.address, "log_level": 0, "partitioner": "murmur2_random"})
    for one in module.payments(10):
        producer.produce(stage.topic, encode(one), one.card)
    assert producer.flush(60) == 0
    admin = AdminClient({"bootstrap.servers": stage.address, "log_level": 0})
    before = set(admin.list_topics(timeout=10).topics)
    env = {"FAULTS_REFERENCE": str(reference)}
    worker = stage.worker(pipeline=WATCHING, env=env, kafka__auto__offset__reset="earliest", instance=None)
    worker._command += ["--dry-run", "--json"]
    worker.start()
    worker.wait_for_line('"events":')
    stage.wait_until(lambda: _last(worker.output).get("events") == 3_000, lambda: worker.tail)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.tail
    (slices,) = [name for name in _last(worker.output)["outputs"] if name.endswith("-slices")]
    assert _last(worker.output)["outputs"][slices] > 0
    assert not _made(admin, before, stage)
