"""What every pipeline keeps, over the example and over small pipelines that have every kind of feature and field."""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any, Optional

import msgspec
import numpy as np
import pytest
from core.records import Transaction, fraud, step
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from river import linear_model, preprocessing, tree

import headrace
from headrace import (
    Brake,
    Event,
    Fallback,
    Function,
    Label,
    Limits,
    Linear,
    Pipeline,
    by_recent_loss,
    code,
    cyclic,
    differs,
    distance_km,
    feature,
    field,
    hashed,
    log1p,
    multiple_of,
    one_hot,
    online_only,
    per,
    stacked,
    static_only,
    until_proven,
)
from headrace.models.features import Feature, parts
from headrace.models.keyed import Per
from headrace.models.laws import LAWS, Law, one_by_one_is_the_same_as_all_at_once, some_events
from headrace.models.pipeline import Effects
from headrace.models.usual import usual, watch_of
from headrace.schemas.errors import BadPipeline

SEEDS = range(3)
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60)
fixed = settings.get_profile("fixed")


class Order(Event, topic="orders", key="shop", id="number", time="when"):
    """Every type of field, the names of its roles chosen by the user."""

    number: int
    when: float
    shop: int
    count: int
    paid: bool
    note: str
    total: float | None = None
    rank: int | None = None
    first: bool | None = None
    coupon: str | None = None
    weights: list[float] = msgspec.field(default_factory=list)
    lat: float = 0.0
    lon: float = 0.0


@feature
def busy(count, total):
    """Two fields, numbers that are whole and numbers that may be missing."""
    return np.where(np.isnan(total), count, count * total)


@feature
def long_note(note):
    """Text, an event at a time."""
    return [len(text) for text in note]


@feature
def wide(weights):
    """Numbers within a field, which are no column of numbers."""
    return [0.0 if one is None else sum(one) for one in weights]


@feature
def tight(total):
    """Raise where a total is missing, and so for any batch that has such an event."""
    if np.isnan(total).any():
        raise ValueError("a total is missing")
    return total


def _pipeline(
    event: type[Event] = Order,
    *,
    logistic: bool = True,
    keys_max: int = 1_000,
    missing: dict[str, Any] | None = None,
    reasons: int = 0,
    codes: dict[str, str] | None = None,
    **features: Feature,
) -> Pipeline:
    weights = {name: 0.25 * (-1) ** place for place, name in enumerate(features)}
    static = Linear(weights, bias=0.1, logistic=logistic, version="7")
    asked = {"missing": missing, "reasons": reasons, "codes": codes}
    return Pipeline(name="small", events=event, features=features, static=static, keys_max=keys_max, **asked)


def fussy(a, *others):
    """Raise where one number is divisible by three, and so for any batch that has such an event."""
    if (a % 3 == 0).any():
        raise ArithmeticError("three")
    return a + sum(others)


def _failing(fallback: Any, **features: Feature) -> Pipeline:
    static = Function(fussy, features=list(features), version="7")
    return Pipeline(name="failing", events=Order, features=features, static=static, fallback=fallback)


shop = per("shop")
pair = per("shop", "coupon")


class Verdict(Label, topic="verdicts", of=Order, within="1h", otherwise=0, id="number", time="when"):
    """What is true of an order."""

    number: int
    when: float
    shop: int
    label: int


class Colour(Label, topic="colours", of=Order, within="1h", otherwise="none", id="number", time="when"):
    """Which of some classes an order belongs to."""

    number: int
    when: float
    shop: int
    label: str | None


class Level(Label, topic="levels", of=Order, within="1h", id="number", time="when"):
    """The same with numbers, and without one that is true otherwise."""

    number: int
    when: float
    shop: int
    label: int


LEARNER = preprocessing.StandardScaler() | linear_model.LogisticRegression()
COMBINATIONS = {
    "static_only": static_only,
    "online_only": online_only,
    "by_recent_loss": by_recent_loss(half_life=50, per="note"),
    "until_proven": until_proven(least=20, half_life=50),
    "stacked": stacked(linear_model.LogisticRegression()),
}


def _learning(combine: Any, **other: Any) -> Pipeline:
    features = {"count": field("count"), "orders": shop.count("1h"), "lat": field("lat")}
    static = Linear({"count": 0.1, "orders": -0.1, "lat": 0.01}, version="7")
    parts = {"labels": Verdict, "static": static, "online": LEARNER, "combine": combine, **other}
    return Pipeline(name="learning", events=Order, features=features, keys_max=1_000, **parts)


