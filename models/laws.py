"""What every pipeline keeps, whatever its parts. Run them over your own: ``check`` does all of them.

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
>>> where_a_batch_is_cut_never_shows(pipeline, seed=1)
Traceback (most recent call last):
AssertionError: seed 1: the batch was cut at 35 of 200, and event 'id-0' scored ..., not ...
"""

import random
import string
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from river import base

from headrace.models import snapshot
from headrace.models.agreement import follow, same_state, some_rows
from headrace.models.features import parts
from headrace.models.learners import learner_of
from headrace.models.pipeline import Effects, Pipeline, together
from headrace.models.state import State
from headrace.schemas.event import Event, columns_of

Law = Callable[[Pipeline, int], None]

COUNT = 200


def some_events(cls: type[Event], count: int, seed: int) -> list[Any]:
    """Return events with values of every size, made from the class's own fields."""
    rng = random.Random(seed)  # noqa: S311 - a law must be able to repeat itself
    wire, hints = cls.wire, columns_of(cls)
    at = 1.7e9
    events = []
    for number in range(count):
        at += rng.choice((0.0, 0.001, 1.0, 3_600.0))
        values = {name: _some_value(hint, rng) for name, hint in hints.items()}
        values[wire.id] = number if hints[wire.id] is int else f"id-{number}"
        # One in ten comes late, by little or by much.
        values[wire.time] = at - rng.choice((0.0, 10.0, 5_000.0)) if rng.random() < 0.1 else at
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


class Steps(NamedTuple):
    """What comes to a pipeline: records of its topics, and times that it is told, in their order."""

    items: list[tuple[str, Any]]  # events, labels, or a time

    def play(self, pipeline: Pipeline, state: State, *, one_by_one: bool = False) -> Effects:
        """Do all of it, with as many of a kind at once as follow each other."""
        made: list[Effects] = []
        for kind, run in groupby(self.items, itemgetter(0)):
            some = [item for _, item in run]
            for batch in [[item] for item in some] if one_by_one or kind == "time" else [some]:
                if kind == "events":
                    made.append(pipeline.step(batch, state))
                elif kind == "labels":
                    made.append(pipeline.learn(batch, state))
                else:
                    made.append(pipeline.tick(state, wall=batch[0], event=batch[0]))
        return together(made)

    def cut(self, at: int) -> "tuple[Steps, Steps]":
        """Return what comes before, and from then on."""
        return Steps(self.items[:at]), Steps(self.items[at:])


def some_steps(pipeline: Pipeline, count: int, seed: int) -> Steps:
    """Return events, and where there are labels for them also those: early, late, twice, and of nobody."""
    events = some_events(pipeline.events, count, seed)
    if pipeline.labels is None:
        return Steps([("events", event) for event in events])
    rng = random.Random(seed)  # noqa: S311
    wire, truth = pipeline.labels.wire, pipeline.labels.truth
    items: list[tuple[str, Any]] = []
    for number, event in enumerate(events):
        items.append(("events", event))
        while number % 10 == 9 and rng.random() < 0.85:
            of = events[min(count - 1, max(0, number + rng.randrange(-30, 10)))]
            at = getattr(of, pipeline.wire.time) + rng.choice((0.0, 0.5, 0.9, 1.1)) * truth.within
            label = pipeline.labels(
                **{wire.id: getattr(of, pipeline.wire.id), wire.time: at, wire.key: getattr(of, pipeline.wire.key)},
                **{truth.field: _some_label(pipeline, rng)},
            )
            items.append(("labels", label))
        if rng.random() < 0.03:
            items.append(("time", getattr(event, pipeline.wire.time) + rng.choice((0.0, truth.within))))
    return Steps(items)


def _some_label(pipeline: Pipeline, rng: random.Random) -> Any:
    if pipeline.kind != "multiclass":
        return rng.randrange(2)
    assert pipeline.labels is not None
    truth = pipeline.labels.truth
    names = [one for one in parts(columns_of(pipeline.labels)[truth.field]) if isinstance(one, str)]
    return rng.choice(names or ["a", "b", "c", "d"]) if truth.text else rng.randrange(4)


def where_a_batch_is_cut_never_shows(pipeline: Pipeline, seed: int) -> None:
    """Kafka cuts batches where it likes, so a cut must not move a single bit."""
    steps = some_steps(pipeline, COUNT, seed)
    cut = random.Random(seed).randrange(1, len(steps.items))  # noqa: S311
    want = steps.play(pipeline, pipeline.fresh())
    state = pipeline.fresh()
    before, after = steps.cut(cut)
    got = together([before.play(pipeline, state), after.play(pipeline, state)])
    _same(got, want, f"seed {seed}: the batch was cut at {cut} of {len(steps.items)}", pipeline.wire.id)


