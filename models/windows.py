"""Windows: aggregates over spans of time, kept as tiles of events or, where they are exact, as all their events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from headrace.models.keeper import ENTRIES_MAX, NOBODY, Fields, Keeper, Wanted
from headrace.models.memory import NEVER, Array, Entries, Floats, Ints, Measure

try:
    from headrace.models import _kernel
except ImportError:  # there was no compiler where this was installed
    _kernel = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Window(Wanted):
    """An aggregate over a span of time that ends at the event, or ``delay`` before it.

    With tiles the ends of the window lie on whole tiles: an event that is older than the span is never in
    it, and of those in its oldest ``tile`` seconds some are not. Without tiles (zero) it is exact.
    """

    field: str  # empty: the events themselves
    kind: str
    span: float
    tile: float
    delay: float
    late: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """Windows with the same tiles share them."""
        return ("window", self.tile, self.late)

    def keeper(self, all_of_them: Sequence["Window"]) -> "Windows":
        """Make what keeps these."""
        return Windows(all_of_them)


_INFINITE = float("inf")
JOINS: dict[str, Measure] = {
    "events": Measure("i4", 0),
    "count": Measure("i4", 0),
    "sum": Measure("f8", 0.0),
    "max": Measure("f8", -_INFINITE, np.maximum),
    "min": Measure("f8", _INFINITE, np.minimum),
    # Deviations from the first value of their tile: the value, the sum of them and of their squares.
    "near": Measure("f8", 0.0),
    "away": Measure("f8", 0.0),
    "squares": Measure("f8", 0.0),
}
_DEVIATIONS = ("near", "away", "squares")
MOMENTS = ("count", *_DEVIATIONS)


_KINDS = tuple(JOINS)  # as the kernel numbers them
LANES = 4  # of a sum, as the kernel has them


class Windows(Keeper):
    """Tiles of events, from which any number of windows are read.

    Where there is a compiler, ``models/_windows.c`` does it, an event after the other; else numpy does, a round at a
    time. What comes out is the same to the last bit, and so is what is kept.
    """

    measures = MappingProxyType({"newest": Measure("f8", NEVER)})

    def __init__(self, wanted: Sequence[Window]) -> None:
        super().__init__()
        self._wanted = list(wanted)
        self._tile = wanted[0].tile
        unit = self._tile or 1.0
        self._bounds = [(rounded((one.delay + one.span) / unit), rounded(one.delay / unit)) for one in wanted]
        self._keep = max(longest for longest, _ in self._bounds) + np.ceil(wanted[0].late / unit)
        self.horizon = self._keep * unit
        self._whole = {
            (one.field, bounds) for one, bounds in zip(wanted, self._bounds, strict=True) if one.kind in _DEVIATIONS
        }
        self._spread = list(dict.fromkeys(one.field for one in wanted if one.kind in _DEVIATIONS))
        kept = dict.fromkeys((one.field, one.kind) for one in wanted)
        kept.update(dict.fromkeys((field, kind) for field in self._spread for kind in MOMENTS))
        self._kept = {f"{kind} {field}": (field, kind) for field, kind in kept}
        measures = {name: JOINS[kind] for name, (_, kind) in self._kept.items()}
        entries_max = min(ENTRIES_MAX, int(self._keep) + 1) if self._tile else ENTRIES_MAX
        self.entries = Entries(measures, entries_max=entries_max, joined=self._joined if self._spread else None)
        self._columns = list(dict.fromkeys(field for field, _ in self._kept.values() if field))
        self._plan = self._planned()

    def _planned(self) -> tuple[Floats, Ints, Ints, Ints]:
        """Return what is wanted and what is kept, as the kernel has it."""
        names, bounds = list(self._kept), list(dict.fromkeys(self._bounds))
        wanted = [
            (
                bounds.index(of),
                _KINDS.index(one.kind),
                self._spread.index(one.field) if one.kind in _DEVIATIONS else names.index(f"{one.kind} {one.field}"),
            )
            for one, of in zip(self._wanted, self._bounds, strict=True)
        ]
        kept = [
            (_KINDS.index(kind), self._columns.index(field) if field else -1) for field, kind in self._kept.values()
        ]
        spread = [[names.index(f"{kind} {field}") for kind in MOMENTS] for field in self._spread]
        return (
            np.array(bounds, np.float64),
            np.array(wanted, np.int64),
            np.array(kept, np.int64),
            np.array(spread, np.int64).reshape(-1, len(MOMENTS)),
        )

    @property
    def in_order(self) -> bool:
        """Where it is compiled, a row may come more than once."""
        return _kernel is not None

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:
        """Return the windows as they were before these events, and take them in."""
        tags = np.floor(at / self._tile) if self._tile else at
        return self._each(rows, tags, fields) if _kernel is None else self._compiled(rows, tags, fields)

    def _compiled(self, rows: Ints, tags: Floats, fields: Fields) -> list[Array]:
        assert self.entries is not None
        entries, newest = self.entries, self.columns["newest"]
        entries.place(rows)
        columns = tuple(fields[name] for name in self._columns)
        made = np.empty((len(self._wanted), len(rows)))
        counts, events = np.zeros(2, np.int64), np.arange(len(rows))
        missed, waiting = np.empty_like(events), np.empty_like(events)
        while len(events):
            shelves, shelf_of, place_of = entries.arrays()
            where = self._plan, self._keep, newest, shelf_of, place_of, shelves
            left = _kernel.windows(*where, rows, tags, columns, made, missed, counts, events, waiting)
            events = waiting[:left].copy()
            if left:
                entries.make_room(rows[events])
        late, pushed_out = counts.tolist()
        self.missed = np.sort(missed[:late]) if late else NOBODY
        self.late += late
        entries.pushed_out += pushed_out
        return list(made)

    def _each(self, rows: Ints, tags: Floats, fields: Fields) -> list[Array]:
        """Do the same without a compiler, with a round of events."""
        assert self.entries is not None
        looks = self.entries.look(rows)
        newest = self.columns["newest"]
        needed = newest[rows] - self._keep  # what is older may be gone, so nobody looks at it
        made: list[Array] = [np.full(len(rows), JOINS[one.kind].fill, np.float64) for one in self._wanted]
        for look in looks:
            now = tags[look.asked, None]
            masks: dict[tuple[float, float], Array] = {}
            moments: dict[tuple[str, tuple[float, float]], dict[str, Array]] = {}
            for one, bounds, column in zip(self._wanted, self._bounds, made, strict=True):
                if bounds not in masks:
                    since = np.maximum(now - bounds[0], needed[look.asked, None])
                    masks[bounds] = (look.tags > since) & (look.tags <= now - bounds[1])
                if one.kind in MOMENTS and (one.field, bounds) in self._whole:
                    read = moments.get((one.field, bounds))
                    if read is None:
                        of_tiles = (look.values(f"{kind} {one.field}") for kind in MOMENTS)
                        read = dict(zip(MOMENTS, _moments_of(masks[bounds], *of_tiles), strict=True))
                        moments[one.field, bounds] = read
                    column[look.asked] = read[one.kind]
                    continue
                values = look.values(f"{one.kind} {one.field}")
                joined = JOINS[one.kind]
                chosen = np.where(masks[bounds], values, joined.fill)
                column[look.asked] = _total(chosen) if joined.join is np.add else joined.join.reduce(chosen, axis=1)  # type: ignore[attr-defined]
        last = np.maximum(newest[rows], tags)
        newest[rows] = last
        needed_after = last - self._keep
        on_time = tags > needed_after
        added = {
            name: _value(kind, fields[field] if field else None, len(rows))
            for name, (field, kind) in self._kept.items()
            if kind not in _DEVIATIONS or kind == "near"
        }
        self.missed = NOBODY
        if not on_time.all():
            self.missed = np.flatnonzero(~on_time)
            self.late += len(self.missed)
            left = np.flatnonzero(on_time)
            rows, tags, needed_after = rows[left], tags[left], needed_after[left]
            added = {name: column[left] for name, column in added.items()}
            looks = None  # type: ignore[assignment]
        self.entries.join(rows, tags, needed_after, added, looks)
        return made

    def _joined(self, before: Mapping[str, Array], added: Mapping[str, Array]) -> dict[str, Array]:
        """Join an event's values to those of its tile."""
        after = {
            name: JOINS[kind].join(before[name], added[name])
            for name, (_, kind) in self._kept.items()
            if kind not in _DEVIATIONS
        }
        for field in self._spread:
            value, is_there = added[f"near {field}"], added[f"count {field}"]
            near = np.where(before[f"count {field}"], before[f"near {field}"], value)
            away = (value - near) * is_there
            after[f"near {field}"] = near
            after[f"away {field}"] = before[f"away {field}"] + away
            after[f"squares {field}"] = before[f"squares {field}"] + away * away
        return after