def _watched(**other: Any) -> Pipeline:
    """A learning pipeline of which it is watched what its events are like, and those of some shops on their own."""
    plain = _learning(by_recent_loss)
    data = usual(plain, [some_events(Order, 3_000, seed=9)], slices=["shop"], every="30s")
    data["slices"] = {"shop": dict.fromkeys(["1", "2"], data["reference"])}
    return _learning(other.pop("combine", by_recent_loss), watch=watch_of(data), **other)


def _looking_back() -> Pipeline:
    """A pipeline with features that are made of labels."""
    features = {
        "a": shop.target("1d", delay="2h", prior=0.1, weight=3, exact=True),
        "b": shop.target("12h", delay="3h", prior=0.5),
        "c": shop.count("1h"),
    }
    static = Linear({"a": 2.0, "b": -1.0, "c": 0.1}, version="7")
    return Pipeline(name="back", events=Order, labels=Verdict, features=features, static=static, keys_max=4)


LIMITED = {
    "limits": _learning(None, limits=Limits(learn_max="2 per hour", source="shop", source_max="3 per day", clip=1.5)),
    "a brake": _learning(by_recent_loss, brake=Brake(of_last=30, rest=20, margin=1.0, better=0.0)),
    "a brake and no static model": _learning(None, static=None, brake=Brake(of_last=30, rest=7, better=0.01)),
    "limits and a brake": _learning(
        until_proven(least=20), limits=Limits(learn_max="9 per hour", clip=2.0), brake=Brake(of_last=30, rest=0)
    ),
}
SEVERAL = {"static": None, "kind": "multiclass"}
TREE = tree.HoeffdingTreeClassifier(grace_period=20, leaf_prediction="mc")
MULTICLASS = {
    "classes by name": _learning(None, labels=Colour, online=TREE, **SEVERAL),
    "classes by number, with limits, watched": _watched(
        labels=Level, online=TREE, combine=None, limits=Limits(learn_max="20 per hour", clip=2.0), **SEVERAL
    ),
    "classes that come with the events": _learning(None, labels="coupon", online=TREE, **SEVERAL),
}
PIPELINES: dict[str, Callable[[], Pipeline]] = {
    "fraud": Pipeline(name="fraud", events=Transaction, features=fraud.features, static=fraud.static),
    "field": _pipeline(a=field("count"), b=field("paid"), c=field("when")),
    "field that may be missing": _pipeline(a=field("total"), b=field("rank"), c=field("first")),
    "log1p": _pipeline(a=log1p("count"), b=log1p("paid"), c=log1p("rank"), d=log1p("lat")),
    "differs": _pipeline(a=differs("note", "a"), b=differs("coupon", "b"), c=differs("shop", 3)),
    "multiple_of": _pipeline(a=multiple_of("count", 2), b=multiple_of("total", 0.5), c=multiple_of("shop", 3)),
    "hashed": _pipeline(a=hashed("note", buckets=7), b=hashed("rank", buckets=1_000), c=hashed("shop", buckets=2)),
    "code": _pipeline(a=code("note", ["a", "b"]), b=code("coupon", ["c"], missing=9.0), c=code("rank", [1, 2, 3])),
    "one_hot": _pipeline(**one_hot("coupon", ["a", "b", "z"]), **one_hot("shop", [1, 2]), **one_hot("total", [1.0])),
    "cyclic": _pipeline(**cyclic("when", "1d"), **cyclic("when", "1w"), **cyclic("count", "12s")),
    "distance_km": _pipeline(a=distance_km("lat", "lon", of=(0.0, 180.0))),
    "feature": _pipeline(a=busy, b=long_note),
    "field of a list": _pipeline(a=wide, b=field("count")),
    "feature that raises": _pipeline(a=tight, b=field("count")),
    "count and ratio": _pipeline(a=shop.count("5m"), b=shop.count("1h", exact=True), c=shop.ratio("1h", "1d")),
    "watched": _watched(),
    "watched, labels with the events": _watched(labels="paid"),
    "count before, and delayed": _pipeline(a=shop.count("1h", counting_this=False), b=shop.count("1d", delay="1h")),
    "sum and mean": _pipeline(a=shop.sum("count", "1h"), b=shop.mean("total", "1d"), c=shop.mean("rank", "1h")),
    "max and min": _pipeline(a=shop.max("count", "1h"), b=shop.min("total", "1h", exact=True)),
    "std and zscore": _pipeline(a=shop.std("total", "1d"), b=shop.zscore("count", "1d"), c=shop.zscore("total", "1h")),
    "robust zscore": _pipeline(a=shop.robust_zscore("total", last=8), b=shop.robust_zscore("count")),
    "rate": _pipeline(a=shop.rate("paid", "1d"), b=shop.rate("first", "30d", delay="1d", prior=0.1, weight=10)),
    "decay": _pipeline(a=shop.decayed_count("1h"), b=shop.decayed_sum("total", "1d")),
    "since": _pipeline(a=shop.since_last(at_most="1h"), b=shop.since_first()),
    "values": _pipeline(a=shop.distinct("note", "1h"), b=shop.is_new("coupon", "1d"), c=shop.distinct("rank", "1d")),
    "places": _pipeline(a=shop.speed("lat", "lon"), b=shop.distance("lat", "lon")),
    "session": _pipeline(a=shop.session_count("30m"), b=shop.session_seconds("2h"), c=shop.session_mean_gap("2h")),
    "pairs": _pipeline(a=pair.count("1h"), b=pair.since_last(), c=shop.count("1h"), d=field("count")),
    "missing values": _pipeline(
        missing={"total": 2.5, "coupon": "none", "first": 1},
        a=field("total"),
        b=shop.mean("total", "1d"),
        c=shop.distinct("coupon", "1d"),
        d=pair.count("1h"),
        e=shop.rate("first", "1d"),
    ),
    "few keys": _pipeline(keys_max=5, a=shop.count("1h"), b=shop.distinct("note", "1d"), c=pair.count("1h")),
    "memory and a feature that raises": _pipeline(a=tight, b=shop.count("1h"), c=shop.sum("total", "1h")),
    "function": Pipeline(
        name="f", events=Order, features={"a": field("count"), "b": log1p("lat")}, static=Function(fussy)
    ),
    "fallback": _failing(0.5, a=field("count"), b=log1p("lat")),
    "breaker": _failing(Fallback(0.5, failing=0.2, of_last=10, rest=25), a=field("count"), b=log1p("lat")),
    "breaker that may open at every failure": _failing(Fallback(-1, failing=0.1, of_last=1, rest=1), a=field("count")),
    "breaker, memory and a fallback that fails": _failing(
        Fallback(Linear({"b": 1.0}, logistic=False), of_last=20, rest=10), a=shop.count("1h"), b=field("total")
    ),
    "late": _pipeline(a=shop.count("1m"), b=shop.distinct("note", "1m")),
    "no logistic": _pipeline(logistic=False, a=field("count"), b=distance_km("lat", "lon", of=(90.0, 0.0))),
    **{name: _learning(combine) for name, combine in COMBINATIONS.items()},
    "labels with the events": _learning(None, labels="rank"),
    "a learner alone": _learning(None, static=None),
    "labels and no learner": _learning(None, online=None),
    **LIMITED,
    **MULTICLASS,
    "target, few keys": _looking_back(),
    "reasons": _pipeline(reasons=2, codes={"a": "R1"}, a=field("count"), b=shop.count("1h"), c=field("lat")),
    "reasons of both models": _learning(by_recent_loss(half_life=50), reasons=2),
    "reasons, and labels with the events": _learning(None, labels="rank", reasons=2),
}
# What is exported and makes no feature, with the reason.
NOT_FEATURES = {
    "Drift": "says what is watched",
    "Brake": "what stops a learner; some of the pipelines have one",
    "Event": "a base class for what is scored",
    "Fallback": "what stands in for a model; some of the pipelines have one",
    "Function": "a model; some of the pipelines have one",
    "Label": "a base class for what turned out true",
    "Limits": "what labels may teach; some of the pipelines have them",
    "Linear": "a model; nearly every pipeline here has one",
    "Model": "what a model has to be",
    "Pipeline": "what the laws are about",
    "Static": "a model that a folder holds; some pipelines of its own tests have one, and keep the laws",
    "save_static": "it writes such a folder",
    "extends": "what a worker does beside the pipeline",
    "per": "each of its features is looked for below",
    **dict.fromkeys(
        ["ask_for_retraining", "fall_back", "restart_learner", "reweight"],
        "what is done about an alert; in tests/core/test_actions.py it comes between steps, and they keep the laws",
    ),
}


