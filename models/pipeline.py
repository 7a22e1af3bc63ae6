"""The one order in which everything happens to a batch of events."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_origin

import msgspec
import numpy as np

from headrace.models.fallback import Answers, Fallback, Mask, answers, answers_with_fallback
from headrace.models.features import Columns, Feature, FeatureFailed, Floats, is_number, parts
from headrace.models.keyed import KeyedFeature
from headrace.models.state import KEYS_MAX, State
from headrace.models.static import Linear, Model
from headrace.schemas.alert import Alert
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import Event, Wire, columns_of, type_name
from headrace.schemas.prediction import Flag, prediction_type

# What an event's flags are, by a number that has a bit for each.
_FLAGS = [tuple(flag.value for bit, flag in enumerate(Flag) if number >> bit & 1) for number in range(1 << len(Flag))]


class Effects(NamedTuple):
    """What a step wants done. The shell does it; the core only says it.

    ``predictions`` are in the order of the events, without those that ``rejections`` names by index.
    """

    predictions: list[msgspec.Struct]
    rejections: list[Rejection]
    alerts: list[Alert]
    change: list[Any] | None = None  # what the state took in, so that it can be made again


class Pipeline:
    """One application: the events it scores, the features it makes of them, the model that reads those.

    ``step`` reads no clock, no network and no global: with the same state the same events in the same order
    give the same effects through every door, and where a batch is cut does not show. A pipeline itself never
    changes; what it remembers of a partition is in the state that ``fresh`` makes.

    >>> from headrace.models.features import log1p
    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    >>> pipeline = Pipeline(
    ...     name="payments",
    ...     events=Payment,
    ...     features={"amount": log1p("amount")},
    ...     static=Linear({"amount": 0.5}, bias=-1.0),
    ... )
    >>> state = pipeline.fresh()
    >>> effects = pipeline.step([Payment("p1", 0.0, "a7", 0.0), Payment("p2", 0.0, "a7", -3.0)], state)
    >>> effects.predictions
    [Prediction(id='p1', at=0.0, account='a7', score=0.2689414213699951, static=0.2689414213699951,
                online=None, model='payments', version='1', flags=())]
    >>> effects.rejections[0].message
    "score is nan; feature 'amount' (log1p('amount')) is nan"
    """

    def __init__(
        self,
        *,
        name: str,
        events: type[Event],
        features: Mapping[str, Feature],
        static: Model,
        fallback: Fallback | Model | float | None = None,
        missing: Mapping[str, float | str] | None = None,
        keys_max: int = KEYS_MAX,
    ) -> None:
        self.name = name
        self.events = events
        self.features = dict(features)
        self.static = static
        # What stands in for the static model where it fails; without it, such an event is a dead letter.
        self.fallback = fallback if isinstance(fallback, Fallback | None) else Fallback(fallback)
        self.missing = dict(missing or {})  # what stands for a field that is None, in training and in serving
        self.keys_max = keys_max  # that are remembered per partition, of each kind of key
        if problems := list(_problems(self)):
            raise BadPipeline(problems)
        self.version = static.version
        self.wire = events.wire
        self._keyed = {name: one for name, one in self.features.items() if isinstance(one, KeyedFeature)}
        self._stateless = {name: one for name, one in self.features.items() if name not in self._keyed}
        self._read = static.features or tuple(self.features)
        self._identity = [attrgetter(name) for name in dict.fromkeys((self.wire.id, self.wire.time, self.wire.key))]
        self._prediction = prediction_type(events, name, static.version)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {self.events.__name__} from {self.wire.topic}>"

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are read, that of the events first."""
        return (self.wire.topic,)

    @property
    def has_memory(self) -> bool:
        """Say whether anything is remembered of a partition."""
        return self.looks_back or self.fallback is not None

    @property
    def looks_back(self) -> bool:
        """Say whether a feature looks at what was before."""
        return bool(self._keyed)

    def fresh(self) -> State:
        """Return the state of a partition of which nothing was seen yet."""
        return State(self.wire.time, self._keyed, keys_max=self.keys_max, fallback=self.fallback)

    def transform(self, events: Sequence[Event], state: State) -> dict[str, Floats]:
        """Return the features of the events, a column each, and take them in: for training, without a score.

        An event whose features fail raises ``FeatureFailed``.
        """
        columns = Columns(events, self.missing)
        return self._with_memory(self._own(columns), columns, state)

    def step(self, events: Sequence[Event], state: State) -> Effects:
        """Score the events: features of each, features of its key's past, the static model.

        An event whose own features fail is not remembered; one that the model cannot score is.
        """
        if not events:
            return Effects([], [], [])
        columns = Columns(events, self.missing)
        rejections: list[Rejection] = []
        kept = None  # the places of the events that are left, where some are not
        try:
            made = self._own(columns)
        except FeatureFailed:
            kept, made, rejections = self._sound(events)
            if not kept:
                return Effects([], rejections, [])
            events = [events[at] for at in kept]
            columns = Columns(events, self.missing)
        made = self._with_memory(made, columns, state)
        scores, failed, stood_in, counted = self._ask(made, state, len(events))
        finite = np.isfinite(scores)
        there = finite if np.count_nonzero(finite) < len(events) else None  # nearly every batch: all of them
        if there is not None:
            known = {one.at for one in failed}
            bad = [at for at in np.flatnonzero(~finite).tolist() if at not in known]
            failed += [self._not_finite(at, made, scores) for at in bad]
            rejections += failed if kept is None else [one._replace(at=kept[one.at]) for one in failed]
            rejections.sort()
        change = state.change(columns, counted) if self.has_memory else None
        flags = _flags(len(events), stood_in, state)
        return Effects(self._predictions(events, scores, there, stood_in, flags), rejections, [], change)

    def _own(self, columns: Columns) -> dict[str, Floats]:
        """Make the features that look at each event alone."""
        with np.errstate(all="ignore"):  # what is not finite is rejected by name
            made = {name: feature.column(name, columns) for name, feature in self._stateless.items()}
            for name, feature in self._keyed.items():
                feature.check(name, columns, self.wire.time)
            return made

    def _with_memory(self, made: dict[str, Floats], columns: Columns, state: State) -> dict[str, Floats]:
        if not self._keyed:
            return made
        with np.errstate(all="ignore"):
            past, at = state.step(columns), columns[self.wire.time]
            for name, feature in self._keyed.items():
                made[name] = feature.combined(at, past[feature.keys], columns)
        return made

    def _ask(self, made: Mapping[str, Floats], state: State, count: int) -> Answers:
        read = {name: made[name] for name in self._read}
        if self.fallback is None or state.breaker is None:
            return answers(self.static, read, count)
        its_features = {name: made[name] for name in self.fallback.features or self.features}
        return answers_with_fallback(self.static, read, self.fallback, its_features, state.breaker, count)

    def _predictions(
        self, events: Sequence[Any], scores: Floats, there: Mask | None, stood_in: Mask | None, flags: list[Any] | None
    ) -> list[msgspec.Struct]:
        """Make the predictions, without those of events that have no score."""
        values = statics = scores.tolist()
        if stood_in is not None:
            statics = [None if gone else value for value, gone in zip(values, stood_in.tolist(), strict=True)]
        columns = [*[map(field, events) for field in self._identity], values, statics]
        if flags is not None:
            columns += [repeat(None), repeat(self.name), repeat(self.version), flags]
        made = map(self._prediction, *columns)
        return list(made if there is None else compress(made, there.tolist()))

    def _sound(self, events: Sequence[Event]) -> tuple[list[int], dict[str, Floats], list[Rejection]]:
        """Find the events whose own features can be made, so that one that fails takes no other with it.

        A feature looks at each event on its own, so the others get the numbers that they would have had.
        """
        kept: list[int] = []
        made: list[dict[str, Floats]] = []
        rejections: list[Rejection] = []
        for at, event in enumerate(events):
            try:
                made.append(self._own(Columns([event], self.missing)))
            except FeatureFailed as error:
                kind = type(error.__cause__).__name__ if error.__cause__ else "FeatureFailed"
                rejections.append(Rejection(at, Reason.FEATURE_FAILED, str(error), kind))
            else:
                kept.append(at)
        together = {name: np.concatenate([one[name] for one in made]) for name in self._stateless if made}
        return kept, together, rejections

    def _not_finite(self, at: int, made: Mapping[str, Floats], scores: Floats) -> Rejection:
        causes = [
            f"feature {name!r} ({self.features[name].origin}) is {made[name][at]}"
            for name in self.features
            if not math.isfinite(made[name][at])
        ]
        return Rejection(at, Reason.NOT_FINITE, "; ".join([f"score is {scores[at]}", *causes]))


