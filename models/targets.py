"""What was true of a key's events, from when that is known: labels as something that features look back at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from headrace.models.keeper import ENTRIES_MAX, Fields, Keeper, Wanted
from headrace.models.labels import Outcomes, Scored
from headrace.models.memory import NEVER, Array, Entries, Floats, Ints, Measure, rounds
from headrace.schemas.outcome import By


@dataclass(frozen=True)
class Target(Wanted):
    """The labels of events in a window, or how many of them have one. It ends ``delay`` seconds before the event.

    ``since`` and ``until`` are the window's ends in tiles, or in seconds where there are none (zero).
    """

    kind: str  # "sum" or "count"
    since: float
    until: float
    tile: float
    delay: float
    late: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """Those with the same tiles share them."""
        return ("target", self.tile, self.late)

    def keeper(self, all_of_them: Sequence["Target"]) -> "Targets":
        """Make what keeps these."""
        return Targets(all_of_them)


class Targets(Keeper):
    """Tiles of labels. Here events only look; what they add comes once they have been scored, and when labels come.

    An event in a batch is added after the whole batch was looked up, or before the next one is, as the batch is cut. So
    what is looked at goes by the newest event that looked, and what is kept by the newest that was added: then an
    event finds the same entries in the same places, wherever batches are cut.
    """

    measures = MappingProxyType({"newest": Measure("f8", NEVER), "added": Measure("f8", NEVER)})

    def __init__(self, wanted: Sequence[Target]) -> None:
        super().__init__()
        self._wanted = list(wanted)
        self._tile = wanted[0].tile
        unit = self._tile or 1.0
        self._keep = max(one.since for one in wanted) + float(np.ceil(wanted[0].late / unit))
        self.horizon = self._keep * unit
        entries_max = min(ENTRIES_MAX, int(self._keep) + 1) if self._tile else ENTRIES_MAX
        self.entries = Entries({"count": Measure("i4", 0), "sum": Measure("f8", 0.0)}, entries_max=entries_max)

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:  # noqa: ARG002 - every keeper's signature
        """Return what was true in the windows, as it is known before these events."""
        assert self.entries is not None
        tags, newest = self._tags(at), self.columns["newest"]
        needed = newest[rows] - self._keep  # what is older may be gone, so nobody looks at it
        made: list[Array] = [np.zeros(len(rows)) for _ in self._wanted]
        for look in self.entries.look(rows):
            now = tags[look.asked, None]
            masks: dict[tuple[float, float], Array] = {}
            for one, column in zip(self._wanted, made, strict=True):
                bounds = one.since, one.until
                if bounds not in masks:
                    since = np.maximum(now - one.since, needed[look.asked, None])
                    masks[bounds] = (look.tags > since) & (look.tags <= now - one.until)
                column[look.asked] = np.where(masks[bounds], look.values(one.kind), 0).sum(axis=1)
        newest[rows] = np.maximum(newest[rows], tags)
        return made

    def add(self, rows: Ints, at: Floats, label: float | None) -> None:
        """Take in events of which this is taken for true until something is known; None where nothing is."""
        tags, added = self._tags(at), self.columns["added"]
        added[rows] = np.maximum(added[rows], tags)
        if label is not None:
            many, total = np.ones(len(rows), np.int32), np.full(len(rows), label)
            self._join(rows, tags, tags > added[rows] - self._keep, many, total)

    def correct(self, rows: Ints, at: Floats, first: Array, change: Floats) -> None:
        """Take in what became known of events, for the ``first`` time or beside what was there before."""
        tags = self._tags(at)
        # What is no longer there, or never was because it came too late, is not there to be corrected either.
        wanted = (first | self._has(rows, tags)) & (tags > self.columns["added"][rows] - self._keep)
        self._join(rows, tags, wanted, first.astype(np.int32), change)

    def _join(self, rows: Ints, tags: Floats, wanted: Array, many: Array, total: Floats) -> None:
        assert self.entries is not None
        chosen = np.flatnonzero(wanted)
        if len(chosen):
            mine = rows[chosen]
            values = {"count": many[chosen], "sum": total[chosen]}
            self.entries.join(mine, tags[chosen], self.columns["added"][mine] - self._keep, values)

    def _has(self, rows: Ints, tags: Floats) -> Array:
        assert self.entries is not None
        has = np.zeros(len(rows), np.bool_)
        for look in self.entries.look(rows):
            has[look.asked] = (look.tags == tags[look.asked, None]).any(axis=1)
        return has

    def _tags(self, at: Floats) -> Floats:
        return np.floor(at / self._tile) if self._tile else at


@dataclass(frozen=True)
class Life(Wanted):
    """Which life of its key an event falls into: one that was forgotten begins another when it comes again."""

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """There is one."""
        return ("life",)

    def keeper(self, all_of_them: Sequence["Life"]) -> "Lives":  # noqa: ARG002 - as those of others
        """Make what keeps it."""
        return Lives()


class Lives(Keeper):
    """A number for every key that comes, another one after it was forgotten."""

    measures = MappingProxyType({"life": Measure("i8", -1)})
    horizon = 0.0  # nobody is remembered for its number alone

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:  # noqa: ARG002 - every keeper's signature
        """Return the life that each of these events falls into."""
        lives = self.columns["life"]
        fresh = np.flatnonzero(lives[rows] < 0)
        if len(fresh):
            lives[rows[fresh]] = self._count + np.arange(len(fresh))
            self._count += len(fresh)
        return [lives[rows]]

    def dump(self, count: int) -> dict[str, Any]:
        """Return the first rows as plain data."""
        return {**super().dump(count), "count": self._count}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        super().load(data)
        self._count = data["count"]


class Truths:
    """Tells the targets of a table what is true of its events, as it becomes known of those that wait for a label.

    Where something is true of an event that has no label (``otherwise``), it is taken to be so from the beginning, and
    corrected by the label. Windows end before the event by at least the time that a label has, so until that is over
    nobody sees it; and when it is over does not hang on when somebody looks at a clock.
    """

    def __init__(
        self,
        keepers: Sequence[Targets],
        rows_of: Callable[[Sequence[Any], Ints], tuple[Ints, Ints]],
        otherwise: float | None,
    ) -> None:
        self._keepers = list(keepers)
        self._rows_of = rows_of  # which of some events their keys have not been forgotten since, and the keys' rows
        self._otherwise = otherwise

    def waits(self, scored: Scored) -> None:
        """Hear of events that wait for their label from now on."""
        assert scored.lives is not None
        places, rows = self._rows_of(scored.keys, scored.lives)
        at = scored.at[places]
        for chosen in rounds(rows) if len(rows) else ():
            for keeper in self._keepers:
                keeper.add(rows[chosen], at[chosen], self._otherwise)

    def known(self, outcomes: Outcomes) -> None:
        """Hear what became known by labels."""
        of, by = outcomes.of, outcomes.by
        assert of.lives is not None
        told = [place for place, one in enumerate(by) if one is By.LABEL or one is By.REVISION]
        if not told:
            return
        places, rows = self._rows_of([of.keys[place] for place in told], of.lives[told])
        if not len(rows):
            return
        places = np.array(told, np.int64)[places]
        label = np.array([one is By.LABEL for one in by], np.bool_)[places]
        before = outcomes.was[places]
        before[label] = 0.0 if self._otherwise is None else self._otherwise
        first = label if self._otherwise is None else np.zeros(len(label), np.bool_)
        at, change = of.at[places], outcomes.labels[places] - before
        for chosen in rounds(rows):
            for keeper in self._keepers:
                keeper.correct(rows[chosen], at[chosen], first[chosen], change[chosen])