@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_pipeline_keeps(law: Law, name: str, number: int) -> None:
    law(PIPELINES[name], number)


def test_what_stands_for_a_missing_value_does_so_for_every_feature() -> None:
    def order(number: int, total: float | None, coupon: str | None) -> Order:
        return Order(number=number, when=1.0 * number, shop=1, count=0, paid=False, note="", total=total, coupon=coupon)

    given = [order(0, 2.5, "x"), order(1, 4.0, "none"), order(2, 2.5, "none")]
    absent = [order(0, None, "x"), order(1, 4.0, None), order(2, None, None)]
    features = {
        "a": field("total"),
        "b": shop.sum("total", "1h"),
        "c": shop.distinct("coupon", "1d"),
        "d": pair.count("1h"),
    }
    pipeline = _pipeline(missing={"total": 2.5, "coupon": "none"}, **features)
    scores = [[made.score for made in step(pipeline, events).predictions] for events in (given, absent)]
    assert scores[0] == scores[1]
    made = pipeline.transform(absent, pipeline.fresh())
    assert {name: column.tolist() for name, column in made.items()} == {
        "a": [2.5, 4.0, 2.5], "b": [2.5, 6.5, 9.0], "c": [1, 2, 2], "d": [1, 1, 2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ({"totla": 1.0}, "missing['totla']: Order has no such field; did you mean 'total'?"),
        ({"count": 1.0}, "missing['count']: Order.count is int, and never missing"),
        ({"total": "x"}, "missing['total'] = 'x': allowed are finite numbers, as Order.total is float | None"),
        ({"total": math.nan}, "missing['total'] = nan: allowed are finite numbers, as Order.total is float | None"),
    ],
)
def test_what_cannot_stand_for_a_missing_value_is_refused(missing: dict[str, Any], told: str) -> None:
    with pytest.raises(BadPipeline) as refused:
        _pipeline(missing=missing, a=field("count"))
    assert told in str(refused.value)


