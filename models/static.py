"""The model that was trained offline: what it has to be, and the two that need nothing else."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from headrace.models.features import Floats

PARTS = 8  # into which events are cut to find the one on which a model fails


@runtime_checkable
class Model(Protocol):
    """Whatever gives each event a number: a class with these three is a model, and needs no base class.

    ``score`` gets the columns that ``features`` names, in that order, and returns one finite number per
    event. It looks at each event on its own and keeps nothing from one call to the next, so that where a batch
    is cut never shows in a score; ``headrace.testing.check_laws`` checks that.
    """

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it reads, in order; none means all of the pipeline's."""

    @property
    def version(self) -> str:
        """What is written into each prediction."""

    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return one score per event."""


@runtime_checkable
class Explained(Protocol):
    """A model that says what each feature contributed to a score. A pipeline with ``reasons`` asks one that does."""

    def contributions(self, features: Mapping[str, Floats]) -> Floats:
        """Return a row per event: a number for each of the model's features, and what there is without them.

        A row adds up to the model's own sum: the log odds of a classifier, the score of what has no link.
        """


class Linear:
    """A weighted sum of features, through the logistic function unless ``logistic`` is off.

    The terms are added in the order of ``weights``, a column at a time, so that an event's score does
    not depend on the batch that it came in. (A matrix product adds in an order of its own, which moves
    the last bits.)

    >>> model = Linear({"amount": 0.5}, bias=-1.0, version="2026-11")
    >>> model.score({"amount": np.array([2.0, 4.0])}).round(4)
    array([0.5   , 0.7311])

    ``reference`` is what is usual, such as the means of the training, and zero where it says nothing. It moves no
    score: what a feature contributes is its weight times how far it is from there.

    >>> Linear({"amount": 0.5}, bias=-1.0, reference={"amount": 3.0}).contributions({"amount": np.array([2.0, 4.0])})
    array([[-0.5,  0.5],
           [ 0.5,  0.5]])
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        bias: float = 0.0,
        version: str = "1",
        logistic: bool = True,
        reference: Mapping[str, float] | None = None,
    ) -> None:
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.features = tuple(self.weights)
        self.bias = float(bias)
        self.version = version
        self.logistic = logistic
        self.reference = {name: float(usual) for name, usual in (reference or {}).items()}

    @np.errstate(over="ignore")  # exp of a large number is infinity, and one over that is zero: right
    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return one score per event."""
        total: Any = self.bias
        for name, weight in self.weights.items():
            term = weight * features[name]
            term += total
            total = term
        if not self.logistic:
            return cast("Floats", total)
        squashed: Floats = np.exp(-total)
        squashed += 1.0
        np.divide(1.0, squashed, out=squashed)
        sound = np.isfinite(total)
        if np.count_nonzero(sound) < len(sound):
            squashed[~sound] = np.nan  # or it would be a tidy zero or one, and hide what made the sum infinite
        return squashed

    def contributions(self, features: Mapping[str, Floats]) -> Floats:
        """Return what each feature contributed, a row per event, and last what there is at the reference."""
        count = len(next(iter(features.values())))
        made: Floats = np.empty((count, len(self.weights) + 1))
        for place, (name, weight) in enumerate(self.weights.items()):
            made[:, place] = weight * (features[name] - self.reference.get(name, 0.0))
        usual = [self.weights[name] * at for name, at in self.reference.items() if name in self.weights]
        made[:, -1] = math.fsum([self.bias, *usual])
        return made

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with its numbers."""
        if not self.weights:
            yield "there are no weights"
        for name, usual in self.reference.items():
            if name not in self.weights:
                yield f"reference[{name!r}] = {usual}: there is no such weight"
            elif not math.isfinite(usual):
                yield f"reference[{name!r}] = {usual}: allowed are finite numbers"
        for name, weight in [*self.weights.items(), ("bias", self.bias)]:
            if not math.isfinite(weight):
                yield f"{name} = {weight}: allowed are finite numbers"


