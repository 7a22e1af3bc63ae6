"""Learns what is usual, from events in which all was well: the reference of a watch, as plain data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from headrace.models.bins import Binner, Bins
from headrace.models.features import Columns
from headrace.models.memory import Array, Floats
from headrace.models.monitor import EVENTS_MIN
from headrace.models.pipeline import Pipeline
from headrace.models.reference import Reference, whole_ranks
from headrace.models.state import State
from headrace.models.watch import FEATURE_SERIES, GROUPS_MAX, HOUR_SECONDS, OURS, RELATED_MAX, Watch, season_seconds
from headrace.schemas.event import Event, Label
from headrace.schemas.span import seconds

FORMAT = 1
GROUP_EVENTS_MIN = 2_000  # of a value that is watched on its own
EVENTS_WANTED = 1_000  # with fewer, chance alone looks like anything


class Gathering:
    """Gathers what features of events are, of as many partitions as there are."""

    def __init__(self, pipeline: Pipeline, *, slices: Sequence[str] = (), warm_up: str | None = None) -> None:
        self._pipeline = pipeline
        self._warm_up_s = 0.0 if warm_up is None else seconds(warm_up)
        self._first: float | None = None
        self._slices = tuple(slices)
        self._columns: dict[str, list[Floats]] = {}
        self._times: list[Floats] = []
        self._values: dict[str, list[str]] = {field: [] for field in slices}
        self.events = 0

    def take(self, events: Sequence[Event], state: State, labels: Sequence[Label] | None = None) -> None:
        """Take events of a partition, which ``state`` is that of, and what became known meanwhile."""
        if not events:
            return
        pipeline = self._pipeline
        made = pipeline.transform(events, state, labels)
        at = np.fromiter(map(attrgetter(pipeline.wire.time), events), np.float64, len(events))
        self._first = float(at[0]) if self._first is None else self._first
        warm = at >= self._first + self._warm_up_s
        if not warm.all():
            places = np.flatnonzero(warm)
            if not len(places):
                return
            events, at = [events[place] for place in places.tolist()], at[places]
            made = {name: column[places] for name, column in made.items()}
        if pipeline.static is not None:
            read = {name: made[name] for name in pipeline.static.features or pipeline.features}
            made = {**made, FEATURE_SERIES: pipeline.static.score(read)}
        for name, column in made.items():
            self._columns.setdefault(name, []).append(column)
        self._times.append(at)
        fields = Columns(events)
        for field in self._slices:
            self._values[field] += map(str, fields.raw(field))
        self.events += len(events)

    def data(self, *, every: str, season: str | None = None) -> dict[str, Any]:
        """Return what is usual, as plain data; too few events raise ``ValueError``."""
        if self.events < EVENTS_WANTED:
            raise ValueError(
                f"there are {self.events} events, and what is usual cannot be told from fewer than {EVENTS_WANTED}"
            )
        at = np.concatenate(self._times)
        order = np.argsort(at, kind="stable")  # partitions lie one behind the other, and slices are of all of them
        at = at[order]
        columns = {name: np.concatenate(some)[order] for name, some in self._columns.items()}
        binner = Binner([Bins.of_values(name, column) for name, column in columns.items()])
        rows = binner.bin(list(columns.values()))
        numbers = _numbers(at, seconds(every))
        values = {field: np.array(some)[order] for field, some in self._values.items()}
        slices = {field: _groups(binner, rows, numbers, some) for field, some in values.items()}
        seasonal: dict[str, Any] = {}
        if season is not None:
            parts = ((f"{field}={value}", values[field] == value) for field, some in slices.items() for value in some)
            whole: list[tuple[str, Any]] = [("", slice(None))]
            seasonal["season"] = _seasonal(season, at, binner, rows, numbers, chain(whole, parts))
        return {
            **seasonal,
            "format": FORMAT,
            "pipeline": self._pipeline.name,
            "version": self._pipeline.version,
            "every": every,
            "events": self.events,
            "from": float(at[0]),
            "to": float(at[-1]),
            "reference": learned(binner, rows, numbers, related=True).dump(),
            "slices": slices,
        }


def usual(
    pipeline: Pipeline,
    batches: Iterable[Sequence[Event]],
    *,
    slices: Sequence[str] = (),
    every: str = "10s",
    warm_up: str | None = None,
    season: str | None = None,
    labels: Iterable[Sequence[Label]] | None = None,
) -> dict[str, Any]:
    """Return how the features of events are spread, and the static model's scores, as plain data.

    The events go through the pipeline's own features, in their order. ``slices`` are fields whose values are watched
    on their own, those that come often. Of the first events, for as long as ``warm_up`` says, nothing is learned.
    Features that look back at labels need those that became known with each batch.

    >>> from headrace.models.features import log1p
    >>> from headrace.models.static import Linear
    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    >>> features = {"amount": log1p("amount")}
    >>> pipeline = Pipeline(name="p", events=Payment, features=features, static=Linear({"amount": 0.5}))
    >>> payments = [Payment(str(n), float(n), "a", n % 97 + 1.0) for n in range(20_000)]
    >>> data = usual(pipeline, [payments])
    >>> list(data["reference"]["series"]), data["events"]
    (['amount', 'static'], 20000)
    >>> watch_of(data).features
    ['amount']
    """
    gathering = Gathering(pipeline, slices=slices, warm_up=warm_up)
    state = pipeline.fresh(waits=labels is not None)
    if labels is None:
        for batch in batches:
            gathering.take(batch, state)
    else:
        for batch, known in zip(batches, labels, strict=True):
            gathering.take(batch, state, known)
    return gathering.data(every=every, season=season)


def _numbers(at: Floats, every_s: float) -> Array:
    """Return which slice each event belongs to, those with few events together."""
    each = np.floor(np.maximum.accumulate(at) / every_s)
    cuts = np.flatnonzero(np.diff(each)) + 1
    numbers = np.zeros(len(at), np.int64)
    begin = number = 0
    for cut in [*cuts.tolist(), len(at)]:
        if cut - begin >= EVENTS_MIN:
            numbers[begin:cut] = number
            begin, number = cut, number + 1
    numbers[begin:] = max(0, number - 1)
    return numbers


def learned(binner: Binner, rows: Array, numbers: Array, *, related: bool = False) -> Reference:
    """Return what is usual of rows of bins of which ``numbers`` says the slices; if asked, also what goes together."""
    ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    begins = [0, *ends[:-1]]
    counts = np.array([binner.count(rows[begin:end]) for begin, end in zip(begins, ends, strict=True)])
    if not related:
        return Reference.learn(binner, counts)
    plain = Reference.learn(binner, counts)
    places = [place for place, one in enumerate(binner.series) if one.name not in OURS and plain.relatable(place)]
    chosen = places[:RELATED_MAX]  # as a watch will choose them
    if len(chosen) < 2:
        return plain
    products = []
    ranks = [whole_ranks(plain.scores[place]) for place in chosen]
    for begin, end in zip(begins, ends, strict=True):
        some = np.stack([rank[rows[begin:end, place]] for rank, place in zip(ranks, chosen, strict=True)], axis=1)
        products.append((some.T @ some).astype(np.float64))
    return Reference.learn(binner, counts, products, chosen)


def _groups(binner: Binner, rows: Array, numbers: Array, held: Array) -> dict[str, Any]:
    often = Counter(held.tolist()).most_common(GROUPS_MAX)
    known = [value for value, count in often if count >= GROUP_EVENTS_MIN]
    return {value: learned(binner, rows[held == value], numbers[held == value]).dump() for value in known}


def _seasonal(
    season: str, at: Floats, binner: Binner, rows: Array, numbers: Array, parts: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    """Return what is usual in each hour of a season, of parts of the events; None where too few events were."""
    length = season_seconds(season)
    if at[-1] - at[0] < 2 * length:
        raise ValueError(
            f"season = {season!r}: what is usual in an hour is told from two whole seasons or more, and the events "
            f"are of {(at[-1] - at[0]) / length:.1f}"
        )
    hours = at % length // HOUR_SECONDS

    def usual_in(there: Array) -> dict[str, Any] | None:
        if np.count_nonzero(there) < EVENTS_WANTED:
            return None
        usual = learned(binner, rows[there], numbers[there])
        return {"counts": usual.counts.tolist(), "inflation": usual.inflation.tolist(), "slices": usual.slices}

    made: dict[str, Any] = {}
    for name, part in parts:
        mine = np.zeros(len(at), np.bool_)
        mine[part] = True
        made[name] = [usual_in(mine & (hours == hour)) for hour in range(int(length // HOUR_SECONDS))]
    return {"length": season, "parts": made}


def _part(whole: Reference, data: Any) -> Reference | None:
    if data is None:
        return None
    given = {"slices": data["slices"], "related": whole.related, "unrelated": whole.unrelated}
    return Reference(whole.binner, np.array(data["counts"], np.int64), np.array(data["inflation"]), **given)


def watch_of(
    data: Mapping[str, Any],
    *,
    false_alarms: str = "1 per week",
    every: str | None = None,
    warm_up: str | None = None,
    when: Mapping[str, Any] | None = None,
    against: str | None = None,
    season: str | None = None,
    reasons: bool = False,
) -> Watch:
    """Make a watch of what ``usual`` returned."""
    if data.get("format") != FORMAT:
        raise ValueError(f"format = {data.get('format')!r}: this version reads {FORMAT}")
    slices = {
        field: {value: Reference.load(one) for value, one in some.items()} for field, some in data["slices"].items()
    }
    whole = Reference.load(data["reference"])
    references = {
        "": whole,
        **{f"{field}={value}": one for field, some in slices.items() for value, one in some.items()},
    }
    parts = {}
    if season is not None:
        held = data.get("season", {"length": None, "parts": {}})
        if held["length"] != season:
            raise ValueError(f"season = {season!r}: it was learned with {held['length']!r}; learn it anew")
        parts = {name: [_part(one, part) for part in held["parts"][name]] for name, one in references.items()}
    return Watch(
        whole,
        false_alarms=false_alarms,
        slices=slices,
        every=every or data["every"],
        warm_up=warm_up,
        when=when,
        against=against,
        season=season,
        parts=parts,
        reasons=reasons,
    )
