"""The whole stateful job, one event at a time: nine features, a score that is fixed, one that is learned, and ADWIN.

Every peer in Python computes it with this; what differs is who keeps what a card did and what was learned.
"""

import sys
from math import asin, cos, exp, log1p, radians, sin, sqrt

from river import drift, linear_model, preprocessing
from scoring import EARTH_RADIUS_KM, HOME_COS, HOME_LAT, HOME_LON


def fresh():
    """Return a learner that knows nothing."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


class Errors:
    """How wrong the learner is, watched by River's ADWIN. Nobody keeps it: it is forgotten with its process."""

    def __init__(self):
        self._adwin = drift.ADWIN()

    def add(self, score, label):
        """Take one error in; say so where it shows a change."""
        self._adwin.update(abs(label - score))
        if self._adwin.drift_detected:
            print("the error has changed", file=sys.stderr, flush=True)


def features(past, at, amount, lat, lon, country):
    """Return the nine features of a payment, which ``past`` has taken in already."""
    hour = at / 3600 % 24
    lat = radians(lat)
    arc = sin((lat - HOME_LAT) / 2) ** 2 + HOME_COS * cos(lat) * sin((radians(lon) - HOME_LON) / 2) ** 2
    return {
        "amount_log": log1p(amount),
        "night": 1.0 if hour >= 22 or hour < 6 else 0.0,
        "round_amount": 1.0 if amount % 10 == 0 else 0.0,
        "abroad": 1.0 if country != "FR" else 0.0,
        "km_from_home": 2 * EARTH_RADIUS_KM * asin(sqrt(arc)),
        "count_5m": past.short_count,
        "sum_5m": past.short_sum,
        "count_1h": past.long_count,
        "sum_1h": past.long_sum,
    }


def static_score(x):
    """Return the score of the model that does not learn."""
    z = -4.8 + 0.45 * x["amount_log"] + 0.9 * x["night"] + 0.35 * x["round_amount"] + 1.1 * x["abroad"]
    z += 0.0004 * x["km_from_home"] + 0.1 * x["count_5m"] + 0.002 * x["sum_5m"]
    z += 0.01 * x["count_1h"] + 0.0001 * x["sum_1h"]
    return 1 / (1 + exp(-z))


def online_score(learner, errors, x, label):
    """Return the score of the model that learns, and only then let it learn."""
    score = learner.predict_proba_one(x)[True]
    learner.learn_one(x, label)
    errors.add(score, label)
    return score


def prediction(event, x, online):
    """Return the prediction for an event that came as a dictionary, as one."""
    return {
        "id": event["id"],
        "at": event["at"],
        "card": event["card"],
        "score": online,
        "static": static_score(x),
        "online": online,
        "model": "fraud",
        "version": "1",
    }


def dump(learner):
    """Return what a learner knows as plain data."""
    scaler, regression = learner.steps.values()
    return {
        "counts": dict(scaler.counts),
        "means": dict(scaler.means),
        "vars": dict(scaler.vars),
        "weights": regression.weights,
        "intercept": regression.intercept,
        "iterations": regression.optimizer.n_iterations,
    }


def load(known):
    """Return the learner that ``dump`` told of."""
    learner = fresh()
    scaler, regression = learner.steps.values()
    scaler.counts.update(known["counts"])
    scaler.means.update(known["means"])
    scaler.vars.update(known["vars"])
    for name, weight in known["weights"].items():
        regression._weights[name] = weight  # noqa: SLF001 - its only door
    regression.intercept = known["intercept"]
    regression.optimizer.n_iterations = known["iterations"]
    return learner
