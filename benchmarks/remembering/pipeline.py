"""What a card did in the last five minutes and the last hour, in tiles of a minute: the job of windows.py."""

from headrace import Event, Linear, Pipeline, per


class Transaction(Event, topic="transactions", key="card"):
    """A payment with a card, as the benchmarks send it."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str


card = per("card")

pipeline = Pipeline(
    name="fraud",
    events=Transaction,
    features={
        "count_5m": card.count("5m", tile="1m"),
        "sum_5m": card.sum("amount", "5m", tile="1m"),
        "count_1h": card.count("1h", tile="1m"),
        "sum_1h": card.sum("amount", "1h", tile="1m"),
    },
    static=Linear({"count_5m": 0.1, "sum_5m": 0.002, "count_1h": 0.01, "sum_1h": 0.0001}, bias=-4.0, version="1"),
)
