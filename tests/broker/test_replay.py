"""A slice scored again gives what the worker published; what is otherwise is found, and shown where it is."""

import csv
import json
import subprocess
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from aiokafka import TopicPartition
from confluent_kafka.admin import AdminClient
from core.records import config_of
from faults import reader, recount
from faults.stage import PARTITIONS, Stage

from headrace.schemas.errors import BadSlice
from headrace.stream.slice import Reader

pytestmark = pytest.mark.broker
REMEMBERING = Path(recount.__file__).with_name("remembering.py")
Done = subprocess.CompletedProcess[str]


def _run(stage: Stage, name: str, *arguments: str, predictions: str = "") -> Done:
    """Run ``headrace replay`` or ``parity`` on what the stage has."""
    return stage.ask(REMEMBERING, name, *arguments, predictions=predictions)


def _well(done: Done) -> Done:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _records(stage: Stage, topic: str, partitions: int = 3) -> list[Any]:
    """What a committed reader finds in a topic."""
    since = {TopicPartition(topic, number): 0 for number in range(partitions)}
    return reader.records(stage.address, since, isolation="read_committed")


def _by_id(records: Iterable[Any]) -> dict[str, bytes]:
    return {json.loads(record.value)["id"]: record.value for record in records}


def _scored(stage: Stage, count: int, *, poison: tuple[str, ...] = ()) -> None:
    """Let a worker score events, and kill it once on the way."""
    generator = stage.generator()
    stage.watch(generator.ledger)
    ledger = generator.send(count, poison=poison)
    worker = stage.worker(pipeline=REMEMBERING, batch_count_max=100, commit_interval_ms=10)
    worker.start(HEADRACE_FAILPOINT="after_produce:9")
    assert worker.wait() == -9, worker.tail
    worker.start()
    stage.wait_for(ledger.outputs)
    stage.settle()


def _copy(stage: Stage, records: Iterable[tuple[bytes | None, bytes | None]]) -> str:
    """Publish predictions into a topic of their own."""
    topic = stage.create(f"{stage.predictions}-copy", 2)
    producer = confluent_kafka.Producer({"bootstrap.servers": stage.address})
    for key, value in records:
        producer.produce(topic, value, key)
    assert not producer.flush(30)
    return topic


def _groups(stage: Stage) -> set[str]:
    admin = AdminClient({"bootstrap.servers": stage.address})
    return {one.group_id for one in admin.list_consumer_groups().result(30).valid}


def test_after_a_kill_all_that_was_published_is_what_a_replay_gives(stage: Stage) -> None:
    _scored(stage, 12_000, poison=("not JSON", "amount missing", "no key", "id is a number"))
    committed, groups = stage.committed(), _groups(stage)
    published = len(_records(stage, stage.predictions))
    done = _well(_run(stage, "parity"))
    assert done.stdout.splitlines() == [
        f"12,000 records of {stage.topic} replayed, {12_000 - published} of them rejected, "
        f"and compared with {stage.predictions}:",
        f"  {published:,} equal, 0 different, 0 missing, 0 unexpected",
    ]
    done = _well(_run(stage, "replay", "-o", "out.jsonl", "--dead-letters", "rejected.jsonl"))
    assert "  they are in rejected.jsonl" in done.stderr
    rejected = [json.loads(line) for line in (stage.folder / "rejected.jsonl").read_bytes().splitlines()]
    letters = [{name: value.decode() for name, value in one.headers} for one in _records(stage, stage.dead_letters, 1)]
    names = [f"__connect.errors.{name}" for name in ("topic", "partition", "offset")]
    assert sorted(
        (one["topic"], str(one["partition"]), str(one["offset"]), one["reason"]) for one in rejected
    ) == sorted((*(one[name] for name in names), one["headrace.errors.code"]) for one in letters), (
        "what a worker put into its dead letters"
    )
    assert stage.committed() == committed
    assert _groups(stage) == groups, "whoever only looks leaves no group behind"


def test_a_worker_that_goes_on_meanwhile_is_compared_up_to_where_its_group_is(stage: Stage) -> None:
    generator = stage.generator()
    worker = stage.worker(pipeline=REMEMBERING).start()
    worker.wait_until_ready()
    generator.start(1_000_000, rate=1_000)  # more than there is time for; it is stopped
    stage.wait_until(lambda: bool(stage.visible()), lambda: "nothing was scored")
    for _ in range(2):
        report = json.loads(_well(_run(stage, "parity", "--json")).stdout)
        assert report["equal"] == report["records"] > 0
        assert generator.running, "the worker was meant to be at work"
    generator.stop()


