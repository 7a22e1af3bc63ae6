"""A replay's doors and its pace, without a broker."""

import csv
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from core.records import Record, Transaction, config_of, fraud, transaction

from headrace import Event, Label, Linear, Pipeline, field
from headrace.schemas.errors import BadFile, BadSlice
from headrace.schemas.position import Asked
from headrace.stream import replay as module
from headrace.stream.agents import Scorer
from headrace.stream.files import Target
from headrace.stream.replay import FileDoor, Letters, Pace, Part, Replay
from headrace.stream.slice import Slice, Span


def _part(count: int = 3, first: int = 40) -> Part:
    records: list[Any] = [
        Record(transaction(id=f"t{at}", at=float(at)) if at % 3 else b"{", partition=2, offset=at)
        for at in range(first, first + count)
    ]
    config = config_of()
    scored = Scorer(fraud, config, {config.topic_predictions: 100_000}).score(records, fraud.fresh())
    return Part("transactions", 2, records, scored)


def _written(path: Path, part: Part) -> None:
    with Target(str(path), force=False) as target:
        door = FileDoor(target, None, fraud)
        door.take(part)
        door.finish()


def test_a_line_of_json_is_the_value_that_a_worker_publishes(tmp_path: Path) -> None:
    part = _part()
    _written(tmp_path / "out.jsonl", part)
    assert (tmp_path / "out.jsonl").read_bytes().splitlines() == part.scored.outputs.values
    assert [json.loads(value)["id"] for value in part.scored.outputs.values] == ["t40", "t41"]


def test_a_row_of_a_table_says_where_its_event_is(tmp_path: Path) -> None:
    part = _part()
    _written(tmp_path / "out.csv", part)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    places = [(row["id"], row["event_topic"], row["event_partition"], row["event_offset"]) for row in rows]
    assert places == [("t40", "transactions", "2", "40"), ("t41", "transactions", "2", "41")]
    parquet = pytest.importorskip("pyarrow.parquet")
    _written(tmp_path / "out.parquet", part)
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["id"], row["event_offset"]) for row in table] == [("t40", 40), ("t41", 41)]
    assert [row["score"] for row in table] == [json.loads(value)["score"] for value in part.scored.outputs.values]


def test_an_event_whose_key_is_called_as_our_column_is_refused_in_a_table(tmp_path: Path) -> None:
    class Odd(Event, topic="odd", key="event_offset"):
        id: str
        at: float
        event_offset: str

    odd = Pipeline(name="odd", events=Odd, features={"at": field("at")}, static=Linear({"at": 1.0}))
    with Target(str(tmp_path / "out.csv"), force=False) as target, pytest.raises(BadFile, match="event_offset"):
        FileDoor(target, None, odd)


def test_a_rejection_is_told_with_its_place() -> None:
    summary = module.Summary(["something to know"])
    summary.partitions = 1
    summary.add(_part())
    assert summary.told().splitlines() == [
        "3 records of 1 partition: 2 scored, 1 rejected, in 0.0 s (at once)",
        "  not_json: 1",
        "    transactions[2] offset 42: Input data was truncated",
        "  something to know",
    ]


class FakeReader:
    """Partitions of which all records are there at once, and the client hands over a few."""

    logs: ClassVar[dict[int, list[Record]]] = {
        number: [
            Record(transaction(id=f"{number}-{at}", at=float(2 * at + number)), partition=number, offset=at)
            for at in range(50)
        ]
        for number in range(2)
    }

    def __init__(self, config: Any, *, share: int = 1) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, topic: str, partition: int, begin: int, end: int, *, count: int) -> Any:
        records = self.logs[partition][begin:end]
        for at in range(0, len(records), 7):
            yield records[at : at + 7]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> Replay:
    monkeypatch.setattr(module, "Reader", FakeReader)
    found = Slice("transactions", (Span(0, 0, 10, 50), Span(1, 20, 20, 30)))
    return Replay(fraud, config_of(), found, bytes_max=100_000)


