"""Reasons: what the features contributed to a score, and which of that a prediction tells."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from headrace.models.features import Floats
from headrace.models.memory import Array
from headrace.models.static import Explained
from headrace.schemas.prediction import REASONS, Contribution


class Share(NamedTuple):
    """What one model says of a batch: a row per event, a column per feature, and one for what is there without them."""

    model: str
    features: tuple[str, ...]
    contributions: Floats
    counted: Array  # of which events the model had a say in the score

    @property
    def unknown(self) -> Array:
        """The events of which the model had a say and cannot tell why."""
        return self.counted & ~np.isfinite(self.contributions).all(axis=1)


class Reasons:
    """The features that contributed most to each score, of each model by itself.

    The largest contributions come first, whichever way they point; equal ones in the order in which the pipeline names
    the features. What contributed nothing is no reason. A model that had no say in a score gives none.

    >>> reasons = Reasons(2, ["amount", "night", "count"], {"count": "R01"})
    >>> made = {"amount": np.array([7.0]), "night": np.array([1.0]), "count": np.array([3.0])}
    >>> share = Share("static", ("amount", "count"), np.array([[-0.5, 0.75, -2.0]]), np.array([True]))
    >>> reasons.told(made, [share])
    [(Contribution(model='static', code='R01', value=3.0, contribution=0.75),
      Contribution(model='static', code='amount', value=7.0, contribution=-0.5))]
    """

    def __init__(self, count: int, features: Sequence[str], codes: Mapping[str, str]) -> None:
        self._count = count
        self._order = {name: place for place, name in enumerate(features)}
        self._codes = codes

    def told(self, made: Mapping[str, Floats], shares: Sequence[Share]) -> list[REASONS]:
        """Return each event's reasons: of the first model, then of the next."""
        models: list[Any] = []
        codes: list[Any] = []
        columns: list[tuple[Floats, Floats, Array]] = []
        for share in shares:
            names = sorted(share.features, key=self._order.__getitem__)
            places = [share.features.index(name) for name in names]
            several = share.contributions[:, places]
            chosen, sizes = _largest(np.where(share.counted[:, None], several, 0.0), self._count)
            values = np.stack([made[name] for name in names], axis=1)
            rows = np.arange(len(chosen))[:, None]
            columns.append((values[rows, chosen], several[rows, chosen], sizes > 0.0))
            called = np.array([self._codes.get(name, name) for name in names], object)
            codes.append(called[chosen])
            models.append(np.full(chosen.shape, share.model, object))
        if not columns:
            return [()] * len(next(iter(made.values())))
        values, contributions, kept = (np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))
        flat = [one[kept].tolist() for one in (np.concatenate(models, axis=1), np.concatenate(codes, axis=1))]
        numbers: list[Any] = values[kept].tolist()
        if not np.isfinite(values[kept]).all():
            numbers = [number if number - number == 0.0 else None for number in numbers]
        told = list(map(Contribution, *flat, numbers, contributions[kept].tolist()))
        ends = np.cumsum(kept.sum(axis=1)).tolist()
        return [tuple(told[begin:end]) for begin, end in pairwise([0, *ends])]


def first_of(share: Share, features: Sequence[str]) -> Floats:
    """Return which feature contributed most to each score, as its place in a list; NaN where none did, or none counts.

    >>> share = Share("static", ("b", "a"), np.array([[-0.5, 0.25, 9.0], [0.0, 0.0, 9.0]]), np.array([True, True]))
    >>> first_of(share, ["a", "b"])
    array([ 1., nan])
    """
    numbers = {name: float(place) for place, name in enumerate(features)}
    places = np.array([numbers.get(name, np.nan) for name in share.features])
    chosen, sizes = _largest(share.contributions[:, : len(places)], 1)
    made: Floats = np.where(share.counted & (sizes[:, 0] > 0.0), places[chosen[:, 0]], np.nan)
    return made


def _largest(contributions: Floats, count: int) -> tuple[Array, Floats]:
    """Return in which columns each row's largest numbers are, and how large; of equal ones the first comes first.

    >>> _largest(np.array([[1.0, -3.0, 3.0], [0.0, 0.0, np.nan]]), 2)
    (array([[1, 2], [0, 0]]), array([[3., 3.], [0., 0.]]))
    """
    left = np.abs(contributions)
    left[~np.isfinite(left)] = 0.0
    rows = np.arange(len(left))
    # So many times the largest of what is left: of few columns that is quicker than putting all in order.
    chosen = np.empty((len(left), min(count, left.shape[1])), np.intp)
    sizes = np.empty(chosen.shape)
    for nth in range(chosen.shape[1]):
        chosen[:, nth] = found = left.argmax(axis=1)
        sizes[:, nth] = left[rows, found]
        left[rows, found] = 0.0
    return chosen, sizes


def why_none(model: Any) -> str:
    """Say why a static model gives no reasons, or nothing if it does."""
    if not isinstance(model, Explained):
        return f"a {type(model).__name__} does not say what its features contribute: it has no method contributions"
    why = getattr(model, "why_no_reasons", None)
    return why() if why is not None else ""
