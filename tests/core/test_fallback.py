"""What stands in for a model that fails: the score, the flag, and the breaker beside a slow recount."""

import itertools
import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Fallback, Function, Linear, Pipeline, field, log1p, per
from headrace.models import snapshot
from headrace.models.fallback import Breaker
from headrace.schemas.errors import BadPipeline
from headrace.testing import Driver

settings.register_profile("breaker", derandomize=True, deadline=None, max_examples=100)
fixed = settings.get_profile("breaker")
FLAG = "static_fallback"


class Payment(Event, topic="payments", key="card"):
    """What is scored here; the model fails where the amount is odd."""

    id: str
    at: float
    card: str
    amount: float


asked: list[int] = []


def fussy(amount):
    asked.append(len(amount))
    if (amount % 2 == 1).any():
        raise ValueError("odd")
    return amount


def _pipeline(
    fallback: Any = None, static: Any = None, features: Mapping[str, Any] | None = None, **other: Any
) -> Pipeline:
    static = static or Function(fussy, features=["amount"])
    features = features or {"amount": field("amount")}
    return Pipeline(name="p", events=Payment, features=features, static=static, fallback=fallback, **other)


def _payments(*amounts: float) -> list[Payment]:
    return [Payment(str(at), 1_000.0 + at, f"c{at % 3}", amount) for at, amount in enumerate(amounts)]


def _step(pipeline: Pipeline, *amounts: float) -> Any:
    return pipeline.step(_payments(*amounts), pipeline.fresh())


def test_without_a_fallback_an_event_on_which_the_model_fails_is_a_dead_letter() -> None:
    effects = _step(_pipeline(), 2.0, 3.0, 4.0)
    assert [(one.score, one.flags) for one in effects.predictions] == [(2.0, ()), (4.0, ())]
    assert [(one.at, one.reason, one.error) for one in effects.rejections] == [(1, "model_failed", "ValueError")]
    assert effects.change is None


def test_a_score_stands_in_where_the_model_fails() -> None:
    effects = _step(_pipeline(0.25), 2.0, 3.0, 4.0)
    assert effects.rejections == []
    made = [(one.score, one.static, one.flags) for one in effects.predictions]
    assert made == [(2.0, 2.0, ()), (0.25, None, (FLAG,)), (4.0, 4.0, ())]


def test_another_model_stands_in_where_the_model_fails() -> None:
    features = {"amount": field("amount"), "log": log1p("amount")}
    other = Linear({"log": 2.0}, logistic=False)
    made = _step(_pipeline(other, features=features), 2.0, 3.0).predictions
    assert [(one.score, one.flags) for one in made] == [(2.0, ()), (2.0 * math.log1p(3.0), (FLAG,))]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_failure(wrong: float) -> None:
    static = Function(lambda amount: np.where(amount == 3.0, wrong, amount))
    made = _step(_pipeline(0.25, static), 2.0, 3.0).predictions
    assert [(one.score, one.flags) for one in made] == [(2.0, ()), (0.25, (FLAG,))]


def test_where_the_fallback_fails_too_the_dead_letter_tells_of_both() -> None:
    def other(amount):
        if (amount == 3.0).any():
            raise KeyError("three")
        return np.where(amount == 5.0, np.nan, 0.5)

    effects = _step(_pipeline(Function(other)), 1.0, 3.0, 5.0)
    assert [one.score for one in effects.predictions] == [0.5]
    assert [(one.at, one.reason.value, one.message, one.error) for one in effects.rejections] == [
        (1, "model_failed", "model raised ValueError('odd'); its fallback raised KeyError('three')", "KeyError"),
        (2, "model_failed", "model raised ValueError('odd'); its fallback gave nan", "ValueError"),
    ]


def test_a_fallback_that_gives_nan_where_the_model_does_is_told_as_a_score_that_is_none() -> None:
    wrong = Function(lambda amount: amount * np.nan)
    (rejection,) = _step(_pipeline(wrong, wrong), 1.0).rejections
    assert (rejection.reason.value, rejection.message) == ("not_finite", "score is nan")


