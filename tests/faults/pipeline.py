"""The job of the scenarios: the fraud example on a topic of its own, with two events that make trouble.

An event of 13.13 takes its time, and one of 66.66 raises. Both are features, because that is where a user's own
code runs.
"""

import os
import time

from headrace import Event, Linear, Pipeline, differs, feature, log1p

SLOW_AMOUNT, RAISE_AMOUNT = 13.13, 66.66
SLOW_SECONDS = float(os.environ.get("FAULTS_SLOW_SECONDS", "0.05"))


class Transaction(Event, topic=os.environ["FAULTS_TOPIC"], key="card"):
    """A payment with a card."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str


@feature
def slow(amount):
    """Zero, later."""
    time.sleep(SLOW_SECONDS * int((amount == SLOW_AMOUNT).sum()))
    return amount * 0.0


@feature
def fragile(amount):
    """Zero, or an exception for the whole batch."""
    if (amount == RAISE_AMOUNT).any():
        raise ArithmeticError("66.66 is more than this feature can take")
    return amount * 0.0


pipeline = Pipeline(
    name="fraud",
    events=Transaction,
    features={
        "amount_log": log1p("amount"),
        "abroad": differs("country", "FR"),
        "slow": slow,
        "fragile": fragile,
    },
    static=Linear({"amount_log": 0.45, "abroad": 1.1, "slow": 1.0, "fragile": 1.0}, bias=-4.2, version="1"),
)
