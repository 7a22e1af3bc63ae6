"""What a contestant is: it sees a reference, then batches, and says at which events it raises the alarm."""

import copy
from collections.abc import Iterator

import numpy as np

from drift.worlds import Columns


class Contestant:
    """One knob decides how easily it alarms. ``knobs`` are its ends: the most sensitive, and the least."""

    knobs = (1.0, 1.0)
    reads = 1.0  # the share of the events that it looks at

    def __init__(self, knob: float, seed: int):
        self.knob, self.seed = knob, seed

    def fit(self, reference: Columns) -> None:
        """Take in what the world is like."""

    def update(self, batch: Columns) -> list[int]:
        """Take in the next events, and return the places in the batch at which it alarms, in order.

        What an alarm does to what it knows is its own affair, as the library has it.
        """
        raise NotImplementedError

    def copy(self) -> "Contestant":
        """Return another one that knows the same."""
        return copy.deepcopy(self)


class Measured(Contestant):
    """One that compares a number with its knob: it is tuned in one pass, from the numbers themselves.

    The knob of that pass is infinite, so that no alarm gets in the way.
    """

    def measure(self, batch: Columns) -> Iterator[tuple[int, float]]:
        """Take in the next events, and yield each place with its number; it is an alarm from the knob on."""
        raise NotImplementedError

    def update(self, batch):
        return [place for place, value in self.measure(batch) if value >= self.knob]


class Tumbling(Measured):
    """One that tests a whole batch of ``rows`` against the reference, and forgets it."""

    rows = 1_000

    def fit(self, reference):
        self._waiting: list[Columns] = []
        self.learn(reference)

    def learn(self, reference: Columns) -> None:
        """Take in the reference."""
        raise NotImplementedError

    def test(self, batch: Columns) -> float:
        """Return the number of a batch of ``rows``: the greater, the less it is like the reference."""
        raise NotImplementedError

    def measure(self, batch):
        self._waiting.append(batch)
        count = len(next(iter(batch.values())))
        if sum(len(next(iter(part.values()))) for part in self._waiting) >= self.rows:
            whole = {name: np.concatenate([part[name] for part in self._waiting]) for name in batch}
            self._waiting = []
            yield count - 1, self.test(whole)


class Always(Contestant):
    """Looks at nothing: the knob is how many events lie between two alarms, on average."""

    knobs = (100.0, 1e9)

    def __init__(self, knob, seed):
        super().__init__(knob, seed)
        self._rng = np.random.default_rng([seed, 77])

    def update(self, batch):
        count = len(next(iter(batch.values())))
        return np.flatnonzero(self._rng.random(count) < 1 / self.knob).tolist()

    def copy(self):
        other = Always(self.knob, self.seed)
        other._rng = self._rng.spawn(1)[0]
        return other
