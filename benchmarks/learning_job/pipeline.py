"""The whole job: windows per card, a model that is fixed, one that learns from the label of each event, and ADWIN."""

from river import drift, linear_model, preprocessing

from headrace import Event, Linear, Pipeline, differs, distance_km, feature, log1p, multiple_of, online_only, per


class Transaction(Event, topic="transactions", key="card"):
    """A payment with a card that tells at once what it turned out to be."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str
    label: int


@feature
def night(at):
    """One between 22 and 6 o'clock, else zero."""
    hour = at / 3600 % 24
    return (hour >= 22) | (hour < 6)


card = per("card")

pipeline = Pipeline(
    name="fraud",
    events=Transaction,
    labels="label",
    features={
        "amount_log": log1p("amount"),
        "night": night,
        "round_amount": multiple_of("amount", 10),
        "abroad": differs("country", "FR"),
        "km_from_home": distance_km("lat", "lon", of=(48.8566, 2.3522)),
        "count_5m": card.count("5m", tile="1m"),
        "sum_5m": card.sum("amount", "5m", tile="1m"),
        "count_1h": card.count("1h", tile="1m"),
        "sum_1h": card.sum("amount", "1h", tile="1m"),
    },
    static=Linear(
        {
            "amount_log": 0.45,
            "night": 0.9,
            "round_amount": 0.35,
            "abroad": 1.1,
            "km_from_home": 0.0004,
            "count_5m": 0.1,
            "sum_5m": 0.002,
            "count_1h": 0.01,
            "sum_1h": 0.0001,
        },
        bias=-4.8,
        version="1",
    ),
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    combine=online_only,
    detectors={"error_online": drift.ADWIN()},
)
