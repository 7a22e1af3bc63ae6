"""Features with a memory: what happened before to the same key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from headrace.models import sketch
from headrace.models.change import INTEGER_MAX
from headrace.models.features import Columns as Batch
from headrace.models.features import Feature, FeatureFailed, great_circle_km
from headrace.models.hashes import hashes_of, there
from headrace.models.keeper import NOBODY, Fields, Keeper, Wanted
from headrace.models.memory import NEVER, Array, Entries, Floats, Ints, Measure, newer
from headrace.models.targets import Target
from headrace.models.windows import JOINS, MOMENTS, Window, rounded
from headrace.schemas.span import DAY, seconds

TILES = 60  # in a window, unless it says otherwise
VALUES_MAX = 256  # different values that are counted exactly per key; from there on a sample of them
_INFINITE = float("inf")
_LARGEST = np.finfo(np.float64).max
LATE = "5m"  # how far behind the newest event of its key one may lie, and windows be still whole


@dataclass(frozen=True)
class Last(Wanted):
    """A field of the newest event, or its time where the field is empty."""

    field: str = ""
    horizon: float = 30 * DAY

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """All fields of the newest event are kept together."""
        return ("last",)

    def keeper(self, all_of_them: Sequence["Last"]) -> "Lasts":
        """Make what keeps these."""
        return Lasts(all_of_them)


class Lasts(Keeper):
    """The newest event's time and fields. A late event changes nothing."""

    def __init__(self, wanted: Sequence[Last]) -> None:
        self._wanted = list(wanted)
        self._fields = list(dict.fromkeys(one.field for one in wanted if one.field))
        self.measures = {"at": Measure("f8", NEVER), **{f"of {name}": Measure("f8", np.nan) for name in self._fields}}
        self.horizon = max(one.horizon for one in wanted)
        super().__init__()

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:
        """Return what was last, and take these events in."""
        made = [self.columns[f"of {one.field}" if one.field else "at"][rows] for one in self._wanted]
        times = self.columns["at"]
        newer_ones = at >= times[rows]
        for name in self._fields:
            kept = self.columns[f"of {name}"]
            kept[rows] = np.where(newer_ones, fields[name], kept[rows])
        times[rows] = np.maximum(times[rows], at)
        return made


@dataclass(frozen=True)
class First(Wanted):
    """The time of the first event."""

    horizon: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """There is one."""
        return ("first",)

    def keeper(self, all_of_them: Sequence["First"]) -> "Firsts":
        """Make what keeps these."""
        return Firsts(all_of_them)


class Firsts(Keeper):
    """The time of the first event."""

    measures = MappingProxyType({"at": Measure("f8", _INFINITE)})

    def __init__(self, wanted: Sequence[First]) -> None:
        super().__init__()
        self._count = len(wanted)
        self.horizon = max(one.horizon for one in wanted)

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:  # noqa: ARG002 - every keeper's signature
        """Return the time of the first event before these."""
        kept = self.columns["at"]
        before = kept[rows]
        kept[rows] = np.minimum(before, at)
        return [before] * self._count


@dataclass(frozen=True)
class Decay(Wanted):
    """A sum in which an event counts half after ``half_life`` seconds, as of the newest event."""

    field: str  # empty: the events themselves
    half_life: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """Each on its own."""
        return ("decay", self.field, self.half_life)

    def keeper(self, all_of_them: Sequence["Decay"]) -> "Decays":
        """Make what keeps it."""
        return Decays(all_of_them[0])


class Decays(Keeper):
    """A sum that fades. An event that comes late counts what it would count by now."""

    measures = MappingProxyType({"sum": Measure("f8", 0.0), "at": Measure("f8", NEVER)})

    def __init__(self, wanted: Decay) -> None:
        super().__init__()
        self._wanted = wanted
        self.horizon = 50 * wanted.half_life

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:
        """Return the sum as of the event, without it, and take the event in."""
        sums, times = self.columns["sum"], self.columns["at"]
        newest = np.maximum(times[rows], at)
        faded: Array = sums[rows] * np.exp2((times[rows] - newest) / self._wanted.half_life)
        values = fields[self._wanted.field] if self._wanted.field else np.ones(len(rows))
        values = np.where(np.isfinite(values), values, 0.0)
        # A sum beyond a float would never fade again.
        sums[rows] = np.clip(faded + values * np.exp2((at - newest) / self._wanted.half_life), -_LARGEST, _LARGEST)
        times[rows] = newest
        return [faded]