def one_by_one_is_the_same_as_all_at_once(pipeline: Pipeline, seed: int) -> None:
    """A quiet stream brings events alone, a busy one by the thousand."""
    steps = some_steps(pipeline, COUNT, seed)
    got = steps.play(pipeline, pipeline.fresh(), one_by_one=True)
    want = steps.play(pipeline, pipeline.fresh())
    _same(got, want, f"seed {seed}: events came one by one", pipeline.wire.id)


def every_event_has_one_answer(pipeline: Pipeline, seed: int) -> None:
    """A prediction or a rejection, never both, never neither, in the order of the events."""
    events = some_events(pipeline.events, COUNT, seed)
    effects = pipeline.step(events, pipeline.fresh())
    rejected = {rejection.at for rejection in effects.rejections}
    want = [getattr(event, pipeline.wire.id) for index, event in enumerate(events) if index not in rejected]
    got = [getattr(made, pipeline.wire.id) for made in effects.predictions]
    assert got == want, f"seed {seed}: {len(want)} events were not rejected, {len(got)} were scored"
    assert len(effects.rejections) == len(rejected), f"seed {seed}: an event was rejected twice"


def inputs_are_left_alone(pipeline: Pipeline, seed: int) -> None:
    """Other readers hold the same events."""
    events = some_events(pipeline.events, COUNT, seed)
    before = msgspec.json.encode(events)
    pipeline.step(events, pipeline.fresh())
    assert msgspec.json.encode(events) == before, f"seed {seed}: the step changed its events"


def the_same_events_give_the_same_effects(pipeline: Pipeline, seed: int) -> None:
    """After a crash the same events are scored again, by another process."""
    steps = some_steps(pipeline, COUNT, seed)
    want, got = steps.play(pipeline, pipeline.fresh()), steps.play(pipeline, pipeline.fresh())
    _same(got, want, f"seed {seed}: the same events again", pipeline.wire.id)
    assert got.rejections == want.rejections, f"seed {seed}: other rejections for the same events"


def a_restored_snapshot_goes_on_alike(pipeline: Pipeline, seed: int) -> None:
    """A partition moves to another worker in the middle of the stream, and nobody can tell."""
    steps = some_steps(pipeline, COUNT, seed)
    cut = random.Random(seed).randrange(1, len(steps.items))  # noqa: S311
    before, after = steps.cut(cut)
    stayed = pipeline.fresh()
    before.play(pipeline, stayed)
    moved = pipeline.fresh()
    moved.load(snapshot.decode(snapshot.encode(stayed.dump())))
    want, got = after.play(pipeline, stayed), after.play(pipeline, moved)
    _same(got, want, f"seed {seed}: the state moved at {cut} of {len(steps.items)}", pipeline.wire.id)


