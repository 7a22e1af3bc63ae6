"""Which of a request's candidates are shown, in which order, and how likely that was: pages that explore.

A page is filled slot by slot, each time from what is left, by the chances that a policy gives. What is drawn hangs on
the seed and the request's id alone, so a replay shows the same page. Each item is logged with its ``propensity``: how
likely it was in its slot, given those above it. The product of the first few is how likely the page was down to there,
and by that clicks are weighed, to learn from them how another policy would have done.

>>> scores = np.array([[0.3, 0.1, 0.2], [0.1, 0.1, 0.4]])
>>> log = draw(["r1", "r2"], scores, 2, EpsilonGreedy(0.5), seed=1)
>>> log.places.tolist(), log.propensity.round(3).tolist(), log.explored.tolist()
([[1, 2], [2, 1]], [[0.167, 0.25], [0.667, 0.25]], [[True, True], [False, True]])
>>> again = draw(["r2"], scores[1:], 2, EpsilonGreedy(0.5), seed=1)
>>> again.places.tolist() == log.places[1:].tolist()
True
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from headrace.models.hashes import draws
from headrace.models.memory import Array, Floats, Ints

NOBODY = -1  # in a slot for which no candidate is left


class Policy(Protocol):
    """How the next slot is filled."""

    def chances(self, scores: Floats, left: Array) -> Floats:
        """Return how likely each candidate is to be next: in each row they add up to one, and what is gone has zero."""


@dataclass(frozen=True)
class EpsilonGreedy:
    """The best that is left; with the probability ``epsilon`` any that is left, all alike. Of equals the first is best.

    >>> EpsilonGreedy(0.3).chances(np.array([[0.1, 0.4, 0.2]]), np.array([[True, True, True]])).round(3).tolist()
    [[0.1, 0.8, 0.1]]
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon = {self.epsilon!r}: allowed are 0 to 1, as it is a probability")

    def chances(self, scores: Floats, left: Array) -> Floats:
        """Return how likely each candidate is to be next."""
        made: Floats = self.epsilon * left / np.maximum(np.count_nonzero(left, axis=1), 1)[:, None]
        rows = np.flatnonzero(left.any(axis=1))
        made[rows, _best(scores, left)[rows]] += 1.0 - self.epsilon
        return made


