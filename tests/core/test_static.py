"""Static models: what is one, what it is given, and what becomes of an event on which it fails."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from headrace import Event, Function, Linear, Model, Pipeline, field, log1p
from headrace.models.features import Floats
from headrace.models.static import PARTS, ask
from headrace.schemas.errors import BadPipeline


class Payment(Event, topic="payments", key="card"):
    """What is scored here."""

    id: str
    at: float
    card: str
    amount: float
    age: int = 0


FEATURES = {"amount": field("amount"), "age": field("age")}


def _payments(*amounts: float) -> list[Payment]:
    return [Payment(str(at), 1.0 * at, "c", amount, at) for at, amount in enumerate(amounts)]


def _pipeline(static: Any, features: Mapping[str, Any] = FEATURES) -> Pipeline:
    return Pipeline(name="p", events=Payment, features=dict(features), static=static)


def _step(static: Any, *amounts: float) -> Any:
    pipeline = _pipeline(static)
    return pipeline.step(_payments(*amounts), pipeline.fresh())


class Own:
    """A model of somebody who never heard of a base class."""

    features = ("age", "amount")
    version = "7"

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def score(self, features: Mapping[str, Floats]) -> Floats:
        self.given.append(list(features))
        return features["age"] + features["amount"]


def test_a_class_with_three_names_is_a_model() -> None:
    own = Own()
    assert isinstance(own, Model)
    made = _step(own, 10.0, 20.0).predictions
    assert [(one.score, one.static, one.version) for one in made] == [(10.0, 10.0, "7"), (21.0, 21.0, "7")]
    assert own.given == [["age", "amount"]], "the columns that it names, in its order"


def test_a_model_that_names_no_features_is_given_all_in_the_order_of_the_pipeline() -> None:
    seen = []

    def total(*columns):
        seen.append([column.tolist() for column in columns])
        return sum(columns)

    assert [one.score for one in _step(Function(total), 10.0, 20.0).predictions] == [10.0, 21.0]
    assert seen == [[[10.0, 20.0], [0.0, 1.0]]]


def test_a_function_says_by_its_parameters_what_it_reads() -> None:
    model = Function(lambda age, amount: age - amount, version="3")
    assert (model.features, model.version) == (("age", "amount"), "3")
    assert [one.score for one in _step(model, 10.0, 20.0).predictions] == [-10.0, -19.0]


def test_a_function_may_be_told_what_it_reads() -> None:
    model = Function(np.hypot, features=["amount", "age"])
    assert [one.score for one in _step(model, 3.0, 0.0).predictions] == [3.0, 1.0]
    with pytest.raises(ValueError, match=r"names no parameters: say which features it gets"):
        Function(lambda: 0.5)


@pytest.mark.parametrize("kind", [list, tuple, np.float32, np.int8, bool])
def test_whatever_is_a_number_per_event_is_a_score(kind: Any) -> None:
    def model(age):
        return kind(age) if kind in (list, tuple) else age.astype(kind)

    effects = _pipeline(Function(model), {"age": field("age")})
    made = effects.step(_payments(1.0, 1.0), effects.fresh()).predictions
    assert [one.score for one in made] == [0.0, 1.0]


def test_a_function_cannot_write_to_its_columns() -> None:
    def greedy(amount):
        amount += 1
        return amount

    pipeline = _pipeline(Function(greedy), {"amount": log1p("amount")})
    (rejection,) = pipeline.step(_payments(1.0), pipeline.fresh()).rejections
    assert "read-only" in rejection.message


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda age: 0.5, "model returned shape (), expected (1,): one number per event"),
        (lambda age: np.append(age, 1.0), "model returned shape (2,), expected (1,): one number per event"),
        (lambda age: np.stack([age, age], axis=1), "model returned shape (1, 2), expected (1,): one number per event"),
        (lambda age: ["fraud"] * len(age), "model returned <U5, expected float64: one number per event"),
        (lambda age: [None] * len(age), "model returned object, expected float64: one number per event"),
        (lambda age: age * 1j, "model returned complex128, expected float64: one number per event"),
        (lambda age: [[0.5], [1.0, 2.0]], "model raised ValueError('setting an array element with a sequence."),
        (lambda age: age / 0 + np.nan, "score is nan"),
        (lambda age: age + np.inf, "score is inf"),
    ],
)
def test_what_is_no_number_per_event_is_a_dead_letter_that_says_what_it_was(made: Any, told: str) -> None:
    pipeline = _pipeline(Function(made), {"age": field("age")})
    effects = pipeline.step(_payments(1.0), pipeline.fresh())
    assert effects.predictions == []
    assert effects.rejections[0].message.startswith(told)


@pytest.mark.parametrize("count", [1, 2, PARTS, PARTS + 1, 63, 64, 65, 500])
def test_events_that_a_model_does_not_fail_on_get_the_score_that_they_get_alone(count: int) -> None:
    calls = []

    def fussy(age):
        calls.append(len(age))
        if (age % 50 == 7).any():
            raise ValueError("seven")
        return age / 3

    age = np.arange(1.0, count + 1)
    scores, failed = ask(Function(fussy), {"age": age}, count)
    bad = age % 50 == 7
    assert sorted(failed) == np.flatnonzero(bad).tolist()
    assert np.array_equal(scores, np.where(bad, np.nan, age / 3), equal_nan=True)
    assert len(calls) <= 1 + bad.sum() * PARTS * (1 + np.log(count) / np.log(PARTS)), "few calls for few failures"


def test_a_model_that_always_fails_is_asked_little_more_than_once_per_event() -> None:
    calls = []

    def broken(age):
        calls.append(len(age))
        raise ValueError

    _, failed = ask(Function(broken), {"age": np.zeros(500)}, 500)
    assert len(failed) == 500
    assert len(calls) < 1.2 * 500


@pytest.mark.parametrize(
    ("static", "told"),
    [
        (
            Linear({"amount": 1.0, "aeg": 1.0, "age": 0.0}),
            "static reads 'aeg', which is no feature; did you mean 'age'?",
        ),
        (Linear({}), "static: there are no weights"),
        (Linear({"amount": 1.0}), "features['age'] is read by no model; leave it out, or let one read it"),
        (Function(lambda age: age), "features['amount'] is read by no model"),
        (Function(np.add, features=["age", "age"]), "static reads 'age' twice"),
        (Function(lambda *all_of_them: all_of_them[0], version=2), "static.version = 2: allowed is text"),  # type: ignore[arg-type]
        (np.add, "static is <ufunc 'add'>: expected a model, which has features, version and score"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_runs(static: Any, told: str) -> None:
    with pytest.raises(BadPipeline) as refused:
        _pipeline(static)
    assert told in str(refused.value)
