"""Card fraud without a memory: the job that every contestant does."""

from headrace import Event, Linear, Pipeline, differs, distance_km, feature, log1p, multiple_of


class Transaction(Event, topic="transactions", key="card"):
    """A payment with a card, as the terminals publish it."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str


@feature
def night(at):
    """One between 22 and 6 o'clock, else zero."""
    hour = at / 3600 % 24
    return (hour >= 22) | (hour < 6)


pipeline = Pipeline(
    name="fraud",
    events=Transaction,
    features={
        "amount_log": log1p("amount"),
        "night": night,
        "round_amount": multiple_of("amount", 10),
        "abroad": differs("country", "FR"),
        "km_from_home": distance_km("lat", "lon", of=(48.8566, 2.3522)),
    },
    static=Linear(
        {"amount_log": 0.45, "night": 0.9, "round_amount": 0.35, "abroad": 1.1, "km_from_home": 0.0004},
        bias=-4.2,
        version="1",
    ),
)
