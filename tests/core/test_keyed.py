"""Features with a memory equal a slow recount: over equal times, late events, any cut, a snapshot in the middle."""

import datetime as dt
import enum
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Linear, Pipeline, per
from headrace.models import hashes, snapshot, windows
from headrace.models.features import Columns, great_circle_km
from headrace.models.hashes import hashes_of
from headrace.models.keyed import KeyedFeature
from headrace.models.state import LEAVE_SHARE, SWEEP_COUNT, State
from headrace.schemas.errors import BadPipeline
from headrace.schemas.span import seconds

settings.register_profile("oracle", derandomize=True, deadline=None, max_examples=60)
oracle = settings.get_profile("oracle")
card = per("card", late="10m")


class Payment(Event, topic="payments", key="card"):
    """What the recount is about."""

    id: str
    at: float
    card: str
    amount: int | None = None
    merchant: str | None = None
    lat: float = 0.0
    lon: float = 0.0


class Past(NamedTuple):
    """What came before an event, of the same key, and the event."""

    events: list[Payment]
    now: Payment

    @property
    def newest(self) -> float:
        """The newest time before the event."""
        return max((one.at for one in self.events), default=-math.inf)

    def within(self, span: str, tile: float, delay: float = 0.0, longest: str = "") -> list[Payment]:
        """Return the events in the window, as the definition has it."""

        def place(at: float) -> float:
            return math.floor(at / tile) if tile else at

        unit = tile or 1.0
        keep = (seconds(longest or span) + delay) / unit + math.ceil(600 / unit)
        remembered, newest = [], -math.inf
        for one in self.events:
            newest = max(newest, place(one.at))
            if place(one.at) > newest - keep:
                remembered.append(one)
        now = place(self.now.at)
        since = max(now - (seconds(span) + delay) / unit, newest - keep)
        return [one for one in remembered if since < place(one.at) <= now - delay / unit]


def _amounts(events: list[Payment]) -> list[int]:
    return [one.amount for one in events if one.amount is not None]


def _with(events: list[Payment], now: Payment) -> list[Payment]:
    return [*events, now]