def test_what_was_rejected_is_in_a_file_with_its_place_and_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretty = msgspec.json.format(transaction(id="t2", amount="lots"))
    values = [transaction(id="t0"), b"caf\xe9", None, pretty, transaction(id="t4"), transaction(id="t5", at=None)]
    logs = {3: [Record(value, partition=3, offset=at) for at, value in enumerate(values)]}
    monkeypatch.setattr(FakeReader, "logs", logs)
    monkeypatch.setattr(module, "Reader", FakeReader)
    found = Slice("transactions", (Span(3, 0, 0, 6),))
    for doors in ("parts", "merged"):
        path = tmp_path / f"{doors}.jsonl"
        with Target(str(path), force=False) as target:
            letters = Letters(target)
            replay = Replay(fraud, config_of(), found, bytes_max=100_000, letters=letters)
            list(getattr(replay, doors)())
            letters.finish()
        told = [json.loads(line) for line in path.read_text().splitlines()]
        assert [(one["topic"], one["partition"], one["offset"], one["reason"]) for one in told] == [
            ("transactions", 3, 1, "not_json"),
            ("transactions", 3, 2, "empty_value"),
            ("transactions", 3, 3, "wrong_type"),
            ("transactions", 3, 5, "wrong_type"),
        ]
        assert [one["original"] for one in told[:2]] == ["caf\\xe9", None]
        assert told[2]["original"] == json.loads(pretty)
        assert told[2]["message"].endswith("`$.amount`")
    summary = replay.summary.told("rejected.jsonl").splitlines()
    assert summary[1:] == ["  wrong_type: 2", "  not_json: 1", "  empty_value: 1", "  they are in rejected.jsonl"]


def test_dead_letters_of_a_replay_need_a_file_of_their_own(tmp_path: Path) -> None:
    out = str(tmp_path / "out.jsonl")
    for path in (out, "-"):
        with pytest.raises(BadFile, match=f"--dead-letters {path}: needs a file of its own"):
            module.replay(fraud, config_of(), Asked("transactions"), out=out, dead_letters=path)


def test_partitions_come_one_after_the_other(replay: Replay) -> None:
    made = [(part.partition, offset) for part in replay.parts() for offset in part.offsets]
    assert made == [*((0, at) for at in range(10, 50)), *((1, at) for at in range(20, 30))]
    assert (replay.summary.warmed, replay.summary.scored) == (10, 50)


def test_merged_they_come_by_event_time_each_with_its_own_place_key_and_value(replay: Replay) -> None:
    made = []
    for at, part in replay.merged():
        (prediction,), (offset,), (value,) = part.scored.predictions, part.offsets, part.scored.outputs.values
        assert msgspec.json.decode(value)["id"] == prediction.id == f"{part.partition}-{offset}"
        assert part.scored.outputs.keys == ["card-7"]
        made.append(at)
    assert made == sorted(made)
    assert len(made) == 50


def test_a_rate_is_kept_on_the_whole_and_lost_time_is_made_up_for() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(rate=10, clock=lambda: now[0], sleep=sleep)
    for _ in range(10):
        pace.wait(0.0)
    assert now[0] == pytest.approx(100.9)
    now[0] += 0.5
    slept.clear()
    for _ in range(5):
        pace.wait(0.0)
    assert not slept
    for _ in range(6):
        pace.wait(0.0)
    assert now[0] == pytest.approx(102.0)


def test_a_gap_in_event_time_is_not_waited_out_and_neither_is_its_way_back() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        assert seconds <= module.GAP_SECONDS_MAX
        now[0] += seconds

    pace = Pace(speed=1.0, clock=lambda: now[0], sleep=sleep)
    for at in (0.0, 5.0, 3_600.0, 3_605.0, float("inf"), float("nan"), 3_610.0, 3_612.0):
        pace.wait(at)
    assert now[0] == pytest.approx(12.0)


def test_a_topic_that_workers_write_is_refused() -> None:
    from headrace.schemas.errors import BadConfig

    config = config_of(group="g")
    for topic in ("cards", "predictions", "dead-letters", "alerts", "g-state"):
        with pytest.raises(BadConfig, match=f"--to-topic {topic}: "):
            module._check_topic(config, Asked("cards"), topic)
    module._check_topic(config, Asked("cards"), "shadow")


def test_a_replay_of_what_learns_from_labels_is_refused_by_name() -> None:
    class Verdict(Label, topic="verdicts", of=Transaction, within="1h"):
        id: str
        at: float
        card: str
        label: int

    learns = Pipeline(name="learns", events=Transaction, labels=Verdict, features=fraud.features, static=fraud.static)
    with pytest.raises(BadSlice, match=r"learns learns from verdicts: .* a replay reads transactions alone"):
        module.replay(learns, config_of(), Asked("transactions"), out="-")
