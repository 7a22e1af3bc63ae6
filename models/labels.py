"""Events that wait for what was true of them, and labels that wait for their event."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np

from headrace.models.memory import NEVER, Array, Columns, Floats, Ints, Keys, Measure, Wide
from headrace.schemas.event import Truth
from headrace.schemas.outcome import By, Withheld

WAITING_MAX = 1_000_000  # events per partition
EARLY_MAX = 100_000  # labels per partition that came before their event
LEAVE_SHARE = 64  # when too many wait, one in so many leaves
CLOCK_COUNT = 64  # events of which the median says what time it is: one absurd time moves nothing
SCORES = ("static", "online", "score")
CHANCES = "chances"
ROOM_MIN = 8  # classes for which there is room from the beginning
COPIED = 65_536  # rows that are copied at a time

Id = str | int


class Standing(IntEnum):
    """What is known of an event that was scored."""

    WAITING = 0
    TIMED_OUT = 1  # there was no label in time, and that is taken for one
    LABELLED = 2


class Scored(NamedTuple):
    """Events with what was made of them, as columns: what has to be kept until their labels come."""

    ids: list[Id]
    keys: list[Any]
    at: Floats
    wrote: Floats  # when their records were written
    features: Array  # one row each
    static: Floats
    online: Floats
    score: Floats
    groups: list[Any]  # of which the combination has weights of its own; empty where it has none
    # Of a multiclass pipeline alone: the likeliest class, and how likely each was, in the order of the classes.
    said: Floats | None = None
    chances: Array | None = None
    lives: Ints | None = None  # of their keys, where features look back at labels

    @property
    def size(self) -> int:
        """How many events there are."""
        return len(self.ids)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: column for name, column in zip(self._fields, self, strict=True) if column is not None}

    def only(self, places: Ints) -> "Scored":
        """Return some of them."""
        listed = places.tolist()
        columns = ([one[at] for at in listed] if isinstance(one, list) and one else one for one in self)
        return Scored._make(one[places] if isinstance(one, np.ndarray) else one for one in columns)


class Outcomes(NamedTuple):
    """What became known of events: by what, since when, and what was taken for true before."""

    by: list[By]
    at: Floats  # when it was true: a label's own time, or the end of the time that an event has
    labels: Floats
    was: Floats  # NaN where nothing was known
    since: Floats  # when what was taken for true first was
    wrote: Floats  # when the label's record was written; NaN where there is none
    sources: list[Any]  # who said so; empty where nobody asks
    of: Scored
    withheld: Sequence[Withheld | None] = ()  # what kept it from teaching; empty where nothing can

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.by)

    def only(self, by: frozenset[By]) -> "Outcomes":
        """Return those that became known in one of these ways."""
        places = np.array([at for at, one in enumerate(self.by) if one in by], np.int64)
        if len(places) == len(self.by):
            return self
        return self.some(places)

    def some(self, places: Ints) -> "Outcomes":
        """Return those in these places."""
        listed = places.tolist()
        kept, sources = ([one[at] for at in listed] if one else [] for one in (self.by, self.sources))
        columns = (self.at, self.labels, self.was, self.since, self.wrote)
        return Outcomes._make([kept, *(one[places] for one in columns), sources, self.of.only(places), ()])


_ROWS = {
    "arrived": Measure("i8", -1),
    "standing": Measure("i1", 0),
    "at": Measure("f8", NEVER),
    "wrote": Measure("f8", NEVER),
    "label": Measure("f8", np.nan),
    "since": Measure("f8", np.nan),
}
_KINDS = (By.LABEL, By.REVISION, By.LATE, By.TIMEOUT)
_LABEL, _REVISION, _LATE, _TIMEOUT = range(4)
TEACHES = frozenset({By.LABEL, By.TIMEOUT})  # what is true of an event becomes known for the first time


class Early(NamedTuple):
    """A label that came before its event."""

    key: Any
    at: float
    label: float
    wrote: float
    source: Any = None


class Hears(Protocol):
    """Hears of events that begin to wait, each once, and then what becomes known of them by labels."""

    def waits(self, scored: Scored) -> None:
        """Hear of events."""

    def known(self, outcomes: Outcomes) -> None:
        """Hear what became known."""


class Waiting:
    """The scored events of one partition, until it is known what was true of them.

    Whatever comes is told apart by what is known already: the first label of an event, the same one again, another
    one (a revision), one that came too late, or before its event. An event's time is up when its ``within`` has
    passed, by the times of events or by the clock on the wall; both are given, none is read here.

    What is looked through whenever time passes is in memory. Features and scores are read once, when a label comes,
    and are where ``wide`` keeps them, an event's beside each other. Of ``classes`` the likeliest one is kept too, and
    the probability of each: which of them was the true one is known when the label comes.

    >>> truth = Truth(None, "label", within=60.0, otherwise=0.0)
    >>> waiting = Waiting(["amount"], truth)
    >>> one = np.zeros(1)
    >>> _ = waiting.add(Scored(["a"], ["card"], one, one, np.array([[5.0]]), one, one, one, []))
    >>> waiting.tick(wall=61.0, event=61.0).by
    [<By.TIMEOUT: 'timeout'>]
    >>> waiting.label(["a"], ["card"], at=one + 70.0, labels=one + 1.0, wrote=one + 70.0).by
    [<By.REVISION: 'revision'>]
    """

    def __init__(
        self,
        features: Sequence[str],
        truth: Truth,
        *,
        waiting_max: int = WAITING_MAX,
        early_max: int = EARLY_MAX,
        wide: Callable[[int], Wide] = Wide,
        classes: bool = False,
    ) -> None:
        self._truth = truth
        self.stays = truth.within if truth.otherwise is None else 2 * truth.within  # until nothing corrects it
        self._waiting_max, self._early_max = waiting_max, early_max
        self._ids = Keys()
        self._keys: list[Any] = []
        self._groups: list[Any] = []
        self._rows = Columns(_ROWS)
        self._feature_count = max(1, len(features))
        self._scores = (*SCORES, "said") if classes else SCORES
        self._class_count, self._class_room = 0, ROOM_MIN if classes else 0
        self._make_wide = wide
        self._wide = wide(self._narrow + self._class_room)
        self._early: dict[Id, Early] = {}
        self._arrived = 0
        self._clock = np.full(CLOCK_COUNT, NEVER)
        self._clocked = 0
        self._next_event = self._next_wall = np.inf  # nothing happens by itself before
        self._hears: Hears | None = None
        self.counts: Counter[str] = Counter()

    def tell(self, hears: Hears) -> None:
        """Tell this of everything that is still to come. The lives of the events' keys are kept for it."""
        assert not self._ids.row_count
        self._hears = hears
        self._rows = Columns({**_ROWS, "life": Measure("i8", -1)})

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def _narrow(self) -> int:
        """How many numbers of a row do not hang on how many classes there are."""
        return self._feature_count + len(self._scores)

    @property
    def otherwise(self) -> float | None:
        """What is true of an event that has no label when its time is up; None where nobody can say."""
        return self._truth.otherwise

    def times(self, ids: Sequence[Id]) -> Floats:
        """Return the times of events that wait; NaN of others."""
        rows = self._ids.found(ids)
        if not self._ids.row_count:
            return np.full(len(ids), np.nan)
        return np.where(rows >= 0, self._rows["at"][rows], np.nan)

    @property
    def early(self) -> int:
        """How many labels wait for their event."""
        return len(self._early)

    @property
    def clock(self) -> float:
        """What time it is by the events; minus infinity before the first."""
        known = self._clock[: min(self._clocked, CLOCK_COUNT)]
        return float(np.median(known)) if len(known) else NEVER

    def due(self, wall: float, event: float) -> bool:
        """Say whether a tick would do anything."""
        return event >= self._next_event or wall >= self._next_wall

    def cuts(self, ids: Sequence[Id]) -> Iterator[int]:
        """Yield the places before which a batch is to be cut: an event whose label is there already teaches at once."""
        if self._early:
            yield from (place + 1 for place, one in enumerate(ids) if one in self._early)

    # What comes.

    def add(self, scored: Scored) -> Outcomes:
        """Let events wait; return what is known already of some."""
        if not scored.size:
            return self._nothing()
        last = scored.at[-CLOCK_COUNT:]
        self._clock[(self._clocked + scored.size - len(last) + np.arange(len(last))) % CLOCK_COUNT] = last
        self._clocked += scored.size
        known = self._ids.known
        if len(set(scored.ids)) < scored.size or any(map(known, scored.ids)):
            # The same event once more: it has a prediction each time, and a label once.
            seen: set[Id] = set()
            fresh = [not (one in seen or known(one) or seen.add(one)) for one in scored.ids]  # type: ignore[func-returns-value]
            self.counts["repeated"] += fresh.count(False)
            scored = scored.only(np.flatnonzero(fresh))
        done = 0
        while done < scored.size:
            if len(self._ids) >= self._waiting_max:
                self._make_room()
            many = min(scored.size - done, self._waiting_max - len(self._ids))
            part = scored if many == scored.size else scored.only(np.arange(done, done + many))
            self._keep(part)
            done += many
        if self._hears is not None and scored.size:
            self._hears.waits(scored)
        return self._joined(scored.ids)

    def _has_classes(self, count: int) -> None:
        """Make room for so many classes: those that came later had no chance with the events that wait."""
        self._class_count = max(self._class_count, count)
        if count <= self._class_room:
            return
        while self._class_room < count:
            self._class_room *= 2
        before, rows = self._wide, self._ids.row_count
        width = before.rows.shape[1]
        self._wide = self._make_wide(self._narrow + self._class_room)
        self._wide.grow(rows)
        for begin in range(0, rows, COPIED):
            end = min(begin + COPIED, rows)
            self._wide.rows[begin:end, :width] = before.rows[begin:end]
            self._wide.rows[begin:end, width:] = 0.0
            before.touched(end - begin)
            self._wide.touched(end - begin)

    def _keep(self, scored: Scored) -> None:
        if scored.chances is not None:
            self._has_classes(scored.chances.shape[1])
        rows = self._ids.add_all(scored.ids)
        count = self._ids.row_count
        self._rows.grow(count)
        self._wide.grow(count)
        self._keys.extend([None] * (count - len(self._keys)))
        for row, key in zip(rows.tolist(), scored.keys, strict=True):
            self._keys[row] = key
        if scored.groups:
            self._groups.extend([None] * (count - len(self._groups)))
            for row, group in zip(rows.tolist(), scored.groups, strict=True):
                self._groups[row] = group
        self._rows["arrived"][rows] = self._arrived + np.arange(scored.size)
        self._rows["standing"][rows] = Standing.WAITING
        self._rows["label"][rows] = self._rows["since"][rows] = np.nan
        self._rows["at"][rows], self._rows["wrote"][rows] = scored.at, scored.wrote
        if self._hears is not None:
            assert scored.lives is not None
            self._rows["life"][rows] = scored.lives
        features, made = self._feature_count, np.empty((scored.size, self._wide.rows.shape[1]))
        made[:, :features] = scored.features
        for place, name in enumerate(self._scores, start=features):
            made[:, place] = getattr(scored, name)
        if scored.chances is not None:
            made[:, self._narrow :] = 0.0
            made[:, self._narrow : self._narrow + scored.chances.shape[1]] = scored.chances
        self._wide.rows[rows] = made
        self._wide.touched(len(rows))
        self._arrived += scored.size
        self._next_event = min(self._next_event, float(scored.at.min()) + self._truth.within)
        self._next_wall = min(self._next_wall, float(scored.wrote.min()) + self._truth.within)

    def _joined(self, ids: Sequence[Id]) -> Outcomes:
        """Give events the labels that came before them."""
        there = [one for one in ids if one in self._early] if self._early else []
        if not there:
            return self._nothing()
        keys, at, labels, wrote, sources = zip(*map(self._early.pop, there), strict=True)
        given = {"at": np.array(at), "labels": np.array(labels), "wrote": np.array(wrote)}
        return self.label(there, keys, **given, sources=sources if any(one is not None for one in sources) else ())

    def label(
        self,
        ids: Sequence[Id],
        keys: Sequence[Any],
        *,
        at: Floats,
        labels: Floats,
        wrote: Floats,
        sources: Sequence[Any] = (),
    ) -> Outcomes:
        """Take labels; return what became known by them. A label that is NaN says that nobody knows.

        ``sources`` say who said each, where somebody asks for that.
        """
        made = [self._label(ids[run], keys[run], at[run], labels[run], wrote[run], sources[run]) for run in _runs(ids)]
        return _together(made) if made else self._nothing()

    def _label(
        self,
        ids: Sequence[Id],
        keys: Sequence[Any],
        at: Floats,
        labels: Floats,
        wrote: Floats,
        sources: Sequence[Any],
    ) -> Outcomes:
        """Take labels of which no two are of the same event."""
        unknown = np.isnan(labels)
        self.counts["null"] += int(unknown.sum())
        rows = self._ids.found(ids)
        for place in np.flatnonzero((rows < 0) & ~unknown).tolist():
            numbers = float(at[place]), float(labels[place]), float(wrote[place])
            self._wait(ids[place], Early(keys[place], *numbers, sources[place] if sources else None))
        known = np.flatnonzero((rows >= 0) & ~unknown)
        rows, at, labels, wrote = rows[known], at[known], labels[known], wrote[known]
        sources = [sources[place] for place in known.tolist()] if sources else []
        standing, was = self._rows["standing"][rows], self._rows["label"][rows]
        up = self._rows["at"][rows] + self._truth.within
        late = (at > up) & (standing == Standing.WAITING)
        by = np.where(standing == Standing.WAITING, _LABEL, _REVISION)
        by[late] = _LATE if self._truth.otherwise is None else _REVISION
        order = 2 * np.arange(len(rows)) + 1
        if self._truth.otherwise is not None and late.any():
            # Their time is up, though nobody has looked yet: what is true of such an event was true of it first.
            places, otherwise = np.flatnonzero(late), np.full(late.sum(), self._truth.otherwise)
            self._time_out(rows[places], up[places])
            was[places] = otherwise
            order = np.concatenate([order, 2 * places])
            by = np.concatenate([by, np.full(len(places), _TIMEOUT)])
            rows, at = np.concatenate([rows, rows[places]]), np.concatenate([at, up[places]])
            labels = np.concatenate([labels, otherwise])
            was, wrote = (np.concatenate([one, np.full(len(places), np.nan)]) for one in (was, wrote))
            sources += [None] * len(places) if sources else []
        same = was == labels
        self.counts["duplicate"] += int(same.sum())
        chosen = np.argsort(order)
        chosen = chosen[~same[chosen]]
        rows, at, labels, was, by = rows[chosen], at[chosen], labels[chosen], was[chosen], by[chosen]
        first, told = by == _LABEL, (by == _LABEL) | (by == _REVISION)
        self._rows["since"][rows[first]] = at[first]
        self._rows["label"][rows[told]] = labels[told]
        self._rows["standing"][rows[told]] = Standing.LABELLED
        self.counts.update(_KINDS[one].value for one in by.tolist() if one != _TIMEOUT)
        told = [_KINDS[one] for one in by.tolist()]
        said = [sources[place] for place in chosen.tolist()] if sources else []
        outcomes = self._outcomes(told, at, labels, was, rows, wrote[chosen], said)
        if self._hears is not None:
            self._hears.known(outcomes)
        return outcomes

    def _wait(self, one: Id, early: Early) -> None:
        before = self._early.pop(one, None)
        if before is not None:
            self.counts["duplicate" if before.label == early.label else "early_revised"] += 1
        else:
            self.counts["early"] += 1
        self._early[one] = early
        self._next_event = min(self._next_event, early.at + self._truth.within)
        self._next_wall = min(self._next_wall, early.wrote + self._truth.within)

    def tick(self, *, wall: float, event: float) -> Outcomes:
        """Do what is to be done now that it is so late: time events out, forget them, give up labels without event."""
        count, within = self._ids.row_count, self._truth.within
        at, wrote = self._rows["at"][:count], self._rows["wrote"][:count]
        used = self._rows["arrived"][:count] >= 0
        waits = used & (self._rows["standing"][:count] == Standing.WAITING)
        up = (at + within <= event) | (wrote + within <= wall)
        due = self._in_order(np.flatnonzero(waits & up))
        made = []
        if len(due) and self._truth.otherwise is not None:
            self._time_out(due, at[due] + within)
            labels = np.full(len(due), self._truth.otherwise)
            by = [By.TIMEOUT] * len(due)
            made.append(self._outcomes(by, at[due] + within, labels, np.full(len(due), np.nan), due))
        else:
            self.counts["unlabelled"] += len(due)
        leaving = used & up & ((at + self.stays <= event) | (wrote + self.stays <= wall))
        self._forget(self._in_order(np.flatnonzero(leaving)))
        made.append(self._orphans(wall, event))
        self._look_ahead()
        return _together(made)

    def _time_out(self, rows: Ints, up: Floats) -> None:
        assert self._truth.otherwise is not None
        self._rows["since"][rows] = up
        self._rows["standing"][rows] = Standing.TIMED_OUT
        self._rows["label"][rows] = self._truth.otherwise
        self.counts["timeout"] += len(rows)

    def _orphans(self, wall: float, event: float) -> Outcomes:
        """Give up labels whose event did not come, the oldest first, and those for which there is no room."""
        within = self._truth.within
        gone = [one for one, it in self._early.items() if it.at + within <= event or it.wrote + within <= wall]
        gone += list(self._early)[: max(0, len(self._early) - len(gone) - self._early_max)]
        self.counts[By.ORPHAN] += len(gone)
        labels = [(one, self._early.pop(one)) for one in dict.fromkeys(gone)]
        none = np.full(len(labels), np.nan)
        of = Scored(
            [one for one, _ in labels],
            [it.key for _, it in labels],
            none,
            none,
            np.full((len(labels), self._feature_count), np.nan),
            none,
            none,
            none,
            [None] * len(labels) if self._groups else [],
            none if self._class_room else None,
            np.full((len(labels), self._class_count), np.nan) if self._class_room else None,
            np.full(len(labels), -1) if self._hears is not None else None,
        )
        at, told, wrote = (
            np.array([getattr(it, name) for _, it in labels], np.float64) for name in ("at", "label", "wrote")
        )
        return Outcomes([By.ORPHAN] * len(labels), at, told, none, none, wrote, [], of)

    def _make_room(self) -> None:
        """Forget the events that wait for longest."""
        arrived = self._rows["arrived"][: self._ids.row_count]
        used = np.flatnonzero(arrived >= 0)
        count = max(1, len(used) // LEAVE_SHARE)
        oldest = used[np.argpartition(arrived[used], count - 1)[:count]]
        self.counts["evicted"] += count
        self._forget(self._in_order(oldest))

    def _forget(self, rows: Ints) -> None:
        listed = rows.tolist()
        self._ids.forget(listed)
        self._rows.reset(listed)
        for row in listed:
            self._keys[row] = None
            if self._groups:
                self._groups[row] = None

    def _in_order(self, rows: Ints) -> Ints:
        """Return rows in the order in which their events came."""
        return rows[np.argsort(self._rows["arrived"][rows])]

    def _look_ahead(self) -> None:
        """Find out when the next event's time is up, or the next may be forgotten."""
        count, within = self._ids.row_count, self._truth.within
        arrived, standing = self._rows["arrived"][:count], self._rows["standing"][:count]
        span = np.where(standing == Standing.WAITING, within, self.stays)
        self._next_event = float(np.min(self._rows["at"][:count] + span, where=arrived >= 0, initial=np.inf))
        self._next_wall = float(np.min(self._rows["wrote"][:count] + span, where=arrived >= 0, initial=np.inf))
        for early in self._early.values():
            self._next_event = min(self._next_event, early.at + within)
            self._next_wall = min(self._next_wall, early.wrote + within)

    def _nothing(self) -> Outcomes:
        return self._outcomes([], [], [], [], np.empty(0, np.int64))

    def _outcomes(
        self,
        by: list[By],
        at: Any,
        labels: Any,
        was: Any,
        rows: Ints,
        wrote: Floats | None = None,
        sources: Sequence[Any] = (),
    ) -> Outcomes:
        """Return what became known of the events in these rows; without ``wrote``, by no record."""
        listed = rows.tolist()
        made, features = self._wide.rows[rows], self._feature_count
        self._wide.touched(len(rows))
        columns: dict[str, Any] = {name: self._rows[name][rows] for name in ("at", "wrote")}
        columns["features"] = made[:, :features]
        columns |= {name: made[:, place] for place, name in enumerate(self._scores, start=features)}
        if self._class_room:
            columns[CHANCES] = made[:, self._narrow : self._narrow + self._class_count]
        if self._hears is not None:
            columns["lives"] = self._rows["life"][rows]
        groups = [self._groups[row] for row in listed] if self._groups else []
        keys = [self._keys[row] for row in listed]
        of = Scored(ids=self._ids.keys(listed), keys=keys, groups=groups, **columns)
        told = (np.asarray(column, np.float64) for column in (at, labels, was))
        wrote = np.full(len(rows), np.nan) if wrote is None else wrote
        return Outcomes._make([by, *told, self._rows["since"][rows], wrote, list(sources), of, ()])

    # What is kept.

    @property
    def bytes(self) -> int:
        """What it takes of memory, without the labels that wait."""
        return self._ids.bytes + self._rows.bytes + self._wide.bytes + 8 * (len(self._keys) + len(self._groups))

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "ids": self._ids.dump(),
            "keys": list(self._keys),
            "groups": list(self._groups),
            "rows": {**self._rows.dump(self._ids.row_count), **self._wide_dump()},
            "early": [[one, *early[: 4 if early.source is None else 5]] for one, early in self._early.items()],
            "arrived": self._arrived,
            "clock": self._clock.copy(),
            "clocked": self._clocked,
            "counts": dict(self.counts),
        }

    def _wide_dump(self) -> dict[str, Array]:
        """Return features and scores; those of events that were forgotten are in nobody's snapshot."""
        count, features = self._ids.row_count, self._feature_count
        made = {"features": self._wide.rows[:count, :features].copy()}
        made |= {name: self._wide.rows[:count, at].copy() for at, name in enumerate(self._scores, start=features)}
        if self._class_room:
            made[CHANCES] = self._wide.rows[:count, self._narrow : self._narrow + self._class_count].copy()
        self._wide.touched(count)
        free = self._ids.free
        for name, column in made.items():
            column[free] = 0.0 if name in ("features", CHANCES) else np.nan
        return made

    def _wide_load(self, data: Mapping[str, Array]) -> None:
        count, features = self._ids.row_count, self._feature_count
        self._wide.grow(count)
        self._wide.rows[:count, :features] = data["features"]
        for place, name in enumerate(self._scores, start=features):
            self._wide.rows[:count, place] = data[name]
        if self._class_room:
            chances = data[CHANCES]
            self._has_classes(chances.shape[1])
            self._wide.rows[:count, self._narrow :] = 0.0
            self._wide.rows[:count, self._narrow : self._narrow + chances.shape[1]] = chances
        self._wide.touched(count)

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._ids = Keys.load(data["ids"])
        self._keys, self._groups = list(data["keys"]), list(data["groups"])
        self._rows.load(data["rows"])
        self._wide_load(data["rows"])
        self._early = {one: Early(*early) for one, *early in data["early"]}
        self._arrived, self._clock, self._clocked = data["arrived"], data["clock"].copy(), data["clocked"]
        self.counts = Counter(data["counts"])
        self._look_ahead()