def test_there_are_nine_laws() -> None:
    assert len(LAWS) == len(set(LAWS)) == 9  # a suite that finds nothing also passes
    assert all(law.__doc__ for law in LAWS)


def test_every_maker_of_features_is_under_law_or_is_none_for_a_reason() -> None:
    makers = [name for name in headrace.__all__ if name not in NOT_FEATURES]
    assert len(makers) == 15
    assert set(makers) <= set(PIPELINES), "add a pipeline with the new feature to PIPELINES"
    assert set(NOT_FEATURES) <= set(headrace.__all__), "an entry is no longer needed"


def test_every_feature_with_a_memory_is_under_law() -> None:
    origins = [one.origin for pipeline in PIPELINES.values() for one in pipeline.features.values()]
    kept = {origin.split(").")[1].split("(")[0] for origin in origins if origin.startswith("per(")}
    assert kept == {name for name in vars(Per) if not name.startswith("_")}
    assert len(kept) == 22


def test_small_pipelines_score_some_and_reject_some() -> None:
    # A law over a pipeline that rejects everything, or never anything, says little.
    made = PIPELINES
    scored = {name: len(step(one, some_events(one.events, 200, 1)).predictions) for name, one in made.items()}
    assert all(scored.values()), scored
    assert scored["field"] == scored["differs"] == 200
    assert 0 < scored["feature that raises"] < 200
    assert 0 < scored["field that may be missing"] < 200


def test_a_law_that_is_broken_says_where() -> None:
    @feature
    def unusual(count):
        return count - count.mean()

    with pytest.raises(AssertionError, match=r"^seed 3: events came one by one, and event \d+ scored .+, not .+$"):
        one_by_one_is_the_same_as_all_at_once(_pipeline(a=unusual), 3)


# Numbers where vectorised code likes to differ from itself: equal ones, tiny ones, huge ones, both zeros.
numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 10.0, -10.0, 90.0, 180.0, 5e-324, 1e-300, 1e18, 1.7976931348623157e308]),
    st.floats(allow_nan=False, allow_infinity=False),
)
sane = st.floats(0, 1e6)
payments = st.builds(
    Transaction,
    id=st.uuids().map(str),
    at=numbers,
    card=st.sampled_from("abc"),
    merchant=st.just("m"),
    amount=numbers,
    lat=numbers,
    lon=numbers,
    country=st.sampled_from(["FR", "DE", "", "fr"]),
)
sane_payments = st.builds(
    Transaction,
    id=st.uuids().map(str),
    at=st.one_of(st.integers(0, 2_000_000_000).map(float), st.floats(0, 4e9)),
    card=st.sampled_from("abc"),
    merchant=st.just("m"),
    amount=st.one_of(st.integers(0, 200).map(float), sane),
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    country=st.sampled_from(["FR", "DE", "", "fr"]),
)