def _flags(count: int, stood_in: Mask | None, state: State) -> list[tuple[str, ...]] | None:
    """Return each event's flags; None where none has any, which is nearly every batch."""
    missed = state.missed
    if stood_in is None and not missed:
        return None
    late = np.zeros(count, np.bool_)
    for places in missed:
        late[places] = True
    fell = np.zeros(count, np.bool_) if stood_in is None else stood_in
    return list(map(_FLAGS.__getitem__, (1 * fell + 2 * late).tolist()))


def _problems(pipeline: Pipeline) -> Iterator[str]:
    """Yield every misfit between the parts, so that a person mends them in one go."""
    wire = getattr(pipeline.events, "wire", None)
    if wire is None:
        name = pipeline.events.__name__
        yield f'events: {name} names no topic; write class {name}(Event, topic="...", key="...")'
        return
    if not pipeline.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        yield f"name = {pipeline.name!r}: allowed are letters, digits and ._-, as it names the consumer group"
    fields = columns_of(pipeline.events)
    for name, feature in pipeline.features.items():
        if not isinstance(feature, Feature):
            yield f"features[{name!r}] is {feature!r}: expected a feature; a function becomes one with @feature"
            continue
        for wanted in feature.fields:
            if wanted not in fields:
                yield (
                    f"features[{name!r}] ({feature.origin}) reads {wanted!r}, which {pipeline.events.__name__} "
                    f"does not have{_near(wanted, fields)}"
                )
        if isinstance(feature, KeyedFeature):
            yield from _misfits(name, feature, wire, fields)
    yield from _stand_ins(pipeline, fields)
    models: dict[str, Any] = {"static": pipeline.static}
    if pipeline.fallback is not None:
        yield from (f"fallback: {told}" for told in pipeline.fallback.problems())
        if not isinstance(pipeline.fallback.stand_in, float | int):
            models["fallback"] = pipeline.fallback.stand_in
    for role, model in models.items():
        yield from _unfit(role, model, pipeline.features)
    read = [model.features or tuple(pipeline.features) for model in models.values() if isinstance(model, Model)]
    for name in pipeline.features if read else ():
        if not any(name in names for names in read):
            yield f"features[{name!r}] is read by no model; leave it out, or let one read it: a weight of zero will do"
    if pipeline.keys_max < 1:
        yield f"keys_max = {pipeline.keys_max}: a partition remembers one key at the least"
    if not pipeline.features:
        yield "features: there are none, and a model needs at least one"


