"""What stands in a producer's place in a dry run, and that the committer commits nothing with it."""

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from core.records import config_of

from headrace.schemas.config import AT_LEAST_ONCE
from headrace.schemas.dead_letter import Reason, Rejection, headers
from headrace.stream.commit import Batch, Committer, Output, Outputs
from headrace.stream.dry_run import DryRun, rehearsed

CONFIG = config_of(group="g", commit_interval_ms=5_000)
WRONG = headers(Rejection(0, Reason.NOT_JSON, ""), topic="t", partition=0, offset=0, pipeline="p", version="1")


class FakePoller:
    epoch = 0
    group_metadata = None

    def __init__(self) -> None:
        self.noted: dict[Any, int] = {}

    def is_next(self, *_: Any) -> bool:
        return True

    def processed(self, *_: Any) -> None: ...

    def committed(self, offsets: Any, _notes: Any = None) -> None:
        self.noted.update(offsets)

    def commit(self, *_: Any, **__: Any) -> None:
        raise AssertionError("a dry run commits nothing")


def _carried_out(outputs: Outputs, **options: Any) -> tuple[DryRun, FakePoller]:
    poller: Any = FakePoller()
    failed: list[BaseException] = []

    async def carry_out() -> DryRun:
        config = config_of(group="g", commit_interval_ms=5_000, **options)
        run = DryRun(config, as_json=True)
        committer = Committer(config, poller, batch_bytes_max=1_000, on_failed=failed.append, dry=run)
        await committer.start()
        assert await committer.carry_out(Batch(("t", 0), after=0, next_offset=7, epoch=0), outputs)
        await committer.settle()
        await committer.close()
        return run

    run = asyncio.run(carry_out())
    assert failed == []
    return run, poller


@pytest.mark.parametrize("options", [{}, {"guarantee": AT_LEAST_ONCE}])
def test_the_committer_goes_on_as_if_it_had_committed(options: dict[str, str]) -> None:
    letter = Output(CONFIG.topic_dead_letters, b"k", b"{", WRONG)
    run, poller = _carried_out(Outputs("predictions", ["a", "b"], [b"1", b"2"], None, [letter], 9), **options)
    assert poller.noted == {("t", 0): 7}
    assert run.offsets == {"t[0]": 7}
    if not options:
        assert run.outputs == {"predictions": 2, CONFIG.topic_dead_letters: 1}
        assert run.reasons == {"not_json": 1}


def test_offsets_without_outputs_are_not_committed_either() -> None:
    run, poller = _carried_out(Outputs("predictions", [], [], None, [], 0))
    assert poller.noted == {("t", 0): 7}
    assert run.outputs == {}


def test_what_is_aborted_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run = DryRun(CONFIG, as_json=True)
    producer = run.producer()
    for commits in (False, True):
        producer.begin_transaction()
        producer.produce("predictions", b'{"score":0.5}', "card-1")
        producer.send_offsets_to_transaction([TopicPartition("t", 0, 5)], None)
        (producer.commit_transaction if commits else producer.abort_transaction)(1.0)
    run.report(last=True)
    said = json.loads(capsys.readouterr().out)
    assert said["outputs"] == {"predictions": 1}
    assert said["samples"] == {"predictions": {"key": "card-1", "value": '{"score":0.5}'}}
    assert said["offsets"] == {"t[0]": 5}


def test_a_dry_run_has_a_group_of_its_own_and_begins_where_it_is_told_to() -> None:
    config = rehearsed(config_of(group="g", group_instance_id="static", **{"kafka.auto.offset.reset": "earliest"}))
    assert config.group.startswith("g-dryrun-")
    assert config.group_instance_id == ""
    assert config.kafka == {"auto.offset.reset": "earliest"}
    assert config.exactly_once
