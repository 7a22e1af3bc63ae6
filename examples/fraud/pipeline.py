"""Card fraud: the whole application."""

from river import linear_model, preprocessing

from headrace import Drift, Event, Label, Linear, Pipeline, by_recent_loss, differs, feature, log1p, multiple_of, per


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


class Chargeback(Label, topic="labels", of=Transaction, within="8d", otherwise=0):
    """Whether a payment was fraudulent, which the bank says after a week; whatever it says nothing of was not."""

    id: str
    at: float
    card: str
    label: int


@feature
def night(at):
    """One between 22 and 6 o'clock, else zero."""
    hour = at / 3600 % 24
    return (hour >= 22) | (hour < 6)


@feature
def large(amount):
    """One above 220, else zero."""
    return amount > 220


card = per("card")

pipeline = Pipeline(
    name="fraud",
    events=Transaction,
    labels=Chargeback,
    features={
        "amount_log": log1p("amount"),
        "large": large,
        "night": night,
        "round_amount": multiple_of("amount", 10),
        "abroad": differs("country", "FR"),
        "unusual": card.zscore("amount", "30d"),
        "above_usual": card.robust_zscore("amount", last=16),
        "count_1h": card.count("1h"),
        "busy": card.ratio("1d", "30d"),
        "merchants_1d": card.distinct("merchant", "1d"),
        "new_merchant": card.is_new("merchant", "30d"),
        "speed_kmh": card.speed("lat", "lon"),
    },
    # As examples/fraud/train.py fits them.
    static=Linear(
        {
            "amount_log": -0.0651,
            "large": 12.2,
            "night": -0.0528,
            "round_amount": 0.222,
            "abroad": -0.119,
            "unusual": -0.0784,
            "above_usual": 0.396,
            "count_1h": -0.0263,
            "busy": -0.0268,
            "merchants_1d": 0.00497,
            "new_merchant": -0.0107,
            "speed_kmh": 0.0000171,
        },
        bias=-3.805,
        version="1",
    ),
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    combine=by_recent_loss,
    reasons=3,
    # A day of payments beside a thousand in which all was well: examples/fraud/reference.py learns them.
    watch=Drift("reference.json", false_alarms="1 per 10 years", every="1d", warm_up="30d"),
)
