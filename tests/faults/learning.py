"""The job of the scenarios about labels: a learner beside a model that was trained before, and a score of both."""

import os

from river import linear_model, preprocessing

from headrace import Event, Label, Linear, Pipeline, log1p, per

if os.environ.get("FAULTS_ALTERED") == "hasty":  # so that faults meet snapshots
    from headrace.stream import state

    state.SNAPSHOT_BYTES_MIN, state.PIECE_BYTES_MAX = 20_000, 4_000

EVENTS = os.environ.get("FAULTS_TOPIC", "transactions")


class Transaction(Event, topic=EVENTS, key="card"):
    """A payment with a card."""

    id: str
    at: float
    card: str
    amount: float
    country: str


class Verdict(Label, topic=f"{EVENTS}-labels", of=Transaction, within="15s", otherwise=0):
    """What a payment turned out to be; one of which nobody says anything for 15 seconds was none."""

    id: str
    at: float
    card: str
    label: int


card = per("card", late="5m")

pipeline = Pipeline(
    name="learning",
    events=Transaction,
    labels=Verdict,
    features={"amount": log1p("amount"), "count": card.count("5m", tile="1s"), "usual": card.mean("amount", "1h")},
    static=Linear({"amount": 0.3, "count": 0.001, "usual": 0.0}, bias=-2.0, version="1"),
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    learner=os.environ.get("FAULTS_LEARNER", "partition"),
)