def _bits(predictions: list) -> list[tuple]:
    return [(made.id, np.float64(made.score).tobytes(), made) for made in predictions]


@given(st.lists(payments, max_size=40), st.lists(st.integers(0, 40), max_size=6))
@fixed
def test_any_partition_of_a_batch_gives_the_same_bits(events: list, cuts: list[int]) -> None:
    whole = step(fraud, events)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    parts = [step(fraud, events[begin:end]) for begin, end in itertools.pairwise(bounds)]
    assert _bits([made for part in parts for made in part.predictions]) == _bits(whole.predictions)
    rejected = [
        one._replace(at=one.at + begin) for begin, part in zip(bounds, parts, strict=False) for one in part.rejections
    ]
    assert rejected == whole.rejections


@given(st.lists(st.tuples(sane_payments, st.sampled_from(["", "nan", "inf", "raises"])), min_size=1, max_size=20))
@fixed
def test_an_event_that_fails_takes_no_other_with_it(drawn: list) -> None:
    @feature
    def fragile(amount):
        if (amount == -7.0).any():
            raise ZeroDivisionError("minus seven")
        return amount

    pipeline = _pipeline(Transaction, fragile=fragile, amount=log1p("amount"))
    harm = {"nan": -3.0, "inf": -1.0, "raises": -7.0}
    for event, kind in drawn:
        event.amount = harm.get(kind, event.amount)
    events = [event for event, _ in drawn]
    effects = step(pipeline, events)
    alone = step(pipeline, [event for event, kind in drawn if not kind])
    assert not alone.rejections
    assert _bits(effects.predictions) == _bits(alone.predictions)
    want = [(at, "feature_failed" if kind == "raises" else "not_finite") for at, (_, kind) in enumerate(drawn) if kind]
    assert [(one.at, one.reason.value) for one in effects.rejections] == want


def _fraud_by_hand(event: Transaction) -> float:
    hour = event.at / 3600 % 24
    phi, home = math.radians(event.lat), math.radians(48.8566)
    half_lat, half_lon = (phi - home) / 2, math.radians(event.lon - 2.3522) / 2
    a = math.sin(half_lat) ** 2 + math.cos(phi) * math.cos(home) * math.sin(half_lon) ** 2
    terms = (
        -4.2,
        0.45 * math.log1p(event.amount),
        0.9 * (hour >= 22 or hour < 6),
        0.35 * (event.amount % 10 == 0),
        1.1 * (event.country != "FR"),
        0.0004 * 2 * 6371.0088 * math.asin(math.sqrt(min(a, 1.0))),
    )
    return 1 / (1 + math.exp(-math.fsum(terms)))


@given(st.lists(sane_payments, min_size=1, max_size=30))
@fixed
def test_fraud_scores_what_the_formula_says(events: list) -> None:
    effects = step(fraud, events)
    assert not effects.rejections
    for event, made in zip(events, effects.predictions, strict=True):
        # At the antipode the distance itself is known to seven digits only: arcsin is flat out there.
        assume(abs(event.lat + 48.8566) > 0.01 or abs(abs(event.lon - 2.3522) - 180) > 0.01)
        assert math.isclose(made.score, _fraud_by_hand(event), rel_tol=1e-12, abs_tol=0.0), event
        assert made.static == made.score
        assert made.online is None


@pytest.mark.parametrize("number", SEEDS)
def test_fraud_scores_ordinary_payments_as_the_formula_says(number: int) -> None:
    rng = random.Random(number)
    events = [
        Transaction(
            str(place),
            rng.uniform(1.6e9, 1.8e9),
            "c",
            "m",
            round(rng.lognormvariate(3, 1.5), 2),
            rng.uniform(-89, 89),
            rng.uniform(-177, 179),
            rng.choice(("FR", "DE", "US")),
        )
        for place in range(500)
    ]
    for event, made in zip(events, step(fraud, events).predictions, strict=True):
        assert math.isclose(made.score, _fraud_by_hand(event), rel_tol=1e-12, abs_tol=0.0), event


