"""Streams of events that stay as they are for ever: fifty features and whether a model was wrong, in columns.

A stream is decided by its world and its seed. Numbers have mean 0 and deviation 1, except those with heavy tails.
Names of worlds and of features are permanent, and so is the order in which the blocks draw.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

ROWS = 1_000  # of a batch; each key comes once in each of its parts
KEYS = 100
ERROR = "error"  # the name of the column beside the features: 1 where the model was wrong
ERROR_RATE = 0.1
HOLES_SHARE = 0.02
FACTOR = 0.7  # the correlation of any two features of a block

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class World:
    """One kind of stream: so many features of each kind."""

    name: str
    title: str
    blocks: tuple[tuple[str, int], ...]

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each feature, by its name."""
        found = {}
        for kind, count in self.blocks:
            found |= {f"{kind}-{number}": kind for number in range(count)}
        return found

    def batches(self, seed: int) -> Iterator[Columns]:
        """Yield batches of ``ROWS`` events, without end.

        >>> batch = next(BY_NAME["mixed"].batches(1))
        >>> len(batch), {len(column) for column in batch.values()}
        (51, {1000})
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        makers = [(kind, count, KINDS[kind](rng, count)) for kind, count in self.blocks]
        while True:
            batch = {}
            for kind, count, make in makers:
                for number, column in zip(range(count), make(), strict=True):
                    batch[f"{kind}-{number}"] = column
            batch[ERROR] = (rng.random(ROWS) < ERROR_RATE).astype(np.int64)
            yield batch


def _normal(rng, count):
    return lambda: rng.standard_normal((count, ROWS))


def _block(rng, count):
    """Any two share a factor."""

    def make():
        return np.sqrt(FACTOR) * rng.standard_normal(ROWS) + np.sqrt(1 - FACTOR) * rng.standard_normal((count, ROWS))

    return make


def _lognormal(rng, count):
    return lambda: np.exp(rng.standard_normal((count, ROWS)))


def _t3(rng, count):
    return lambda: rng.standard_t(3, (count, ROWS))


def _category(rng, count):
    """Codes of 3 to 30 values, of which the n-th has a share of about 1/n."""
    tops = []
    for size in rng.integers(3, 31, count):
        shares = rng.permutation(1 / np.arange(1, size + 1))
        tops.append(np.cumsum(shares / shares.sum())[:-1])
    return lambda: [np.searchsorted(top, rng.random(ROWS)) for top in tops]


def _holes(rng, count):
    def make():
        columns = rng.standard_normal((count, ROWS))
        columns[rng.random((count, ROWS)) < HOLES_SHARE] = np.nan
        return columns

    return make


def _serial(share):
    """Each value is a part of the one before it, whosever that was."""

    def prepare(rng, count):
        state = rng.standard_normal((count, 1)) * share
        scale = np.sqrt(1 - share**2)

        def make():
            nonlocal state
            columns, state = lfilter([1.0], [1.0, -share], scale * rng.standard_normal((count, ROWS)), zi=state)
            return columns

        return make

    return prepare


def _keyed(share):
    """Each value is a part of the one before it of the same key."""

    def prepare(rng, count):
        last = rng.standard_normal((count, KEYS))
        scale = np.sqrt(1 - share**2)

        def make():
            nonlocal last
            parts = []
            for _ in range(ROWS // KEYS):
                last = share * last + scale * rng.standard_normal((count, KEYS))
                parts.append(last[:, rng.permutation(KEYS)])
            return np.concatenate(parts, axis=1)

        return make

    return prepare


KINDS: dict[str, Callable] = {
    "normal": _normal,
    "block": _block,
    "lognormal": _lognormal,
    "t3": _t3,
    "category": _category,
    "holes": _holes,
    "serial50": _serial(0.5),
    "serial90": _serial(0.9),
    "keyed50": _keyed(0.5),
    "keyed90": _keyed(0.9),
}

WORLDS = (
    World(
        "mixed",
        "events that do not depend on each other",
        (("normal", 14), ("block", 10), ("lognormal", 5), ("t3", 5), ("category", 10), ("holes", 6)),
    ),
    World(
        "serial",
        "the same, and 12 of the 50 features depend on their past",
        (
            ("normal", 10), ("block", 8), ("lognormal", 4), ("t3", 4), ("category", 8), ("holes", 4),
            ("serial50", 3), ("serial90", 3), ("keyed50", 3), ("keyed90", 3),
        ),
    ),
    World("independent", "normal, independent", (("normal", 50),)),
    World("correlated", "normal, one factor in all", (("block", 50),)),
    World("heavy", "heavy-tailed: lognormal, and t with 3 degrees of freedom", (("lognormal", 25), ("t3", 25))),
    World("categorical", "codes with 3 to 30 values", (("category", 50),)),
    World(
        "autocorrelated",
        "AR(1) with 0.5 and 0.9, over events and over the events of a key",
        (("serial50", 13), ("serial90", 13), ("keyed50", 12), ("keyed90", 12)),
    ),
    World("holes", "normal, 2 % missing", (("holes", 50),)),
)  # fmt: skip
BY_NAME = {world.name: world for world in WORLDS}
CONTESTED = ("mixed", "serial")  # in these something changes
PROVED = ("independent", "correlated", "heavy", "categorical", "autocorrelated")  # in these nothing does
