"""The one order in which everything happens to a batch of events."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.models.features import Columns, Feature, FeatureFailed, Floats
from headrace.models.static import Linear
from headrace.schemas.alert import Alert
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import Event, columns_of
from headrace.schemas.prediction import prediction_type


class Effects(NamedTuple):
    """What a step wants done. The shell does it; the core only says it.

    ``predictions`` are in the order of the events, without those that ``rejections`` names by index.
    """

    predictions: list[msgspec.Struct]
    rejections: list[Rejection]
    alerts: list[Alert]


class Pipeline:
    """One application: the events it scores, the features it makes of them, the model that reads those.

    ``step`` reads no clock, no network and no global: the same events in the same order give the same
    effects through every door, and where a batch is cut does not show.

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
    >>> effects = pipeline.step([Payment("p1", 0.0, "a7", 0.0), Payment("p2", 0.0, "a7", -3.0)])
    >>> effects.predictions
    [Prediction(id='p1', at=0.0, account='a7', score=0.2689414213699951, static=0.2689414213699951,
                online=None, model='payments', version='1')]
    >>> effects.rejections[0].message
    "score is nan; feature 'amount' (log1p('amount')) is nan"
    """

    def __init__(self, *, name: str, events: type[Event], features: Mapping[str, Feature], static: Linear) -> None:
        self.name = name
        self.events = events
        self.features = dict(features)
        self.static = static
        if problems := list(_problems(self)):
            raise BadPipeline(problems)
        self.version = static.version
        self.wire = events.wire
        self._identity = [attrgetter(name) for name in dict.fromkeys((self.wire.id, self.wire.time, self.wire.key))]
        self._prediction = prediction_type(events, name, static.version)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {self.events.__name__} from {self.wire.topic}>"

    def step(self, events: Sequence[Event]) -> Effects:
        """Score the events: features, then the static model."""
        if not events:
            return Effects([], [], [])
        try:
            scores = self._scores(Columns(events))
        except Exception:  # noqa: BLE001 - whatever it is, it is some event's, and has to be pinned to that one
            if len(events) == 1:
                return Effects([], [self._reject(0, events[0])], [])
            return self._one_by_one(events)
        finite = np.isfinite(scores)
        if not finite.all():
            rejections = [self._reject(index, events[index]) for index in np.flatnonzero(~finite).tolist()]
            events = [event for event, keep in zip(events, finite.tolist(), strict=True) if keep]
            return Effects(self._predictions(events, scores[finite]), rejections, [])
        return Effects(self._predictions(events, scores), [], [])

    def _scores(self, columns: Columns) -> Floats:
        with np.errstate(all="ignore"):  # what is not finite is rejected below, by name
            made = {name: feature.column(name, columns) for name, feature in self.features.items()}
            return self.static.score(made)

    def _predictions(self, events: Sequence[Any], scores: Floats) -> list[msgspec.Struct]:
        values = scores.tolist()
        return list(map(self._prediction, *[map(field, events) for field in self._identity], values, values))

    def _one_by_one(self, events: Sequence[Event]) -> Effects:
        """Score each event alone, so that the one that fails takes no other with it.

        A feature looks at each event on its own, so the others get the scores that they would have had.
        """
        predictions: list[msgspec.Struct] = []
        rejections: list[Rejection] = []
        for index, event in enumerate(events):
            effects = self.step([event])
            predictions += effects.predictions
            rejections += [rejection._replace(at=index) for rejection in effects.rejections]
        return Effects(predictions, rejections, [])

    def _reject(self, index: int, event: Event) -> Rejection:
        """Say why this event has no score, by doing the work again for it alone."""
        columns = Columns([event])
        made: dict[str, Floats] = {}
        try:
            with np.errstate(all="ignore"):
                for name, feature in self.features.items():
                    made[name] = feature.column(name, columns)
        except FeatureFailed as error:
            kind = type(error.__cause__).__name__ if error.__cause__ else "FeatureFailed"
            return Rejection(index, Reason.FEATURE_FAILED, str(error), kind)
        try:
            with np.errstate(all="ignore"):
                score = float(self.static.score(made)[0])
        except Exception as error:  # noqa: BLE001 - any failure of the model is this event's dead letter
            return Rejection(index, Reason.MODEL_FAILED, f"model raised {error!r}", type(error).__name__)
        causes = [
            f"feature {name!r} ({self.features[name].origin}) is {column[0]}"
            for name, column in made.items()
            if not math.isfinite(column[0])
        ]
        return Rejection(index, Reason.NOT_FINITE, "; ".join([f"score is {score}", *causes]))


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
    for name in pipeline.static.weights:
        if name not in pipeline.features:
            yield f"static: a weight for {name!r}, which is no feature{_near(name, pipeline.features)}"
    for name in pipeline.features:
        if name not in pipeline.static.weights:
            yield f"static: no weight for feature {name!r}; give it one, zero if it is to be ignored"
    if not pipeline.features:
        yield "features: there are none, and a model needs at least one"
    for name, weight in [*pipeline.static.weights.items(), ("bias", pipeline.static.bias)]:
        if not math.isfinite(weight):
            yield f"static: {name} = {weight}: allowed are finite numbers"


def _near(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
