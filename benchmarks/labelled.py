"""The whole stateful job: what is sent, and what each event must come to.

The five features of the stateless job and the four windows of windows.py; a linear model that is fixed; a scaler
and a logistic regression that predict each event and then learn the label that came with it, one learner per
partition.

    python benchmarks/compare.py --job learning
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import events
import recount
from peers.typed import Labelled

STEP_SECONDS = 0.01  # of event time from one event to the next: a card of 10,000 comes back after 100 s
NIGHTFALL = 1_699_999_200.0  # 22 o'clock
STATIC = {
    "amount_log": 0.45, "night": 0.9, "round_amount": 0.35, "abroad": 1.1, "km_from_home": 0.0004,
    "count_5m": 0.1, "sum_5m": 0.002, "count_1h": 0.01, "sum_1h": 0.0001,
}  # fmt: skip
STATIC_BIAS = -4.8
# What the labels follow: not what the fixed model believes, so that there is something to learn.
TRUTH = {"amount_log": -0.3, "night": -0.5, "round_amount": 1.0, "abroad": 1.8, "km_from_home": 0.001}
TRUTH_BIAS = -0.5


@dataclass(frozen=True)
class LabelledEvents(events.Events):
    """Events that tell what they turned out to be, and whose scores depend on all that came before."""

    label: np.ndarray

    @cached_property
    def _features(self):
        return self.features() | recount.windows(self.at, self.card, self.amount)

    @cached_property
    def _online(self):
        return recount.learned(self._features, self.card, self.label)

    def expected(self):
        """Return the fixed score of each event."""
        return _logistic(STATIC_BIAS, STATIC, self._features)

    def learned(self, before=None):
        """Return the learned score of each event, where the events ``before`` have been learned already."""
        if before is None:
            return self._online
        both = {name: np.concatenate([column, vars(self)[name]]) for name, column in before.columns().items()}
        return type(self)(**both).learned()[len(before) :]

    def transactions(self):
        """Yield each event as it is sent."""
        for event, label in zip(super().transactions(), self.label.tolist(), strict=True):
            yield Labelled(*(getattr(event, name) for name in event.__struct_fields__), label)


def make(count: int, seed: int, at: np.ndarray | None = None) -> LabelledEvents:
    """Return ``count`` labelled events; the same seed gives the same ones. Half of them come before nightfall.

    >>> make(4, seed=1).features()["night"].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if at is None:
        at = NIGHTFALL + STEP_SECONDS * (np.arange(count) - count // 2)
    made = events.make(count, seed, at=at)
    chance = _logistic(TRUTH_BIAS, TRUTH, made.features())
    label = np.random.default_rng([seed, 1]).random(count) < chance
    return LabelledEvents(**made.columns(), label=label.astype(int))


def _logistic(bias, weights, features):
    z = bias + sum(weight * features[name] for name, weight in weights.items())
    return 1 / (1 + np.exp(-z))