def _runs(ids: Sequence[Id]) -> Iterator[slice]:
    """Cut labels into runs in which no event comes twice.

    >>> list(_runs(["a", "b", "a", "c"]))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    if len(set(ids)) == len(ids):
        yield slice(0, len(ids))
        return
    seen: set[Id] = set()
    begin = 0
    for place, one in enumerate(ids):
        if one in seen:
            yield slice(begin, place)
            seen, begin = set(), place
        seen.add(one)
    yield slice(begin, len(ids))


def _together(parts: Sequence[Outcomes]) -> Outcomes:
    """Put outcomes one after the other."""
    some = [one for one in parts if one.size] or list(parts[:1])
    if len(some) == 1:
        return some[0]

    def joined(columns: Sequence[Any]) -> Any:
        if columns[0] is None:
            return None
        return (
            [value for column in columns for value in column]
            if isinstance(columns[0], list)
            else np.concatenate(columns)
        )

    of = Scored._make(joined(columns) for columns in zip(*[one.of for one in some], strict=True))
    asked = any(one.sources for one in some)  # of what became known by no record nobody is the source
    some = [one._replace(sources=one.sources or [None] * one.size) for one in some] if asked else some
    columns = [joined([getattr(one, name) for one in some]) for name in Outcomes._fields[:-2]]
    return Outcomes._make([*columns, of, ()])
