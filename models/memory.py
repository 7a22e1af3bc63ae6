"""What is remembered per key: a row for each, kept in columns, so that a batch is looked up and updated at once."""

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Array = NDArray[Any]

NEVER = -np.inf  # the time of what has not happened
ROWS_MIN = 64
ROOM_MIN, ROOM_GROWS = 4, 4
SHELF_MIN = 4_096  # entries that a shelf begins with


class Measure(NamedTuple):
    """A number that is kept: how it is stored, what it is before anything happened, how a value joins it."""

    dtype: str
    fill: float
    join: Callable[[Any, Any], Any] = np.add
    width: int = 0  # more than zero: so many of them


def newer(_before: Array, value: Array) -> Array:
    """Let a value take the place of what was there."""
    return value


class Keys:
    """Which row belongs to which key. Rows of keys that were forgotten are given away again.

    >>> keys = Keys()
    >>> [keys.row("a"), keys.row("b"), keys.row("a")], len(keys)
    ([0, 1, 0], 2)
    >>> keys.forget([0])
    >>> keys.row("c"), keys.known("a")
    (0, False)
    """

    def __init__(self) -> None:
        self._rows: dict[Hashable, int] = {}
        self._keys: list[Any] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def row_count(self) -> int:
        """How many rows there are, with those that are free."""
        return len(self._keys)

    @property
    def free(self) -> list[int]:
        """The rows that were given away, and that nobody has."""
        return self._free

    def known(self, key: Hashable) -> bool:
        """Say whether the key has a row."""
        return key in self._rows

    def row(self, key: Hashable) -> int:
        """Return the key's row; a key that is new gets one."""
        row = self._rows.get(key)
        if row is None:
            if self._free:
                row = self._free.pop()
                self._keys[row] = key
            else:
                row = len(self._keys)
                self._keys.append(key)
            self._rows[key] = row
        return row

    def rows(self, keys: Sequence[Hashable]) -> Ints | None:
        """Return the rows of keys of which none is new, or None if one is."""
        try:
            return np.fromiter(map(self._rows.__getitem__, keys), np.int64, len(keys))
        except KeyError:
            return None

    def add_all(self, keys: Sequence[Hashable]) -> Ints:
        """Return the rows of keys of which all are new, and each is another."""
        many = min(len(self._free), len(keys))
        given = [self._free.pop() for _ in range(many)]
        for row, key in zip(given, keys, strict=False):
            self._keys[row] = key
        count = len(self._keys)
        self._keys.extend(keys[many:])
        given.extend(range(count, len(self._keys)))
        self._rows.update(zip(keys, given, strict=True))
        return np.array(given, np.int64)

    def found(self, keys: Sequence[Hashable]) -> Ints:
        """Return the rows of keys, -1 for each that has none."""
        rows = self._rows
        return np.fromiter([rows.get(key, -1) for key in keys], np.int64, len(keys))

    def keys(self, rows: Sequence[int]) -> list[Any]:
        """Return the keys of rows."""
        return [self._keys[row] for row in rows]

    def forget(self, rows: Sequence[int]) -> None:
        """Give the rows away."""
        for row in rows:
            del self._rows[self._keys[row]]
            self._keys[row] = None
        self._free.extend(rows)

    @property
    def bytes(self) -> int:
        """What it takes of memory: the keys, the rows' numbers, and where they are found."""
        numbers = 32 * len(self._rows)
        return sys.getsizeof(self._rows) + sys.getsizeof(self._keys) + sum(map(sys.getsizeof, self._rows)) + numbers

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {"keys": self._keys, "free": self._free}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> "Keys":
        """Make it again from what ``dump`` returned."""
        loaded = cls()
        loaded._keys = [tuple(key) if isinstance(key, list) else key for key in data["keys"]]
        loaded._free = list(data["free"])
        loaded._rows = dict(zip(loaded._keys, range(len(loaded._keys)), strict=True))
        if loaded._free:
            free = set(loaded._free)
            loaded._rows = {key: row for row, key in enumerate(loaded._keys) if row not in free}
        return loaded