def test_what_is_not_as_the_replay_says_is_found_and_shown_with_its_event(stage: Stage) -> None:
    _scored(stage, 5_000)
    records = {
        json.loads(record.value)["id"]: (record.key, record.value) for record in _records(stage, stage.predictions)
    }
    key, value = records["2-40"]
    score = json.loads(value)["score"]
    tampered = json.loads(value) | {"score": 0.5, "static": None}
    records["2-40"] = key, json.dumps(tampered).encode()
    again = records["1-7"]
    del records["3-11"]
    strange = b"x", b'{"id":"9-9","score":0.5,"model":"remembering"}'
    other = b"x", b'{"id":"9-9","score":0.5,"model":"another"}'
    copy = _copy(stage, [*records.values(), again, strange, other, (b"x", b"no JSON")])
    done = _run(stage, "parity", predictions=copy)
    assert done.returncode == 14
    assert done.stderr.splitlines()[-1] == (
        "PREDICTIONS_DIFFER: 4,998 equal, 1 different, 1 missing, 3 unexpected; "
        f"{stage.topic} was replayed against {copy}"
    )
    told = done.stdout
    assert f"  2-40  score: published 0.5, replayed {score}  (event 2:40)\n" in told
    assert f"  2-40  static: published null, replayed {score}  (event 2:40)\n" in told
    assert "missing:\n  3-11  (event 3:11)\n" in told
    assert "  9-9  no event has this id  (prediction " in told
    assert "  1-7  its event has a prediction already  (prediction " in told
    assert "  left out, of other models: 1\n" in told
    report = json.loads(_run(stage, "parity", "--json", "--partition", "2", predictions=copy).stdout)
    found = {"id": "2-40", "field": "score", "published": 0.5, "replayed": score, "partition": 2, "offset": 40}
    assert report["differences"][0] == found
    assert (report["different"], report["missing"], report["unexpected"]) == (1, 0, 1)
    assert report["outside"] > 3_000, "predictions of other partitions are not looked at"


def test_a_slice_from_the_middle_has_the_scores_of_the_worker_when_it_was_warmed_up(stage: Stage) -> None:
    _scored(stage, 6_000)
    published = _by_id(_records(stage, stage.predictions))
    committed = stage.committed()
    middle = ("--partition", "2", "4", "--from", "300", "--to", "700")
    done = _well(_run(stage, "replay", *middle, "-o", "middle.jsonl"))
    assert done.stderr.startswith("800 records of 2 partitions: 800 scored, 0 rejected, after 600 of warm-up, in ")
    want = [published[f"{number}-{at}"] for number in (2, 4) for at in range(300, 700)]
    assert (stage.folder / "middle.jsonl").read_bytes().splitlines() == want, "partition by partition, byte for byte"

    _well(_run(stage, "replay", *middle, "--warm-up", "none", "-o", "cold.jsonl"))
    cold = (stage.folder / "cold.jsonl").read_bytes().splitlines()
    assert len(cold) == 800
    assert cold != want, "features would not have looked back"

    _well(_run(stage, "replay", *middle, "-o", "middle.csv"))
    with (stage.folder / "middle.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["event_topic"], row["event_partition"], row["event_offset"]) for row in rows] == [
        (stage.topic, str(number), str(at)) for number in (2, 4) for at in range(300, 700)
    ]
    assert [float(row["score"]) for row in rows] == [json.loads(value)["score"] for value in want]
    assert stage.committed() == committed

    report = json.loads(_well(_run(stage, "parity", "--json", *middle)).stdout)
    assert (report["records"], report["equal"], report["outside"]) == (800, 800, 5_200)


def test_a_slice_goes_to_a_topic_of_its_own_with_the_places_of_its_events(stage: Stage) -> None:
    _scored(stage, 3_000)
    published = _by_id(_records(stage, stage.predictions))
    shadow = f"shadow-{stage.predictions}"
    began = time.monotonic()
    _well(_run(stage, "replay", "--to-topic", shadow, "--rate", "2000", "--set", "topic_partitions=3"))
    assert time.monotonic() - began > 1.4
    stage.adopt(shadow)
    records = _records(stage, shadow)
    assert len(records) == 3_000
    for record in records:
        made, headers = json.loads(record.value), dict(record.headers)
        assert record.value == published[made["id"]]
        assert record.key == made["card"].encode()
        number, offset = (int(headers[f"headrace.source.{name}"]) for name in ("partition", "offset"))
        assert made["id"] == f"{number}-{offset}"
        assert headers["headrace.source.topic"].decode() == stage.topic
    keys: dict[bytes, list[int]] = {}
    for record in records:
        keys.setdefault(record.key, []).append(int(dict(record.headers)["headrace.source.offset"]))
    # Paced, partitions are merged by event time; events of one card keep the order that they have in theirs.
    assert all(offsets == sorted(offsets) for offsets in keys.values())


