"""What the page shows of series that nobody was alarmed about is what a recount of the newest events finds."""

import json
import math
import time
from typing import Any

import confluent_kafka
import numpy as np
import pytest
from core.records import config_of
from core.test_report import PIPELINE, WATCH, _events, _packed, _slices

from headrace.models.distances import distances
from headrace.stream import watched
from headrace.stream.board import Board, Member, Standing
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.monitoring import IDLE_SECONDS, Monitoring, unpacked
from headrace.stream.report import Period, Slices
from headrace.stream.watched import Watched

RECORDS = tuple(_packed(one) for one in _slices())


def _read(records: Any = RECORDS, **options: Any) -> Watched:
    one = Watched(options.pop("watch", WATCH), learns=False)
    one.begins(whole=options.pop("whole", True))
    for record in records:
        one.take(record)
    one.sum_up()
    return one


def _named(told: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in told["series"] if one["series"] == name)
    return found


def test_distances_are_those_of_a_recount_of_the_newest_events() -> None:
    told = _read().told
    newest = [event for event in _events() if event.at >= 750 - 10 * watched.SLICES_MAX]
    assert (told["events"], told["slices"], told["end"]) == (len(newest), watched.SLICES_MAX, 750.0)
    assert told["begin"] == 750.0 - 10 * watched.SLICES_MAX
    for name, values in (
        ("depth", [math.nan if one.depth is None else one.depth for one in newest]),
        ("kind", [float(one.kind) for one in newest]),
    ):
        bins, usual = WATCH.binner.series[WATCH.places[name]], WATCH.reference.of(WATCH.places[name])
        counts = np.zeros(bins.count, np.int64)
        for value in values:
            counts[int(bins.bin(np.array([value]))[0])] += 1
        shown, recount = _named(told, name), distances(usual, counts)
        assert (shown["psi"], shown["jensen_shannon"]) == (
            pytest.approx(recount["psi"], abs=1e-6),
            pytest.approx(recount["jensen_shannon"], abs=1e-6),
        )
        assert shown["bins"] == bins.names
        assert shown["current"] == pytest.approx((counts / counts.sum()).tolist(), abs=1e-3)
        assert shown["reference"] == pytest.approx((usual / usual.sum()).tolist(), abs=1e-3)
        assert (shown["current_count"], shown["reference_count"]) == (len(newest), usual.sum())
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_moved_comes_first_and_what_stayed_is_within_chance() -> None:
    calm = _read([one for one, said in zip(RECORDS, _slices(), strict=True) if said["slice"][0] < 40])
    assert all(one["psi"] is None or one["psi"] <= one["chance"] for one in calm.told["series"])
    changed = _read([one for one, said in zip(RECORDS, _slices(), strict=True) if said["slice"][0] < 55])
    assert {one["series"] for one in changed.told["series"][:3]} == {"depth", "kind", "static"}  # which is made of them
    moved = [one["psi"] > one["chance"] for one in changed.told["series"] if one["psi"] is not None]
    assert moved[0]
    assert moved == sorted(moved, reverse=True)
    assert changed.told["moved"] == sum(moved)


def test_what_the_worker_makes_itself_is_compared_with_what_a_report_compares_it_with() -> None:
    slices = Slices(WATCH, Period())
    for record in RECORDS:
        slices.take(record)
    found = slices.beginning.learned(1)
    assert found is not None
    usual, shown = found[0].of(0), _named(_read().told, "score")
    assert shown["reference_count"] == usual.sum()
    assert shown["reference"] == pytest.approx((usual / usual.sum()).tolist(), abs=1e-3)
    early = _read(RECORDS[: 3 * 8]).told
    assert (_named(early, "score")["psi"], _named(early, "score")["reference"]) == (None, [])
    assert early["series"][-1]["psi"] is None, "what nothing is known of comes last"


def test_what_comes_twice_or_is_no_slice_of_ours_changes_nothing() -> None:
    wanted = _read().told
    others = [b"", b"{", _packed({"of": "another", **_slices()[0]}), _packed({"partition": 0, "idle": True})]
    others += [_packed({"partition": 0, "partitions": 3, "slice": broken}) for broken in ([], 7, [1, 2, 3])]
    ours = _slices()[0]
    number, events, counts, own, *rest = ours["slice"]
    others += [_packed({**ours, name: float("inf")}) for name in ("partition", "partitions")]
    for broken in (["x", events, counts, own], [number, "x", counts, own], [number, events, counts, own[:-1]]):
        others.append(_packed({**ours, "slice": [*broken, *rest]}))
    noisy = [one for record in RECORDS for one in (record, record, *others)]
    assert _read(noisy).told == wanted
    assert _read(others).told["known"] is False
    assert _read(others[2:3]).told["trouble"] == "all slices on the topic are of another reference than this pipeline's"


