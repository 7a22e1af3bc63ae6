"""What is usual by the last days of the stream itself: the reference that a watch goes on from, kept up to date."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.memory import Array, Floats, Ints
from headrace.models.reference import Reference, correlations, whole_ranks
from headrace.schemas.span import seconds

BLOCKS = 12  # that a window consists of: one is added and one is dropped at a time
SLICES_MIN = 10  # of a block
_LAST = re.compile(r"\s*last\s+(\S+)\s*")


def slices_of(against: str | None, every_s: float) -> int:
    """Return how many slices a window of the last days has, and 0 where the reference stands as it is.

    >>> slices_of("last 7d", 10.0), slices_of(None, 10.0)
    (60480, 0)
    >>> slices_of("yesterday", 10.0)
    Traceback (most recent call last):
    ValueError: against = 'yesterday': write how long what is usual looks back, as in 'last 7d'; without it the \
reference stands as it was learned
    >>> slices_of("last 5m", 10.0)
    Traceback (most recent call last):
    ValueError: against = 'last 5m': a window has 120 slices of time or more, which is 1200 s here
    """
    if against is None:
        return 0
    found = _LAST.fullmatch(against)
    if found is None:
        raise ValueError(
            f"against = {against!r}: write how long what is usual looks back, as in 'last 7d'; without it the "
            "reference stands as it was learned"
        )
    many = int(seconds(found[1]) / every_s)
    if many < BLOCKS * SLICES_MIN:
        least = BLOCKS * SLICES_MIN
        raise ValueError(
            f"against = {against!r}: a window has {least} slices of time or more, which is {least * every_s:.0f} s here"
        )
    return many


class Trailing:
    """A reference that forgets: counts of the last blocks of time, in place of those that were learned.

    The reference that it begins with stands for the whole window, and one block after the other takes the place of a
    part of it. How much slices vary, the bins, and what ranks are stay as they were learned. A block counts when it is
    over, so no slice is compared with itself.
    """

    def __init__(self, usual: Reference, related: Sequence[int], slices: int) -> None:
        self._usual = usual
        self._related = list(related) if usual.related is not None else []
        self._ranks = [whole_ranks(usual.scores[place]) for place in self._related]
        self._slices = max(1, slices // BLOCKS)
        self._number: int | None = None  # of the block that is open
        self._counts = [usual.counts // BLOCKS] * BLOCKS
        self._products = [self._begun() / BLOCKS] * BLOCKS
        self._open = np.zeros_like(usual.counts)
        self._open_products = np.zeros((len(self._related), len(self._related)))

    def _begun(self) -> Floats:
        """Return the sums of products that the reference was learned from, as far as its correlations tell."""
        usual, related = self._usual, self._related
        if not related:
            return np.zeros((0, 0))
        assert usual.related is not None
        shares = [usual.of(place) / usual.of(place).sum() for place in related]
        means = np.array([share @ rank for share, rank in zip(shares, self._ranks, strict=True)])
        squares = np.array([share @ rank**2 for share, rank in zip(shares, self._ranks, strict=True)])
        spread = np.sqrt(np.maximum(squares - means**2, 0.0))
        together = usual.related * np.outer(spread, spread) + np.outer(means, means)
        np.fill_diagonal(together, squares)
        made: Floats = together * usual.events
        return made

    def step(self, number: int, counts: Ints, products: Array | None) -> Reference | None:
        """Take a slice that was looked at; return what is usual from now on, where that is something new."""
        block, over = number // self._slices, False
        if self._number is not None and block > self._number and self._open.any():
            self._counts = [*self._counts[1:], self._open]
            self._products = [*self._products[1:], self._open_products]
            self._open, self._open_products = np.zeros_like(self._open), np.zeros_like(self._open_products)
            over = True
        self._number = block if self._number is None else max(block, self._number)
        self._open = self._open + counts
        if products is not None and self._related:
            self._open_products = self._open_products + products
        return self.reference() if over else None

    def reference(self) -> Reference:
        """Return what is usual by now."""
        usual, counts = self._usual, np.sum(self._counts, axis=0)
        related = usual.related
        if self._related:
            products = np.sum(self._products, axis=0)
            related = correlations(products, counts, usual.binner, self._ranks, self._related)
        given = {"slices": usual.slices, "related": related, "unrelated": usual.unrelated, "wander": usual.wander}
        return Reference(usual.binner, counts, usual.inflation, **given)  # type: ignore[arg-type]

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data; what it began with is kept elsewhere."""
        return {
            "number": self._number,
            "counts": np.stack([*self._counts, self._open]),
            "products": np.stack([*self._products, self._open_products]),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._number = data["number"]
        *self._counts, self._open = data["counts"].copy()
        *self._products, self._open_products = data["products"].copy()
