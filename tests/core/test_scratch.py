"""What waits for labels in a file instead of in memory: the same numbers, less memory, and a disk that may be full."""

import os
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from core.records import config_of
from river import linear_model, preprocessing

from headrace import Event, Label, Linear, Pipeline, field, per
from headrace.models import snapshot
from headrace.models.labels import Scored, Waiting
from headrace.models.laws import some_steps
from headrace.models.memory import Wide
from headrace.schemas.event import Truth
from headrace.stream.scratch import PREFIX, SUFFIX, Scratch
from headrace.stream.state import Memories

TRUTH: Any = Truth(None, "label", 1_000.0, 0.0)  # type: ignore[arg-type]


class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float


class Verdict(Label, topic="verdicts", of=Payment, within="1h", otherwise=0):
    id: str
    at: float
    card: str
    label: int


PIPELINE = Pipeline(
    name="waits",
    events=Payment,
    labels=Verdict,
    features={"amount": field("amount"), "count": per("card").count("1h")},
    static=Linear({"amount": 0.01, "count": 0.0}, bias=-1.0),
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(),
)


def _scored(begin: int, count: int, width: int) -> Scored:
    ids: list[Any] = [f"id-{number:09d}" for number in range(begin, begin + count)]
    column = np.arange(begin, begin + count, dtype=np.float64)
    features = np.random.default_rng(begin).random((count, width))
    return Scored(ids, ids, column, column, features, column / 3, column / 7, column / 11, [])


def _waiting(width: int, wide: Any = Wide) -> Waiting:
    return Waiting([f"f{number}" for number in range(width)], TRUTH, wide=wide)


def _lived(waiting: Waiting, *, width: int = 5, batches: int = 40) -> Iterator[Any]:
    """Let events come, be labelled, time out and be forgotten, and yield what became known, and what is kept."""
    for batch in range(batches):
        waiting.add(_scored(100 * batch, 100, width))
        ids: list[Any] = [f"id-{number:09d}" for number in range(max(0, 100 * batch - 150), 100 * batch, 7)]
        ones = np.ones(len(ids))
        made = waiting.label(ids, ids, at=ones, labels=ones, wrote=ones)
        yield made.by, made.of.ids, *(column.tobytes() for column in (made.of.features, made.of.online, made.labels))
        made = waiting.tick(wall=100.0 * batch, event=100.0 * batch)
        yield made.by, made.of.ids, *(column.tobytes() for column in (made.of.features, made.of.score, made.was))
    yield snapshot.encode(waiting.dump())


@pytest.mark.parametrize("memory_bytes_max", [0, 20_000, 1 << 30])
def test_in_a_file_are_the_same_numbers_to_the_last_bit(tmp_path: Path, memory_bytes_max: int) -> None:
    scratch = Scratch(tmp_path, memory_bytes_max=memory_bytes_max)
    elsewhere: Any = _waiting(5, scratch.wide)
    assert list(_lived(elsewhere)) == list(_lived(_waiting(5)))
    assert bool(elsewhere._wide.disk_bytes) == (memory_bytes_max < 1 << 30)
    moved, kept = _waiting(5, scratch.wide), snapshot.encode(elsewhere.dump())
    moved.load(snapshot.decode(kept))
    assert snapshot.encode(moved.dump()) == kept


@pytest.mark.parametrize("number", range(3))
def test_a_pipeline_that_keeps_them_in_a_file_has_the_same_effects_and_the_same_state(
    tmp_path: Path, number: int
) -> None:
    steps = some_steps(PIPELINE, 200, number)
    here = PIPELINE.fresh()
    there = PIPELINE.fresh(wide=Scratch(tmp_path, memory_bytes_max=0).wide)
    mine, theirs = steps.play(PIPELINE, here), steps.play(PIPELINE, there)
    assert mine.predictions == theirs.predictions
    assert mine.outcomes == theirs.outcomes
    assert snapshot.encode(here.dump()) == snapshot.encode(there.dump())