@dataclass(frozen=True)
class Values(Wanted):
    """How many different values a field had in the span, and whether this event's was among them."""

    field: str
    what: str  # "others": different values but for this one; "known": one where this one is among them
    span: float
    late: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """All spans of a field share its values."""
        return ("values", self.field, self.late)

    def keeper(self, all_of_them: Sequence["Values"]) -> "ValuesOf":
        """Make what keeps these."""
        return ValuesOf(all_of_them)


class ValuesOf(Keeper):
    """Different values of a field, each with the time when it was last met.

    The ``VALUES_MAX`` that were met last are there. Where they are counted, so are those of the others that the
    sketch needs; where it is only asked whether they are known, the others leave.
    """

    measures = MappingProxyType({"newest": Measure("f8", NEVER)})

    def __init__(self, wanted: Sequence[Values]) -> None:
        super().__init__()
        self._wanted = list(wanted)
        self._field = wanted[0].field
        self._keep = max(one.span for one in wanted) + wanted[0].late
        self.horizon = self._keep
        self._values_max = VALUES_MAX
        counted = any(one.what == "others" for one in wanted)
        self.entries = Entries(
            {"value": Measure("i8", 0, newer)},
            entries_max=sketch.entries_max(VALUES_MAX) if counted else VALUES_MAX,
            by="value",
            needless=self._needless if counted else None,
        )

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:
        """Return what was wanted, and take the values in; a missing value is none."""
        assert self.entries is not None
        column = fields[self._field]
        hashes = hashes_of(column)
        made: list[Array] = [np.zeros(len(rows)) for _ in self._wanted]
        newest = self.columns["newest"]
        needed = newest[rows] - self._keep
        looks = self.entries.look(rows)
        for look in looks:
            values = look.values("value")
            mine = values == hashes[look.asked, None]
            for one, found in zip(self._wanted, made, strict=True):
                met = look.tags > np.maximum(at - one.span, needed)[look.asked, None]
                met &= mine if one.what == "known" else ~mine
                count = met.sum(axis=1)
                if one.what == "others" and look.tags.shape[1] >= self._values_max:
                    many = np.flatnonzero(count >= self._values_max)
                    count[many] = sketch.counted(values[many], met[many], self._values_max)
                found[look.asked] = count
        newest[rows] = np.maximum(newest[rows], at)
        needed_after = newest[rows] - self._keep
        on_time = at > needed_after
        taken = there(column) & on_time
        self.missed = NOBODY
        if taken.all():
            self.entries.join(rows, at, needed_after, {"value": hashes}, looks)
        else:
            self.missed = np.flatnonzero(~on_time)
            self.late += len(self.missed)
            chosen = np.flatnonzero(taken)
            self.entries.join(rows[chosen], at[chosen], needed_after[chosen], {"value": hashes[chosen]})
        return made

    def merge(self, rows: Ints, other: "ValuesOf", theirs: Ints) -> None:
        """Take in what another keeper of the same knows of some keys, a row of its for each row of ours.

        Afterwards these rows tell what they would tell if all the events had come to one keeper in their order.
        """
        assert self.entries is not None
        assert other.entries is not None
        assert (self._wanted, self.horizon) == (other._wanted, other.horizon)  # noqa: SLF001 - one of its own
        newest = self.columns["newest"]
        newest[rows] = np.maximum(newest[rows], other.columns["newest"][theirs])
        needed_after = newest[rows] - self._keep
        for look in other.entries.look(theirs):
            needed = look.tags > needed_after[look.asked, None]
            values = look.values("value")
            for place in np.flatnonzero(needed.any(axis=0)):
                chosen = np.flatnonzero(needed[:, place])
                asked = look.asked[chosen]
                value = {"value": values[chosen, place]}
                self.entries.join(rows[asked], look.tags[chosen, place], needed_after[asked], value)
        self.late += other.late

    def _needless(self, tags: Floats, held: Mapping[str, Array]) -> Array:
        if tags.shape[1] <= self._values_max + 1:
            return np.zeros(tags.shape, bool)
        return sketch.needless(tags, held["value"], self._values_max)


