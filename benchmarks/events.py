"""The input: seeded events, and what each must score, computed apart from every contestant."""

from dataclasses import dataclass, fields

import msgspec
import numpy as np

from peers.typed import Transaction

CARDS = 10_000
MERCHANTS = 1_000
STARTED_AT = 1_700_000_000.0
STEP_SECONDS = 0.5  # of event time from one event to the next, so that a run sees nights too
EARTH_RADIUS_KM = 6371.0088
HOME = (48.8566, 2.3522)


@dataclass(frozen=True)
class Events:
    """``count`` events as columns; the id of the event at index 7 is ``e0000007``."""

    at: np.ndarray
    card: np.ndarray
    merchant: np.ndarray
    amount: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    abroad: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    def first(self, count: int) -> "Events":
        """Return only the first ``count`` events."""
        return type(self)(**{name: column[:count] for name, column in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """Return what these events were made from."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def features(self) -> dict[str, np.ndarray]:
        """Return what is computed from each event alone, by numpy and not by a contestant's code."""
        hour = self.at / 3600 % 24
        lat, lon, home_lat, home_lon = map(np.radians, (self.lat, self.lon, *HOME))
        arc = np.sin((lat - home_lat) / 2) ** 2 + np.cos(home_lat) * np.cos(lat) * np.sin((lon - home_lon) / 2) ** 2
        return {
            "amount_log": np.log1p(self.amount),
            "night": ((hour >= 22) | (hour < 6)).astype(float),
            "round_amount": (self.amount % 10 == 0).astype(float),
            "abroad": self.abroad.astype(float),
            "km_from_home": 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(arc)),
        }

    def expected(self) -> np.ndarray:
        """Return the score of each event by the model that does not learn."""
        x = self.features()
        z = -4.2 + 0.45 * x["amount_log"] + 0.9 * x["night"] + 0.35 * x["round_amount"]
        z += 1.1 * x["abroad"] + 0.0004 * x["km_from_home"]
        return 1 / (1 + np.exp(-z))

    def learned(self, before: "Events | None" = None) -> np.ndarray | None:
        """Return the score of each event by the model that learns, after the events ``before``; None without one."""

    def messages(self):
        """Yield key and value of each event, in order."""
        encode = msgspec.json.Encoder().encode
        for event in self.transactions():
            yield event.card.encode(), encode(event)

    def transactions(self):
        """Yield each event as it is sent."""
        columns = (self.at, self.card, self.merchant, self.amount, self.lat, self.lon, self.abroad)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for index, (at, card, merchant, amount, lat, lon, abroad) in enumerate(rows):
            country = "BE" if abroad else "FR"
            yield Transaction(event_id(index), at, card_name(card), f"m-{merchant:04}", amount, lat, lon, country)


def make(count: int, seed: int, at: np.ndarray | None = None) -> Events:
    """Return ``count`` events; the same seed gives the same ones.

    >>> make(3, seed=1).expected().round(6).tolist() == make(3, seed=1).expected().round(6).tolist()
    True
    """
    rng = np.random.default_rng(seed)
    amount = np.maximum(rng.lognormal(3, 1, count).round(2), 0.01)
    amount = np.where(rng.random(count) < 0.1, np.ceil(amount / 10) * 10, amount)
    return Events(
        at=STARTED_AT + STEP_SECONDS * np.arange(count) if at is None else at,
        card=rng.integers(CARDS, size=count),
        merchant=rng.integers(MERCHANTS, size=count),
        amount=amount,
        lat=(HOME[0] + rng.normal(0, 2, count)).round(5),
        lon=(HOME[1] + rng.normal(0, 2, count)).round(5),
        abroad=rng.random(count) < 0.1,
    )


def event_id(index: int) -> str:
    """Return the id of the event at ``index``."""
    return f"e{index:07}"


def card_name(card: int) -> str:
    """Return the key on the wire for card number ``card``."""
    return f"card-{card:05}"