def _resident() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what of a file is in memory")
def test_memory_stays_where_it_is_however_many_wait(tmp_path: Path) -> None:
    width, count = 120, 100_000
    waiting = _waiting(width, Scratch(tmp_path, memory_bytes_max=1 << 20).wide)
    before = _resident()
    for begin in range(0, count, 500):
        waiting.add(_scored(begin, 500, width))
    ids: list[Any] = [f"id-{number:09d}" for number in range(0, count, 9)]
    ones = np.ones(500)
    for begin in range(0, len(ids) // 500 * 500, 500):
        some = ids[begin : begin + 500]
        waiting.label(some, some, at=ones, labels=ones, wrote=ones)
    numbers = count * 8 * (width + 3)
    assert waiting._wide.disk_bytes >= numbers  # type: ignore[attr-defined]
    assert waiting.bytes < count * 250, "what is found by its id, and what is looked through as time passes"
    assert _resident() - before < count * 250 + numbers // 2, f"of {numbers} bytes"


def test_all_partitions_of_a_worker_share_the_room_in_memory(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, memory_bytes_max=100_000)
    first: Any = scratch.wide(10)
    second: Any = scratch.wide(10)
    first.grow(1_000)
    second.grow(1_000)
    assert (first.bytes, first.disk_bytes, second.bytes) == (80_000, 0, 0)
    assert second.disk_bytes == 80_000
    del first
    third = scratch.wide(10)
    third.grow(1_000)
    assert third.bytes == 80_000, "a partition that has left leaves its room"


def test_a_file_has_no_name_and_is_for_its_user_alone_and_what_a_kill_has_left_goes(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    folder.mkdir(mode=0o700)
    left = folder / f"{PREFIX}abc{SUFFIX}"
    left.write_bytes(b"of a worker that was killed")
    (folder / "payments-0.state").write_bytes(b"is something else")
    wide: Any = Scratch(folder, memory_bytes_max=0).wide(3)
    wide.grow(10)
    assert [path.name for path in folder.iterdir()] == ["payments-0.state"]
    told = os.fstat(wide._file.fileno())
    assert stat.S_IMODE(told.st_mode) == 0o600
    assert told.st_blocks * 512 >= wide.disk_bytes, "its blocks are its own, so that no write finds the disk full"


@contextmanager
def _small_disk(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1_000, 60_000])
def test_on_a_full_disk_they_are_in_memory_and_it_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    waiting: Any = _waiting(5, Scratch(tmp_path, memory_bytes_max=0).wide)
    with _small_disk(size):
        lived = _lived(waiting, batches=20)
        made = [next(lived) for _ in range(39)]
        assert waiting._wide.bytes > size
        assert waiting._wide.disk_bytes == 0
    assert made == list(_lived(_waiting(5), batches=20))[:39]
    assert "waiting_memory_bytes_max = 0, until there is room" in caplog.text
    assert str(tmp_path) in caplog.text
    waiting._wide.grow(len(waiting._wide.rows) + 1)
    assert waiting._wide.disk_bytes > 0
    assert waiting._wide.bytes == 0
    assert list(lived)[-1] == list(_lived(_waiting(5), batches=20))[-1]


def test_a_worker_keeps_them_where_its_options_say(tmp_path: Path) -> None:
    config = config_of(group="g", topic_state="state", waiting_memory_bytes_max=0)
    poller: Any = SimpleNamespace(partitions={})
    memories = Memories(PIPELINE, config, poller, bytes_max=400, folder=tmp_path / "g", lineage="one")
    memory = memories._new(("payments", 0), None)
    PIPELINE.step([Payment("p1", 0.0, "c", 1.0)], memory.state)
    waiting: Any = memory.state.learning.waiting  # type: ignore[union-attr]
    assert waiting._wide.disk_bytes > 0
    assert list((tmp_path / "g").iterdir()) == []
