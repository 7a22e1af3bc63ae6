"""The job of the scenarios about state: what a card did in the last minutes is in every score."""

import os

from headrace import Event, Linear, Pipeline, per


class Transaction(Event, topic=os.environ.get("FAULTS_TOPIC", "transactions"), key="card"):
    """A payment with a card."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str


card = per("card", late="5m")
WEIGHTS = {"count": 0.001, "sum": 0.00001, "seen": 0.1, "first": 0.0001}

pipeline = Pipeline(
    name="remembering",
    events=Transaction,
    features={
        "count": card.count("5m", tile="1s"),
        "sum": card.sum("amount", "1h", exact=True),
        "seen": card.distinct("country", "1h"),
        "first": card.since_first(),
    },
    static=Linear(WEIGHTS, bias=-3.0, version="1"),
    keys_max=int(os.environ.get("FAULTS_KEYS_MAX", "2000000")),
)
