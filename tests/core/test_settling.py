"""A learner on its way raises no alert, nor does one that wanders; one that leaps does, and errors that grow do."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from core.test_watch import Visit, _visits
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Linear, Pipeline, field
from headrace.models import snapshot
from headrace.models.bins import Binner, Bins
from headrace.models.memory import Floats, Ints
from headrace.models.monitor import Monitor
from headrace.models.reference import Reference
from headrace.models.settling import HOUR_ROWS_MAX, ROWS_MAX, Settling, alike
from headrace.models.usual import usual, watch_of
from headrace.models.watch import Counted
from headrace.schemas.alert import Alert, AlertState

BINNER = Binner([Bins.of_edges("score", np.linspace(0.0, 1.0, 11).tolist())])
PAGE = Pipeline(name="visits", events=Visit, features={"depth": field("depth")}, static=Linear({"depth": 0.1}))
USUAL = usual(PAGE, [_visits(20_000, seed=1)])
WATCH = watch_of(USUAL, false_alarms="1 per year")
PER_SLICE = 500
SLICES = 1_300
WAY = 1.5 * np.exp(-np.arange(SLICES) / 60)  # a learner's, in log odds, until it has settled


def _rows(count: int, seed: int) -> list[Ints]:
    draw = np.random.default_rng(seed)
    return [BINNER.count(BINNER.bin([draw.random(120)])) for _ in range(count)]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(0, 3))
def test_one_that_moves_learns_the_same_at_the_same_time(cut: int, seed: int) -> None:
    rows, stayed, moved = _rows(250, seed), Settling(BINNER), Settling(BINNER)
    before = [stayed.take(one) for one in rows[:cut]]
    moved.load(snapshot.decode(snapshot.encode(stayed.dump())))
    found = [before + [one.take(row) for row in rows[cut:]] for one in (stayed, moved)]
    assert [one and one.dump() for one in found[0]] == [one and one.dump() for one in found[1]]
    assert [number for number, one in enumerate(found[0], 1) if one] == [30, 60, 120, 240]


def test_what_is_learned_anew_is_of_all_that_came_since_however_much_that_is() -> None:
    rows, settling = _rows(4_000, seed=1), Settling(BINNER)
    learned = {number: one for number, row in enumerate(rows, 1) if (one := settling.take(row)) is not None}
    assert list(learned) == [30, 60, 120, 240, 480, 960, 1_920, 3_840]
    assert np.array_equal(learned[3_840].counts, np.sum(rows[1_920:3_840], axis=0))
    assert learned[3_840].slices < ROWS_MAX
    assert len(settling.dump()["rows"]) == 160
    hour = Settling(BINNER, HOUR_ROWS_MAX)
    assert [number for number, row in enumerate(rows, 1) if hour.take(row) is not None] == list(learned)
    assert len(hour.dump()["rows"]) == 40


def test_few_events_are_waited_for_and_none_for_ever() -> None:
    settling = Settling(BINNER)
    few, none = _rows(1, seed=1)[0] // 4, np.zeros(BINNER.total, np.int64)
    assert [number for number in range(1, 150) if settling.take(few) is not None] == [-(-3_000 // int(few.sum()))]
    quiet = Settling(BINNER)
    assert [number for number in range(1, 700) if quiet.take(none) is not None] == [500]


def test_how_far_means_wander_is_learned_and_no_shift_of_that_size_is_one() -> None:
    draw = np.random.default_rng(4)
    still = np.array(_rows(160, seed=2))
    means = 0.3 * np.sin(np.arange(160) / 25)
    wanders = np.array([BINNER.count(BINNER.bin([1 / (1 + np.exp(-draw.normal(m, 1.0, 120)))])) for m in means])
    one, other = (Reference.learn(BINNER, rows, parts=8).wander for rows in (still, wanders))
    assert one[0, 0] < 0.08
    assert other[0, 0] == pytest.approx(0.3 / np.sqrt(2), rel=0.3)
    again = Reference.load(Reference.learn(BINNER, wanders, parts=8).dump())
    assert np.array_equal(again.wander, other)


def test_alike_is_what_moved_by_less_than_matters() -> None:
    draw = np.random.default_rng(5)

    def of(mean: float) -> Reference:
        values = 1 / (1 + np.exp(-draw.normal(mean, 1.0, 5_000)))
        return Reference.learn(BINNER, np.array([BINNER.count(BINNER.bin([values]))] * 8))

    assert alike(of(0.0), of(0.1), [0])
    assert not alike(of(0.0), of(0.5), [0])
    assert alike(of(0.0), of(0.5), [])


def _said(centres: Floats, errors: Floats) -> Iterator[dict[str, Any]]:
    """Yield slices of a stream that stays as it is, where the learner's scores and errors lie around these."""
    draw = np.random.default_rng(7)
    for number, (centre, error) in enumerate(zip(centres, errors, strict=True)):
        score = 1 / (1 + np.exp(-draw.normal(centre, 1.0, PER_SLICE)))
        label = (draw.random(PER_SLICE) < 0.3).astype(float)
        wrong = np.clip(draw.beta(2, 8, PER_SLICE) + error, 0.0, 1.0)
        own = {"score": score, "online": score, "disagreement": np.abs(score - 0.5)}
        known = {"label": label, "error": wrong, "error_online": wrong, "calibration": (2 * label - 1) * wrong}
        nobody = np.full(PER_SLICE, np.nan)
        parts = [
            binner.count(binner.bin([columns.get(one.name, nobody) for one in binner.series]))
            for binner, columns in ((WATCH.event_binner, own), (WATCH.label_binner, known))
        ]
        calm = WATCH.reference.counts * PER_SLICE // WATCH.reference.events
        slice_ = Counted(number, PER_SLICE, calm, *parts, np.zeros((1, 1)), {})
        yield {"partition": 0, "partitions": 1, "slice": slice_.dump()}