@dataclass(frozen=True)
class PlackettLuce:
    """Each that is left in proportion to ``exp(score / temperature)``: the better, the likelier (softmax).

    ``temperature`` is in units of the score: one that is better by so much is 2.7 times as likely. Of probabilities
    give the logarithms or the logits.

    >>> PlackettLuce().chances(np.log([[1.0, 2.0, 5.0]]), np.array([[True, True, True]])).round(3).tolist()
    [[0.125, 0.25, 0.625]]

    References
    ----------
    Plackett, R. L. (1975). The Analysis of Permutations. Journal of the Royal Statistical Society C 24(2).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(
                f"temperature = {self.temperature!r}: allowed are positive numbers; greedy is EpsilonGreedy(0)"
            )

    def chances(self, scores: Floats, left: Array) -> Floats:
        """Return how likely each candidate is to be next."""
        known = np.where(left, scores, -np.inf)
        highest = known.max(axis=1, keepdims=True)
        weights = np.exp((known - np.where(np.isfinite(highest), highest, 0.0)) / self.temperature)
        # Added from left to right: a sum of numpy's may add in another order where other rows are there.
        total = np.cumsum(weights, axis=1)[:, -1:]
        made: Floats = weights / np.where(total > 0.0, total, 1.0)
        return made


class Slates(NamedTuple):
    """What is shown: a row per request, a column per slot, the one on top first."""

    places: Ints  # of the candidates in their request; NOBODY where none was left
    propensity: Floats  # how likely each was in its slot, given those above it
    explored: Array  # whether another one was the best that was left


class Estimate(NamedTuple):
    """What a policy would have earned per request, from what was shown by another one, with standard errors."""

    ips: float  # weighed by inverse propensities: right on average
    ips_error: float
    snips: float  # divided by the weights' sum besides: steadier, and slightly off where there are few requests
    snips_error: float
    effective: float  # how many requests of the wanted policy the log is worth, by the weights of whole pages


def draw(requests: Sequence[Any], scores: Any, slots: int, policy: Policy, *, seed: int = 0) -> Slates:
    """Fill the slots of each request. A row of ``scores`` has those of its candidates; NaN is none.

    Candidates count in the order in which they come. A page of more slots begins as one of fewer.
    """
    scores = _checked(scores)
    if len(requests) != len(scores):
        raise ValueError(f"{len(requests)} requests, and scores of {len(scores)}: there must be a row for each")
    if slots < 1:
        raise ValueError(f"slots = {slots}: a page has one at the least")
    ids = np.empty(len(requests), object)
    ids[:] = list(requests)
    chance = draws(ids, slots, seed=seed)
    places = np.full((len(scores), slots), NOBODY)
    propensity, explored = np.full(places.shape, np.nan), np.zeros(places.shape, np.bool_)
    left = ~np.isnan(scores)
    for slot in range(slots):
        rows = np.flatnonzero(left.any(axis=1))
        if not len(rows):
            break
        chances = policy.chances(scores, left)[rows]
        reached = np.cumsum(chances, axis=1)
        place = (reached <= chance[rows, slot, None] * reached[:, -1:]).sum(axis=1)
        places[rows, slot] = place
        propensity[rows, slot] = chances[np.arange(len(rows)), place]
        explored[rows, slot] = place != _best(scores, left)[rows]
        left[rows, place] = False
    return Slates(places, propensity, explored)


def propensity_of(places: Ints, scores: Any, policy: Policy) -> Floats:
    """Return how likely a policy is to show what was shown: of each item, given those above it.

    >>> scores = np.array([[0.3, 0.1, 0.2]])
    >>> propensity_of(np.array([[0, 1]]), scores, EpsilonGreedy(0)).tolist()
    [[1.0, 0.0]]
    """
    scores = _checked(scores)
    made = np.full(places.shape, np.nan)
    left = ~np.isnan(scores)
    for slot in range(places.shape[1]):
        rows = np.flatnonzero(places[:, slot] != NOBODY)
        place = places[rows, slot]
        made[rows, slot] = policy.chances(scores, left)[rows, place]
        left[rows, place] = False
    return made


def estimate(rewards: Any, logged: Any, wanted: Any) -> Estimate:
    """Say what a policy would earn per request, from rewards by slot, the logged propensities and its own.

    A reward is weighed by how much likelier the wanted policy makes the page down to its slot. That is right on average
    if a reward hangs on what is in its slot and above it, not on what is below, and if whatever the wanted policy
    may show could be logged, as it can with an ``epsilon`` above zero.

    >>> logged, wanted = np.array([[0.5], [0.5], [0.5], [0.5]]), np.array([[1.0], [0.0], [1.0], [0.0]])
    >>> estimate([[1], [1], [0], [0]], logged, wanted).ips
    0.5

    References
    ----------
    McInerney, J. and others (2020). Counterfactual Evaluation of Slate Recommendations with Sequential Reward
    Interactions. KDD.
    """
    rewards, logged, wanted = (np.asarray(one, np.float64) for one in (rewards, logged, wanted))
    there = ~np.isnan(logged)
    if ((logged <= 0.0) | (logged > 1.0)).any():
        raise ValueError("logged: what was shown had a propensity above 0 and up to 1, and null where nothing was")
    ratio = np.divide(wanted, logged, out=np.ones_like(logged), where=there)
    weights = np.cumprod(ratio, axis=1)
    earned = np.where(there, weights * rewards, 0.0)
    ips, ips_error = _mean(earned.sum(axis=1))
    total = np.where(there, weights, 0.0).sum(axis=0)
    rates = np.divide(earned.sum(axis=0), total, out=np.zeros_like(total), where=total > 0.0)
    share = there.mean(axis=0)  # of the requests that have such a slot
    beyond = np.where(there, weights * (rewards - rates), 0.0) * np.divide(
        len(rewards) * share, total, out=np.zeros_like(total), where=total > 0.0
    )
    page = weights[:, -1]
    return Estimate(
        ips,
        ips_error,
        float((rates * share).sum()),
        _mean(beyond.sum(axis=1))[1],
        float(page.sum() ** 2 / (page**2).sum()) if page.any() else 0.0,
    )


def _mean(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def _best(scores: Floats, left: Array) -> Ints:
    made: Ints = np.where(left, scores, -np.inf).argmax(axis=1)
    return made


def _checked(scores: Any) -> Floats:
    made: Floats = np.asarray(scores, np.float64)
    if made.ndim != 2:
        raise ValueError(
            f"scores have {made.ndim} dimensions: they are rows of requests, with a column for each candidate"
        )
    if np.isinf(made).any():
        row, place = np.argwhere(np.isinf(made))[0].tolist()
        raise ValueError(f"scores[{row}, {place}] is {made[row, place]}: allowed are numbers, and NaN for no candidate")
    return made
