"""What every pipeline keeps, whatever its parts. Run them over your own.

>>> from headrace import Event, Linear, Pipeline, feature
>>> class Payment(Event, topic="payments", key="account"):
...     id: str
...     at: float
...     account: str
...     amount: float
>>> @feature
... def unusual(amount):
...     return amount - amount.mean()  # wrong: it looks at the other events of the batch
>>> pipeline = Pipeline(name="p", events=Payment, features={"u": unusual}, static=Linear({"u": 1.0}))
>>> where_a_batch_is_cut_never_shows(lambda: pipeline, seed=1)
Traceback (most recent call last):
AssertionError: seed 1: the batch was cut at 35 of 200, and event 'id-0' scored ..., not ...
"""

import random
import string
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.models.features import parts
from headrace.models.pipeline import Effects, Pipeline
from headrace.schemas.event import Event, columns_of

Make = Callable[[], Pipeline]
Law = Callable[[Make, int], None]

COUNT = 200


def some_events(cls: type[Event], count: int, seed: int) -> list[Any]:
    """Return events with values of every size, made from the class's own fields."""
    rng = random.Random(seed)  # noqa: S311 - a law must be able to repeat itself
    wire = cls.wire
    at = 1.7e9
    events = []
    for number in range(count):
        at += rng.choice((0.0, 0.001, 1.0, 3_600.0))
        values = {name: _some_value(hint, rng) for name, hint in columns_of(cls).items()}
        values[wire.id] = number if columns_of(cls)[wire.id] is int else f"id-{number}"
        values[wire.time] = at
        events.append(cls(**values))
    return events


def _some_value(hint: Any, rng: random.Random) -> Any:
    kind = rng.choice(parts(hint))
    if kind is float:
        return rng.choice((0.0, 1.0, round(rng.lognormvariate(3, 2), 2), rng.uniform(-90, 90)))
    if kind is int:
        return rng.randrange(10)
    if kind is bool:
        return rng.random() < 0.5
    if kind is str:
        return rng.choice(string.ascii_lowercase)
    return None


def where_a_batch_is_cut_never_shows(make: Make, seed: int) -> None:
    """Kafka cuts batches where it likes, so a cut must not move a single bit."""
    whole, parts = make(), make()
    events = some_events(whole.events, COUNT, seed)
    cut = random.Random(seed).randrange(1, COUNT)  # noqa: S311
    want = whole.step(events).predictions
    got = parts.step(events[:cut]).predictions + parts.step(events[cut:]).predictions
    _same(got, want, f"seed {seed}: the batch was cut at {cut} of {COUNT}", whole.wire.id)


def one_by_one_is_the_same_as_all_at_once(make: Make, seed: int) -> None:
    """A quiet stream brings events alone, a busy one by the thousand."""
    whole, single = make(), make()
    events = some_events(whole.events, COUNT, seed)
    got = [made for event in events for made in single.step([event]).predictions]
    _same(got, whole.step(events).predictions, f"seed {seed}: events came one by one", whole.wire.id)


def every_event_has_one_answer(make: Make, seed: int) -> None:
    """A prediction or a rejection, never both, never neither, in the order of the events."""
    pipeline = make()
    events = some_events(pipeline.events, COUNT, seed)
    effects = pipeline.step(events)
    rejected = {rejection.at for rejection in effects.rejections}
    want = [getattr(event, pipeline.wire.id) for index, event in enumerate(events) if index not in rejected]
    got = [getattr(made, pipeline.wire.id) for made in effects.predictions]
    assert got == want, f"seed {seed}: {len(want)} events were not rejected, {len(got)} were scored"
    assert len(effects.rejections) == len(rejected), f"seed {seed}: an event was rejected twice"


def inputs_are_left_alone(make: Make, seed: int) -> None:
    """Other readers hold the same events."""
    pipeline = make()
    events = some_events(pipeline.events, COUNT, seed)
    before = msgspec.json.encode(events)
    pipeline.step(events)
    assert msgspec.json.encode(events) == before, f"seed {seed}: the step changed its events"


def the_same_events_give_the_same_effects(make: Make, seed: int) -> None:
    """After a crash the same events are scored again, by another process."""
    first, second = make(), make()
    events = some_events(first.events, COUNT, seed)
    want, got = first.step(events), second.step(events)
    _same(got.predictions, want.predictions, f"seed {seed}: the same events again", first.wire.id)
    assert got.rejections == want.rejections, f"seed {seed}: other rejections for the same events"


def nothing_but_finite_numbers_leaves(make: Make, seed: int) -> None:
    """A reader of predictions never meets NaN, an infinity, or the null that JSON makes of them."""
    pipeline = make()
    effects: Effects = pipeline.step(some_events(pipeline.events, COUNT, seed))
    for made in effects.predictions:
        score = getattr(made, "score")  # noqa: B009 - the struct's type is made at run time
        assert score - score == 0.0, f"seed {seed}: score = {score}"


def _same(got: list[msgspec.Struct], want: list[msgspec.Struct], told: str, id_field: str) -> None:
    assert len(got) == len(want), f"{told}, and {len(got)} were scored, not {len(want)}"
    for mine, theirs in zip(got, want, strict=True):
        if mine != theirs:
            identity = getattr(theirs, id_field)
            raise AssertionError(f"{told}, and event {identity!r} scored {mine.score}, not {theirs.score}")  # type: ignore[attr-defined]


LAWS: tuple[Law, ...] = (
    where_a_batch_is_cut_never_shows,
    one_by_one_is_the_same_as_all_at_once,
    every_event_has_one_answer,
    inputs_are_left_alone,
    the_same_events_give_the_same_effects,
    nothing_but_finite_numbers_leaves,
)
