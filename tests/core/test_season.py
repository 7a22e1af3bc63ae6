"""A stream that changes with the hour is compared with the same hour of other days: only what is new is told."""

from typing import Any

import numpy as np
import pytest
from core.test_monitor import _said
from core.test_watch import FEATURES, PLAIN, STATIC, Visit

from headrace import Pipeline
from headrace.models import snapshot
from headrace.models.monitor import Monitor
from headrace.models.usual import usual, watch_of
from headrace.models.watch import Watch
from headrace.schemas.alert import AlertState

HOUR = 3_600
PER_HOUR = 15_000  # events
SEASON = "2h"


def _stream(hours: int, *, seed: int, begin: int = 0, depth: float = 0.0, since: float = 0.0) -> list[Visit]:
    """Return visits that are deeper in every other hour, and from a time on by ``depth`` more."""
    rng = np.random.default_rng(seed)
    count = hours * PER_HOUR
    at = begin * HOUR + np.arange(count) * (HOUR / PER_HOUR)
    deep = rng.normal(0.0, 1.0, count) + 0.6 * (at // HOUR % 2) + depth * (at >= since)
    kinds, users = rng.integers(0, 4, count).tolist(), rng.integers(0, 3, count).tolist()
    return [Visit(str(n), float(at[n]), f"u{users[n]}", float(deep[n]), kinds[n]) for n in range(count)]


LEARNED = _stream(6, seed=1)
DATA = usual(PLAIN, [LEARNED], slices=["user"], every="60s", season=SEASON)


def _watch(season: str | None = SEASON) -> Watch:
    return watch_of(DATA, false_alarms="1 per week", season=season)


def _monitor(season: str | None = SEASON) -> Monitor:
    return Monitor(_watch(season), name="visits", version="1")


PAGE = Pipeline(name="visits", events=Visit, features=FEATURES, static=STATIC, watch=_watch())


def test_the_hour_is_no_alert() -> None:
    said = _said(_stream(6, seed=2, begin=6), pipeline=PAGE)
    monitor = _monitor()
    assert monitor.step(said) == []
    assert monitor.looked == 360


def test_what_is_unlike_the_same_hour_of_other_days_is_told() -> None:
    said = _said(_stream(4, seed=3, begin=6, depth=0.3, since=8.5 * HOUR), pipeline=PAGE)
    # Without a season it is usual that hours differ, by more than that.
    assert not [one for one in _monitor(None).step(said) if one.series == "depth" and one.at < 8.75 * HOUR]
    raised = [one for one in _monitor().step(said) if one.state is AlertState.RAISED]
    assert (raised[0].series, raised[0].slice) == ("depth", "")
    assert 8.5 * HOUR < raised[0].at < 8.75 * HOUR
    assert raised[0].evidence.reference_count == pytest.approx(3 * PER_HOUR, rel=0.01), "that of this hour"


def test_what_is_usual_in_an_hour_is_what_a_recount_finds() -> None:
    watch = _watch()
    for hour, some in enumerate(watch.parts[""]):
        mine = [one for one in LEARNED if one.at // HOUR % 2 == hour]
        column = np.array([one.depth for one in mine])
        place = watch.places["depth"]
        assert some is not None
        assert (
            some.of(place).tolist()
            == np.bincount(watch.binner.series[place].bin(column), minlength=watch.binner.series[place].count).tolist()
        )
    assert [watch.part(number) for number in (0, 59, 60, 119, 120)] == [0, 0, 1, 1, 0]


def test_seasons_move_with_the_slices_and_change_nothing_by_that() -> None:
    said = _said(_stream(3, seed=4, begin=6, depth=0.3, since=8.2 * HOUR), pipeline=PAGE)
    stayed, moved, got = _monitor(), _monitor(), []
    want = stayed.step(said)
    for begin in range(0, len(said), 17):
        got += moved.step(said[begin : begin + 17])
        again = _monitor()
        again.load(snapshot.decode(snapshot.encode(moved.dump())))
        moved = again
    assert got == want != []
    assert snapshot.encode(moved.dump()) == snapshot.encode(stayed.dump())


def test_an_hour_of_which_too_little_was_seen_is_not_looked_at() -> None:
    few = [one for one in LEARNED if one.at // HOUR % 2 == 0 or one.at % HOUR < 60]
    data: dict[str, Any] = usual(PLAIN, [few], every="60s", season=SEASON)
    watch = watch_of(data, season=SEASON)
    assert [one is None for one in watch.parts[""]] == [False, True]
    page = Pipeline(name="visits", events=Visit, features=FEATURES, static=STATIC, watch=watch)
    said = _said(_stream(2, seed=5, begin=6, depth=2.0, since=7 * HOUR), pipeline=page)
    monitor = Monitor(watch, name="visits", version="1")
    assert monitor.step(said) == []
    assert monitor.looked == 120


def test_what_cannot_be_compared_by_the_hour_is_refused() -> None:
    with pytest.raises(ValueError, match="told from two whole seasons or more, and the events are of"):
        usual(PLAIN, [LEARNED[:90_000]], season="1d")
    with pytest.raises(ValueError, match="season = '1d': it was learned with '2h'; learn it anew"):
        _watch("1d")
    with pytest.raises(ValueError, match="leave one out"):
        watch_of(DATA, season=SEASON, against="last 7d")
