"""What may happen to a world: each kind of change, put upon columns that know nothing of it.

Names are permanent. What is chosen (which feature, which events) is decided by the seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drift.worlds import ERROR, Columns, World

GRADUAL_EVENTS = 10_000
RECURRING_EVENTS = 1_000
BURST_EVENTS = 2_000


@dataclass(frozen=True)
class Change:
    """``put(columns, since, chosen, rng)`` writes into the columns; ``since`` is negative before the change."""

    name: str
    title: str
    put: Callable
    kind: str = "normal"  # of the features that it happens to
    count: int = 1

    @property
    def of_errors(self) -> bool:
        """Whether nothing but the errors tells of it."""
        return self.kind == ERROR

    def begin(self, world: World, seed: int) -> Callable[[Columns, np.ndarray], Columns]:
        """Return what puts this change on a batch, of which the number of events since the change is told."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        able = [name for name, kind in world.kinds.items() if kind == self.kind]
        chosen = [ERROR] if self.of_errors else list(rng.choice(able, self.count, replace=False))

        def changed(columns: Columns, since: np.ndarray) -> Columns:
            columns = columns | {name: columns[name].copy() for name in chosen}
            self.put(columns, since, chosen, rng)
            return columns

        return changed


def _shift(deviations):
    def put(columns, since, chosen, _):
        for name in chosen:
            columns[name][since >= 0] += deviations

    return put


def _gradual(columns, since, chosen, _):
    for name in chosen:
        columns[name] += 0.5 * np.clip(since / GRADUAL_EVENTS, 0, 1)


def _recurring(columns, since, chosen, _):
    on = (since >= 0) & (since // RECURRING_EVENTS % 2 == 0)
    for name in chosen:
        columns[name][on] += 0.5


def _spread(columns, since, chosen, _):
    for name in chosen:
        columns[name][since >= 0] *= 1.5


def _new_category(columns, since, chosen, rng):
    for name in chosen:
        columns[name][(since >= 0) & (rng.random(len(since)) < 0.02)] = 30  # the codes of all worlds are below


def _burst(columns, since, chosen, rng):
    lost = (since >= 0) & (since < BURST_EVENTS) & (rng.random(len(since)) < 0.2)
    for name in chosen:
        columns[name][lost] = np.nan


def _mirror(columns, since, chosen, _):
    for name in chosen:
        columns[name][since >= 0] *= -1  # normal around 0: alone it looks as before


def _flipped(share):
    def put(columns, since, _, rng):
        columns[ERROR] ^= ((since >= 0) & (rng.random(len(since)) < share)).astype(np.int64)

    return put


def _wrong(columns, since, _, rng):
    columns[ERROR] |= ((since >= 0) & (rng.random(len(since)) < 1 / 30)).astype(np.int64)


CHANGES = (
    Change("sudden", "mean +0.5 sigma in 5 features, at once", _shift(0.5), count=5),
    Change("gradual", "the same, over 10,000 events", _gradual, count=5),
    Change("recurring", "the same, 1,000 events on, 1,000 off", _recurring, count=5),
    Change("mean-0.1", "mean +0.1 sigma in 1 feature", _shift(0.1)),
    Change("mean-0.25", "mean +0.25 sigma in 1 feature", _shift(0.25)),
    Change("mean-0.5", "mean +0.5 sigma in 1 feature", _shift(0.5)),
    Change("mean-1", "mean +1 sigma in 1 feature", _shift(1.0)),
    Change("variance", "deviation times 1.5 in 1 feature", _spread),
    Change("new-category", "a code never seen, 2 % of 1 feature", _new_category, kind="category"),
    Change("missing-burst", "20 % of 1 feature missing, for 2,000 events", _burst, kind="holes"),
    Change("correlation", "3 features of a correlated block mirrored", _mirror, kind="block", count=3),
    Change("label-flip", "20 % of the labels flipped: errors 10 % to 26 %", _flipped(0.2), kind=ERROR),
    Change("errors-rise", "errors 10 % to 13 %", _wrong, kind=ERROR),
)
BY_NAME = {change.name: change for change in CHANGES}