def _alerts(centres: Floats, errors: Floats) -> list[Alert]:
    told = Monitor(WATCH, name="visits", version="1").step(list(_said(centres, errors)))
    return [one for one in told if one.kind in ("score", "quality")]


@pytest.mark.parametrize("against", [None, "last 20m"])
def test_a_monitor_that_moves_goes_on_alike_wherever_its_learner_is(against: str | None) -> None:
    leaps = np.where(np.arange(420) < 360, WAY[:420], 1.0)
    said = list(_said(leaps, np.where(np.arange(420) // 60 == 5, 0.3, 0.0)))
    watch = watch_of(USUAL, against=against)
    want = Monitor(watch, name="visits", version="1").step(said)
    assert len({one.id for one in want}) > 1
    for cut in (29, 30, 45, 60, 119, 120, 300, 305, 365):
        stayed, moved = (Monitor(watch, name="visits", version="1") for _ in range(2))
        before = stayed.step(said[:cut])
        moved.load(snapshot.decode(snapshot.encode(stayed.dump())))
        assert before + moved.step(said[cut:]) == want, f"moved after {cut}"


def test_a_learner_on_its_way_and_one_that_wanders_raise_nothing() -> None:
    draw = np.random.default_rng(8)
    wander = np.zeros(SLICES)
    for number in range(1, SLICES):
        wander[number] = 0.98 * wander[number - 1] + draw.normal(0.0, 0.02)
    assert _alerts(WAY + wander, 0.3 * WAY) == []


def test_a_learner_that_leaps_once_it_has_settled_is_told_of_and_errors_that_grow_always() -> None:
    leaps = np.where(np.arange(SLICES) < 1_000, WAY, 1.0)
    first, *_ = _alerts(leaps, 0.0 * WAY)
    assert (first.state, first.kind) == (AlertState.RAISED, "score")
    assert {"score", "online"} <= {first.series, *first.explained_by}
    assert 1_000 * WATCH.every_s < first.at <= 1_004 * WATCH.every_s
    first, *_ = _alerts(WAY, np.where(np.arange(SLICES) < 45, 0.0, 0.3))  # long before it has settled
    assert (first.state, first.kind) == (AlertState.RAISED, "quality")
    assert 45 * WATCH.every_s < first.at <= 49 * WATCH.every_s
    assert first.effect["error"] > first.effect["error_before"]


def test_what_comes_while_an_alert_is_open_is_not_learned_from() -> None:
    calm, slices = np.zeros(900), np.arange(900)
    grown = np.where((slices >= 150) & (slices < 700), 0.3, 0.0)  # for longer than all that was before
    told = [one for one in _alerts(calm, grown) if one.state in (AlertState.RAISED, AlertState.CLEARED)]
    assert [one.state for one in told] == [AlertState.RAISED, AlertState.CLEARED]
    assert told[0].at <= 154 * WATCH.every_s
    assert 700 * WATCH.every_s < told[1].at <= 710 * WATCH.every_s
