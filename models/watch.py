"""What is watched of a stream: counted where it happens, slice by slice, so that counts of all partitions add up."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from headrace.models.actions import rules_of
from headrace.models.bins import Binner, Bins
from headrace.models.labels import Scored
from headrace.models.memory import Array, Floats, Ints
from headrace.models.reference import Reference, whole_ranks
from headrace.models.trailing import slices_of
from headrace.schemas.span import seconds

BUFFER_COUNT = 512  # events that are binned before they are counted, because counting pays at many
PRODUCT_ROWS = 64  # events of which ranks are multiplied at once
RELATED_MAX = 64  # features of which it is watched how they go together
GROUPS_MAX = 16  # values of a field that are watched on their own; the others are watched together
OTHERS = "other"
FEATURE_SERIES = "static"  # the score of the model that does not change is compared with the reference too
EVENT_SERIES = ("score", "online", "disagreement", "delay")
REASON = "reason"  # which feature contributed most to a score, where that is watched
REASONS_MAX = 100  # features
LABEL_SERIES = ("label", "error", "error_static", "error_online", "calibration")
OURS = frozenset({FEATURE_SERIES, *EVENT_SERIES, *LABEL_SERIES, "volume"})
HOUR_SECONDS = 3_600.0
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s+per\s+(?:(\d+)\s*)?(second|minute|hour|day|week|month|year)s?\s*")
_UNITS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3_600.0,
    "day": 86_400.0,
    "week": 7 * 86_400.0,
    "month": 30 * 86_400.0,
    "year": 365 * 86_400.0,
}


def seconds_per_alarm(text: str) -> float:
    """Return how long it takes, on the average and at the least, until a false alarm comes.

    >>> seconds_per_alarm("1 per week") / 86_400, seconds_per_alarm("2 per 3 days") / 86_400
    (7.0, 1.5)
    >>> seconds_per_alarm("seldom")
    Traceback (most recent call last):
    ValueError: false_alarms = 'seldom': write how many per second, minute, hour, day, week, month or year: 1 per week
    """
    found = _RATE.fullmatch(text)
    if found is None or float(found[1]) == 0.0:
        units = ", ".join(list(_UNITS)[:-1])
        raise ValueError(f"false_alarms = {text!r}: write how many per {units} or year: 1 per week")
    return _UNITS[found[3]] * float(found[2] or 1) / float(found[1])


def kind_of(part: int, name: str) -> str:
    """Return what a series is of: the features and the static score are the first part, labels the last."""
    if part == 0:
        return "score" if name == FEATURE_SERIES else "feature"
    return "score" if part == 1 else "label"


def season_seconds(season: str | None) -> float:
    """Return how long a season is, and zero where there is none.

    >>> season_seconds("1d"), season_seconds("1w"), season_seconds(None)
    (86400.0, 604800.0, 0.0)
    >>> season_seconds("90m")
    Traceback (most recent call last):
    ValueError: season = '90m': allowed are whole hours up to a week; '1d' and '1w' are what streams have
    """
    if season is None:
        return 0.0
    length = seconds(season)
    if length % HOUR_SECONDS or length > _UNITS["week"]:
        raise ValueError(
            f"season = {season!r}: allowed are whole hours up to a week; '1d' and '1w' are what streams have"
        )
    return length


class Watch:
    """What is watched, what it is compared with, and how many false alarms may come.

    ``reference`` says how features, and the static model's score, were spread when all was well. What depends on what
    the worker itself has learned, such as the online score, errors and delays, is compared with how it was when the
    watch began. ``slices`` are fields of the event: each of their values that the reference has seen often is watched
    on its own as well. ``every`` is how much time of the events a slice takes: news come that often.

    ``warm_up`` is how long nothing is looked at in the beginning: features that remember a month are not what they will
    be before a month has passed.

    ``against="last 7d"`` has what is usual follow the stream: what was in the last days takes the place of what was
    learned, and a change that lasts becomes what is usual.

    ``season="1d"`` compares each slice with the same hour of other days; ``parts`` are those hours.

    With ``reasons`` it is watched as well which feature contributed most to each score.

    ``when`` says what is done about what is told, and changes nothing of what that is.

    ``false_alarms`` holds for everything that is watched together, and for however long it runs.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        false_alarms: str = "1 per week",
        slices: Mapping[str, Mapping[str, Reference]] | None = None,
        every: str = "10s",
        warm_up: str | None = None,
        when: Mapping[str, Any] | None = None,
        against: str | None = None,
        season: str | None = None,
        parts: Mapping[str, Sequence[Reference | None]] | None = None,
        reasons: bool = False,
    ) -> None:
        self.reference = reference
        self.rules = rules_of(when or {})
        self.false_alarms = false_alarms
        self.slices = {field: dict(values) for field, values in (slices or {}).items()}
        self.every = every
        self.every_s = seconds(every)
        self.warm_up_s = 0.0 if warm_up is None else seconds(warm_up)
        self.season_s = season_seconds(season)
        # What is usual in each hour of a season: of the whole stream (""), and of values that are watched on their own.
        self.parts = {name: list(some) for name, some in (parts or {}).items()}
        if season is not None and against is not None:
            raise ValueError("against, season: what is usual follows the stream, or is that of the hour; leave one out")
        self.window_slices = slices_of(against, self.every_s)
        self.slices_per_alarm = seconds_per_alarm(false_alarms) / self.every_s
        self.binner = reference.binner
        names = [one.name for one in self.binner.series]
        self.features = [name for name in names if name not in OURS]
        self.places = {name: place for place, name in enumerate(names)}
        relatable = [self.places[name] for name in self.features if reference.relatable(self.places[name])]
        self.related = relatable[:RELATED_MAX]
        self.reasons = reasons
        own = [_PLAIN[name](name) for name in EVENT_SERIES]
        if reasons:
            own.append(Bins.of_names(REASON, self.features[:REASONS_MAX]))
        self.event_binner = Binner(own)
        self.event_series = (*EVENT_SERIES, REASON) if reasons else EVENT_SERIES
        self.label_binner = Binner([_PLAIN[name](name) for name in LABEL_SERIES])
        # What counts depend on: where it differs, they do not fit together.
        self.fingerprint = hashlib.sha256(self._said().encode()).hexdigest()[:16]
        self._ranks = np.zeros((len(self.related), 128), np.float32)
        for row, place in enumerate(self.related):
            ranks = whole_ranks(reference.scores[place])
            self._ranks[row, : len(ranks)] = ranks

    def _said(self) -> str:
        binners = self.binner, self.event_binner, self.label_binner
        edges = [(one.name, one.edges.tolist(), one.by_mean) for binner in binners for one in binner.series]
        values = {field: list(known) for field, known in self.slices.items()}
        follows = f" last {self.window_slices}" if self.window_slices else ""
        seasonal = f" season {self.season_s}" if self.season_s else ""
        return f"{edges} {self.related} {values} {self.every_s}{follows}{seasonal}{' reasons' if self.reasons else ''}"

    def part(self, number: int) -> int:
        """Return in which hour of its season a slice lies; zero where there are no seasons."""
        return int(number * self.every_s % self.season_s // HOUR_SECONDS) if self.season_s else 0

    def products(self, bins: Array) -> Array:
        """Return the sums of products of ranks: whole numbers, so that their order does not matter."""
        if not self.related:
            return np.zeros((0, 0))
        ranks = self._ranks[np.arange(len(self.related)), bins[:, self.related]]
        made = np.zeros((len(self.related), len(self.related)))
        # In one piece it is large enough for threads of the linear algebra, which then wait busily for the next.
        for begin in range(0, len(ranks), PRODUCT_ROWS):
            some = ranks[begin : begin + PRODUCT_ROWS]
            made += some.T @ some
        return made


def _log_odds(name: str) -> Bins:
    inner = 1 / (1 + np.exp(-np.linspace(-8.0, 8.0, 17)))
    return Bins.of_edges(name, [0.0, *inner.tolist(), 1.0])


_MAGNITUDES = [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]


def _magnitude(name: str) -> Bins:
    return Bins.of_edges(name, _MAGNITUDES)


def _error(name: str) -> Bins:
    return Bins.of_edges(name, _MAGNITUDES, by_mean=True)


def _signed(name: str) -> Bins:
    half = [0.05, 0.1, 0.2, 0.4, 0.7, 1.0]
    return Bins.of_edges(name, [*(-one for one in reversed(half)), 0.0, *half], by_mean=True)


def _duration(name: str) -> Bins:
    return Bins.of_edges(name, [0.0, *(float(f"{10.0 ** (power / 2):.3g}") for power in range(-6, 15))])


def _truth(name: str) -> Bins:
    return Bins.of_values(name, np.array([0.0, 1.0]))


_PLAIN: dict[str, Callable[[str], Bins]] = {
    "score": _log_odds,
    "online": _log_odds,
    "disagreement": _magnitude,
    "delay": _duration,
    "label": _truth,
    "error": _error,
    "error_static": _error,
    "error_online": _error,
    "calibration": _signed,
}


class Counted(NamedTuple):
    """One slice of one partition, or of several together."""

    number: int  # of the slice: its time divided by how long one is
    events: int
    counts: Ints  # of features and the static score
    own: Ints  # of what the worker made of the events
    labels: Ints  # of what became known of events
    products: Array
    groups: dict[str, Ints]  # counts of each value of the fields that are watched on their own

    def plus(self, other: "Counted") -> "Counted":
        """Return both together, under the later number."""
        groups = dict(self.groups)
        for name, counts in other.groups.items():
            groups[name] = groups[name] + counts if name in groups else counts
        return Counted(
            max(self.number, other.number),
            self.events + other.events,
            self.counts + other.counts,
            self.own + other.own,
            self.labels + other.labels,
            self.products + other.products,
            groups,
        )

    def dump(self) -> list[Any]:
        """Return it as plain data."""
        counts = [_small(one) for one in (self.counts, self.own, self.labels)]
        groups = {name: _small(one) for name, one in self.groups.items()}
        return [self.number, self.events, *counts, self.products, groups]

    @classmethod
    def load(cls, data: Sequence[Any]) -> "Counted":
        """Make it again from what ``dump`` returned."""
        number, events, counts, own, labels, products, groups = data
        wide = {name: one.astype(np.int64) for name, one in groups.items()}
        counts, own, labels = (one.astype(np.int64) for one in (counts, own, labels))
        return cls(number, events, counts, own, labels, products.astype(np.float64), wide)


def _small(counts: Ints) -> Array:
    return counts.astype(np.int32) if len(counts) == 0 or counts.max() < 2**31 else counts


class Watching:
    """Counts what one partition's events are like, and says of each slice of time what there was.

    An event belongs to the slice of the latest time that was seen until it, so a slice that is over stays over, and
    where a batch is cut does not show. What comes late is counted in the slice that is open.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._width = len(watch.binner.series) + len(watch.event_binner.series)
        self._columns = {field: list(values) for field, values in watch.slices.items()}
        self._codes = {field: {one: code for code, one in enumerate(known)} for field, known in self._columns.items()}
        self._number: int | None = None
        self._wrote = -np.inf  # when the last event's record was written
        self._rows = np.zeros((BUFFER_COUNT, self._width + len(self._columns)), np.int8)
        self._held = 0
        self._open = self._empty(0)

    def _empty(self, number: int) -> Counted:
        watch, related = self._watch, len(self._watch.related)
        binners = watch.binner, watch.event_binner, watch.label_binner
        counts, own, labels = (np.zeros(one.total, np.int64) for one in binners)
        return Counted(number, 0, counts, own, labels, np.zeros((related, related)), {})

    @property
    def follows_reasons(self) -> bool:
        """Say whether it is watched which feature contributed most."""
        return self._watch.reasons

    @property
    def features(self) -> list[str]:
        """The features, in the order in which reasons are numbered."""
        return self._watch.features

    # What comes.

    def bins(self, made: Mapping[str, Floats], own: Mapping[str, Floats], fields: Callable[[str], list[Any]]) -> Array:
        """Return the bins of events, a row each: of features, of what was made of them, of the fields of slices."""
        watch, count = self._watch, len(next(iter(own.values())))
        rows = np.empty((count, self._rows.shape[1]), np.int8)
        nobody = np.full(count, np.nan)
        columns = [made[name] if name in made else own.get(name, nobody) for name in watch.places]
        rows[:, : len(columns)] = watch.binner.bin(columns)
        rows[:, len(columns) : self._width] = watch.event_binner.bin(
            [own.get(name, nobody) for name in watch.event_series]
        )
        for place, (field, codes) in enumerate(self._codes.items(), self._width):
            rows[:, place] = [codes.get(str(one), -1) for one in fields(field)]
        return rows

    def numbers(self, at: Floats) -> list[list[int]]:
        """Return which slices events belong to, as runs: each slice's number, and how many events go there."""
        mine = np.floor(at / self._watch.every_s)
        latest = np.maximum.accumulate(mine if self._number is None else np.maximum(mine, self._number))
        if latest[0] == latest[-1]:
            return [[int(latest[0]), len(latest)]]
        cuts = [0, *(np.flatnonzero(np.diff(latest)) + 1).tolist(), len(latest)]
        return [[int(latest[begin]), end - begin] for begin, end in pairwise(cuts)]

    def cuts(self, at: Floats) -> list[int]:
        """Return before which events a slice begins."""
        return list(accumulate(count for _, count in self.numbers(at)))[:-1]

    def add(self, rows: Array, runs: Sequence[Sequence[int]], wrote: float) -> list[Counted]:
        """Count events; return the slices that are over by that."""
        over: list[Counted] = []
        begin = 0
        for number, count in runs:
            over += self._turn(number)
            done = 0
            while done < count:
                some = min(count - done, BUFFER_COUNT - self._held)
                self._rows[self._held : self._held + some] = rows[begin + done : begin + done + some]
                self._held += some
                done += some
                if self._held == BUFFER_COUNT:
                    self._count()
            begin += count
        self._wrote = max(self._wrote, wrote)
        return over

    def known(self, of: Scored, label: Floats) -> None:
        """Count what became known of events."""
        if of.size:
            columns = {
                "label": label,
                "error": np.abs(label - of.score),
                "error_static": np.abs(label - of.static),
                "error_online": np.abs(label - of.online),
                "calibration": label - of.score,
            }
            binner = self._watch.label_binner
            made = binner.count(binner.bin([columns[name] for name in LABEL_SERIES]))
            self._open = self._open._replace(labels=self._open.labels + made)

    def due(self, wall: float) -> bool:
        """Say whether the open slice is over by the clock on the wall: nothing came for longer than one takes."""
        return self._number is not None and self.has_any and wall - self._wrote >= 2 * self._watch.every_s

    def tick(self, wall: float) -> list[Counted]:
        """Return the slice that is open, if it is over by the clock on the wall."""
        if not self.due(wall):
            return []
        assert self._number is not None
        return self._turn(self._number + 1)

    @property
    def has_any(self) -> bool:
        """Say whether anything of the open slice was counted."""
        return bool(self._held or self._open.events or self._open.labels.any())

    def _turn(self, number: int) -> list[Counted]:
        """Begin a slice; return the one before, if there was anything in it."""
        if number == self._number:
            return []
        over = []
        if self._number is not None and self.has_any:
            self._count()
            over = [self._open._replace(number=self._number)]
            self._open = self._empty(number)
        self._number = number
        return over

    def _count(self) -> None:
        """Count the events that were binned."""
        if not self._held:
            return
        watch, rows = self._watch, self._rows[: self._held]
        mine, own = rows[:, : len(watch.places)], rows[:, len(watch.places) : self._width]
        groups = dict(self._open.groups)
        for place, (field, values) in enumerate(self._columns.items(), self._width):
            codes = rows[:, place]
            for code in np.unique(codes[codes >= 0]).tolist():
                name = f"{field}={values[code]}"
                counts = watch.binner.count(mine[codes == code])
                groups[name] = groups[name] + counts if name in groups else counts
        before = self._open
        self._open = before._replace(
            events=before.events + self._held,
            counts=before.counts + watch.binner.count(mine),
            own=before.own + watch.event_binner.count(own),
            products=before.products + watch.products(mine),
            groups=groups,
        )
        self._held = 0

    # What is kept.

    def change(self, rows: Array, runs: Sequence[Sequence[int]], wrote: float) -> dict[str, Any]:
        """Return what is counted of events, as plain data, so that ``take`` can count it again."""
        return {"of": self._watch.fingerprint, "rows": rows, "runs": [list(run) for run in runs], "wrote": wrote}

    def take(self, change: Mapping[str, Any]) -> None:
        """Count again what was counted of events, if it was in bins like these."""
        if change["of"] == self._watch.fingerprint:
            self.add(change["rows"], change["runs"], change["wrote"])

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        self._count()
        return {
            "of": self._watch.fingerprint,
            "number": self._number,
            "wrote": float(self._wrote),
            "open": self._open.dump(),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned, if it was counted in bins like these."""
        if data["of"] != self._watch.fingerprint:
            return
        self._number, self._wrote = data["number"], data["wrote"]
        self._open = Counted.load(data["open"])
        self._held = 0
