"""What is usual of the worker's own numbers: learned when a watch begins, and again whenever as much time has passed.

A learner that still becomes better moves what hangs on it, and one that has settled goes on wandering a little. What
was usual in the first minutes says little of either, and in few slices nobody can see how far it wanders.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.bins import Binner
from headrace.models.memory import Ints
from headrace.models.reference import Reference

LEARN_SLICES, LEARN_EVENTS = 30, 3_000  # before it is known how the worker's own numbers are spread
LEARN_SLICES_MAX = 500  # after so many it is learned from whatever there is
ROWS_MAX = 512  # that are kept: when there are so many, each two become one
HOUR_ROWS_MAX = 64  # where each hour of a season has its own: there may be 168
PARTS = 8  # of the time that was learned from, between which it is seen how far means wander
ALIKE = 0.25  # of the spread: what has moved further from one time to the next has not settled


class Settling:
    """Takes slice after slice of what the worker itself has made, and says what is usual of it by now.

    It is learned of the first slices, and again when as many have come as there were before, of these: so it rests on
    ever more of them, and what moves ever more slowly is followed.

    >>> from headrace.models.bins import Bins
    >>> one = Settling(Binner([Bins.of_values("x", np.array([0.0, 1.0]))]))
    >>> [number for number in range(1, 1_000) if one.take(np.array([60, 60, 0, 0])) is not None]
    [30, 60, 120, 240, 480, 960]
    """

    def __init__(self, binner: Binner, rows_max: int = ROWS_MAX) -> None:
        self._binner = binner
        self._rows_max = rows_max
        self._rows: list[Ints] = []
        self._events = 0
        self._slices = 0  # that the rows are of
        self._each = 1  # slices of a row
        self._seen = 0  # slices, since the beginning

    def take(self, counts: Ints) -> Reference | None:
        """Take a slice; return what is usual from now on, where that is something new."""
        self._add(counts)
        due = max(LEARN_SLICES, self._seen - self._slices)
        enough = self._events >= LEARN_EVENTS or self._slices >= LEARN_SLICES_MAX
        if self._slices < due or self._slices % self._each or not enough:
            return None
        made = Reference.learn(self._binner, np.array(self._rows), parts=PARTS)
        self._rows, self._events, self._slices, self._each = [], 0, 0, 1
        return made

    def _add(self, counts: Ints) -> None:
        if self._slices % self._each:
            self._rows[-1] = self._rows[-1] + counts
        else:
            self._rows.append(counts)
        self._events += int(counts[: self._binner.series[0].count].sum())
        self._slices += 1
        self._seen += 1
        if len(self._rows) == self._rows_max and not self._slices % self._each:
            self._rows = [one + other for one, other in zip(self._rows[::2], self._rows[1::2], strict=True)]
            self._each *= 2

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {"rows": list(self._rows), "counted": [self._events, self._slices, self._each, self._seen]}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._rows = [one.copy() for one in data["rows"]]
        self._events, self._slices, self._each, self._seen = data["counted"]


def alike(before: Reference, now: Reference, places: Sequence[int]) -> bool:
    """Say whether some series are spread as they were, as far as that matters."""
    return not any(
        (np.abs(before.scores[place][:, :-1] @ now.shares(place)) > ALIKE).any()
        for place in places
        if before.of(place)[:-1].any() and now.of(place)[:-1].any()
    )
