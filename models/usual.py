"""Learns what is usual, from events in which all was well: the reference of a watch, as plain data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from headrace.models.bins import Binner, Bins
from headrace.models.features import Columns
from headrace.models.memory import Array, Floats
from headrace.models.monitor import EVENTS_MIN
from headrace.models.pipeline import Pipeline
from headrace.models.reference import Reference, whole_ranks
from headrace.models.watch import GROUPS_MAX, OURS, RELATED_MAX, Watch
from headrace.schemas.event import Event
from headrace.schemas.span import seconds

FORMAT = 1
GROUP_EVENTS_MIN = 2_000  # of a value that is watched on its own
EVENTS_WANTED = 1_000  # with fewer, chance alone looks like anything


def usual(
    pipeline: Pipeline, batches: Iterable[Sequence[Event]], *, slices: Sequence[str] = (), every: str = "10s"
) -> dict[str, Any]:
    """Return how the features of events are spread, and the static model's scores, as plain data.

    The events go through the pipeline's own features, in their order. ``slices`` are fields whose values are watched
    on their own, those that come often.

    >>> from headrace.models.laws import some_events
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
    parts: dict[str, list[Floats]] = {}
    times: list[Floats] = []
    values: dict[str, list[str]] = {field: [] for field in slices}
    state = pipeline.fresh(waits=False)
    for batch in batches:
        if not batch:
            continue
        made = pipeline.transform(batch, state)
        if pipeline.static is not None:
            read = {name: made[name] for name in pipeline.static.features or pipeline.features}
            made = {**made, "static": pipeline.static.score(read)}
        for name, column in made.items():
            parts.setdefault(name, []).append(column)
        times.append(np.fromiter(map(attrgetter(pipeline.wire.time), batch), np.float64, len(batch)))
        fields = Columns(batch)
        for field in slices:
            values[field] += map(str, fields.raw(field))
    columns = {name: np.concatenate(some) for name, some in parts.items()}
    at = np.concatenate(times) if times else np.empty(0)
    if len(at) < EVENTS_WANTED:
        raise ValueError(
            f"there are {len(at)} events, and what is usual cannot be told from fewer than {EVENTS_WANTED}"
        )
    binner = Binner([Bins.of_values(name, column) for name, column in columns.items()])
    rows = binner.bin(list(columns.values()))
    numbers = _numbers(at, seconds(every))
    return {
        "format": FORMAT,
        "pipeline": pipeline.name,
        "version": pipeline.version,
        "every": every,
        "events": len(at),
        "from": float(at.min()),
        "to": float(at.max()),
        "reference": _learned(binner, rows, numbers, related=True).dump(),
        "slices": {field: _groups(binner, rows, numbers, some) for field, some in values.items()},
    }


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


def _learned(binner: Binner, rows: Array, numbers: Array, *, related: bool = False) -> Reference:
    ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    begins = [0, *ends[:-1]]
    counts = np.array([binner.count(rows[begin:end]) for begin, end in zip(begins, ends, strict=True)])
    if not related:
        return Reference.learn(binner, counts)
    plain = Reference.learn(binner, counts)
    # As a watch will choose them: features that are more than one value.
    chosen = [
        place for place, one in enumerate(binner.series) if one.name not in OURS and np.any(plain.scores[place][0] != 0)
    ][:RELATED_MAX]
    if len(chosen) < 2:
        return plain
    products = []
    ranks = [whole_ranks(plain.scores[place]) for place in chosen]
    for begin, end in zip(begins, ends, strict=True):
        some = np.stack([rank[rows[begin:end, place]] for rank, place in zip(ranks, chosen, strict=True)], axis=1)
        products.append((some.T @ some).astype(np.float64))
    return Reference.learn(binner, counts, products, chosen)


def _groups(binner: Binner, rows: Array, numbers: Array, values: Sequence[str]) -> dict[str, Any]:
    known = [value for value, count in Counter(values).most_common(GROUPS_MAX) if count >= GROUP_EVENTS_MIN]
    held = np.array(values)
    return {value: _learned(binner, rows[held == value], numbers[held == value]).dump() for value in known}


def watch_of(data: Mapping[str, Any], *, false_alarms: str = "1 per week", every: str | None = None) -> Watch:
    """Make a watch of what ``usual`` returned."""
    if data.get("format") != FORMAT:
        raise ValueError(f"format = {data.get('format')!r}: this version reads {FORMAT}")
    slices = {
        field: {value: Reference.load(one) for value, one in some.items()} for field, some in data["slices"].items()
    }
    return Watch(
        Reference.load(data["reference"]), false_alarms=false_alarms, slices=slices, every=every or data["every"]
    )
