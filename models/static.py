"""The model that was trained offline."""

from collections.abc import Mapping

import numpy as np

from headrace.models.features import Floats


class Linear:
    """A weighted sum of features, through the logistic function unless ``logistic`` is off.

    The terms are added in the order of ``weights``, a column at a time, so that an event's score does
    not depend on the batch that it came in. (A matrix product adds in an order of its own, which moves
    the last bits.)

    >>> model = Linear({"amount": 0.5}, bias=-1.0, version="2026-11")
    >>> model.score({"amount": np.array([2.0, 4.0])}).round(4)
    array([0.5   , 0.7311])
    """

    def __init__(
        self, weights: Mapping[str, float], *, bias: float = 0.0, version: str = "1", logistic: bool = True
    ) -> None:
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.bias = float(bias)
        self.version = version
        self.logistic = logistic

    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return one score per event."""
        total = np.full_like(features[next(iter(self.weights))], self.bias) if self.weights else np.empty(0)
        for name, weight in self.weights.items():
            total += weight * features[name]
        if not self.logistic:
            return total
        with np.errstate(over="ignore"):  # exp of a large number is infinity, and one over that is zero: right
            squashed: Floats = 1.0 / (1.0 + np.exp(-total))
        # An infinite sum would come out as a tidy zero or one, and hide what made it infinite.
        return np.where(np.isfinite(total), squashed, np.nan)
