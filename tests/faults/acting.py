"""The job of the scenario about what is done about alerts: a stream that is watched, with a learner."""

import os
from collections.abc import Iterator

import numpy as np
from river import linear_model

from headrace import Drift, Event, Linear, Pipeline, ask_for_retraining, fall_back, log1p, restart_learner

EVENTS = os.environ.get("FAULTS_TOPIC", "transactions")
PER_SECOND = 300


class Transaction(Event, topic=EVENTS, key="card"):
    """A payment with a card, and whether it was fraud."""

    id: str
    at: float
    card: str
    amount: float
    fraud: int


pipeline = Pipeline(
    name="acting",
    events=Transaction,
    features={"amount": log1p("amount")},
    labels="fraud",
    static=Linear({"amount": 0.3}, bias=-2.0, version="1"),
    online=linear_model.LogisticRegression(),
    watch=Drift(
        os.environ.get("FAULTS_REFERENCE", "reference.json"),
        every="1s",
        when={"drift": [fall_back, restart_learner, ask_for_retraining]},
    ),
)


def payments(seconds: int, *, begin: int = 0, seed: int = 1, dearer: float = 0.0) -> Iterator[Transaction]:
    """Make payments of some seconds, of which those that are ``dearer`` cost more."""
    rng = np.random.default_rng(seed)
    count = seconds * PER_SECOND
    amounts = np.exp(rng.normal(3.0 + dearer, 1.0, count)).tolist()
    cards, frauds = rng.integers(0, 100, count).tolist(), rng.integers(0, 2, count).tolist()
    for number in range(count):
        at = begin + number / PER_SECOND
        yield Transaction(f"{begin}-{number}", at, f"c{cards[number]}", amounts[number], frauds[number])
