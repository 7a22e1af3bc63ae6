"""How good a model has been: each label scores the prediction that was published before it."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from headrace.models.exact import exact_sums
from headrace.models.measures import CHANGED, CLASSES_MAX, FIRST, STAYED, UNIT, UNUSABLE, Kind, Parts, Told, measure_of
from headrace.models.memory import Array, Ints
from headrace.models.ranking import NUMBER_BINS, PROBABILITY_BINS
from headrace.models.tally import TILES, Window
from headrace.schemas.span import seconds

WEIGHT_MAX = float(1 << 20)
HELD_MAX = 8_192  # labels that wait to be counted together: a call costs the same for one as for a thousand


class _Rows(NamedTuple):
    """Labels in order: when each became known, columns of labels and scores, which can be, and what each counts."""

    at: Array
    columns: list[Array]
    there: Array
    given: Array
    units: Ints
    plain: bool  # each counts as one


class Quality:
    """The progressive quality of one model, over all time and over a sliding window in event time.

    A batch of labels is added in order, each with the score that its event was given. All that is kept are whole
    numbers, sums of floats included, so where a batch is cut does not show, and neither does the order, but for one
    thing: what came before each label (``kappa_temporal``). ``docs/quality.md`` says what each number means.

    ``threshold`` is what a score must be above to count as a one. ``window`` is a span such as ``"1d"``. ``costs`` are
    those of a false positive and of a false negative. ``k`` is for the precision among the k highest scores.

    >>> quality = Quality("binary", window="1h")
    >>> quality.add([0.0, 10.0, 20.0, 7_200.0], [0.9, 0.2, 0.6, 0.3], [1, 0, 0, 0])
    >>> report = quality.report()
    >>> report["overall"]["accuracy"], report["recent"]["accuracy"]
    (0.75, 1.0)
    >>> quality.revise([20.0], [0.6], [0], [1])  # it was a one after all
    >>> quality.report()["overall"]["accuracy"]
    1.0
    """

    def __init__(
        self,
        kind: Kind,
        *,
        threshold: float = 0.5,
        window: str | float = "1d",
        costs: tuple[float, float] = (1.0, 1.0),
        k: float = 100,
        classes_max: int = CLASSES_MAX,
    ) -> None:
        if not k >= 1:
            raise ValueError(f"k = {k!r}: there is no precision among fewer than one")
        self.kind = kind
        self.window_s = seconds(window) if isinstance(window, str) else float(window)
        if not 0.0 < self.window_s < float("inf"):
            raise ValueError(f"window = {window!r}: allowed are spans such as '1d', or a positive number of seconds")
        self.threshold, self.k, self.classes_max = threshold, k, classes_max
        self.costs = costs
        self.measure = measure_of(kind, threshold=threshold, costs=costs, k=k, classes_max=classes_max)
        # Costs and k are asked of what is kept, and change nothing about it.
        said = (kind, threshold, self.window_s, TILES, PROBABILITY_BINS, NUMBER_BINS)
        self.fingerprint = hashlib.sha256(repr(said).encode()).hexdigest()[:16]
        self.window = Window(self.window_s, self.measure.size, self.measure.sums)
        self._last: Any = None
        self._at: float | None = None
        self._held: list[_Rows] = []  # taken in, and not counted yet: nobody can tell, as cuts do not show
        self._held_count = 0

    def add(self, at: Any, scores: Any, labels: Any, weights: Any = None) -> None:
        """Take labels in, in order: when each became known, what its event was scored, and what is true.

        Of a binary model the scores are probabilities and the labels zeros and ones. Of a multiclass model the scores
        are the classes that were foretold, or a mapping from each class to a column of probabilities, or both
        (``Foretold``), and the labels are classes. A row of which the time, the score or the label cannot be is
        ``unusable``, and counted as that only; a missing score is NaN or None.
        """
        rows = self._read(at, scores, labels, weights)
        if rows is None:
            return
        # Copies, because whoever gave them may go on to write there.
        self._held.append(rows._replace(at=rows.at.copy(), columns=[column.copy() for column in rows.columns]))
        self._held_count += len(rows.at)
        if self._held_count >= HELD_MAX:
            self.settle()

    def revise(self, at: Any, scores: Any, old_labels: Any, new_labels: Any, weights: Any = None) -> None:
        """Take labels back that were wrong, and add the right ones: times, scores and weights are those of ``add``.

        A label that has left the window changes what is over all only, and so does one of which the time is not known
        any more and given as NaN. What ``kappa_temporal`` compares with stays: at its time the old label was the one
        that was known.
        """
        self.settle()
        for sign, labels in ((-1, old_labels), (1, new_labels)):
            if (rows := self._read(at, scores, labels, weights)) is not None:
                self._take(rows, sign=sign, fresh=False)

    def report(self, now: float | None = None) -> dict[str, Told]:
        """Return every number ``overall`` and ``recent``, which is in the window; None is what nobody can say yet.

        The window ends with the newest label, or now where that is later.
        """
        self.settle()
        window = self.window
        return {
            "overall": self.measure.told(window.total()),
            "recent": self.measure.told(window.recent(now)),
        }

    def merged(self, other: "Quality") -> "Quality":
        """Return both together, as if all labels had come to one place."""
        assert other.fingerprint == self.fingerprint, "they measure different things"
        both = Quality(
            self.kind,
            threshold=self.threshold,
            window=self.window_s,
            costs=self.costs,
            k=self.k,
            classes_max=self.classes_max,
        )
        for one in (self, other):
            one.settle()
            both.window.join(one.window)
            both.measure.known |= one.measure.known
        latest = max(self, other, key=lambda one: (one.at is not None, one.at or 0.0, repr(one.last)))
        both._last, both._at = latest.last, latest.at
        return both

    @property
    def last(self) -> Any:
        """The label before the next one."""
        self.settle()
        return self._last

    @property
    def at(self) -> float | None:
        """The newest time at which a label became known."""
        self.settle()
        return self._at

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        self.settle()
        return self.window.bytes

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data: numbers, strings, lists, dictionaries and arrays."""
        self.settle()
        return {
            "fingerprint": self.fingerprint,
            "window": self.window.dump(),
            "last": self._last,
            "at": self._at,
            "known": sorted(self.measure.known, key=repr),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        assert data["fingerprint"] == self.fingerprint, "whoever loads has compared them"
        self._held, self._held_count = [], 0
        self.window.load(data["window"])
        self._last, self._at = data["last"], data["at"]
        self.measure.known = set(data["known"])

    def _read(self, at: Any, scores: Any, labels: Any, weights: Any) -> _Rows | None:
        at = np.asarray(at, np.float64)
        if not len(at):
            return None
        columns, there, given = self.measure.read(scores, labels)
        assert len(there) == len(given) == len(at), "one score and one label for each time"
        return _Rows(at, columns, there, given, _units(weights, len(at)), plain=weights is None)

    def settle(self) -> None:
        """Count what waits."""
        if not self._held:
            return
        held, self._held, self._held_count = self._held, [], 0
        for plain, alike in groupby(held, key=lambda rows: rows.plain):
            parts = list(alike)
            columns = [np.concatenate(column) for column in zip(*[one.columns for one in parts], strict=True)]
            at, there, given, units = (
                np.concatenate(column)
                for column in zip(*[(one.at, one.there, one.given, one.units) for one in parts], strict=True)
            )
            self._take(_Rows(at, columns, there, given, units, plain), sign=1, fresh=True)

    def _take(self, rows: _Rows, *, sign: int, fresh: bool) -> None:
        at, columns, there, given, units, plain = rows
        units = sign * units
        placed = self.window.has_place(at)
        usable = there & given & (placed if fresh else True)
        if placed.any() and fresh:
            newest = float(at[placed].max())
            self._at = newest if self._at is None else max(self._at, newest)
            self.window.move_to(int(self.window.places(at[placed]).max()))
        # Everything that has left the window is one place.
        oldest = self.window.oldest
        tiles = np.where(placed, np.maximum(self.window.places(np.where(placed, at, 0.0)), oldest), oldest)
        follow = self._followed(columns[0], there) if fresh and self.measure.ordered else None
        if not usable.all():
            for tile, many in zip(tiles[~usable].tolist(), units[~usable].tolist(), strict=True):
                self.window.at(tile).counts[UNUSABLE] += many
            tiles, units = tiles[usable], units[usable]
            columns = [column[usable] for column in columns]
        if len(tiles):
            parts = self.measure.parts(columns)
            if follow is not None:
                parts.counts.append(follow[usable])
            self._put(tiles, units, parts, sign=sign, plain=plain)
        self.window.rest()

    def _followed(self, labels: Array, there: Array) -> Ints:
        """Say of each label whether it is the one that came before it, with a score or without one."""
        made = np.full(len(labels), FIRST)
        seen = labels[there]
        if len(seen):
            before = np.empty_like(seen)
            before[1:], before[0] = seen[:-1], self._last
            made[there] = np.where(seen == before, STAYED, CHANGED)
            if self._last is None:
                made[np.flatnonzero(there)[0]] = FIRST
            self._last = seen[-1:].tolist()[0]
        return made

    def _put(self, tiles: Ints, units: Ints, parts: Parts, *, sign: int, plain: bool) -> None:
        """Add rows to the tallies of their tiles."""
        counts = np.stack(parts.counts) if parts.counts else np.empty((0, len(tiles)), np.int64)
        if (tiles == tiles[0]).all():  # as nearly always: a tile is long, and labels come in order
            places, of = tiles[:1], np.zeros(len(tiles), np.int64)
        else:
            places, of = np.unique(tiles, return_inverse=True)
        for number, place in enumerate(places.tolist()):
            tally = self.window.at(place)
            rows = np.flatnonzero(of == number)
            tally.count(counts[:, rows].ravel(), np.tile(units[rows], len(counts)))
            if parts.pairs:
                tally.pair(_counted([parts.pairs[row] for row in rows.tolist()], units[rows].tolist()))
        sums = self.measure.sums
        if not sums:
            return
        groups = np.concatenate([of * sums + which for which, _ in parts.values])
        values = np.concatenate([one for _, one in parts.values])
        if not plain:
            values = values * np.tile(np.abs(units) / UNIT, len(parts.values))
        made = exact_sums(values, groups, len(places) * sums)
        for number, place in enumerate(places.tolist()):
            tally = self.window.at(place)
            for which in range(sums):
                tally.sums[which] += sign * made[number * sums + which]


def _units(weights: Any, count: int) -> Ints:
    if weights is None:
        return np.full(count, UNIT)
    given = np.asarray(weights, np.float64)
    if not ((given >= 0.0) & (given <= WEIGHT_MAX)).all():
        raise ValueError(f"weights: allowed are 0 to {WEIGHT_MAX:.0f}, and there are {given.min()} and {given.max()}")
    units: Ints = np.rint(given * UNIT).astype(np.int64)
    return units


def _counted(pairs: Sequence[tuple[Any, Any]], units: Sequence[int]) -> dict[tuple[Any, Any], int]:
    made: dict[tuple[Any, Any], int] = {}
    for pair, many in zip(pairs, units, strict=True):
        made[pair] = made.get(pair, 0) + many
    return made