def test_a_feature_that_is_not_finite_gets_the_fallback_and_is_not_the_models_fault() -> None:
    features, static = {"log": log1p("amount")}, Linear({"log": 1.0})
    pipeline = _pipeline(Fallback(0.25, failing=0.1, of_last=10, rest=5), static, features)
    state = pipeline.fresh()
    made = pipeline.step(_payments(*[-3.0] * 20, 1.0), state).predictions
    assert [one.flags for one in made] == [(FLAG,)] * 20 + [()]
    assert state.breaker is not None
    assert (state.breaker.opened, state.breaker.resting) == (0, 0)


def test_the_breaker_opens_when_a_share_of_the_last_events_failed_and_the_model_is_not_asked() -> None:
    pipeline = _pipeline(Fallback(0.25, failing=0.5, of_last=4, rest=6))
    state = pipeline.fresh()
    for amount in (2.0, 1.0, 1.0):
        pipeline.step(_payments(amount), state)
    assert state.breaker is not None
    assert (state.breaker.is_open, state.breaker.resting) == (True, 6)
    asked.clear()
    made = pipeline.step(_payments(*[2.0] * 6), state).predictions
    assert asked == []
    assert [one.score for one in made] == [0.25] * 6
    made = pipeline.step(_payments(2.0, 2.0, 2.0), state).predictions
    assert [one.score for one in made] == [2.0, 2.0, 2.0], "it is asked again, and well"
    assert not state.breaker.is_open
    assert (state.breaker.opened, state.breaker.closed) == (1, 1)


def test_a_model_that_fails_again_after_its_rest_rests_again_at_once() -> None:
    breaker = Breaker(Fallback(0.0, failing=0.5, of_last=100, rest=1_000))
    rests = breaker.take(10_000, range(10_000))
    # Fifty failures, and from there on one in a thousand and one.
    assert (len(rests) - rests.sum(), breaker.opened, breaker.closed) == (50 + 9, 1, 0)


class Recount:
    """The rule, an event at a time."""

    def __init__(self, fallback: Fallback) -> None:
        self.fallback = fallback
        self.last: deque[bool] = deque(maxlen=fallback.of_last)
        self.resting, self.is_open, self.opened, self.closed = 0, False, 0, 0

    def take(self, failed: bool) -> bool:
        if self.resting:
            self.resting -= 1
            return True
        self.last.append(failed)
        most = max(1, math.ceil(self.fallback.failing * self.fallback.of_last))
        if self.is_open and sum(self.last) <= most / 2:
            self.is_open = False
            self.closed += 1
        if failed and sum(self.last) >= most:
            self.opened += not self.is_open
            self.is_open, self.resting = True, self.fallback.rest
        return False


@given(
    st.floats(0.01, 1.0),
    st.integers(1, 12),
    st.integers(1, 9),
    st.lists(st.booleans(), max_size=120),
    st.lists(st.integers(0, 120), max_size=5),
)
@fixed
def test_the_breaker_equals_a_recount_wherever_events_are_cut(
    failing: float, of_last: int, rest: int, failed: list[bool], cuts: list[int]
) -> None:
    fallback = Fallback(0.0, failing=failing, of_last=of_last, rest=rest)
    recount, breaker = Recount(fallback), Breaker(fallback)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(failed)), len(failed)]
    for begin, end in itertools.pairwise(bounds):
        part = failed[begin:end]
        rests = breaker.take(len(part), [at for at, one in enumerate(part) if one])
        assert rests.tolist() == [recount.take(one) for one in part]
        for name in ("resting", "is_open", "opened", "closed"):
            assert getattr(breaker, name) == getattr(recount, name), name
        again = Breaker(fallback)
        again.load(snapshot.decode(snapshot.encode(breaker.dump())))
        assert again.dump() == breaker.dump()
        breaker = again