@dataclass(frozen=True)
class Session(Wanted):
    """Events with no more than ``gap`` seconds between them: how many, since when, and when the newest was."""

    what: str  # "count", "start" or "last"
    gap: float

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """Those with the same gap."""
        return ("session", self.gap)

    def keeper(self, all_of_them: Sequence["Session"]) -> "Sessions":
        """Make what keeps these."""
        return Sessions(all_of_them)


class Sessions(Keeper):
    """The session that is going on: its events, its start and its last event."""

    measures = MappingProxyType(
        {"count": Measure("i8", 0), "start": Measure("f8", _INFINITE), "last": Measure("f8", NEVER)}
    )

    def __init__(self, wanted: Sequence[Session]) -> None:
        super().__init__()
        self._wanted = list(wanted)
        self._gap = wanted[0].gap
        self.horizon = self._gap

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:  # noqa: ARG002 - every keeper's signature
        """Return the session that these events fall into, without them, and take them in."""
        count, start, last = self.columns["count"], self.columns["start"], self.columns["last"]
        goes_on = at - last[rows] <= self._gap
        so_far = {
            "count": np.where(goes_on, count[rows], 0),
            "start": np.where(goes_on, np.minimum(start[rows], at), at),
            "last": np.where(goes_on, last[rows], at),
        }
        count[rows] = so_far["count"] + 1
        start[rows] = so_far["start"]
        last[rows] = np.maximum(last[rows], at)
        return [so_far[one.what] for one in self._wanted]


@dataclass(frozen=True)
class Recent(Wanted):
    """The last values of a field, in order of arrival."""

    field: str
    count: int

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """Each on its own."""
        return ("recent", self.field, self.count)

    def keeper(self, all_of_them: Sequence["Recent"]) -> "Recents":
        """Make what keeps it."""
        return Recents(all_of_them[0])


class Recents(Keeper):
    """The last values of a field: a table with NaN where there is none yet."""

    def __init__(self, wanted: Recent) -> None:
        self._wanted = wanted
        self.measures = {"values": Measure("f8", np.nan, width=wanted.count), "next": Measure("i4", 0)}
        super().__init__()

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:  # noqa: ARG002 - every keeper's signature
        """Return the last values, a row for each event, and take these in."""
        values, places = self.columns["values"], self.columns["next"]
        made = values[rows]
        arriving = fields[self._wanted.field]
        there = np.flatnonzero(np.isfinite(arriving))
        chosen = rows[there]
        values[chosen, places[chosen]] = arriving[there]
        places[chosen] = (places[chosen] + 1) % self._wanted.count
        return [made]


class KeyedFeature(Feature):
    """A feature that is made of what is remembered of its key, and of the event itself."""

    def __init__(
        self,
        keys: tuple[str, ...],
        wanted: Sequence[Wanted],
        combine: Callable[..., Any],
        fields: Sequence[str] = (),
        *,
        origin: str,
    ) -> None:
        reads = dict.fromkeys([*keys, *(name for one in wanted for name in one.reads), *fields])
        super().__init__(combine, list(reads), origin=origin)
        self.keys = keys
        self.wanted = tuple(wanted)
        self.numbers = tuple(dict.fromkeys(name for one in wanted if not isinstance(one, Values) for name in one.reads))
        # What has to be the same value, and not only the same number, when it comes back from a snapshot.
        self.values = tuple(
            dict.fromkeys([*keys, *(f for one in wanted if isinstance(one, Values) for f in one.reads)])
        )
        self._combine = combine
        self._own = tuple(fields)

    def check(self, name: str, columns: Batch, time: str) -> None:
        """Raise ``FeatureFailed`` where an event has no time, or a number that is too large to be remembered."""
        try:
            times, *others = [columns[field] for field in (time, *self.fields)]
        except (ValueError, OverflowError) as error:
            raise FeatureFailed(self, name, f"raised {type(error).__name__}: {error}") from error
        for field, column in zip(self.fields, others, strict=True):
            if _has_large(field, column, columns, key=field in self.keys):
                raise FeatureFailed(self, name, f"{field!r} is a whole number of more than 64 bits")
        if not np.isfinite(times).all():
            raise FeatureFailed(self, name, f"the event's time, {time!r}, is not finite")

    def combined(self, at: Floats, kept: Mapping[Any, Array], fields: Fields) -> Floats:
        """Return the feature's column, from what was kept before each event and from the event."""
        made = self._combine(at, *[kept[one] for one in self.wanted], *[fields[name] for name in self._own])
        return np.asarray(made, np.float64)


