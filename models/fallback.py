"""What stands in for the static model where it fails, and when it is not asked any more."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import Floats
from headrace.models.static import Model, ModelFailed, ask, told
from headrace.schemas.dead_letter import Reason, Rejection

Mask = NDArray[np.bool_]


class Fallback:
    """A score, or another model, for the events on which the static model fails; and a breaker.

    A model fails on an event when it raises, or gives anything but one finite number. Where a feature that it reads is
    not finite either, that is the event's fault: it gets the fallback too, and does not count against the model.

    The breaker opens when the model failed on a share of ``failing`` of the last ``of_last`` events that it was
    asked about. For ``rest`` events only the fallback is asked. Then the model is asked again, and its next failure
    opens the breaker again, until enough of its answers were well. It counts in events, never in seconds, and is
    part of a partition's state, so a replay opens it where the live run did.

    >>> Fallback(0.5).failures_max
    100
    """

    def __init__(self, stand_in: Model | float, *, failing: float = 0.5, of_last: int = 200, rest: int = 2_000) -> None:
        self.stand_in = stand_in
        self.failing = failing
        self.of_last = of_last
        self.rest = rest

    @property
    def failures_max(self) -> int:
        """How many failures among the last events open the breaker."""
        return max(1, math.ceil(self.failing * self.of_last))

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it reads; none means all of the pipeline's."""
        return () if isinstance(self.stand_in, float | int) else self.stand_in.features

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with its numbers."""
        if isinstance(self.stand_in, float | int) and not math.isfinite(self.stand_in):
            yield f"stand_in = {self.stand_in}: allowed are finite numbers"
        if not 0 < self.failing <= 1:
            yield f"failing = {self.failing}: allowed is a share, above 0 and up to 1"
        for name in ("of_last", "rest"):
            if not getattr(self, name) >= 1:
                yield f"{name} = {getattr(self, name)}: allowed are 1 event and more"

    def score(self, features: Mapping[str, Floats], count: int) -> tuple[Floats, dict[int, Exception]]:
        """Return the scores that stand in, NaN where there is none either, and what was raised there."""
        if isinstance(self.stand_in, float | int):
            return np.full(count, float(self.stand_in)), {}
        return ask(self.stand_in, features, count)


class Breaker:
    """Which events of a partition the static model is asked about.

    >>> breaker = Breaker(Fallback(0.0, failing=0.5, of_last=4, rest=3))
    >>> breaker.take(10, failed=[1, 3]).astype(int)  # two of four, so three events rest
    array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    >>> breaker.is_open, breaker.opened, breaker.closed  # of the last four it was asked about it failed on one
    (False, 1, 1)
    """

    def __init__(self, fallback: Fallback) -> None:
        self._fallback = fallback
        self._asked = 0  # events about which the model was asked
        self._failures: list[int] = []  # which of those it failed on lately
        self.resting = 0  # events for which it will not be asked
        self.is_open = False  # it failed too often, and has not recovered
        self.opened = 0  # how often it did
        self.closed = 0  # how often it recovered

    def __str__(self) -> str:
        rule = f"{len(self._failures)} of the last {self._fallback.of_last} events that it was asked about"
        if self.is_open:
            rests = f"for {self._fallback.rest} events at a time"
            return f"the static model failed on {rule}; its fallback is asked instead, {rests}"
        return f"the static model has recovered: it failed on {rule}"

    def take(self, count: int, failed: Sequence[int]) -> Mask:
        """Take in that the model failed on these of ``count`` events; return about which it was not to be asked.

        What it said about those is as good as not said.
        """
        rests = np.zeros(count, np.bool_)
        done = self._rest(rests, 0)
        for at in failed:
            if at < done:
                continue
            self._went_on(at - done)
            self._failures.append(self._asked)
            self._went_on(1)
            done = at + 1
            if len(self._failures) >= self._fallback.failures_max:
                self.opened += not self.is_open
                self.is_open = True
                self.resting = self._fallback.rest
                done = self._rest(rests, done)
        self._went_on(count - done)
        return rests

    def _rest(self, rests: Mask, begin: int) -> int:
        """Let the model rest from this event on, for as long as it has to; return where that ends in these events."""
        end = min(begin + self.resting, len(rests))
        rests[begin:end] = True
        self.resting -= end - begin
        return end

    def _went_on(self, count: int) -> None:
        """Count events, and forget failures that lie too far back.

        The model has recovered when no more than half as many are left as open the breaker: with one number for
        both, a model on the brink would be told of again and again.
        """
        self._asked += count
        since = self._asked - self._fallback.of_last
        while self._failures and self._failures[0] < since:
            self._failures.pop(0)
        if self.is_open and 2 * len(self._failures) <= self._fallback.failures_max:
            self.is_open = False
            self.closed += 1

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "asked": self._asked,
            "failures": list(self._failures),
            "resting": self.resting,
            "open": self.is_open,
            "opened": self.opened,
            "closed": self.closed,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned, also where the fallback was another."""
        self._asked, self._failures = data["asked"], list(data["failures"])
        self.resting = min(data["resting"], self._fallback.rest)
        self.is_open, self.opened, self.closed = data["open"], data["opened"], data["closed"]


class Answers(NamedTuple):
    """What came of asking: a score per event, NaN or infinite where nobody has one."""

    scores: Floats
    rejections: list[Rejection]  # of events that have no score because somebody raised
    stood_in: Mask | None = None  # where the score is the fallback's, if any is
    failed: list[int] | None = None  # what the breaker took in


def answers(model: Model, features: Mapping[str, Floats], count: int) -> Answers:
    """Ask the model; an event on which it fails has no score."""
    scores, raised = ask(model, features, count)
    return Answers(scores, [_rejection(at, f"model {told(error)}", error) for at, error in raised.items()])


def answers_with_fallback(
    model: Model,
    features: Mapping[str, Floats],
    fallback: Fallback,
    its_features: Mapping[str, Floats],
    breaker: Breaker,
    count: int,
) -> Answers:
    """Ask the model, except while it rests, and the fallback about events for which the model has no score."""
    first = min(breaker.resting, count)  # of those about which the model is asked
    scores = np.full(count, np.nan)
    raised: dict[int, Exception] = {}
    if first < count:
        awake = {name: column[first:] for name, column in features.items()} if first else features
        scores[first:], raised = ask(model, awake, count - first)
    fell = ~np.isfinite(scores)
    failed = first + np.flatnonzero(fell[first:])
    for column in features.values() if len(failed) else ():
        failed = failed[np.isfinite(column[failed])]
    rests = breaker.take(count, failed.tolist())
    fell |= rests
    if not fell.any():
        return Answers(scores, [], None, [])
    places = np.flatnonzero(fell)
    given, again = fallback.score({name: column[places] for name, column in its_features.items()}, len(places))
    rejections = []
    for nth in np.flatnonzero(~np.isfinite(given)).tolist():
        at = int(places[nth])
        mine, its = raised.get(at - first), again.get(nth)
        if error := its or mine:
            own = "rests" if rests[at] else told(mine) if mine else f"gave {scores[at]}"
            other = told(its) if its else f"gave {given[nth]}"
            rejections.append(_rejection(at, f"model {own}; its fallback {other}", error))
    scores[places] = given
    return Answers(scores, rejections, fell, failed.tolist())


def _rejection(at: int, text: str, error: Exception) -> Rejection:
    kind = error.kind if isinstance(error, ModelFailed) else type(error).__name__
    return Rejection(at, Reason.MODEL_FAILED, text, kind)