def _score(pipeline: Pipeline, **fields: object) -> float:
    return (
        step(
            pipeline,
            [pipeline.events(**{"number": 1, "when": 0.0, "shop": 1, "count": 0, "paid": False, "note": "", **fields})],
        )
        .predictions[0]
        .score
    )


ONE = Linear({"a": 1.0}, logistic=False)


@pytest.mark.parametrize(
    ("made", "fields", "want"),
    [
        (field("count"), {"count": 7}, 7.0),
        (field("paid"), {"paid": True}, 1.0),
        (field("first"), {"first": False}, 0.0),
        (log1p("count"), {"count": 0}, 0.0),
        (log1p("rank"), {"rank": 1}, math.log(2)),
        (differs("note", "x"), {"note": "x"}, 0.0),
        (differs("note", "x"), {"note": "X"}, 1.0),
        (differs("coupon", "x"), {"coupon": None}, 1.0),
        (differs("total", 1.0), {"total": None}, 1.0),
        (multiple_of("count", 10), {"count": 0}, 1.0),
        (multiple_of("count", 10), {"count": 15}, 0.0),
        (multiple_of("total", 10), {"total": -20.0}, 1.0),
        (multiple_of("total", 10), {"total": None}, 0.0),
        (distance_km("lat", "lon", of=(0.0, 0.0)), {"lat": 0.0, "lon": 0.0}, 0.0),
        (distance_km("lat", "lon", of=(0.0, 0.0)), {"lat": 0.0, "lon": 180.0}, math.pi * 6371.0088),
        (distance_km("lat", "lon", of=(90.0, 0.0)), {"lat": -90.0, "lon": 77.0}, math.pi * 6371.0088),
        (long_note, {"note": "four"}, 4.0),
    ],
    ids=repr,
)
def test_feature_is(made: Feature, fields: dict, want: float) -> None:
    pipeline = Pipeline(name="one", events=Order, features={"a": made}, static=ONE)
    assert math.isclose(_score(pipeline, **fields), want, rel_tol=1e-12)


def _orders(*weights: list[float]) -> list:
    return [Order(number, 0.0, 1, 0, paid=False, note="", weights=one) for number, one in enumerate(weights)]


@pytest.mark.parametrize(
    "weights",
    [
        [[1.0]],
        [[1.0, 2.0]],
        [[1.0], [2.0]],
        [[1.0, 2.0], [3.0, 4.0]],
        [[1.0, 2.0], []],
        [[], []],
        [[1.0, 2.0], [4.0], [8.0, 16.0, 32.0]],
    ],
    ids=repr,
)
def test_a_field_of_several_numbers_is_given_as_it_is(weights: list[list[float]]) -> None:
    seen = []

    @feature
    def added(weights):
        seen.append(list(weights))
        return [sum(one) for one in weights]

    effects = step(Pipeline(name="one", events=Order, features={"a": added}, static=ONE), _orders(*weights))
    assert [made.score for made in effects.predictions] == list(map(sum, weights))
    assert seen == [weights]


def test_a_field_of_several_numbers_is_no_feature_by_itself() -> None:
    effects = step(
        Pipeline(name="one", events=Order, features={"a": field("weights")}, static=ONE), _orders([1.0, 2.0])
    )
    assert [one.reason.value for one in effects.rejections] == ["feature_failed"]


@pytest.mark.parametrize(
    ("hint", "want"),
    [
        (float, (float,)),
        (float | None, (float, type(None))),
        (Optional[int], (int, type(None))),  # noqa: UP045 - people write it so
        (list[float], (list[float],)),
        (dict[str, float], (dict[str, float],)),
        (list[float] | None, (list[float], type(None))),
    ],
    ids=repr,
)
def test_a_type_has_parts_only_if_it_is_a_union(hint: object, want: tuple) -> None:
    assert parts(hint) == want


