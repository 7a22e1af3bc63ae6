"""What is counted and summed of labels: over all time, and in the tiles of a sliding window."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.exact import read, written
from headrace.models.memory import Array, Floats, Ints

TILES = 32  # in a window
NEVER = -(1 << 62)  # the tile of what has not happened
_TIME_MAX = 1e15  # seconds: beyond it there is no tile with a number


class Tally:
    """Counts and sums of whole numbers: what is added in any order and any parts is the same in the end.

    A tally that rests is packed: most of its counts are zero.

    >>> a, b = Tally(4, 1), Tally(4, 1)
    >>> a.count(np.array([1, 1, 3]), np.array([1, 1, 5]))
    >>> b.count(np.array([3]), np.array([2]))
    >>> b.sums[0] += 7
    >>> a.pack()
    >>> a.join(b)
    >>> a.counts, a.sums
    (array([0, 2, 0, 7]), [7])
    """

    def __init__(self, size: int, sums: int) -> None:
        self.size = size
        self.sums = [0] * sums
        self.pairs: dict[tuple[Any, Any], int] = {}
        self._counts: Ints | None = None
        self._packed: tuple[Array, Ints] = _nothing()

    @property
    def counts(self) -> Ints:
        """The counts, to be read and written."""
        if self._counts is None:
            where, many = self._packed
            self._counts = np.zeros(self.size, np.int64)
            self._counts[where] = many
            self._packed = _nothing()
        return self._counts

    def count(self, where: Ints, many: Ints) -> None:
        """Add to counts, of which one may be named several times."""
        np.add.at(self.counts, where, many)

    def pair(self, pairs: Mapping[tuple[Any, Any], int], sign: int = 1) -> None:
        """Add to the counts of pairs. One that comes to nothing leaves."""
        for pair, many in pairs.items():
            total = self.pairs.get(pair, 0) + sign * many
            if total:
                self.pairs[pair] = total
            else:
                self.pairs.pop(pair, None)

    def join(self, other: "Tally") -> None:
        """Add all of another tally to this one."""
        where, many = other.used
        self.counts[where] += many  # each place is there once
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]
        self.pair(other.pairs)

    @property
    def used(self) -> tuple[Array, Ints]:
        """The counts that are not zero: where they are, and what."""
        if self._counts is None:
            return self._packed
        where = np.flatnonzero(self._counts)
        return where.astype(np.int32), self._counts[where]

    def pack(self) -> None:
        """Keep only the counts that are not zero."""
        if self._counts is not None:
            self._packed, self._counts = self.used, None

    @property
    def bytes(self) -> int:
        """What it takes of memory, the pairs of classes roughly."""
        arrays = self._packed if self._counts is None else (self._counts,)
        return sum(array.nbytes for array in arrays) + 64 * len(self.sums) + 200 * len(self.pairs)

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        where, many = self.used
        pairs = [[*pair, many] for pair, many in sorted(self.pairs.items(), key=repr)]
        return {"where": where, "many": many, "sums": list(map(written, self.sums)), "pairs": pairs}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._counts, self._packed = None, (data["where"].copy(), data["many"].copy())
        self.sums = list(map(read, data["sums"]))
        self.pairs = {(label, predicted): many for label, predicted, many in data["pairs"]}


def _nothing() -> tuple[Array, Ints]:
    return np.empty(0, np.int32), np.empty(0, np.int64)


class Window:
    """Tallies of a sliding window in event time, and one of everything that has left it.

    The window ends with the newest time that was seen, and has 32 tiles of equal length: it covers the last 31 to 32
    thirty-seconds of its span. What comes too late for it goes where it would be by now anyway, so the order in which
    things come does not show.
    """

    def __init__(self, span_s: float, size: int, sums: int) -> None:
        self._tile_s = span_s / TILES
        self._shape = size, sums
        self.newest = NEVER
        self.left = Tally(size, sums)
        self.tiles: dict[int, Tally] = {}

    def has_place(self, at: Floats) -> Array:
        """Say of each time whether it can be in a tile."""
        fits: Array = np.abs(at) < _TIME_MAX
        return fits

    def places(self, at: Floats) -> Ints:
        """Return the tile of each time."""
        tiles: Ints = np.floor(at / self._tile_s).astype(np.int64)
        return tiles

    def move_to(self, tile: int) -> None:
        """Let the window end with this tile, unless it ends later already."""
        if tile <= self.newest:
            return
        self.newest = tile
        for old in [one for one in self.tiles if one <= tile - TILES]:
            self.left.join(self.tiles.pop(old))
        self.rest()

    def at(self, tile: int) -> Tally:
        """Return the tally of a tile, or of all that has left the window."""
        if tile <= self.oldest:
            return self.left
        tally = self.tiles.get(tile)
        if tally is None:
            tally = self.tiles[tile] = Tally(*self._shape)
        return tally

    @property
    def oldest(self) -> int:
        """The last tile that has left the window; everything up to it is one."""
        return self.newest - TILES

    def rest(self) -> None:
        """Pack the tiles to which little will be added from now on: all but the newest."""
        for tile, tally in self.tiles.items():
            if tile != self.newest:
                tally.pack()

    def total(self) -> Tally:
        """Return everything together."""
        return self._together([self.left, *self.tiles.values()])

    def recent(self, now: float | None = None) -> Tally:
        """Return what is in the window, which ends now where that is later than anything seen."""
        first = self.oldest
        if now is not None:
            first = max(first, int(self.places(np.array([now]))[0]) - TILES)
        return self._together([tally for tile, tally in self.tiles.items() if tile > first])

    def _together(self, tallies: Sequence[Tally]) -> Tally:
        joined = Tally(*self._shape)
        for tally in tallies:
            joined.join(tally)
        return joined

    def join(self, other: "Window") -> None:
        """Add all of another window, which ends where it ends."""
        self.move_to(other.newest)
        self.left.join(other.left)
        for tile, tally in other.tiles.items():
            self.at(tile).join(tally)
        self.rest()

    def tallies(self) -> Iterator[Tally]:
        """Yield every tally there is."""
        yield self.left
        yield from self.tiles.values()

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return sum(tally.bytes for tally in self.tallies())

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        tiles = [[tile, self.tiles[tile].dump()] for tile in sorted(self.tiles)]
        return {"newest": self.newest, "left": self.left.dump(), "tiles": tiles}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.newest = data["newest"]
        self.left.load(data["left"])
        self.tiles = {}
        for tile, held in data["tiles"]:
            self.tiles[tile] = Tally(*self._shape)
            self.tiles[tile].load(held)
