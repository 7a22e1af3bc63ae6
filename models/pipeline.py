"""The one order in which everything happens to a batch of events."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_origin

import msgspec
import numpy as np

from headrace.models.features import Columns, Feature, FeatureFailed, Floats, is_number, parts
from headrace.models.keyed import KeyedFeature
from headrace.models.state import KEYS_MAX, State
from headrace.models.static import Linear
from headrace.schemas.alert import Alert
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import Event, Wire, columns_of, type_name
from headrace.schemas.prediction import prediction_type


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
                online=None, model='payments', version='1')]
    >>> effects.rejections[0].message
    "score is nan; feature 'amount' (log1p('amount')) is nan"
    """

    def __init__(
        self,
        *,
        name: str,
        events: type[Event],
        features: Mapping[str, Feature],
        static: Linear,
        missing: Mapping[str, float | str] | None = None,
        keys_max: int = KEYS_MAX,
    ) -> None:
        self.name = name
        self.events = events
        self.features = dict(features)
        self.static = static
        self.missing = dict(missing or {})  # what stands for a field that is None, in training and in serving
        self.keys_max = keys_max  # that are remembered per partition, of each kind of key
        if problems := list(_problems(self)):
            raise BadPipeline(problems)
        self.version = static.version
        self.wire = events.wire
        self._keyed = {name: one for name, one in self.features.items() if isinstance(one, KeyedFeature)}
        self._stateless = {name: one for name, one in self.features.items() if name not in self._keyed}
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
        """Say whether a feature looks at what was before."""
        return bool(self._keyed)

    def fresh(self) -> State:
        """Return the state of a partition of which nothing was seen yet."""
        return State(self.wire.time, self._keyed, keys_max=self.keys_max)

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
        change = state.change(columns) if self._keyed else None
        try:
            scores = self._scores(made)
        except Exception:  # noqa: BLE001 - whatever it is, it is some event's, and has to be pinned to that one
            scores, failed = self._one_by_one(made, len(events))
        else:
            failed = []
        finite = np.isfinite(scores)
        if not finite.all():
            told = {one.at for one in failed}
            bad = [at for at in np.flatnonzero(~finite).tolist() if at not in told]
            failed += [self._not_finite(at, made, scores) for at in bad]
            events = [event for event, keep in zip(events, finite.tolist(), strict=True) if keep]
            scores = scores[finite]
        if failed:
            rejections += failed if kept is None else [one._replace(at=kept[one.at]) for one in failed]
            rejections.sort()
        return Effects(self._predictions(events, scores), rejections, [], change)

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

    def _scores(self, made: Mapping[str, Floats]) -> Floats:
        with np.errstate(all="ignore"):
            return self.static.score(made)

    def _predictions(self, events: Sequence[Any], scores: Floats) -> list[msgspec.Struct]:
        values = scores.tolist()
        return list(map(self._prediction, *[map(field, events) for field in self._identity], values, values))

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

    def _one_by_one(self, made: Mapping[str, Floats], count: int) -> tuple[Floats, list[Rejection]]:
        """Score each event alone, because the model failed with all of them."""
        scores = np.full(count, np.nan)
        rejections = []
        for at in range(count):
            try:
                scores[at] = self._scores({name: column[at : at + 1] for name, column in made.items()})[0]
            except Exception as error:  # noqa: BLE001 - any failure of the model is this event's dead letter
                text = f"model raised {error!r}"
                rejections.append(Rejection(at, Reason.MODEL_FAILED, text, type(error).__name__))
        return scores, rejections

    def _not_finite(self, at: int, made: Mapping[str, Floats], scores: Floats) -> Rejection:
        causes = [
            f"feature {name!r} ({self.features[name].origin}) is {made[name][at]}"
            for name in self.features
            if not math.isfinite(made[name][at])
        ]
        return Rejection(at, Reason.NOT_FINITE, "; ".join([f"score is {scores[at]}", *causes]))


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
    for name in pipeline.static.weights:
        if name not in pipeline.features:
            yield f"static: a weight for {name!r}, which is no feature{_near(name, pipeline.features)}"
    for name in pipeline.features:
        if name not in pipeline.static.weights:
            yield f"static: no weight for feature {name!r}; give it one, zero if it is to be ignored"
    if pipeline.keys_max < 1:
        yield f"keys_max = {pipeline.keys_max}: a partition remembers one key at the least"
    if not pipeline.features:
        yield "features: there are none, and a model needs at least one"
    for name, weight in [*pipeline.static.weights.items(), ("bias", pipeline.static.bias)]:
        if not math.isfinite(weight):
            yield f"static: {name} = {weight}: allowed are finite numbers"


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