def what_was_remembered_makes_the_state_again(pipeline: Pipeline, seed: int) -> None:
    """The changelog holds what each step took in; a state that is fed with it is the one that was lost."""
    rest = some_steps(pipeline, COUNT, seed)
    lived, again = pipeline.fresh(), pipeline.fresh()
    while rest.items:
        some, rest = rest.cut(COUNT // 4)
        change = some.play(pipeline, lived).change
        if change is not None:
            again.take(snapshot.decode(snapshot.encode(change)))
    same = snapshot.encode(lived.dump()) == snapshot.encode(again.dump())
    assert same, f"seed {seed}: the state made from what was remembered is another"


def state_stops_growing(pipeline: Pipeline, seed: int) -> None:
    """A stream has no end; what is remembered must have one. Half the run warms up, half is measured."""
    state = pipeline.fresh()
    sizes = []
    for half in range(2):
        some_steps(pipeline, 10 * COUNT, seed + half).play(pipeline, state)
        sizes.append(len(snapshot.encode(state.dump())))
    grown = sizes[1] - sizes[0]
    assert grown <= max(4_096, sizes[0]), f"seed {seed}: the state grew by {grown} bytes after it had {sizes[0]}"


def nothing_but_finite_numbers_leaves(pipeline: Pipeline, seed: int) -> None:
    """A reader of predictions never meets NaN, an infinity, or the null that JSON makes of them."""
    effects: Effects = pipeline.step(some_events(pipeline.events, COUNT, seed), pipeline.fresh())
    for made in effects.predictions:
        score = getattr(made, "score")  # noqa: B009 - the struct's type is made at run time
        assert score - score == 0.0, f"seed {seed}: score = {score}"


def kernels_agree_with_river(model: base.Estimator, seed: int) -> None:
    """A compiled learner gives River's scores and weights, bit for bit, and either takes over from the other.

    It is about a model of River's, not about a pipeline, so ``check`` does not run it. Where River itself learns
    there is nothing to compare: ``headrace.models.learners.why_river`` says so.

    >>> from river import linear_model, preprocessing
    >>> kernels_agree_with_river(preprocessing.StandardScaler() | linear_model.LogisticRegression(), seed=1)
    """
    rng = random.Random(seed)  # noqa: S311
    kernel, river = learner_of(model), learner_of(model, kernel=False)
    if kernel.engine == "river":
        return
    columns, labels = some_rows(seed, COUNT, kernel.kind, wild=bool(seed % 2))
    moved = rng.randrange(1, COUNT)
    for some in (slice(0, moved), slice(moved, COUNT)):
        part, known = {name: column[some] for name, column in columns.items()}, labels[some]
        cuts = [rng.randrange(1, COUNT) for _ in range(rng.choice((0, 1, 10, 100)))]
        told = f"seed {seed}: {kernel!r}, rows {some.start} to {some.stop}"
        assert follow(kernel, part, known, cuts) == follow(river, part, known, []), f"{told}: other scores than River's"
        assert same_state(kernel, river), f"{told}: it has learned something else than River"
        # Each goes on with what the other one has learned, as on another machine.
        mine, theirs = (snapshot.decode(snapshot.encode(one.dump())) for one in (kernel, river))
        kernel, river = learner_of(model), learner_of(model, kernel=False)
        kernel.load(theirs)
        river.load(mine)


def _same(got: Effects, want: Effects, told: str, id_field: str) -> None:
    many, wanted = len(got.predictions), len(want.predictions)
    assert many == wanted, f"{told}, and {many} were scored, not {wanted}"
    for mine, theirs in zip(got.predictions, want.predictions, strict=True):
        if mine != theirs:
            identity = getattr(theirs, id_field)
            raise AssertionError(f"{told}, and event {identity!r} scored {mine.score}, not {theirs.score}")  # type: ignore[attr-defined]
    for known, wanted_known in zip(_stories(got, id_field), _stories(want, id_field), strict=True):
        assert known == wanted_known, f"{told}, and what became known is {known}, not {wanted_known}"
    counted, wanted_counted = (snapshot.encode([one.dump() for one in effects.slices]) for effects in (got, want))
    assert counted == wanted_counted, f"{told}, and slices of time were counted otherwise"


def _stories(effects: Effects, id_field: str) -> list[Any]:
    """Return what became known, event by event."""
    return sorted(effects.outcomes, key=lambda one: str(getattr(one, id_field)))


LAWS: tuple[Law, ...] = (
    where_a_batch_is_cut_never_shows,
    one_by_one_is_the_same_as_all_at_once,
    every_event_has_one_answer,
    inputs_are_left_alone,
    the_same_events_give_the_same_effects,
    a_restored_snapshot_goes_on_alike,
    what_was_remembered_makes_the_state_again,
    state_stops_growing,
    nothing_but_finite_numbers_leaves,
)


def check(pipeline: Pipeline, seeds: Iterable[int] = range(3)) -> None:
    """Run every law over a pipeline, and name each that it breaks, with the first seed that shows it.

    >>> from headrace import Event, Linear, Pipeline, feature
    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    >>> @feature
    ... def unusual(amount):
    ...     return amount - amount.mean()
    >>> check(Pipeline(name="p", events=Payment, features={"u": unusual}, static=Linear({"u": 1.0})))
    Traceback (most recent call last):
    AssertionError: <Pipeline p: Payment from payments> breaks 2 of 9 laws:
      where a batch is cut never shows
        Kafka cuts batches where it likes, so a cut must not move a single bit.
        seed 0: the batch was cut at ...
      one by one is the same as all at once
        A quiet stream brings events alone, a busy one by the thousand.
        seed 0: events came one by one, and event 'id-0' scored ..., not ...
    """
    seeds = list(seeds)
    assert seeds, "no seed, no check"
    told: list[str] = []
    first = None
    for law in LAWS:
        for seed in seeds:
            try:
                law(pipeline, seed)
            except Exception as error:  # noqa: BLE001 - whatever a part of the pipeline raises breaks the law too
                first = first or error
                broken = str(error) if isinstance(error, AssertionError) else f"seed {seed}: raised {error!r}"
                why = (law.__doc__ or "").split("\n", maxsplit=1)[0]
                told.append(f"  {law.__name__.replace('_', ' ')}\n    {why}\n    {broken}")
                break
    if told:
        head = f"{pipeline!r} breaks {len(told)} of {len(LAWS)} laws:"
        raise AssertionError("\n".join([head, *told])) from first