def _unfit(role: str, model: Any, features: Mapping[str, Feature]) -> Iterator[str]:
    """Yield why a model does not fit the features."""
    if not isinstance(model, Model):
        yield f"{role} is {model!r}: expected a model, which has features, version and score"
        return
    for name in model.features:
        if name not in features:
            yield f"{role} reads {name!r}, which is no feature{_near(name, features)}"
    if doubled := sorted({name for name in model.features if model.features.count(name) > 1}):
        yield f"{role} reads {doubled[0]!r} twice"
    if not isinstance(model.version, str):
        yield f"{role}.version = {model.version!r}: allowed is text"
    if isinstance(model, Linear):
        yield from (f"{role}: {told}" for told in model.problems())


def _stand_ins(pipeline: Pipeline, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what stands for missing values."""
    for name, value in pipeline.missing.items():
        if name not in fields:
            yield f"missing[{name!r}]: {pipeline.events.__name__} has no such field{_near(name, fields)}"
            continue
        field = f"{pipeline.events.__name__}.{name} is {type_name(fields[name])}"
        if type(None) not in parts(fields[name]):
            yield f"missing[{name!r}]: {field}, and never missing"
        elif is_number(fields[name]) and not (isinstance(value, int | float) and math.isfinite(value)):
            yield f"missing[{name!r}] = {value!r}: allowed are finite numbers, as {field}"


def _misfits(name: str, feature: KeyedFeature, wire: Wire, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a feature with a memory does not fit the events."""
    said = f"features[{name!r}] ({feature.origin})"
    if wire.key not in feature.keys:
        yield (
            f"{said} remembers per {' and '.join(map(repr, feature.keys))}, but the topic's key is {wire.key!r}: "
            f"events with the same {feature.keys[0]!r} are spread over partitions, and each would know a part of them; "
            f"add {wire.key!r} to per(...), or publish the events to a topic whose key is {feature.keys[0]!r}"
        )
    for field in feature.numbers:
        if field in fields and not is_number(fields[field]):
            yield f"{said} needs numbers, and {field!r} is {type_name(fields[field])}"
    for field in feature.values:
        if field in fields and not all(_is_plain(part) for part in parts(fields[field])):
            yield (
                f"{said} tells values of {field!r} apart, which is {type_name(fields[field])}: allowed are str, int, "
                "float, bool, bytes and None"
            )


def _is_plain(hint: Any) -> bool:
    return hint in (str, int, float, bool, bytes, type(None)) or get_origin(hint) is Literal


def _near(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
