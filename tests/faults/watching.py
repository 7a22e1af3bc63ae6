"""The job of the scenario about changes: a stream that is watched, whose events are made here too."""

import os
from collections.abc import Iterator

import numpy as np

from headrace import Drift, Event, Linear, Pipeline, field, log1p

EVENTS = os.environ.get("FAULTS_TOPIC", "transactions")
PER_SECOND = 300


class Transaction(Event, topic=EVENTS, key="card"):
    """A payment with a card."""

    id: str
    at: float
    card: str
    amount: float
    country: int


pipeline = Pipeline(
    name="watching",
    events=Transaction,
    features={"amount": log1p("amount"), "country": field("country")},
    static=Linear({"amount": 0.3, "country": 0.1}, bias=-2.0, version="1"),
    watch=Drift(os.environ.get("FAULTS_REFERENCE", "reference.json"), false_alarms="1 per day", every="1s"),
)


def payments(seconds: int, *, begin: int = 0, seed: int = 1, dearer: float = 0.0) -> Iterator[Transaction]:
    """Make payments of some seconds, of which those that are ``dearer`` cost more."""
    rng = np.random.default_rng(seed)
    count = seconds * PER_SECOND
    amounts = np.exp(rng.normal(3.0 + dearer, 1.0, count)).tolist()
    countries, cards = rng.integers(0, 5, count).tolist(), rng.integers(0, 100, count).tolist()
    for number in range(count):
        at = begin + number / PER_SECOND
        yield Transaction(f"{begin}-{number}", at, f"c{cards[number]}", amounts[number], countries[number])