class Function:
    """A function of your own as a model. Its parameters are named like features, unless ``features`` names them.

    It gets whole columns, which it cannot write to, and returns one number per event.

    >>> def either(amount, night):
    ...     return np.maximum(amount / 1_000, 0.25 * night)
    >>> model = Function(either, version="2")
    >>> model.features, model.score({"amount": np.array([500.0]), "night": np.array([1.0])})
    (('amount', 'night'), array([0.5]))
    """

    def __init__(
        self, function: Callable[..., Any], *, features: Sequence[str] | None = None, version: str = "1"
    ) -> None:
        if features is None:
            features = _parameters(function)
        self.features = tuple(features)
        self.version = version
        self._function = function

    def __repr__(self) -> str:
        return f"<Function of {', '.join(self.features)}, {getattr(self._function, '__name__', self._function)}>"

    def score(self, features: Mapping[str, Floats]) -> Any:
        """Return what the function makes of the columns."""
        return self._function(*[_read_only(features[name]) for name in self.features or features])


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters; none where it takes as many columns as there are."""
    try:
        kinds = {one.name: one.kind for one in inspect.signature(function).parameters.values()}
    except (ValueError, TypeError):
        kinds = {}
    if inspect.Parameter.VAR_POSITIONAL in kinds.values():
        return []
    if not kinds:
        raise ValueError(f"{function!r} names no parameters: say which features it gets, Function(..., features=[...])")
    return list(kinds)


def _read_only(column: Floats) -> Floats:
    view = column.view()
    view.flags.writeable = False
    return view


class ModelFailed(Exception):
    """A model failed: what it did is the text, and ``kind`` is the class of what was raised, where it was elsewhere."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind or type(self).__name__


class ModelGone(ModelFailed):
    """A model did not answer for any of the events: asking about fewer of them would cost as long again."""


def told(error: Exception) -> str:
    """Say what a model did."""
    return str(error) if isinstance(error, ModelFailed) else f"raised {error!r}"


def ask(model: Model, features: Mapping[str, Floats], count: int) -> tuple[Floats, dict[int, Exception]]:
    """Return the scores, NaN where the model failed, and what it raised there.

    A model fails with all events of a call; those that are not to blame get their score in calls without the others.
    """
    return _asked(lambda part, size: scores_of(model, part, size), features, count, ())


def ask_why(model: Explained, features: Mapping[str, Floats], count: int) -> Floats:
    """Return what the features contributed, a row per event, NaN where the model failed to say it."""
    shape = (len(features) + 1,)
    return _asked(lambda part, size: contributions_of(model, part, size), features, count, shape)[0]


def _asked(
    call: Callable[[Mapping[str, Floats], int], Floats],
    features: Mapping[str, Floats],
    count: int,
    shape: tuple[int, ...],
) -> tuple[Floats, dict[int, Exception]]:
    try:
        return call(features, count), {}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is some event's, and has to be pinned to that one
        if count == 1 or isinstance(error, ModelGone):
            return np.full((count, *shape), np.nan), dict.fromkeys(range(count), error)
    answers = np.empty((count, *shape))
    failed: dict[int, Exception] = {}
    size = -(-count // PARTS)
    for begin in range(0, count, size):
        end = min(begin + size, count)
        part = {name: column[begin:end] for name, column in features.items()}
        answers[begin:end], raised = _asked(call, part, end - begin, shape)
        failed.update((begin + at, error) for at, error in raised.items())
    return answers, failed


@np.errstate(all="ignore")
def scores_of(model: Model, features: Mapping[str, Floats], count: int) -> Floats:
    """Ask a model once; what it returns has to be a number per event."""
    made = np.asarray(model.score(features))
    if made.shape != (count,):
        raise ModelFailed(f"returned shape {made.shape}, expected ({count},): one number per event")
    if made.dtype.kind not in "fiub":
        raise ModelFailed(f"returned {made.dtype}, expected float64: one number per event")
    return made.astype(np.float64, copy=False)


@np.errstate(all="ignore")
def contributions_of(model: Explained, features: Mapping[str, Floats], count: int) -> Floats:
    """Ask a model once; what it returns has to be a number per event and feature, and one more per event."""
    made, shape = np.asarray(model.contributions(features)), (count, len(features) + 1)
    if made.shape != shape or made.dtype.kind not in "fiub":
        raise ModelFailed(
            f"returned contributions of shape {made.shape} and {made.dtype}, expected {shape} and float64"
        )
    return made.astype(np.float64, copy=False)