class Columns:
    """Numbers of which every row has one: grown when there are more rows, set back when a row is given away.

    >>> columns = Columns({"last": Measure("f8", 0.0)})
    >>> columns.grow(2)
    >>> columns["last"][[0, 1]] = 5.0, 7.0
    >>> columns.reset([0])
    >>> columns["last"][:2]
    array([0., 7.])
    """

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = dict(measures)
        self._arrays = {name: _filled(0, one) for name, one in measures.items()}
        self._room = 0

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def grow(self, count: int) -> None:
        """Make room for so many rows."""
        if count > self._room:
            self._room = max(ROWS_MIN, count, self._room * 3 // 2)
            for name, one in self._measures.items():
                self._arrays[name] = _grown(self._arrays[name], self._room, one.fill)

    def reset(self, rows: Sequence[int]) -> None:
        """Set rows back to what they are before anything happened."""
        for name, one in self._measures.items():
            self._arrays[name][rows] = one.fill

    def dump(self, count: int) -> dict[str, Any]:
        """Return the first rows as plain data."""
        return {name: array[:count].copy() for name, array in self._arrays.items()}

    def load(self, data: Mapping[str, Array]) -> None:
        """Take what ``dump`` returned."""
        for name in self._measures:
            self._arrays[name] = data[name].copy()
        self._room = min((len(array) for array in self._arrays.values()), default=0)

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return sum(array.nbytes for array in self._arrays.values())


def _filled(count: int, one: Measure) -> Array:
    return np.full((count, one.width) if one.width else count, one.fill, one.dtype)


def _grown(array: Array, room: int, fill: float) -> Array:
    grown = np.full((room, *array.shape[1:]), fill, array.dtype)
    grown[: len(array)] = array
    return grown


class Wide:
    """Rows of so many numbers, of which few are looked at: what of a state need not be in memory.

    These are. Who has another place for them gives a class that keeps them there (``stream/scratch.py``): the numbers
    are the same. What was never written may be anything.

    >>> wide = Wide(3)
    >>> wide.grow(2)
    >>> wide.rows[[0, 1]] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    >>> wide.rows[:2, 1]
    array([2., 5.])
    """

    def __init__(self, width: int) -> None:
        self.rows: Floats = np.empty((0, width))

    def grow(self, count: int) -> None:
        """Make room for so many rows."""
        if count > len(self.rows):
            grown = np.empty((max(ROWS_MIN, count, len(self.rows) * 3 // 2), self.rows.shape[1]))
            grown[: len(self.rows)] = self.rows
            self.rows = grown

    def touched(self, count: int) -> None:
        """Take note that so many rows were read or written."""

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return self.rows.nbytes


class _Shelf:
    """The entries of those rows that have room for the same number of them."""

    def __init__(self, room: int, measures: Mapping[str, Measure]) -> None:
        self.room = room
        self.measures = measures
        self.tags = np.full((0, room), NEVER)
        self.values = {name: np.full((0, room), one.fill, one.dtype) for name, one in measures.items()}
        self.count = 0
        self.free: list[int] = []

    def take(self, count: int) -> Ints:
        """Return so many places that nobody has."""
        given = [self.free.pop() for _ in range(min(count, len(self.free)))]
        fresh = count - len(given)
        if self.count + fresh > len(self.tags):
            least = min(ROWS_MIN, max(1, SHELF_MIN // self.room))  # few rows get to where much room is
            length = max(least, self.count + fresh, len(self.tags) * 3 // 2)
            self.tags = _grown(self.tags, length, NEVER)
            for name, one in self.measures.items():
                self.values[name] = _grown(self.values[name], length, one.fill)
        given.extend(range(self.count, self.count + fresh))
        self.count += fresh
        return np.array(given, np.int64)

    def give_back(self, places: Ints) -> None:
        self.tags[places] = NEVER
        for name, one in self.measures.items():
            self.values[name][places] = one.fill
        self.free.extend(places.tolist())


class Look(NamedTuple):
    """The entries of some rows that have the same room: which of the rows asked for, where, and since when."""

    asked: Ints  # places in what was asked for
    places: Ints  # places on the shelf
    tags: Floats
    shelf: _Shelf

    def values(self, name: str) -> Array:
        """Return a measure of each entry."""
        return self.shelf.values[name][self.places]


Joined = Callable[[Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]
Needless = Callable[[Floats, Mapping[str, Array]], Array]


class Entries:
    """A few entries for every row, each with a tag that orders it in time and some measures.

    A row begins with room for four and gets four times as much when that is full of entries that are still
    needed, up to ``entries_max``; from there on the oldest one leaves, which may be the one that has just
    come. So memory follows what is in use, and a busy key costs the quiet ones nothing. Entries are told apart
    by their tag, or by the measure that ``by`` names; then the tag says when the entry was last met.

    ``joined`` joins all measures of an entry at once, where they depend on each other. ``needless`` says which
    entries of a full row can be done without, before it gets more room.

    >>> entries = Entries({"sum": Measure("f8", 0.0)}, entries_max=16)
    >>> entries.grow(1)
    >>> for tag in (1.0, 1.0, 2.0):
    ...     _ = entries.join(np.array([0]), np.array([tag]), np.array([-9.0]), {"sum": np.array([10.0])})
    >>> [look] = entries.look(np.array([0]))
    >>> look.tags.tolist(), look.values("sum").tolist()
    ([[1.0, 2.0, -inf, -inf]], [[20.0, 10.0, 0.0, 0.0]])
    """

    def __init__(
        self,
        measures: Mapping[str, Measure],
        *,
        entries_max: int,
        by: str = "",
        joined: Joined | None = None,
        needless: Needless | None = None,
    ) -> None:
        self.measures = dict(measures)
        self._by = by
        self._joined = joined or self._each_alone
        self._needless = needless
        self._shelves: list[_Shelf] = []
        room = ROOM_MIN
        while not self._shelves or self._shelves[-1].room < entries_max:
            self._shelves.append(_Shelf(min(room, max(ROOM_MIN, entries_max)), self.measures))
            room *= ROOM_GROWS
        self._where = Columns({"shelf": Measure("i1", -1), "place": Measure("i4", -1)})
        self.pushed_out = 0  # entries that had to leave although they were needed

    def grow(self, count: int) -> None:
        """Make room for so many rows."""
        self._where.grow(count)

    def place(self, rows: Ints) -> None:
        """Give those rows a place that have none."""
        fresh = rows[self._where["shelf"][rows] < 0]
        if len(fresh):
            fresh = _each_once(fresh)
            self._place(fresh, np.arange(len(fresh)), 0)

    def make_room(self, rows: Ints) -> None:
        """Give these rows more room, which is on the next shelf."""
        rows = _each_once(rows)
        numbers, places = self._where["shelf"][rows], self._where["place"][rows]
        for number in np.unique(numbers).tolist():
            asked = np.flatnonzero(numbers == number)
            self._move(rows, asked, places[asked], number)

    def arrays(self) -> tuple[tuple[tuple[Array, ...], ...], Array, Array]:
        """Return every shelf's tags and measures, and the shelf and place of each row: for the kernel to work on."""
        shelves = tuple((shelf.tags, *shelf.values.values()) for shelf in self._shelves)
        return shelves, self._where["shelf"], self._where["place"]

    def look(self, rows: Ints) -> list[Look]:
        """Return the entries of rows, those with the same room together; a row without any is in none."""
        numbers = self._where["shelf"][rows]
        looks = []
        for number, shelf in enumerate(self._shelves):
            if shelf.count == len(shelf.free):
                continue
            asked = np.flatnonzero(numbers == number)
            if len(asked):
                places = self._where["place"][rows[asked]]
                looks.append(Look(asked, places, shelf.tags[places], shelf))
        return looks

    def join(
        self,
        rows: Ints,
        tags: Floats,
        needed_after: Floats,
        values: Mapping[str, Array],
        looks: Sequence[Look] | None = None,
    ) -> None:
        """Add to the entry with that tag, or make one where there is none; no row may be named twice.

        Entries up to ``needed_after`` are not needed any more and make room.
        """
        looks = list(self.look(rows) if looks is None else looks)
        fresh = np.flatnonzero(self._where["shelf"][rows] < 0)
        if len(fresh):
            looks.insert(0, self._place(rows, fresh, 0))
        while looks:
            asked, places, there, shelf = looks.pop(0)
            spare = there <= needed_after[asked, None]
            if self._by:
                same = (shelf.values[self._by][places] == values[self._by][asked, None]) & ~spare
            else:
                same = there == tags[asked, None]
            there_is = same.any(axis=1)
            full = ~(there_is | spare.any(axis=1))
            if self._needless is not None and full.any():
                chosen = np.flatnonzero(full)
                spare[chosen] = self._thinned(shelf, places[chosen])
                # With less than a quarter free it would soon be full again, and thinning is dear.
                enough = 1 if shelf is self._shelves[-1] else shelf.room // 4
                full[chosen] = spare[chosen].sum(axis=1) < enough
            if full.any():
                number = self._shelves.index(shelf)
                if number + 1 < len(self._shelves):
                    moved = self._move(rows, asked[full], places[full], number)
                    later = next((at for at, look in enumerate(looks) if look.shelf is moved.shelf), None)
                    if later is None:
                        looks.insert(0, moved)
                    else:
                        looks[later] = _together(looks[later], moved)
                    keep = ~full
                else:
                    self.pushed_out += int(full.sum())
                    oldest = there.min(axis=1)
                    spare = np.where(full[:, None], there == oldest[:, None], spare)
                    keep = ~full | (tags[asked] >= oldest)  # who comes too late pushes nobody out
                asked, places, there_is, same = asked[keep], places[keep], there_is[keep], same[keep]
                spare = spare[keep]
            column = np.where(there_is, same.argmax(axis=1), spare.argmax(axis=1))
            before = np.where(there_is, shelf.tags[places, column], NEVER)
            shelf.tags[places, column] = np.maximum(before, tags[asked])
            held = {
                name: np.where(there_is, shelf.values[name][places, column], np.array(one.fill, one.dtype))
                for name, one in self.measures.items()
            }
            for name, after in self._joined(held, {name: values[name][asked] for name in values}).items():
                shelf.values[name][places, column] = after

    def _each_alone(self, before: Mapping[str, Array], values: Mapping[str, Array]) -> dict[str, Array]:
        return {name: one.join(before[name], values[name]) for name, one in self.measures.items()}

    def _thinned(self, shelf: _Shelf, places: Ints) -> Array:
        """Throw away what is not needed of rows that are full; say which entries that were."""
        assert self._needless is not None
        there = shelf.tags[places]
        needless = self._needless(there, {name: held[places] for name, held in shelf.values.items()})
        shelf.tags[places] = np.where(needless, NEVER, there)
        return needless

    def _place(self, rows: Ints, asked: Ints, number: int) -> Look:
        shelf = self._shelves[number]
        places = shelf.take(len(asked))
        self._where["shelf"][rows[asked]] = number
        self._where["place"][rows[asked]] = places
        return Look(asked, places, shelf.tags[places], shelf)

    def _move(self, rows: Ints, asked: Ints, places: Ints, number: int) -> Look:
        """Take rows that are full to the next shelf."""
        old = self._shelves[number]
        look = self._place(rows, asked, number + 1)
        look.shelf.tags[look.places, : old.room] = old.tags[places]
        for name in self.measures:
            look.shelf.values[name][look.places, : old.room] = old.values[name][places]
        old.give_back(places)
        return look._replace(tags=look.shelf.tags[look.places])

    def forget(self, rows: Sequence[int]) -> None:
        """Throw away the entries of these rows."""
        chosen = np.asarray(rows, np.int64)
        numbers = self._where["shelf"][chosen]
        for number, shelf in enumerate(self._shelves):
            mine = chosen[numbers == number]
            if len(mine):
                shelf.give_back(self._where["place"][mine].astype(np.int64))
        self._where.reset(rows)

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        held = sum(shelf.tags.nbytes + sum(one.nbytes for one in shelf.values.values()) for shelf in self._shelves)
        return held + self._where.bytes

    def dump(self, count: int) -> dict[str, Any]:
        """Return the entries of the first rows as plain data."""
        return {
            "where": self._where.dump(count),
            "pushed_out": self.pushed_out,
            "shelves": [
                {
                    "tags": shelf.tags[: shelf.count].copy(),
                    "values": {name: array[: shelf.count].copy() for name, array in shelf.values.items()},
                    "free": list(shelf.free),
                }
                for shelf in self._shelves
            ],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._where.load(data["where"])
        self.pushed_out = data["pushed_out"]
        for shelf, held in zip(self._shelves, data["shelves"], strict=True):
            shelf.tags = held["tags"].copy()
            shelf.values = {name: held["values"][name].copy() for name in self.measures}
            shelf.count = len(shelf.tags)
            shelf.free = list(held["free"])


def _each_once(rows: Ints) -> Ints:
    """Return rows in the order in which they come first."""
    return np.array(list(dict.fromkeys(rows.tolist())), np.int64)


def _together(first: Look, second: Look) -> Look:
    return Look(
        np.concatenate([first.asked, second.asked]),
        np.concatenate([first.places, second.places]),
        np.concatenate([first.tags, second.tags]),
        first.shelf,
    )


def rounds(rows: Ints) -> Iterator[Ints]:
    """Cut a batch into rounds in which no row comes twice, each row's events in their order.

    >>> [places.tolist() for places in rounds(np.array([7, 8, 7, 9, 7]))]
    [[0, 1, 3], [2], [4]]
    """
    count = len(rows)
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    first = np.concatenate([[True], in_order[1:] != in_order[:-1]])
    starts = np.flatnonzero(first)
    if len(starts) == count:
        yield np.arange(count)
        return
    nth = np.empty(count, np.int64)
    nth[order] = np.arange(count) - np.repeat(starts, np.diff(np.append(starts, count)))
    by_round = np.argsort(nth, kind="stable")
    yield from np.split(by_round, np.cumsum(np.bincount(nth))[:-1])