def _value(kind: str, values: Array | None, count: int) -> Array:
    """Return what each event adds to a tile; a missing value adds nothing."""
    if values is None:
        return np.ones(count, np.int32)
    is_there = np.isfinite(values)
    if kind == "count":
        return is_there.astype(np.int32)
    filled: Array = np.where(is_there, values, JOINS[kind].fill) + 0.0  # zero has no sign
    return filled


def _total(values: Array) -> Array:
    """Return the sum of each row: of every fourth value, four times, and then of those sums, as the kernel has it."""
    lanes = [np.cumsum(values[:, lane::LANES], axis=1)[:, -1] for lane in range(LANES)]
    total: Array = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + 0
    return total


def _moments_of(chosen: Array, count: Array, near: Array, away: Array, squares: Array) -> tuple[Array, ...]:
    """Return what the chosen tiles of each row hold together, measured from one value of the window.

    That value is no further from the others than they are from each other, so no large numbers are subtracted that
    hardly differ, however far away what came before the window was. Of a window without values it is any number.
    """
    count = np.where(chosen, count, 0)
    away = np.where(chosen, away, 0.0)
    found = near[np.arange(len(near)), count.argmax(axis=1)]
    between = np.where(chosen, near - found[:, None], 0.0)
    moved = count * between
    squares = np.where(chosen, squares, 0.0) + (away + away + moved) * between
    return count.sum(axis=1), found, _total(away + moved), _total(squares)


def rounded(count: float) -> float:
    """Return a number of tiles as it was meant: the length of a tile is seldom a number that a float can hold."""
    whole = float(round(count))
    return whole if abs(count - whole) <= 1e-9 * whole else count