def test_what_opened_the_breaker_is_in_the_changelog() -> None:
    pipeline = _pipeline(Fallback(0.25, failing=0.5, of_last=4, rest=50))
    driver = Driver(pipeline, auto_commit=False)
    driver.pipe_all(_payments(2.0, 1.0, 1.0))
    driver.commit()
    driver.pipe_all(_payments(*[2.0] * 10))
    lost = driver.crash()
    asked.clear()
    driver.pipe_all(lost)
    driver.restart()
    driver.pipe_all(_payments(*[2.0] * 10))
    driver.commit()
    assert asked == []
    scores = [made["score"] for made in driver.predictions]
    assert scores == [2.0, *[0.25] * 22]
    assert driver.predictions[3]["flags"] == [FLAG]
    assert driver.predictions[3]["static"] is None


def test_a_fallback_may_come_change_and_go_without_loss_of_what_features_remember() -> None:
    features = {"amount": field("amount"), "n": per("card").count("1h")}
    static = Function(lambda amount, n: fussy(amount) + n)
    driver = Driver(_pipeline(None, static, features))
    driver.pipe({"id": "1", "card": "c", "amount": 2.0})
    for fallback in (0.5, Fallback(0.25, of_last=2, rest=3), None):
        driver.restart(_pipeline(fallback, static, features))
        driver.pipe({"id": "2", "card": "c", "amount": 2.0})
    assert [made["score"] for made in driver.predictions] == [3.0, 4.0, 5.0, 6.0]


def test_a_fallback_may_come_where_nothing_was_remembered() -> None:
    driver = Driver(_pipeline())
    driver.pipe_all(_payments(2.0, 1.0))
    driver.restart(_pipeline(0.5))
    driver.pipe_all(_payments(1.0))
    assert [made["score"] for made in driver.predictions] == [2.0, 0.5]


def test_that_the_breaker_opens_and_closes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headrace.agents")
    driver = Driver(_pipeline(Fallback(0.25, failing=0.5, of_last=4, rest=3)))
    for payment in _payments(*[1.0] * 30, *[2.0] * 30):
        driver.pipe(payment)
    assert [record.getMessage() for record in caplog.records] == [
        "payments[0]: the static model failed on 2 of the last 4 events that it was asked about; its fallback is asked "
        "instead, for 3 events at a time",
        "payments[0]: the static model has recovered: it failed on 1 of the last 4 events that it was asked about",
    ]


@pytest.mark.parametrize(
    ("fallback", "told"),
    [
        (math.nan, "fallback: stand_in = nan: allowed are finite numbers"),
        (Fallback(0.5, failing=0.0), "fallback: failing = 0.0: allowed is a share, above 0 and up to 1"),
        (Fallback(0.5, failing=1.5), "fallback: failing = 1.5: allowed is a share, above 0 and up to 1"),
        (Fallback(0.5, of_last=0), "fallback: of_last = 0: allowed are 1 event and more"),
        (Fallback(0.5, rest=0), "fallback: rest = 0: allowed are 1 event and more"),
        (Linear({"amuont": 1.0}), "fallback reads 'amuont', which is no feature; did you mean 'amount'?"),
        ("dead-letter", "fallback is 'dead-letter': expected a model, which has features, version and score"),
    ],
)
def test_a_fallback_that_does_not_fit_is_refused_before_anything_runs(fallback: Any, told: str) -> None:
    with pytest.raises(BadPipeline) as refused:
        _pipeline(fallback)
    assert told in str(refused.value)


def test_a_model_that_fails_on_one_event_in_a_hundred_keeps_its_other_scores_and_its_breaker_closed() -> None:
    pipeline = _pipeline(0.25)
    state = pipeline.fresh()
    amounts = [1.0 if at % 100 == 50 else 2.0 for at in range(5_000)]
    made = pipeline.step(_payments(*amounts), state).predictions
    assert [one.score for one in made] == [0.25 if amount == 1.0 else 2.0 for amount in amounts]
    assert state.breaker is not None
    assert state.breaker.opened == 0
