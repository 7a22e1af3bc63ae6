"""A step that raises what nobody expects: the worker ends with a name, soon, and Faust never hears of it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from core.records import Record, transaction

from headrace.stream import agents
from headrace.stream.agents import score_events
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.poller import Taken
from headrace.stream.transport import RecordBatch

ROOT = Path(__file__).resolve().parents[2]
RAISED = [MemoryError("full"), ValueError("odd"), SystemExit(0), KeyboardInterrupt(), asyncio.CancelledError()]


class FakeScorer:
    busy = False
    shared = monitoring = None
    stepping = False

    def __init__(self, raised: BaseException, at: int) -> None:
        self.turn = asyncio.Lock()
        self.raised = raised
        self.left = at

    def rest(self) -> None:
        assert not self.stepping, "nobody looks at a state while a step changes it"

    def step(self, messages: list[Any], memory: Any, next_offset: int, topic: str) -> Any:
        assert self.busy
        assert self.stepping
        self.left -= 1
        if self.left < 0:
            raise self.raised
        return "outputs"


class FakeCommitter:
    step_count_max = 2
    holding = False
    careful = False

    def __init__(self) -> None:
        self.carried: list[int] = []
        self.commits: list[int] = []

    async def carry_out(self, batch: Any, outputs: Any) -> bool:
        self.carried.append(batch.next_offset)
        return True

    def due(self, *, drained: bool) -> bool:
        return False

    def commit_soon(self) -> None:
        self.commits.append(self.carried[-1])


class FakeMemories:
    note = ""
    offset = None
    place = ("t", 0)

    def ready(self, place: Any, after: int | None, epoch: int) -> Any:
        return self


async def _stream(count: int) -> AsyncIterator[RecordBatch]:
    for first in range(0, 6 * count, 6):
        messages: Any = [Record(transaction(), offset=offset) for offset in range(first, first + 6)]
        yield RecordBatch(("t", 0), Taken(messages, first, first + 6, 0))


@pytest.mark.parametrize("slow", [False, True], ids=["on the loop", "on a thread"])
@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_whatever_a_step_raises_ends_the_worker_and_leaves_nobody_waiting_for_its_batch(
    raised: BaseException, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "SLOW_STEP_SECONDS", -1.0 if slow else 1e9)
    scorer: Any = FakeScorer(raised, at=2)
    committer: Any = FakeCommitter()
    memories: Any = FakeMemories()
    failed: list[BaseException] = []

    async def fail(error: BaseException) -> None:
        assert not scorer.busy, "who stops the worker waits for a batch that is being scored"
        failed.append(error)

    asyncio.run(score_events(_stream(2), scorer, committer, memories, drained=lambda: False, fail=fail))
    (error,) = failed
    assert type(raised).__name__ in (type(error).__name__, str(error).split(" raised ")[-1].split(":")[0])
    assert committer.carried == [2, 4], "the steps before it, and none after"


@pytest.mark.parametrize(("careful", "commits"), [(False, []), (True, [2, 4, 6])])
def test_after_a_transaction_has_timed_out_none_is_open_during_a_step(careful: bool, commits: list[int]) -> None:
    scorer: Any = FakeScorer(ValueError(), at=100)
    committer: Any = FakeCommitter()
    committer.careful = careful
    memories: Any = FakeMemories()

    async def fail(error: BaseException) -> None:
        raise error

    asyncio.run(score_events(_stream(1), scorer, committer, memories, drained=lambda: False, fail=fail))
    assert (committer.carried, committer.commits) == ([2, 4, 6], commits)


ODD = """
from headrace import Event, Linear, Pipeline, field


class Transaction(Event, topic="transactions", key="card"):
    id: str
    at: float
    card: str
    amount: float


class Odd(Pipeline):
    def step(self, events, state, wrote=None):
        if events:
            raise MemoryError("no room for this batch")
        return super().step(events, state, wrote)


pipeline = Odd(name="odd", events=Transaction, features={"f": field("amount")}, static=Linear({"f": 1.0}))
"""


def test_a_worker_whose_step_raises_ends_soon_with_a_name_and_its_reason(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(ODD)
    with EmbeddedBroker() as broker:
        client = confluent_kafka.Producer({"bootstrap.servers": broker.address, "log_level": 0})
        client.produce("transactions", transaction(), b"card-7")
        assert client.flush(30) == 0
        command = [sys.executable, "-m", "headrace.stream.cli", "run", str(tmp_path), "--broker", broker.address]
        command += ["--guarantee", "at-least-once", "--set", "web_port=-1", "--set", f"state_dir={tmp_path}"]
        # Nobody has told it to stop, so drain_timeout_ms does not end it either: it would run for ever.
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 1, done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines()]
    told = "HEADRACE: the worker stopped: MemoryError: no room for this batch; "
    assert said[-1]["message"].startswith(told), done.stderr
    assert (said[-1]["code"], said[-1]["exit_code"]) == ("HEADRACE", 1)
    (ready,) = [line for line in said if line["message"].startswith("ready: ")]
    assert (ready["pipeline"], ready["guarantee"], ready["level"]) == ("odd", "at-least-once", "info")