def test_a_sum_that_is_infinite_is_no_score() -> None:
    sums = np.array([np.inf, -np.inf, np.nan, 800.0, -800.0, 0.0])
    assert np.array_equal(
        Linear({"a": 1.0}).score({"a": sums}), [np.nan, np.nan, np.nan, 1.0, 0.0, 0.5], equal_nan=True
    )


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_an_event_with_an_infinite_sum_is_rejected_and_its_cause_named(weight: float) -> None:
    pipeline = Pipeline(
        name="one", events=Transaction, features={"a": log1p("amount")}, static=Linear({"a": weight}, logistic=True)
    )
    events = some_events(Transaction, 3, 1)
    events[1].amount = -1.0  # and the logarithm of zero is minus infinity
    effects = step(pipeline, events)
    assert len(effects.predictions) == 2
    ((at, reason, told, _),) = effects.rejections
    assert (at, reason.value) == (1, "not_finite")
    assert told == "score is nan; feature 'a' (log1p('amount')) is -inf"


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("lat", [1.7e308, -1.7e308])
def test_finite_features_with_an_infinite_sum_are_rejected_too(lat: float) -> None:
    pipeline = Pipeline(name="one", events=Order, features={"a": field("lat")}, static=Linear({"a": 4.0}))
    (event,) = _orders([])
    event.lat = lat
    assert [one.reason.value for one in step(pipeline, [event]).rejections] == ["not_finite"]


def test_predictions_of_two_pipelines_of_the_same_parts_are_equal() -> None:
    events = some_events(Order, 5, 1)
    one, other = (step(_pipeline(a=field("count")), events).predictions for _ in range(2))
    assert one == other
    assert type(one[0]) is type(other[0])


def test_predictions_of_another_version_are_others() -> None:
    events = some_events(Order, 5, 1)
    versions = [
        Pipeline(name="p", events=Order, features={"a": field("count")}, static=Linear({"a": 1.0}, version=version))
        for version in ("1", "2")
    ]
    one, other = (step(pipeline, events).predictions for pipeline in versions)
    assert one != other
    assert (one[0].version, other[0].version) == ("1", "2")


def test_prediction_carries_id_time_and_key_under_the_names_of_the_event() -> None:
    events = some_events(Order, 3, 1)
    predictions = step(_pipeline(a=field("count")), events).predictions
    fields = ("number", "when", "shop", "score", "static", "online", "model", "version", "flags")
    assert predictions[0].__struct_fields__ == fields
    made = [(one.number, one.when, one.shop, one.model, one.version) for one in predictions]
    assert made == [(one.number, one.when, one.shop, "small", "7") for one in events]


def test_no_events_have_no_effects() -> None:
    assert step(fraud, []) == Effects([], [], [])


def _told(function: Callable, **fields: object) -> str:
    pipeline = Pipeline(name="one", events=Order, features={"a": feature(function)}, static=ONE)
    rejection = step(
        pipeline, [Order(**{"number": 1, "when": 0.0, "shop": 1, "count": 0, "paid": False, "note": "", **fields})]
    ).rejections[0]
    return rejection.message


def test_a_feature_that_raises_is_named_with_its_file_and_line() -> None:
    def wrong(note):
        bad = note
        return bad + 1

    first = wrong.__code__.co_firstlineno
    told = _told(wrong)
    assert told.startswith(f"feature 'a' (wrong, test_laws.py:{first}): raised TypeError: ")
    assert told.endswith(f" (line {first + 2})")


def test_a_feature_that_returns_another_count_is_told_so() -> None:
    def two(count):
        return [1.0, 2.0]

    assert _told(two).endswith("returned shape (2,), expected (1,): one number per event")


def test_a_feature_that_writes_to_its_column_is_stopped() -> None:
    def greedy(count):
        count += 1
        return count

    assert "raised ValueError: " in _told(greedy)
    assert "read-only" in _told(greedy)


def test_a_feature_that_returns_text_is_told_so() -> None:
    def text(note):
        return note

    assert "raised ValueError: could not convert string to float: 'x'" in _told(text, note="x")


def test_a_model_that_raises_rejects_the_event() -> None:
    class Broken(Linear):
        def score(self, features):
            raise MemoryError("no room")

    pipeline = Pipeline(name="one", events=Order, features={"a": field("count")}, static=Broken({"a": 1.0}))
    effects = step(pipeline, some_events(Order, 3, 1))
    assert effects.predictions == []
    told = [(one.at, one.reason.value, one.message, one.error) for one in effects.rejections]
    assert told == [(at, "model_failed", "model raised MemoryError('no room')", "MemoryError") for at in range(3)]


def test_a_whole_number_too_large_for_a_float_rejects_its_event_alone() -> None:
    events = some_events(Order, 3, 1)
    events[1].count = 10**400
    effects = step(_pipeline(a=field("count")), events)
    assert [made.number for made in effects.predictions] == [0, 2]
    assert [(one.at, one.reason.value) for one in effects.rejections] == [(1, "feature_failed")]