def _has_large(field: str, column: Array, columns: Batch, *, key: bool) -> bool:
    """Say whether a value that has to be remembered as it is, and not as a float, is too large a whole number."""
    if column.dtype == object:
        return int in columns.types_of(field) and any(
            isinstance(one, int) and abs(one) >= INTEGER_MAX for one in column
        )
    return (
        key
        and bool((np.abs(column) >= INTEGER_MAX).any())
        and any(isinstance(one, int) and abs(one) >= INTEGER_MAX for one in columns.raw(field))
    )


class Per:
    """Makes features that remember per key. ``per("card")`` is the way to get one."""

    def __init__(self, keys: tuple[str, ...], *, late: str = LATE) -> None:
        self.keys = keys
        self._late = seconds(late)

    def count(
        self, span: str, *, tile: str = "", exact: bool = False, delay: str = "", counting_this: bool = True
    ) -> KeyedFeature:
        """Count the events in the span.

        >>> per("card").count("5m")
        <Feature of card, per('card').count('5m')>
        """
        window = self._window("", "events", span, tile, exact, delay)
        own = 1.0 if counting_this and not delay else 0.0
        return self._feature([window], lambda _at, events: events + own, origin=f"count({span!r})")

    def sum(
        self, field: str, span: str, *, tile: str = "", exact: bool = False, delay: str = "", counting_this: bool = True
    ) -> KeyedFeature:
        """Add up a field over the span; a missing value adds nothing."""
        window = self._window(field, "sum", span, tile, exact, delay)

        def combine(_at: Floats, total: Array, own: Array) -> Array:
            return total + _or(own, 0.0) if counting_this and not delay else total

        return self._feature([window], combine, [field], origin=f"sum({field!r}, {span!r})")

    def mean(
        self,
        field: str,
        span: str,
        *,
        tile: str = "",
        exact: bool = False,
        delay: str = "",
        counting_this: bool = True,
        otherwise: float = 0.0,
    ) -> KeyedFeature:
        """Average a field over the span; ``otherwise`` where there is nothing to average."""
        windows = [self._window(field, kind, span, tile, exact, delay) for kind in ("sum", "count")]

        def combine(_at: Floats, total: Array, count: Array, own: Array) -> Array:
            if counting_this and not delay:
                total, count = total + _or(own, 0.0), count + np.isfinite(own)
            return np.where(count > 0, total / np.maximum(count, 1), otherwise)

        return self._feature(windows, combine, [field], origin=f"mean({field!r}, {span!r})")

    def max(
        self,
        field: str,
        span: str,
        *,
        tile: str = "",
        exact: bool = False,
        delay: str = "",
        counting_this: bool = True,
        otherwise: float = 0.0,
    ) -> KeyedFeature:
        """Take the largest value in the span; ``otherwise`` where there is none."""
        window = self._window(field, "max", span, tile, exact, delay)
        return self._extreme(window, counting_this and not delay, otherwise, origin=f"max({field!r}, {span!r})")

    def min(
        self,
        field: str,
        span: str,
        *,
        tile: str = "",
        exact: bool = False,
        delay: str = "",
        counting_this: bool = True,
        otherwise: float = 0.0,
    ) -> KeyedFeature:
        """Take the smallest value in the span; ``otherwise`` where there is none."""
        window = self._window(field, "min", span, tile, exact, delay)
        return self._extreme(window, counting_this and not delay, otherwise, origin=f"min({field!r}, {span!r})")

    def std(
        self, field: str, span: str, *, tile: str = "", exact: bool = False, otherwise: float = 0.0
    ) -> KeyedFeature:
        """Take the standard deviation of a field over the span, this event included (of the sample: n - 1).

        ``otherwise`` where there are not two values.
        """

        def combine(_at: Floats, count: Array, near: Array, away: Array, squares: Array, own: Array) -> Array:
            is_there = np.isfinite(own)
            own_away = np.where(is_there & (count > 0), own - near, 0.0)
            return _deviation(count + is_there, away + own_away, squares + own_away * own_away, otherwise)

        return self._feature(
            self._moments(field, span, tile, exact), combine, [field], origin=f"std({field!r}, {span!r})"
        )

    def zscore(self, field: str, span: str, *, tile: str = "", exact: bool = False) -> KeyedFeature:
        """Say how many standard deviations the field lies above the mean of the span before this event.

        Zero where the span has not two values, or only equal ones.
        """

        def combine(_at: Floats, count: Array, near: Array, away: Array, squares: Array, own: Array) -> Array:
            deviation = _deviation(count, away, squares, 0.0)
            above = (own - near) - away / np.maximum(count, 1)
            return _or(np.where(deviation > 0, above / np.where(deviation > 0, deviation, 1.0), 0.0), 0.0)

        return self._feature(
            self._moments(field, span, tile, exact), combine, [field], origin=f"zscore({field!r}, {span!r})"
        )

    def robust_zscore(self, field: str, *, last: int = 32) -> KeyedFeature:
        """Say how far the field lies from the median of the last values, in units of their median deviation.

        Zero where there are not three values, or most are equal.
        """

        def combine(_at: Floats, values: Array, own: Array) -> Array:
            median, count = _median(values)
            spread, _ = _median(np.abs(values - median[:, None]))
            usable = (count >= 3) & (spread > 0)
            return _or(np.where(usable, (own - median) / np.where(usable, 1.4826 * spread, 1.0), 0.0), 0.0)

        return self._feature([Recent(field, last)], combine, [field], origin=f"robust_zscore({field!r}, last={last})")

    def ratio(self, short: str, long: str, *, tile: str = "", exact: bool = False) -> KeyedFeature:
        """Compare the rate of events in the short span with that in the long one, this event included.

        One where the key is as busy as it used to be.
        """
        windows = [self._window("", "events", span, tile, exact, "") for span in (short, long)]
        scale = seconds(long) / seconds(short)
        return self._feature(
            windows,
            lambda _at, few, many: (few + 1.0) / (many + 1.0) * scale,
            origin=f"ratio({short!r}, {long!r})",
        )

    def rate(
        self,
        field: str,
        span: str,
        *,
        prior: float = 0.5,
        weight: float = 2.0,
        tile: str = "",
        exact: bool = False,
        delay: str = "",
    ) -> KeyedFeature:
        """Take the share of ones of a field over the span before this event, drawn to ``prior`` while there are few.

        ``weight`` is how many events the prior counts for: ``(ones + prior * weight) / (events + weight)``, the mean of
        a Beta distribution that began with ``prior * weight`` ones and ``(1 - prior) * weight`` zeros. With ``delay``
        the span ends so long before the event: what is known only later must not be counted earlier.
        """
        _smoothing(f"rate({field!r}, {span!r})", prior, weight)
        windows = [self._window(field, kind, span, tile, exact, delay) for kind in ("sum", "count")]
        return self._feature(
            windows,
            lambda _at, ones, count: (ones + prior * weight) / (count + weight),
            origin=f"rate({field!r}, {span!r})",
        )

    def target(
        self,
        span: str,
        *,
        delay: str,
        prior: float,
        weight: float = 20.0,
        tile: str = "",
        exact: bool = False,
    ) -> KeyedFeature:
        """Average the labels of the key's events over the span, drawn to ``prior`` while there are few.

        The span ends ``delay`` before the event, which is at least as long as a label may take (``within``): by then
        it is known what is true of the events in it. ``weight`` is how many of them the prior counts for: ``(labels +
        prior * weight) / (events + weight)``. With tiles the span ends so much earlier that no event in it is younger
        than ``delay``, by two of them at the most.

        >>> per("card").target("28d", delay="7d", prior=0.01)
        <Feature of card, per('card').target('28d', delay='7d')>
        """
        origin = f"target({span!r}, delay={delay!r})"
        _smoothing(origin, prior, weight)
        length = _tile(span, tile, exact)
        behind = until = seconds(delay)
        if length:
            until = _tiles_behind(behind, length)
        since = until + rounded(seconds(span) / (length or 1.0))
        wanted = [Target(kind, since, until, length, behind, self._late) for kind in ("sum", "count")]
        return self._feature(
            wanted, lambda _at, total, count: (total + prior * weight) / (count + weight), origin=origin
        )

    def decayed_count(self, half_life: str) -> KeyedFeature:
        """Count events, each of which counts half after ``half_life``, this event included."""
        return self._feature(
            [Decay("", seconds(half_life))], lambda _at, total: total + 1.0, origin=f"decayed_count({half_life!r})"
        )

    def decayed_sum(self, field: str, half_life: str) -> KeyedFeature:
        """Add up a field, each value of which counts half after ``half_life``, this event included."""
        return self._feature(
            [Decay(field, seconds(half_life))],
            lambda _at, total, own: total + _or(own, 0.0),
            [field],
            origin=f"decayed_sum({field!r}, {half_life!r})",
        )

    def since_last(self, *, at_most: str = "30d") -> KeyedFeature:
        """Tell the seconds since the key's newest event; ``at_most`` where there was none."""
        cap = seconds(at_most)
        return self._feature(
            [Last("", cap)], lambda at, last: np.clip(at - last, 0.0, cap), origin=f"since_last(at_most={at_most!r})"
        )

    def since_first(self, *, at_most: str = "30d") -> KeyedFeature:
        """Tell the seconds since the key's first event; zero where this is it."""
        cap = seconds(at_most)
        return self._feature(
            [First(cap)], lambda at, first: np.clip(at - first, 0.0, cap), origin=f"since_first(at_most={at_most!r})"
        )

    def distinct(self, field: str, span: str) -> KeyedFeature:
        """Count the different values of a field over the span, this event's included.

        Exact up to 256 different values in the span. More are estimated from a sample of 128 to 256 of them: right on
        average, with a relative standard error of 5 to 9 % (one over the root of how many the sample has). The
        number is exact again as soon as the span has no more than 256.
        """
        return self._feature(
            [Values(field, "others", seconds(span), self._late)],
            lambda _at, others, own: others + there(own),
            [field],
            origin=f"distinct({field!r}, {span!r})",
        )

    def is_new(self, field: str, span: str) -> KeyedFeature:
        """Say one where the key did not have this value in the span before; zero where it did, or it is missing.

        The last 256 different values of a key are known; of one with more, a value from before those may be called new.
        """
        return self._feature(
            [Values(field, "known", seconds(span), self._late)],
            lambda _at, known, own: (known == 0) & there(own),
            [field],
            origin=f"is_new({field!r}, {span!r})",
        )

    def distance(self, lat: str, lon: str) -> KeyedFeature:
        """Measure the great circle from the key's newest event to this one, in kilometres; zero where there is none."""
        return self._feature(
            [Last(lat), Last(lon)],
            lambda _at, *places: _or(great_circle_km(*places), 0.0),
            [lat, lon],
            origin=f"distance({lat!r}, {lon!r})",
        )

    def speed(self, lat: str, lon: str) -> KeyedFeature:
        """Tell how fast the key must have travelled from its newest event to this one, in km/h.

        Less than a second counts as one, so that two payments at the same moment have a speed.
        """

        def combine(at: Floats, last: Array, *places: Array) -> Array:
            hours = np.maximum(np.abs(at - last), 1.0) / 3_600.0
            return _or(great_circle_km(*places) / hours, 0.0)

        return self._feature([Last(), Last(lat), Last(lon)], combine, [lat, lon], origin=f"speed({lat!r}, {lon!r})")

    def session_count(self, gap: str) -> KeyedFeature:
        """Count the events of the session, this one included; a session ends when nothing comes for ``gap``."""
        return self._feature(
            [Session("count", seconds(gap))], lambda _at, count: count + 1.0, origin=f"session_count({gap!r})"
        )

    def session_seconds(self, gap: str) -> KeyedFeature:
        """Tell the seconds since the session began."""
        return self._feature(
            [Session("start", seconds(gap))], lambda at, start: at - start, origin=f"session_seconds({gap!r})"
        )

    def session_mean_gap(self, gap: str) -> KeyedFeature:
        """Tell the mean seconds from one event of the session to the next, up to this one; zero where it is the first.

        >>> per("user").session_mean_gap("30m")
        <Feature of user, per('user').session_mean_gap('30m')>
        """
        wanted = [Session(what, seconds(gap)) for what in ("count", "start", "last")]

        def combine(at: Floats, count: Array, start: Array, last: Array) -> Array:
            return (np.maximum(last, at) - start) / np.maximum(count, 1)

        return self._feature(wanted, combine, origin=f"session_mean_gap({gap!r})")

    def _window(self, field: str, kind: str, span: str, tile: str, exact: bool, delay: str) -> Window:  # noqa: FBT001 - as the methods have it
        length = _tile(span, tile, exact)
        behind = seconds(delay) if delay else 0.0
        if length and behind:
            behind = _tiles_behind(behind, length) * length
        return Window(field, kind, seconds(span), length, behind, self._late)

    def _extreme(self, window: Window, counted: bool, otherwise: float, *, origin: str) -> KeyedFeature:  # noqa: FBT001
        nothing, join = JOINS[window.kind].fill, JOINS[window.kind].join

        def combine(_at: Floats, furthest: Array, own: Array) -> Array:
            return _or(join(furthest, _or(own, nothing)) if counted else furthest, otherwise)

        return self._feature([window], combine, [window.field], origin=origin)

    def _moments(self, field: str, span: str, tile: str, exact: bool) -> list[Window]:  # noqa: FBT001
        return [self._window(field, kind, span, tile, exact, "") for kind in MOMENTS]

    def _feature(
        self, wanted: Sequence[Wanted], combine: Callable[..., Any], fields: Sequence[str] = (), *, origin: str
    ) -> KeyedFeature:
        keys = ", ".join(map(repr, self.keys))
        return KeyedFeature(self.keys, wanted, combine, fields, origin=f"per({keys}).{origin}")