def test_a_past_that_was_deleted_is_told(stage: Stage) -> None:
    _scored(stage, 3_000)
    admin = AdminClient({"bootstrap.servers": stage.address})
    cut = confluent_kafka.TopicPartition(stage.topic, 1, 100)
    next(iter(admin.delete_records([cut]).values())).result(30)
    done = _run(stage, "parity", "--partition", "1")
    assert done.returncode == 14, "a card's past is in its scores"
    assert f"the past is not whole: the log begins with {stage.topic}[1] at 100;" in done.stdout
    done = _well(_run(stage, "replay", "--partition", "1", "--from", "200", "-o", "out.jsonl"))
    assert "the past is not whole" in done.stderr
    done = _run(stage, "replay", "--partition", "1", "--from", "50")
    assert done.returncode == 13
    assert f"--from 50: {stage.topic}[1] has the offsets 100 to " in done.stderr
    # The same while it is read: what is gone by then is not stepped over.
    with closing(Reader(config_of(broker=stage.address, group=stage.group))) as ours:
        records = ours.read(stage.topic, 1, 50, 150, count=10)
        with pytest.raises(BadSlice, match="deleted while it was read, at offset 50"):
            next(records)


def test_times_are_those_of_the_records(stage: Stage) -> None:
    generator = stage.generator()
    generator.send(600)
    time.sleep(0.05)
    now = time.gmtime(between := time.time())
    time.sleep(0.05)
    generator.send(400)
    at = f"@{time.strftime('%Y-%m-%dT%H:%M:%S', now)}.{int(between * 1_000) % 1_000:03}Z"
    for flags, count in (
        (("--to", at), 600),
        (("--from", at), 400),
        (("--from", "@2020-01-01", "--to", "latest"), 1_000),
    ):
        done = _well(_run(stage, "replay", *flags, "-o", "out.jsonl", "--force"))
        assert len((stage.folder / "out.jsonl").read_bytes().splitlines()) == count
        assert done.stderr.startswith(f"{count:,} records of {PARTITIONS} partitions: ")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--topic", "nowhere"), 4, "TOPIC_MISSING: on {address} there is no topic nowhere, or it may not be seen"),
        (("--partition", "6"), 13, "--partition 6: {topic} has the partitions 0 to 5"),
        (("--partition", "0", "--from", "77"), 13, "--from 77: {topic}[0] has the offsets 0 to "),
        (
            ("--from", "latest"),
            13,
            "--from latest --to latest: nothing is between them; the offsets are: {topic}[0] 0 ",
        ),
        (("--to", "committed"), 13, "committed: the group has no offsets of {topic}; --group names another"),
        (("--to-topic", "{topic}"), 2, "--to-topic {topic}: which is what is read; name another topic"),
    ],
)
def test_a_slice_that_is_not_there_ends_with_its_name(
    stage: Stage, arguments: tuple[str, ...], code: int, told: str
) -> None:
    stage.generator().send(60)
    names = {"address": stage.address, "topic": stage.topic}
    done = _run(stage, "replay", *(one.format(**names) for one in arguments))
    assert done.returncode == code, done.stderr
    assert told.format(**names) in done.stderr
    assert not done.stdout


def test_records_of_aborted_transactions_are_in_no_replay(stage: Stage) -> None:
    generator = stage.generator()
    ledger = generator.send_in_transactions(3_000, aborted=0.3)
    stage.watch(ledger)
    stage.worker(pipeline=REMEMBERING).start()
    stage.wait_for(ledger.outputs)
    stage.settle()
    done = _well(_run(stage, "parity"))
    assert f"  {ledger.outputs:,} equal, 0 different, 0 missing, 0 unexpected" in done.stdout
    done = _well(_run(stage, "parity", "--to", "latest"))
    assert f"  {ledger.outputs:,} equal, 0 different, 0 missing, 0 unexpected" in done.stdout
