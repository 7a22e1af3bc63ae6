"""What is usual may follow the stream: a change that lasts is told, and becomes what is usual."""

from typing import Any

import numpy as np
import pytest
from core.test_monitor import _said, _stream
from core.test_watch import DATA, FEATURES, STATIC, Visit

from headrace import Pipeline
from headrace.models import snapshot
from headrace.models.bins import Binner, Bins
from headrace.models.monitor import Monitor
from headrace.models.reference import Reference
from headrace.models.trailing import BLOCKS, Trailing
from headrace.models.usual import watch_of
from headrace.models.watch import Watch
from headrace.schemas.alert import Alert, AlertState


def _watch(**options: Any) -> Watch:
    return watch_of(DATA, **{"every": "2s", "false_alarms": "1 per day", **options})


def _alerts(said: list[dict[str, Any]], watch: Watch) -> list[Alert]:
    return Monitor(watch, name="visits", version="1").step(said)


PAGE = Pipeline(name="visits", events=Visit, features=FEATURES, static=STATIC, watch=_watch())


def _both(events: list[Visit]) -> tuple[list[Alert], list[Alert]]:
    said = _said(events, pipeline=PAGE)  # what partitions count is the same for both
    return _alerts(said, _watch()), _alerts(said, _watch(against="last 4m"))


def test_a_change_that_lasts_is_told_and_becomes_what_is_usual_and_then_the_way_back_is_one() -> None:
    events = [*_stream(60, seed=1), *_stream(300, seed=2, begin=60, depth=0.5), *_stream(30, seed=3, begin=360)]
    stands, follows = _both(events)
    assert (stands[0].state, stands[0].series) == (follows[0].state, follows[0].series) == (AlertState.RAISED, "depth")
    assert stands[0].at == follows[0].at < 80
    assert not [one for one in stands if one.state is AlertState.CLEARED and one.at < 360]
    cleared = next(one for one in follows if one.state is AlertState.CLEARED)
    assert cleared.id == follows[0].id
    assert 150 < cleared.at < 340
    back = next(one for one in follows if one.state is AlertState.RAISED and one.at > 360)
    assert (back.series, back.text[:16]) == ("depth", "depth moved down")


def test_a_reference_that_follows_is_what_a_recount_of_the_blocks_finds() -> None:
    rng = np.random.default_rng(1)
    binner = Binner([Bins.of_values("a", rng.normal(size=2_000)), Bins.of_values("b", rng.integers(0, 4, 2_000) * 1.0)])
    columns = [rng.normal(size=24_000), rng.integers(0, 4, 24_000).astype(float)]
    slices = [binner.count(binner.bin([one[at : at + 100] for one in columns])) for at in range(0, 24_000, 100)]
    usual = Reference.learn(binner, np.array(slices[:50]))
    usual.wander = rng.random(usual.wander.shape)
    trailing, number = Trailing(usual, (), 120), 7
    held: dict[int, list[np.ndarray]] = {}
    for counts in slices:
        number += int(rng.integers(1, 4))
        held.setdefault(number // 10, []).append(counts)
        made = trailing.step(number, counts, None)
        assert (made is not None) == (len(held) > 1 and len(held[number // 10]) == 1)
        over = [np.sum(some, axis=0) for block, some in held.items() if block < number // 10][-BLOCKS:]
        want = np.sum([*[usual.counts // BLOCKS] * (BLOCKS - len(over)), *over], axis=0)
        assert trailing.reference().counts.tolist() == want.tolist()
    assert np.array_equal(trailing.reference().wander, usual.wander), "how far it wanders stays as it was learned"


def test_what_follows_moves_with_the_slices_and_changes_nothing_by_that() -> None:
    events = [*_stream(160, seed=4), *_stream(60, seed=5, begin=160, depth=0.4, together=0.3)]
    watch = _watch(against="last 4m")
    said = _said(events, pipeline=PAGE)
    stayed = Monitor(watch, name="visits", version="1")
    want, got, moved = stayed.step(said), [], Monitor(watch, name="visits", version="1")
    for begin in range(0, len(said), 37):
        got += moved.step(said[begin : begin + 37])
        again = Monitor(watch, name="visits", version="1")
        again.load(snapshot.decode(snapshot.encode(moved.dump())))
        moved = again
    assert got == want != []
    assert snapshot.encode(moved.dump()) == snapshot.encode(stayed.dump())


def test_a_stream_that_stays_as_it_was_raises_nothing_where_what_is_usual_follows() -> None:
    stands, follows = _both(_stream(300, seed=11))
    assert stands == follows == []


@pytest.mark.parametrize("against", ["yesterday", "last", "last week", "7d"])
def test_what_says_no_window_is_refused(against: str) -> None:
    with pytest.raises(ValueError, match=r"against = .*write how long|is no span of time"):
        _watch(against=against)