def per(*keys: str, late: str = LATE) -> Per:
    """Remember per value of a field, or per pair of values; the topic's key must be among them.

    Windows are whole for events that lie up to ``late`` behind the newest one of their key. An event that is so
    old that no window can need it any more is scored, and not remembered.

    >>> per("card").sum("amount", "1h").keys, per("card", "merchant").count("30d").keys
    (('card',), ('card', 'merchant'))
    """
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"per{keys!r}: name one field, or several that differ")
    return Per(keys, late=late)


def _smoothing(origin: str, prior: float, weight: float) -> None:
    """Raise where a share cannot be drawn to a prior like that."""
    if not 0 < weight < _INFINITE:
        text = f"weight = {weight}: allowed are numbers above zero, or a new key would have no rate"
        raise ValueError(f"{origin}: {text}")
    if not -_INFINITE < prior < _INFINITE:
        raise ValueError(f"{origin}: prior = {prior}: allowed are finite numbers")


def _tile(span: str, tile: str, exact: bool) -> float:  # noqa: FBT001
    if exact:
        if tile:
            raise ValueError(f"tile={tile!r} and exact=True: an exact window has no tiles")
        return 0.0
    length = seconds(tile) if tile else seconds(span) / TILES
    if not rounded(seconds(span) / length).is_integer():
        raise ValueError(f"span {span!r} is not a whole number of tiles of {tile!r}")
    return length


def _tiles_behind(delay: float, length: float) -> float:
    """Return how many tiles a window ends before the event, so that nobody in it is younger than ``delay``.

    One more than there are in it: the youngest event of a tile is nearly a tile younger than the oldest.
    """
    return float(np.ceil(rounded(delay / length))) + 1.0


def _or(values: Array, otherwise: float) -> Array:
    return np.where(np.isfinite(values), values, otherwise)


def _deviation(count: Array, away: Array, squares: Array, otherwise: float) -> Array:
    enough = count > 1
    n = np.where(enough, count, 2)
    variance = np.maximum(squares - away * away / n, 0.0) / (n - 1)
    return _or(np.where(enough, np.sqrt(variance), otherwise), otherwise)  # squares may be beyond a float


def _median(values: Array) -> tuple[Array, Array]:
    """Return the median of each row without its NaN, and how many values that were."""
    in_order = np.sort(values, axis=1)  # NaN comes last
    count = np.isfinite(in_order).sum(axis=1)
    low = np.maximum((count - 1) // 2, 0)
    high = np.minimum(count // 2, values.shape[1] - 1)
    rows = np.arange(len(values))
    return (in_order[rows, low] + in_order[rows, high]) / 2, count