def _mean(values: list[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _std(values: list[int]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((one - mean) ** 2 for one in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def _zscore(past: Past, values: list[int]) -> float:
    std = _std(values)
    return 0.0 if std == 0 or past.now.amount is None else (past.now.amount - _mean(values)) / std


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _robust(past: Past, last: int) -> float:
    values = _amounts(past.events)[-last:]
    if len(values) < 3 or past.now.amount is None:
        return 0.0
    spread = _median([abs(one - _median(values)) for one in values])
    return (past.now.amount - _median(values)) / (1.4826 * spread) if spread else 0.0


def _last(past: Past) -> Payment | None:
    newest = None
    for one in past.events:
        if newest is None or one.at >= newest.at:
            newest = one
    return newest


def _since(past: Past, cap: float) -> float:
    last = _last(past)
    return cap if last is None else min(max(past.now.at - last.at, 0.0), cap)


def _decayed(past: Past, half_life: float, weights: list[float]) -> float:
    newest = max(past.newest, past.now.at)
    before = sum(w * 2 ** ((one.at - newest) / half_life) for one, w in zip(past.events, weights, strict=True))
    return before + 1.0 if weights and weights == [1.0] * len(weights) else before


def _last_met(past: Past, span: str) -> set[str]:
    met: dict[str, float] = {}
    newest = -math.inf
    for one in past.events:
        newest = max(newest, one.at)
        if one.merchant is not None and one.at > newest - DAY_AND_LATE:
            met[one.merchant] = max(one.at, met.get(one.merchant, -math.inf))
    since = max(past.now.at - seconds(span), newest - DAY_AND_LATE)
    return {merchant for merchant, at in met.items() if at > since}


DAY_AND_LATE = 86_400 + 600.0


def _session(past: Past, gap: float) -> tuple[int, float]:
    count, start, last = 0, past.now.at, -math.inf
    for one in past.events:
        if one.at - last > gap:
            count, start = 0, one.at
        count, start, last = count + 1, min(start, one.at), max(last, one.at)
    return (0, past.now.at) if past.now.at - last > gap else (count, min(start, past.now.at))


def _mean_gap(past: Past, gap: float) -> float:
    count, start = _session(past, gap)
    return (max(past.newest, past.now.at) - start) / count if count else 0.0


def _an_hour_ago(past: Past) -> list[Payment]:
    """Return two hours of events that end with a tile of half an hour all of which is an hour old."""
    some = past.within("2h", 1800, 3600 + 1800)
    assert all(past.now.at - one.at >= 3600 for one in some)
    return some


def _speed(past: Past) -> float:
    last = _last(past)
    if last is None:
        return 0.0
    km = great_circle_km(*(np.array([one]) for one in (last.lat, last.lon, past.now.lat, past.now.lon)))[0]
    return float(km / (max(abs(past.now.at - last.at), 1.0) / 3_600))


Recount = Callable[[Past], float]
FEATURES: dict[str, tuple[KeyedFeature, Recount]] = {
    "count 5m": (card.count("5m", tile="1m"), lambda p: len(p.within("5m", 60, longest="1h")) + 1),
    "count 1h": (card.count("1h", tile="1m"), lambda p: len(p.within("1h", 60)) + 1),
    "count 1h in its own tiles": (card.count("1h", tile="5m"), lambda p: len(p.within("1h", 300)) + 1),
    "count 1h exact": (card.count("1h", exact=True), lambda p: len(p.within("1h", 0, longest="1d")) + 1),
    "count before": (card.count("1h", tile="1m", counting_this=False), lambda p: len(p.within("1h", 60))),
    "sum 5m": (
        card.sum("amount", "5m", tile="1m"),
        lambda p: sum(_amounts(_with(p.within("5m", 60, longest="1h"), p.now))),
    ),
    "sum exact": (card.sum("amount", "1d", exact=True), lambda p: sum(_amounts(_with(p.within("1d", 0), p.now)))),
    "sum before": (
        card.sum("amount", "1h", tile="1m", counting_this=False),
        lambda p: sum(_amounts(p.within("1h", 60))),
    ),
    "mean": (
        card.mean("amount", "1h", exact=True),
        lambda p: _mean(_amounts(_with(p.within("1h", 0, longest="1d"), p.now))),
    ),
    "max": (card.max("amount", "1h", tile="1m"), lambda p: max(_amounts(_with(p.within("1h", 60), p.now)), default=0)),
    "min": (card.min("amount", "1h", tile="1m"), lambda p: min(_amounts(_with(p.within("1h", 60), p.now)), default=0)),
    "std": (card.std("amount", "1h", tile="1m"), lambda p: _std(_amounts(_with(p.within("1h", 60), p.now)))),
    "std exact": (
        card.std("amount", "1h", exact=True),
        lambda p: _std(_amounts(_with(p.within("1h", 0, longest="1d"), p.now))),
    ),
    "zscore": (card.zscore("amount", "1h", tile="1m"), lambda p: _zscore(p, _amounts(p.within("1h", 60)))),
    "robust zscore": (card.robust_zscore("amount", last=5), lambda p: _robust(p, 5)),
    "ratio": (
        card.ratio("5m", "1h", tile="1m"),
        lambda p: (len(p.within("5m", 60, longest="1h")) + 1) / (len(p.within("1h", 60)) + 1) * 12,
    ),
    "rate, delayed": (
        card.rate("amount", "2h", tile="30m", delay="1h", prior=0.25, weight=4),
        lambda p: (sum(_amounts(_an_hour_ago(p))) + 1) / (len(_amounts(_an_hour_ago(p))) + 4),
    ),
    "decayed count": (card.decayed_count("1h"), lambda p: _decayed(p, 3600, [1.0] * len(p.events)) + (not p.events)),
    "since last": (card.since_last(at_most="1d"), lambda p: _since(p, 86_400)),
    "since first": (
        card.since_first(at_most="2h"),
        lambda p: min(max(p.now.at - min((one.at for one in p.events), default=p.now.at), 0), 7200),
    ),
    "distinct": (
        card.distinct("merchant", "1h"),
        lambda p: len(_last_met(p, "1h") | ({p.now.merchant} - {None})),
    ),
    "is new": (
        card.is_new("merchant", "1d"),
        lambda p: p.now.merchant is not None and p.now.merchant not in _last_met(p, "1d"),
    ),
    "speed": (card.speed("lat", "lon"), _speed),
    "session count": (card.session_count("30m"), lambda p: _session(p, 1800)[0] + 1),
    "session seconds": (card.session_seconds("30m"), lambda p: p.now.at - _session(p, 1800)[1]),
    "session mean gap": (card.session_mean_gap("30m"), lambda p: _mean_gap(p, 1800)),
}
KEYED = {name: one for name, (one, _) in FEATURES.items()}

payments = st.lists(
    st.builds(
        lambda card, step, late, amount, merchant, place: (card, step, late, amount, merchant, place),
        st.sampled_from("ab"),
        st.sampled_from([0, 0, 1, 30, 59, 60, 61, 299, 300, 1_799, 1_801, 3_600, 90_000]),
        st.sampled_from([0, 0, 0, 0, 0, 1, 60, 599, 601, 4_300, 200_000]),
        st.none() | st.integers(0, 9),
        st.none() | st.sampled_from("mnop"),
        st.integers(0, 3),
    ),
    max_size=60,
)


def _events(drawn: list[Any]) -> list[Payment]:
    at, made = 1_700_000_000, []
    for number, (key, step, late, amount, merchant, place) in enumerate(drawn):
        at += step
        made.append(Payment(str(number), float(at - late), key, amount, merchant, 48.0 + place, 2.0 + place / 4))
    return made


def _made(state: State, events: list[Payment]) -> dict[str, list[float]]:
    columns = Columns(events)
    past = state.step(columns)
    return {name: one.combined(columns["at"], past[one.keys], columns).tolist() for name, one in KEYED.items()}


@oracle
@given(payments, st.lists(st.integers(0, 60), max_size=4), st.integers(0, 4))
def test_every_feature_equals_a_recount(drawn: list[Any], cuts: list[int], moved_at: int) -> None:
    events = _events(drawn)
    state = State("at", KEYED)
    got: dict[str, list[float]] = {name: [] for name in KEYED}
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        if number == moved_at:
            moved = State("at", KEYED)
            moved.load(snapshot.decode(snapshot.encode(state.dump())))
            state = moved
        for name, values in _made(state, events[begin:end]).items():
            got[name] += values
    for name, (_, recount) in FEATURES.items():
        want = [float(recount(_past(events, at))) for at in range(len(events))]
        assert got[name] == pytest.approx(want, rel=1e-9, abs=1e-9), name


def _past(events: list[Payment], at: int) -> Past:
    return Past([one for one in events[:at] if one.card == events[at].card], events[at])


def test_whole_numbers_are_counted_to_the_last_digit() -> None:
    rng = np.random.default_rng(7)
    events = [
        Payment(str(at), 1.7e9 + at * 7.0, f"c{rng.integers(5)}", int(rng.integers(1_000_000)), "m")
        for at in range(2_000)
    ]
    got = _made(State("at", KEYED), events)
    for name in ("count 1h", "sum 5m", "sum exact", "sum before", "max", "min"):
        assert got[name][1_500:] == [FEATURES[name][1](_past(events, at)) for at in range(1_500, 2_000)], name


def _pipeline(keys_max: int = 1_000, **features: KeyedFeature) -> Pipeline:
    static = Linear(dict.fromkeys(features, 1.0), logistic=False)
    return Pipeline(name="p", events=Payment, features=features, static=static, keys_max=keys_max)


def _scores(pipeline: Pipeline, events: list[Payment], state: State | None = None) -> list[float]:
    made = pipeline.step(events, state or pipeline.fresh()).predictions
    return [one.score for one in made]  # type: ignore[attr-defined]


def test_the_key_that_was_quiet_for_longest_leaves_when_there_are_too_many() -> None:
    pipeline = _pipeline(keys_max=3, n=card.count("30d"))
    state = pipeline.fresh()
    events = [Payment(str(at), 100.0 + at, key) for at, key in enumerate("abcadeab")]
    # d pushes b out, e pushes c; a stays, because it came again, and b begins anew.
    assert _scores(pipeline, events, state) == [1, 1, 1, 2, 1, 1, 3, 1]
    (table,) = state.tables.values()
    assert (len(table), table.evicted) == (3, 3)


@pytest.mark.parametrize("chance", range(5))
def test_keys_leave_in_the_order_in_which_something_last_came_to_them(chance: int) -> None:
    pipeline, keys_max, rng = _pipeline(keys_max=300, n=card.count("30d")), 300, np.random.default_rng(chance)
    state, known = pipeline.fresh(), OrderedDict[str, int]()
    for first in range(0, 20_000, 400):
        # Some keys come all the time, others now and then.
        drawn = np.where(rng.random(400) < 0.3, rng.integers(200, size=400), rng.integers(3_000, size=400))
        events = [Payment(str(first + at), 1.7e9 + first + at, f"c{key}") for at, key in enumerate(drawn)]
        before = snapshot.encode(state.dump())
        scores = _scores(pipeline, events, state)
        if rng.random() < 0.3:
            other, state = state, pipeline.fresh()
            state.load(snapshot.decode(before))
            assert _scores(pipeline, events, state) == scores
            assert snapshot.encode(state.dump()) == snapshot.encode(other.dump())
        for event, score in zip(events, scores, strict=True):
            if event.card not in known and len(known) == keys_max:
                for _ in range(keys_max // LEAVE_SHARE):
                    known.popitem(last=False)
            known[event.card] = known.pop(event.card, 0) + 1
            assert score == known[event.card]
    (table,) = state.tables.values()
    assert table.evicted > 5_000
    assert len(table) == len(known)


def test_a_new_key_that_comes_right_after_a_sweep_finds_room() -> None:
    pipeline = _pipeline(keys_max=10, n=card.count("30d"))
    state = pipeline.fresh()
    _scores(pipeline, [Payment(str(at), 100.0, f"c{at % 10}") for at in range(SWEEP_COUNT)], state)
    assert _scores(pipeline, [Payment("x", 100.0, "new")], state) == [1]
    assert state.key_count == 10


def test_no_room_for_any_key_is_refused() -> None:
    with pytest.raises(BadPipeline, match="keys_max = 0: a partition remembers one key at the least"):
        _pipeline(keys_max=0, n=card.count("1h"))


def test_a_key_that_nobody_needs_any_more_leaves_by_itself() -> None:
    pipeline = _pipeline(keys_max=1_000_000, n=card.count("5m"))
    state = pipeline.fresh()
    for first in range(0, 140_000, 2_000):
        _scores(pipeline, [Payment(str(at), float(at), f"c{at}") for at in range(first, first + 2_000)], state)
    (table,) = state.tables.values()
    assert table.evicted == 0
    assert table.expired > 120_000
    assert len(table) == 140_000 - table.expired < 12_000


def test_a_time_far_in_the_future_touches_its_own_key_alone() -> None:
    pipeline = _pipeline(n=card.count("1h"))
    state = pipeline.fresh()
    events = [Payment(str(at), 1.7e9 + at, key) for at, key in enumerate("ababab")]
    events.insert(2, Payment("x", 1.7e9 + 365 * 86_400, "a"))
    assert _scores(pipeline, events, state) == [1, 1, 1, 1, 2, 1, 3]
    assert state.key_count == 2


def test_memory_follows_tiles_and_not_events() -> None:
    pipeline = _pipeline(n=card.count("1h", tile="1m"), s=card.sum("amount", "5m", tile="1m"))
    sizes = []
    for per_second in (1, 50):
        state = pipeline.fresh()
        for first in range(0, 20_000, 1_000):
            events = [Payment(str(at), 1.7e9 + at / per_second, "a", 1) for at in range(first, first + 1_000)]
            _scores(pipeline, events, state)
        (table,) = state.tables.values()
        sizes.append(table.bytes)
    assert sizes[1] <= sizes[0]


def test_an_exact_window_that_is_full_lets_the_oldest_event_go() -> None:
    pipeline = _pipeline(n=card.count("30d", exact=True))
    state = pipeline.fresh()
    scores = _scores(pipeline, [Payment(str(at), float(at), "a") for at in range(5_000)], state)
    assert scores[4_000] == 4_001
    assert scores[-1] == 4_097


def test_a_late_event_pushes_no_newer_one_out_of_an_exact_window_that_is_full() -> None:
    pipeline = _pipeline(s=card.sum("amount", "2h", exact=True, counting_this=False))
    state = pipeline.fresh()
    amounts = [7, *[0] * 4_095]
    _scores(pipeline, [Payment(str(at), 1_000.0 + at, "a", one) for at, one in enumerate(amounts)], state)
    # Each of these is older than all that are kept, and in the window of what follows.
    _scores(pipeline, [Payment(f"late {at}", 900.0 + at, "a", 1) for at in range(50)], state)
    assert _scores(pipeline, [Payment("now", 5_096.0, "a")], state) == [7]


def test_a_late_event_makes_no_newer_value_unknown() -> None:
    pipeline = _pipeline(n=card.is_new("merchant", "1d"))
    state = pipeline.fresh()
    _scores(pipeline, [Payment(str(at), 1_000.0 + at, "a", 1, f"m{at}") for at in range(256)], state)
    _scores(pipeline, [Payment("late", 900.0, "a", 1, "x")], state)
    assert _scores(pipeline, [Payment("now", 2_000.0, "a", 1, "m0")], state) == [0]


def _refused(**features: KeyedFeature) -> str:
    with pytest.raises(BadPipeline) as refused:
        _pipeline(**features)
    return str(refused.value)


def test_a_feature_per_another_field_than_the_topics_key_is_refused() -> None:
    told = _refused(a=per("merchant").count("1h"))
    assert "features['a'] (per('merchant').count('1h')) remembers per 'merchant', but the topic's key is 'card'" in told
    assert "add 'card' to per(...)" in told


def test_a_sum_of_text_is_refused() -> None:
    assert "features['a'] (per('card').sum('merchant', '1h')) needs numbers, and 'merchant' is str | None" in _refused(
        a=card.sum("merchant", "1h")
    )


def test_a_field_that_is_not_there_is_refused() -> None:
    assert "reads 'amonut', which Payment does not have; did you mean 'amount'?" in _refused(a=card.sum("amonut", "1h"))


@pytest.mark.parametrize("span", ["", "5", "m", "-5m", "0s", "5 m", "infd", "nand", "1" * 400 + "s"])
def test_a_span_that_is_none_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match="is no span of time: write a number and one of s, m, h, d, w, like 5m or 30d"):
        card.count(span)


def test_tiles_that_do_not_fill_the_span_are_refused() -> None:
    with pytest.raises(ValueError, match="span '5m' is not a whole number of tiles of '2m'"):
        card.count("5m", tile="2m")
    with pytest.raises(ValueError, match="an exact window has no tiles"):
        card.count("5m", tile="1m", exact=True)


class Odd(Event, topic="odd", key="card"):
    """Fields that are hard to carry over."""

    id: str
    at: float
    card: int
    shop: int | None = None
    share: float | None = None
    code: int | str | None = None


def _carried(events: list[Odd], after: list[Odd], **features: KeyedFeature) -> tuple[list[float], list[float]]:
    """Return the scores of what comes after some events: where it was lived, and where it was made again."""
    static = Linear(dict.fromkeys(features, 1.0), logistic=False)
    pipeline = Pipeline(name="p", events=Odd, features=features, static=static)
    lived, again = pipeline.fresh(), pipeline.fresh()
    change = pipeline.step(events, lived).change
    assert change is not None
    again.take(snapshot.decode(snapshot.encode(change)))
    moved = pipeline.fresh()
    moved.load(snapshot.decode(snapshot.encode(again.dump())))
    return _scores(pipeline, after, lived), _scores(pipeline, after, moved)


def test_keys_that_are_missing_or_whole_numbers_are_the_same_after_they_were_made_again() -> None:
    large = 2**53 + 1
    for field, values in {"shop": [None, large, 5], "share": [1.5, None, 0.0], "code": [7, 8, None]}.items():
        before = [Odd(str(at), 1.0, 1, **{field: one}) for at, one in enumerate(values)]
        after = [Odd(f"x{at}", 2.0, 1, **{field: one}) for at, one in enumerate([*values, large - 1])]
        lived, again = _carried(before, after, n=per("card", field).count("1d"))
        assert lived == again == [2, 2, 2, 1], field


def test_values_of_several_types_are_the_same_after_they_were_made_again() -> None:
    before = [Odd("1", 1.0, 1, code=5), Odd("2", 1.0, 1, code=6)]
    lived, again = _carried(before, [Odd("3", 2.0, 1, code=5)], n=card.is_new("code", "1d"))
    assert lived == again == [0]


@pytest.mark.parametrize("size", [2**63, 2**64, 10**400])
def test_a_whole_number_that_is_too_large_is_a_dead_letter_and_not_the_end(size: int) -> None:
    features = {
        "per": per("card", "code").count("1d"),
        "pair": per("card", "shop").count("1d"),
        "values": card.distinct("shop", "1d"),
        "sum": card.sum("shop", "1d"),
    }
    for name, chosen in features.items():
        pipeline = Pipeline(name="p", events=Odd, features={name: chosen}, static=Linear({name: 1.0}, logistic=False))
        state = pipeline.fresh()
        events = [Odd("1", 1.0, 1, 3), Odd("2", 1.0, size), Odd("3", 1.0, 1, size), Odd("4", 1.0, 1, None, None, size)]
        effects = pipeline.step(events, state)
        rejected = {one.at for one in effects.rejections}
        assert 0 not in rejected, name
        assert 1 in rejected, name
        assert effects.change is not None
        snapshot.decode(snapshot.encode(effects.change))
        snapshot.encode(state.dump())


@pytest.mark.parametrize(
    ("span", "tile"), [("11s", ""), ("1.1m", ""), ("0.7m", ""), ("0.3s", "0.1s"), ("0.7s", "0.1s"), ("1.1h", "0.1h")]
)
def test_a_span_is_a_whole_number_of_tiles_although_no_float_is(span: str, tile: str) -> None:
    pipeline = _pipeline(n=card.count(span, tile=tile))
    length = seconds(tile) if tile else seconds(span) / 60
    tiles = round(seconds(span) / length)
    events = [Payment(str(at), (at + 0.5) * length, "a") for at in range(3 * tiles)]
    assert _scores(pipeline, events) == [min(at + 1, tiles) for at in range(3 * tiles)]


def test_numbers_that_are_equal_have_one_hash_whichever_came_first() -> None:
    made = []
    for first in (1, 1.0, True):
        hashes._KNOWN.clear()
        made += [hashes_of(np.array([first], object))[0], hashes_of(np.array([1.0], object))[0]]
    assert len(set(made)) == 1
    assert hashes_of(np.array(["1"], object))[0] != made[0]


def test_long_values_are_not_kept_beside_their_hashes() -> None:
    before = len(hashes._KNOWN)
    hashes_of(np.array([f"{at:0>2000}" for at in range(100)], object))
    assert len(hashes._KNOWN) == before


class Shop(enum.Enum):
    """Comes back from a snapshot as text."""

    A = "a"


class Rich(Event, topic="rich", key="card"):
    """Fields of which a value cannot be kept as it is."""

    id: str
    at: float
    card: str
    tags: list[str] | None = None
    shop: Shop = Shop.A
    day: dt.date | None = None
    kind: Literal["x", "y"] = "x"


@pytest.mark.parametrize("field", ["tags", "shop", "day"])
def test_values_that_would_not_come_back_the_same_are_refused(field: str) -> None:
    for feature in (card.distinct(field, "1d"), card.is_new(field, "1d"), per("card", field).count("1d")):
        with pytest.raises(BadPipeline, match=f"tells values of '{field}' apart, which is .*: allowed are str, int"):
            Pipeline(name="p", events=Rich, features={"n": feature}, static=Linear({"n": 1.0}))
    Pipeline(name="p", events=Rich, features={"n": per("card", "kind").count("1d")}, static=Linear({"n": 1.0}))


class Amount(Event, topic="amounts", key="card"):
    """An amount of any size."""

    id: str
    at: float
    card: str
    amount: float


def _deviations(amounts: list[float], *, apart: float, exact: bool) -> list[dict[str, float]]:
    """Return what the features say of each event, and what exact arithmetic says; the first is in no other's window."""
    features = {"std": card.std("amount", "1h", exact=exact), "z": card.zscore("amount", "1h", exact=exact)}
    state, events = State("at", features), []
    for at, amount in enumerate(amounts):
        events.append(Amount(str(at), 1e9 + 7_200.0 * (at > 0) + apart * at, "a", amount))
    columns = Columns(events)
    past = state.step(columns)[("card",)]
    made = {name: one.combined(columns["at"], past, columns) for name, one in features.items()}
    told = []
    for at in range(3, len(amounts)):
        before = [Fraction(one) for one in amounts[1:at]]
        told.append(
            {"std": float(made["std"][at]), "z": float(made["z"][at]), **_exactly(before, Fraction(amounts[at]))}
        )
    return told


def _exactly(before: list[Fraction], own: Fraction) -> dict[str, float]:
    def spread(values: list[Fraction]) -> Fraction:
        middle = sum(values) / len(values)
        return sum((one - middle) ** 2 for one in values) / (len(values) - 1)

    away = own - sum(before) / len(before)
    return {"want std": math.sqrt(spread([*before, own])), "want z": float(away) / math.sqrt(spread(before))}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("apart", [0.5, 50.0])
@pytest.mark.parametrize(
    ("first", "middle"), [(1e12, 1.0), (1.0, 1.0), (1e12, 1e12), (0.0, 1e12), (-1e15, 1e9), (1e300, 1.0)]
)
def test_no_value_of_long_ago_spoils_a_deviation(first: float, middle: float, apart: float, exact: bool) -> None:
    rng = np.random.default_rng(5)
    amounts = [first, *(middle + rng.uniform(-0.1, 0.1, 60)).tolist()]
    for told in _deviations(amounts, apart=apart, exact=exact):
        assert told["std"] == pytest.approx(told["want std"], rel=1e-12)
        assert told["z"] == pytest.approx(told["want z"], rel=1e-12, abs=1e-12)


def test_a_value_that_is_far_from_the_rest_of_its_window_spoils_no_deviation_there() -> None:
    rng = np.random.default_rng(6)
    for place in (1, 2, 30):
        amounts = [0.0, *rng.uniform(0.9, 1.1, 40).tolist()]
        amounts[place] = 1e12
        for told in _deviations(amounts, apart=20.0, exact=False)[place:]:
            assert told["std"] == pytest.approx(told["want std"], rel=1e-12)
            assert told["z"] == pytest.approx(told["want z"], rel=1e-12)


def test_values_that_are_all_equal_have_no_deviation_at_all() -> None:
    pipeline = _pipeline_of_amounts(std=card.std("amount", "1h"), z=card.zscore("amount", "1h"))
    events = [Amount(str(at), 1e9 + 30.0 * at, "a", 0.1) for at in range(100)]
    assert _scores(pipeline, events) == [0.0] * 100


def _pipeline_of_amounts(**features: KeyedFeature) -> Pipeline:
    static = Linear(dict.fromkeys(features, 1.0), logistic=False)
    return Pipeline(name="p", events=Amount, features=features, static=static)


def test_a_rate_without_a_prior_or_with_an_absurd_one_is_refused() -> None:
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"rate\('amount', '1d'\): weight = .*: allowed are numbers above zero"):
            card.rate("amount", "1d", weight=weight)
    with pytest.raises(ValueError, match=r"rate\('amount', '1d'\): prior = nan: allowed are finite numbers"):
        card.rate("amount", "1d", prior=math.nan)


def test_one_absurd_value_does_not_turn_away_every_event_that_follows() -> None:
    features = {
        "std": card.std("amount", "1h"),
        "sum": card.decayed_sum("amount", "1h"),
        "z": card.zscore("amount", "1h"),
    }
    pipeline = Pipeline(name="p", events=Amount, features=features, static=Linear(dict.fromkeys(features, 1.0)))
    state = pipeline.fresh()
    amounts = [1e308, 1.7e308, 1.7e308, -1.7e308, 5.0, 6.0, 7.0]
    events = [Amount(str(at), 1e9 + 1e7 * (at // 4) + at, "a", one) for at, one in enumerate(amounts)]
    rejected = {one.at for one in pipeline.step(events, state).rejections}
    assert not rejected & {4, 5, 6}


# The compiled windows and numpy's.

few_amounts = st.sampled_from([None, 0, 1, 3, -2, 10**15, 10**300, -(10**300)])
visits = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2_000, width=32), few_amounts), max_size=70)


def _remembered_by(exact: bool) -> dict[str, KeyedFeature]:
    rare = per("card", late="1m")
    made: dict[str, KeyedFeature] = {}
    for span in ("10m", "20m"):
        tile: dict[str, Any] = {"exact": True} if exact else {"tile": "30s"}
        made |= {
            f"count {span}": rare.count(span, **tile),
            f"later {span}": rare.sum("amount", span, delay="5m", **tile),
            f"sum {span}": rare.sum("amount", span, **tile),
            f"mean {span}": rare.mean("amount", span, **tile),
            f"max {span}": rare.max("lat", span, counting_this=False, otherwise=-1.0, **tile),
            f"min {span}": rare.min("amount", span, **tile),
            f"std {span}": rare.std("amount", span, **tile),
            f"zscore {span}": rare.zscore("lat", span, **tile),
        }
    return made


@oracle
@given(visits, st.lists(st.integers(0, 70), max_size=5), st.booleans(), st.sampled_from([4, 8, 16, 4096]))
def test_compiled_windows_are_numpys_to_the_last_bit(
    drawn: list[Any], cuts: list[int], exact: bool, entries_max: int
) -> None:
    assert windows._kernel is not None, "these tests want a compiler"
    payments = [
        Payment(str(at), float(when), key, amount, lat=-0.0 if amount == 3 else float(amount or 0))
        for at, (key, when, amount) in enumerate(drawn)
    ]
    ends = sorted({min(cut, len(payments)) for cut in (0, *cuts, len(payments))})
    found = []
    for kernel in (windows._kernel, None):
        with pytest.MonkeyPatch.context() as patched, np.errstate(over="ignore", invalid="ignore"):
            patched.setattr(windows, "_kernel", kernel)
            patched.setattr(windows, "ENTRIES_MAX", entries_max)
            features = _remembered_by(exact)
            state = State("at", features)
            made = dict.fromkeys(features, b"")
            for begin, end in itertools.pairwise(ends):
                columns = Columns(payments[begin:end])
                past = state.step(columns)
                for name, one in features.items():
                    made[name] += one.combined(columns["at"], past[one.keys], columns).tobytes()
            (table,) = state.tables.values()
            (keeper,) = table._keepers
            assert keeper.entries is not None
            kept = []
            for row in range(len(table)):
                (look,) = keeper.entries.look(np.array([row]))
                values = {name: look.values(name).tobytes() for name in look.shelf.measures}
                kept.append((look.shelf.room, look.tags.tobytes(), values, keeper.columns["newest"][row]))
            found.append((made, kept, keeper.late, keeper.entries.pushed_out))
    assert found[0] == found[1]


def test_a_kernel_that_is_given_windows_that_do_not_fit_says_so() -> None:
    features = _remembered_by(exact=False)
    state = State("at", features)
    state.step(Columns(_events([("a", 0, 0, 1, None, 0)])))
    (keeper,) = next(iter(state.tables.values()))._keepers
    assert isinstance(keeper, windows.Windows)
    assert keeper.entries is not None
    shelves, shelf_of, place_of = keeper.entries.arrays()
    one, out = np.zeros(1, np.int64), np.empty((len(keeper._wanted), 1))
    newest, amounts = keeper.columns["newest"], (np.ones(1), np.ones(1))
    given = [keeper._plan, keeper._keep, newest, shelf_of, place_of, shelves, one, np.zeros(1), amounts, out]
    given += [one.copy(), np.zeros(2, np.int64), one, one.copy()]
    assert windows._kernel.windows(*given) == 0  # type: ignore[arg-type]
    far, short = np.array([10**6]), np.empty((1, 1))
    for place, wrong, what in (
        (0, (*keeper._plan[:1], keeper._plan[1] + 99, *keeper._plan[2:]), "what is wanted and what is kept"),
        (3, np.full_like(shelf_of, 99), "rows and their places"),
        (5, tuple(one[:1] for one in shelves), "shelves and measures"),
        (6, far, "rows and what is kept of them"),
        (8, (), "measures and columns"),
        (9, short, "what comes out"),
        (12, far, "events and rows"),
    ):
        with pytest.raises(ValueError, match=f"{what} do not fit together"):
            windows._kernel.windows(*given[:place], wrong, *given[place + 1 :])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a column of 1 float64"):
        windows._kernel.windows(*given[:8], (np.ones(1), np.ones(2)), *given[9:])  # type: ignore[arg-type]
