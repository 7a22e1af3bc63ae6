"""The stateless job, one event at a time: what every peer computes, and the arguments every peer takes."""

import argparse
from math import asin, cos, exp, log1p, radians, sin, sqrt

EARTH_RADIUS_KM = 6371.0088
HOME_LAT = radians(48.8566)
HOME_LON = radians(2.3522)
HOME_COS = cos(HOME_LAT)


def score(at, amount, lat, lon, country):
    """Return the probability of fraud: a logistic model over five features of one event.

    >>> round(score(at=1_700_000_000.0, amount=10.0, lat=48.8566, lon=2.3522, country="FR"), 6)
    0.133432
    """
    hour = at / 3600 % 24
    lat = radians(lat)
    arc = sin((lat - HOME_LAT) / 2) ** 2 + HOME_COS * cos(lat) * sin((radians(lon) - HOME_LON) / 2) ** 2
    z = -4.2 + 0.45 * log1p(amount) + 0.0008 * EARTH_RADIUS_KM * asin(sqrt(arc))
    if hour >= 22 or hour < 6:
        z += 0.9
    if amount % 10 == 0:
        z += 0.35
    if country != "FR":
        z += 1.1
    return 1 / (1 + exp(-z))


def predict(event):
    """Return the prediction for an event that came as a dictionary, as one."""
    value = score(event["at"], event["amount"], event["lat"], event["lon"], event["country"])
    return {
        "id": event["id"],
        "at": event["at"],
        "card": event["card"],
        "score": value,
        "static": value,
        "online": None,
        "model": "fraud",
        "version": "1",
    }


def arguments(description):
    """Return the command line that every peer shares."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--broker", required=True, metavar="HOST:PORT")
    parser.add_argument("--in-topic", required=True)
    parser.add_argument("--out-topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--guarantee", choices=["at-least-once", "exactly-once"], default="at-least-once")
    # Where a library has one knob that buys throughput with latency, its script sets the knob by this.
    parser.add_argument("--tuned-for", choices=["throughput", "latency"], default="throughput")
    parser.add_argument("--state-dir", required=True, help="a folder that this run may fill")
    return parser.parse_args()