def test_whichever_partition_is_first_the_same_is_told_and_no_more_than_some_slices_are_kept() -> None:
    one = _read()
    by_partition = sorted(range(len(RECORDS)), key=lambda at: (_slices()[at]["partition"], _slices()[at]["slice"][0]))
    assert _read([RECORDS[at] for at in by_partition]).told == one.told
    assert len(one._recent) == watched.SLICES_MAX
    assert one.has_learned


def test_no_more_series_are_told_of_than_a_page_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _read().told
    monkeypatch.setattr(watched, "SERIES_MAX", 2)
    few = _read().told
    assert (few["count"], few["series"]) == (whole["count"], whole["series"][:2])
    assert few["moved"] == whole["moved"], "also of those that are not shown"


def test_a_watch_that_warms_up_says_so_and_learns_nothing_of_that_time() -> None:
    watch = PIPELINE.watch
    assert watch is not None
    before, watch.warm_up_s = watch.warm_up_s, 750.0
    try:
        cold, begun_elsewhere = _read(), _read(whole=False)
    finally:
        watch.warm_up_s = before
    assert cold.told["warms_up"]
    assert not cold.has_learned
    assert not begun_elsewhere.told["warms_up"], "where the stream's beginning is gone, nobody knows"


@pytest.mark.parametrize("head", [10_000, 30], ids=["all of it is read", "the middle is left out"])
def test_the_board_reads_slices_from_their_topic_and_tells_the_same(head: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "HEAD_COUNT_MAX", head)
    monkeypatch.setattr("headrace.stream.board.READ_COUNT", 20)
    monkeypatch.setattr("headrace.stream.board.SUM_SECONDS", 0.0)
    with EmbeddedBroker() as broker:
        config = config_of(broker=broker.address, group="g")
        broker.create(config.slices_topic)
        client = confluent_kafka.Producer({"bootstrap.servers": broker.address, "log_level": 0})
        for record in RECORDS:
            client.produce(config.slices_topic, record, partition=0)
        assert client.flush(20) == 0
        one = Watched(WATCH, learns=True)
        taken: list[bytes] = []
        take = one.take
        monkeypatch.setattr(one, "take", lambda value: (taken.append(value), take(value)))
        board = Board(config, ("visits",), one)
        board.start()
        deadline = time.monotonic() + 30
        while one.told.get("end") != 750.0 or one.told["events"] != 300 * watched.SLICES_MAX:
            assert time.monotonic() < deadline, one.told
            time.sleep(0.02)
        board.close()
        assert not board.is_alive()
    wanted = {name: _named(_read().told, name) for name in ("depth", "kind")}
    assert {name: _named(one.told, name) for name in wanted} == wanted
    assert (len(taken) == len(RECORDS)) == (head > len(RECORDS))
    assert taken[-1] == RECORDS[-1]


class Said:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def produce(self, topic: str, value: bytes, key: str, partition: int) -> None:
        assert (topic, key, partition) == ("g-slices", "host-0", 0)
        self.records.append(value)

    def poll(self, timeout: float) -> None:
        assert timeout == 0


def test_a_worker_says_what_it_makes_again_to_the_pages_of_all_and_nobody_takes_it_for_a_slice() -> None:
    config = config_of(broker="127.0.0.1:9", group="g", instance="host-0")
    monitoring, said = Monitoring(PIPELINE, config, {}, partitions=3), Said()
    monitoring.say_recovering({1: 9}, now=0.0)
    monitoring._plain = said  # type: ignore[assignment]
    for now, left in ((1.0, {}), (3.0, {}), (5.0, {2: 0, 1: 700}), (7.0, {1: 300}), (9.0, {}), (11.0, {})):
        monitoring.say_recovering(left, now)
    monitoring.say_recovering({}, now=9.0 + IDLE_SECONDS)
    told = [unpacked(one)["recovering"] for one in said.records]
    assert told == [[], [[1, 700], [2, 0]], [[1, 300]], [], []], (
        "as long as there is any, when there is none, now and then"
    )
    for record in said.records:
        assert monitoring._read(record) is None, "the monitor passes over it"
    slices = Slices(WATCH, Period())
    slices.take(said.records[1])
    assert (slices.count, slices.unreadable) == (0, 0)
    board = Board(config, ("visits",), Watched(WATCH, learns=False))
    board.group.take(1.0, [Member("host-0", "/h", (("visits", 1),))], [Standing("visits", 1, 5, 9)])
    for record, recovering in zip(said.records, (None, 700, 300, None, None), strict=True):
        board._take(Slice("g-slices", record))  # type: ignore[arg-type]
        (one,) = board.group.told(time.monotonic())["partitions"]
        assert (one["recovering"], one["tells"]) == (recovering, True)


class Slice:
    """A record of the topic."""

    def __init__(self, topic: str, value: bytes) -> None:
        self._topic, self._value = topic, value

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self._topic

    def value(self) -> bytes:
        return self._value
