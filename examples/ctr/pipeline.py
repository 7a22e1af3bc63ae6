"""Clicks on recommended items: the whole application."""

import numpy as np
from river import linear_model, optim, preprocessing

from headrace import Event, Label, Linear, Pipeline, by_recent_loss, feature, field, log1p, one_hot, per

CATEGORIES = ("culture", "economy", "health", "politics", "science", "sports", "travel", "weather")


class Impression(Event, topic="impressions", key="user"):
    """An item that a user was shown, as the site publishes it."""

    id: str
    at: float
    user: str
    item: str
    category: str
    slot: int  # one is on top
    published: float  # when the item was
    engaged: int  # whether the user clicked on the page before this one, in the same visit


class Click(Label, topic="clicks", of=Impression, within="30m", otherwise=0, truth="clicked"):
    """A click; what was not clicked on within half an hour was no success."""

    id: str
    at: float
    user: str
    clicked: int


@feature
def age_log(at, published):
    """The logarithm of one plus the item's age in hours."""
    return np.log1p(np.maximum(at - published, 0) / 3600)


@feature
def brand_new(at, published):
    """One in the item's first hour, when nobody can know it."""
    return at - published < 3600


user, pair = per("user"), per("user", "category")

pipeline = Pipeline(
    name="ctr",
    events=Impression,
    labels=Click,
    features={
        "slot_log": log1p("slot"),
        "age_log": age_log,
        "brand_new": brand_new,
        "engaged": field("engaged"),
        "engaged_7d": user.rate("engaged", "7d", prior=0.1, weight=20),
        "shown_1h": user.count("1h"),
        "category_1d": pair.count("1d"),
        "category_rests": pair.since_last(at_most="1d"),
        "new_to_user": user.is_new("item", "1d"),
        **one_hot("category", CATEGORIES),
    },
    # As examples/ctr/train.py fits them.
    static=Linear(
        {
            "slot_log": -1.28,
            "age_log": -0.249,
            "brand_new": -0.0406,
            "engaged": 0.837,
            "engaged_7d": 4.45,
            "shown_1h": -0.00468,
            "category_1d": 0.00258,
            "category_rests": -0.00000356,
            "new_to_user": -0.35,
            "category=culture": -0.38,
            "category=economy": 0.372,
            "category=health": 0.685,
            "category=politics": -0.198,
            "category=science": 0.179,
            "category=sports": -0.894,
            "category=travel": 0.583,
            "category=weather": -0.461,
        },
        bias=-1.396,
        version="1",
    ),
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
    combine=by_recent_loss,
)
