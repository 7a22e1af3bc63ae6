"""What a prediction says of how it came about."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from core.records import step
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Fallback, Function, Pipeline, field, per
from headrace.schemas.prediction import Flag
from headrace.testing import Driver

settings.register_profile("flags", derandomize=True, deadline=None, max_examples=100)
fixed = settings.get_profile("flags")
card = per("card", late="10s")
pair = per("card", "shop", late="3s")


class Payment(Event, topic="payments", key="card"):
    """What is scored here."""

    id: str
    at: float
    card: str
    shop: str = ""
    amount: float = 1.0


def _pipeline(fallback: Any = None, **features: Any) -> Pipeline:
    static: Any = Function(lambda *columns: sum(columns)) if fallback is None else Function(_odd)
    return Pipeline(name="p", events=Payment, features=features, static=static, fallback=fallback)


def _odd(amount, *others):
    if (amount == 13.0).any():
        raise ValueError("thirteen")
    return amount + sum(others)


def _is_late(before: list[Payment], now: Payment, tile: float, keep: float) -> bool:
    """Say by the definition whether no window can need the event any more."""

    def place(one: Payment) -> float:
        return math.floor(one.at / tile) if tile else one.at

    return place(now) <= max(map(place, [*before, now])) - keep


moments = st.tuples(st.integers(0, 60), st.sampled_from("ab"), st.sampled_from("xy"))


@given(st.lists(moments, max_size=40), st.lists(st.integers(0, 40), max_size=4))
@fixed
def test_an_event_is_late_when_some_window_of_its_key_could_not_take_it_in(drawn: list, cuts: list[int]) -> None:
    pipeline = _pipeline(
        tiled=card.count("20s", tile="5s"), exact=pair.count("7s", exact=True), values=card.distinct("shop", "8s")
    )
    payments = [Payment(str(number), at, key, shop) for number, (at, key, shop) in enumerate(drawn)]
    state, flags = pipeline.fresh(), []
    bounds = [0, *sorted(cut for cut in cuts if cut < len(payments)), len(payments)]
    for begin, end in itertools.pairwise(bounds):
        flags += [one.flags for one in pipeline.step(payments[begin:end], state).predictions]
    want = []
    for number, now in enumerate(payments):
        same = [one for one in payments[:number] if one.card == now.card]
        both = [one for one in same if one.shop == now.shop]
        late = _is_late(same, now, 5.0, 4 + 2) or _is_late(both, now, 0.0, 7 + 3) or _is_late(same, now, 0.0, 8 + 10)
        want.append(("late",) if late else ())
    assert flags == want


def test_an_event_that_is_late_is_scored_and_leaves_no_trace() -> None:
    pipeline = _pipeline(n=card.count("20s", tile="5s"))
    times = [100.0, 10.0, 101.0]
    made = step(pipeline, [Payment(str(at), at, "a") for at in times]).predictions
    assert [(one.score, one.flags) for one in made] == [(1.0, ()), (1.0, ("late",)), (2.0, ())]


def test_a_prediction_without_a_memory_is_never_late() -> None:
    made = step(_pipeline(a=field("amount")), [Payment("1", 1e9, "a"), Payment("2", 0.0, "a")]).predictions
    assert [one.flags for one in made] == [(), ()]


def test_an_event_may_have_more_than_one_flag_and_those_beside_it_have_none() -> None:
    pipeline = _pipeline(Fallback(0.5), amount=field("amount"), n=card.count("20s", tile="5s"))
    events = [
        Payment("1", 100.0, "a"),
        Payment("2", 10.0, "a", amount=13.0),
        Payment("3", 10.0, "a"),
        Payment("4", 100.0, "a", amount=13.0),
    ]
    made = step(pipeline, events).predictions
    assert [one.flags for one in made] == [(), ("static_fallback", "late"), ("late",), ("static_fallback",)]
    assert [one.static for one in made] == [2.0, None, 2.0, None]


def test_flags_stay_with_their_events_when_others_are_rejected() -> None:
    features = {"n": card.count("20s", tile="5s"), "amount": field("amount")}
    static = Function(lambda n, amount: amount / (amount != 13.0))
    driver = Driver(Pipeline(name="p", events=Payment, features=features, static=static))
    payments = [Payment("1", 100.0, "a"), b"{}", Payment("2", 9.0, "a", amount=13.0), Payment("3", 9.0, "a")]
    driver.pipe_all(payments)
    assert [(made["id"], made["flags"]) for made in driver.predictions] == [("1", []), ("3", ["late"])]
    assert [one.reason for one in driver.dead_letters] == ["missing_field", "not_finite"]


@pytest.mark.parametrize("flag", Flag)
def test_every_flag_says_what_it_means_and_is_on_its_page(flag: Flag) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/models.md"
    assert f"| `{flag}` | {flag.text} |" in page.read_text()
