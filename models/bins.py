"""Values to bins: what a distribution is counted in, the same in every partition, so that counts add up."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.models.memory import Array, Floats, Ints

try:
    from headrace.models import _kernel
except ImportError:  # there was no compiler where this was installed
    _kernel = None  # type: ignore[assignment]

BINS_MAX = 20  # of equal share, for a series of many values
VALUES_MAX = 32  # a series of no more different values has a bin for each
SAMPLE_MAX = 200_000  # values that edges are taken from; more would say the same


class Bins:
    """How the values of one series are told apart: ranges of numbers, or a bin for each of a few values.

    ``edges`` rise, and a value belongs to the last one that it is not below; ``places`` says which bin that is. There
    are three bins beside those that the reference has filled: what lies below all that it had, what lies above, or,
    for a few values, what was not among them; and what is no number.

    ``by_mean`` says that of these values their mean is what matters, and not how they are spread.

    >>> few = Bins.of_values("kind", np.array([1.0, 2.0, 1.0, np.nan]))
    >>> few.names
    ['1', '2', 'other', 'missing']
    >>> few.bin(np.array([2.0, 1.5, 7.0, np.nan])).tolist()
    [1, 2, 2, 3]
    >>> many = Bins.of_values("amount", np.arange(1000.0), bins_max=4)
    >>> many.names
    ['below 0', '0 to 249', '249 to 499', '499 to 749', '749 to 999', 'above 999', 'missing']
    >>> many.bin(np.array([-1.0, 0.0, 250.0, 999.0, 1e9])).tolist()
    [0, 1, 2, 4, 5]
    """

    def __init__(
        self, name: str, edges: Floats, places: Array, names: Sequence[str], *, discrete: bool, by_mean: bool = False
    ) -> None:
        assert len(places) == len(edges) + 1
        assert len(names) <= np.iinfo(np.int8).max
        self.name = name
        self.edges = np.asarray(edges, np.float64)
        self.places = np.asarray(places, np.int8)
        self.names = list(names)
        self.discrete = discrete
        self.by_mean = by_mean

    @classmethod
    def of_values(cls, name: str, values: Floats, *, bins_max: int = BINS_MAX) -> "Bins":
        """Choose the bins by what there was: of equal share, or one for each of a few values."""
        there = values[np.isfinite(values)]
        if len(there) > SAMPLE_MAX:
            there = there[:: len(there) // SAMPLE_MAX + 1]
        distinct = np.unique(there)
        if len(distinct) <= VALUES_MAX:
            return cls._of_few(name, distinct)
        cuts = np.quantile(there, np.linspace(0.0, 1.0, bins_max + 1), method="inverted_cdf")
        lowest, highest = float(distinct[0]), float(distinct[-1])
        inner = np.unique(cuts[(cuts > lowest) & (cuts < highest)])
        return cls.of_edges(name, [lowest, *inner, highest])

    @classmethod
    def of_edges(cls, name: str, edges: Sequence[float], *, by_mean: bool = False) -> "Bins":
        """Take ranges: from each edge to the next, the last one with both its ends."""
        low, high = edges[0], edges[-1]
        told = [f"{one:.6g}" for one in edges]
        names = [f"below {told[0]}", *(f"{a} to {b}" for a, b in pairwise(told))]
        ends = np.array([*edges[:-1], np.nextafter(high, np.inf), np.inf])
        places = np.arange(len(ends) + 1)
        assert low < high
        names = [*names, f"above {told[-1]}", "missing"]
        return cls(name, ends, places, names, discrete=False, by_mean=by_mean)

    @classmethod
    def _of_few(cls, name: str, values: Floats) -> "Bins":
        count = len(values)
        edges = np.empty(2 * count + 1)
        edges[0:-1:2], edges[1:-1:2], edges[-1] = values, np.nextafter(values, np.inf), np.inf
        places = np.full(2 * count + 2, count, np.int8)
        places[1:-1:2] = np.arange(count)
        places[-1] = count + 1
        return cls(name, edges, places, [*(f"{one:.6g}" for one in values), "other", "missing"], discrete=True)

    @classmethod
    def of_names(cls, name: str, names: Sequence[str]) -> "Bins":
        """Have a bin for each of the numbers 0, 1 and so on, which are called so.

        >>> Bins.of_names("reason", ["amount", "night"]).names
        ['amount', 'night', 'other', 'missing']
        """
        made = cls._of_few(name, np.arange(len(names), dtype=np.float64))
        return cls(name, made.edges, made.places, [*names, *made.names[len(names) :]], discrete=True)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def outside(self) -> list[int]:
        """Those that no value of the reference is in: new values, and what is out of range."""
        return [self.count - 2] if self.discrete else [0, self.count - 2]

    @property
    def missing(self) -> int:
        """The one of what is no number."""
        return self.count - 1

    @property
    def middles(self) -> Floats:
        """A number that stands for each; NaN for what is missing or, of a few values, new."""
        made = np.full(self.count, np.nan)
        if self.discrete:
            made[: self.count - 2] = self.edges[0:-1:2]
        else:
            ends = self.edges[:-1]
            made[1 : self.count - 2] = (ends[:-1] + ends[1:]) / 2
            made[0], made[self.count - 2] = ends[0], ends[-1]
        return made

    def bin(self, values: Floats) -> Array:
        """Return the bin of each value."""
        made: Array = self.places[np.searchsorted(self.edges, values, side="right")]
        return made

    def dump(self) -> dict[str, Any]:
        """Return it as plain data that a person can read."""
        numbers = [float(one) for one in (self.edges[0:-1:2] if self.discrete else self.edges[:-1])]
        if not self.discrete:
            numbers[-1] = float(np.nextafter(numbers[-1], -np.inf))
        return {"values" if self.discrete else "edges": numbers, **({"by_mean": True} if self.by_mean else {})}

    @classmethod
    def load(cls, name: str, data: Mapping[str, Any]) -> "Bins":
        """Make it again from what ``dump`` returned.

        >>> few = Bins.of_values("kind", np.array([1.0, 2.0]))
        >>> Bins.load("kind", few.dump()).edges.tolist() == few.edges.tolist()
        True
        """
        if "values" in data:
            return cls._of_few(name, np.array(data["values"], np.float64))
        return cls.of_edges(name, data["edges"], by_mean=data.get("by_mean", False))


class Binner:
    """Bins many series at once.

    >>> both = Binner([Bins.of_values("a", np.arange(100.0), bins_max=2), Bins.of_values("b", np.array([0.0, 1.0]))])
    >>> both.bin([np.array([10.0, 80.0]), np.array([1.0, 5.0])])
    array([[1, 1],
           [2, 2]], dtype=int8)
    """

    def __init__(self, series: Sequence[Bins]) -> None:
        self.series = list(series)
        self.begins = np.cumsum([0, *(one.count for one in series)])  # of each series' counts in one row of all
        self.total = int(self.begins[-1])
        self._edges = np.concatenate([one.edges for one in series])
        self._places = np.concatenate([one.places for one in series])
        self._lengths = np.array([len(one.edges) for one in series], np.int64)

    def bin(self, columns: Sequence[Floats], out: Array | None = None) -> Array:
        """Return the bin of each value, a row per event."""
        count = len(columns[0])
        made = np.empty((count, len(self.series)), np.int8) if out is None else out
        if _kernel is not None:
            held = tuple(np.asarray(column, np.float64) for column in columns)
            _kernel.bins(held, self._edges, self._lengths, self._places, made, count)
            return made
        for place, (one, column) in enumerate(zip(self.series, columns, strict=True)):
            made[:, place] = one.bin(column)
        return made

    def count(self, bins: Array) -> Ints:
        """Return how many values are in each bin of each series, those of all series in one row."""
        places = bins.astype(np.int64)
        places += self.begins[:-1]
        return np.bincount(places.ravel(), minlength=self.total)
