"""What a learner is, and River's own models as one: a row after the other, each as a dictionary."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from river import base

from headrace.models.memory import Floats
from headrace.models.recipes import PIPELINE, Recipe, class_of

Kind = Literal["binary", "multiclass", "regression", "anomaly"]
Engine = Literal["kernel", "river"]
Columns = Mapping[str, Floats]
Classes = dict[Any, float]  # a probability per class; empty where the model knows none yet

UNTRAINED = 0.5  # the probability that a model gives which knows no class yet

Learn = Callable[[dict[str, Any], Any], object]
Answer = Callable[[dict[str, Any]], Any]


class Learner(Protocol):
    """The state of a learner of one partition. Where a batch is cut does not show.

    A score is the probability of True for ``binary``, that of the likeliest class for ``multiclass``, the
    prediction for ``regression`` and the anomaly's score for ``anomaly``.
    """

    engine: Engine

    @property
    def kind(self) -> Kind:
        """What it predicts."""

    @property
    def seen(self) -> int:
        """How many rows it has learned."""

    def predict(self, columns: Columns) -> Floats:
        """Return a score per row; nothing changes."""

    def learn(self, columns: Columns, labels: Floats) -> None:
        """Learn row by row. A label that is NaN is none; anomaly detectors learn without labels."""

    def predict_learn(self, columns: Columns, labels: Floats) -> Floats:
        """Predict each row, then learn it, before the next one is predicted."""

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute, or nothing if it can."""

    def contributions(self, columns: Columns) -> Floats:
        """Return what each column contributes to a row's raw score, and in the last column what is there without."""

    def predict_classes(self, columns: Columns) -> list[Classes]:
        """Return the probability of each class, per row; of a classifier."""

    def predict_learn_classes(self, columns: Columns, labels: Floats) -> list[Classes]:
        """Predict the classes of each row, then learn it."""

    def dump(self) -> dict[str, Any]:
        """Return all that was learned as plain data."""

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned, of whichever engine."""


class RowFailed(Exception):
    """River raised at a row. Those before it are learned, it is not, and those after it were not looked at.

    ``scores`` are those that were made until then; of whoever asked for classes it is ``classes``.
    """

    def __init__(self, row: int, cause: Exception, scores: Any, classes: Sequence[Classes] = ()) -> None:
        super().__init__(f"row {row}: River raised {cause!r}")
        self.row = row
        self.cause = cause
        self.scores = np.array(scores, np.float64)
        self.classes = classes


class Rows:
    """River itself, a dictionary per row.

    A model that the kernel knows is dumped as the kernel dumps it, so that machines with and without a compiler
    take over from each other.
    """

    engine: Engine = "river"

    def __init__(self, model: base.Estimator, kind: Kind, recipe: Recipe | None) -> None:
        self.kind: Kind = kind
        self.seen = 0
        self._fresh = model
        self._recipe = recipe
        self._has_probabilities = kind in ("binary", "multiclass") and _has_probabilities(model.clone())
        self._begin(model.clone())

    def __repr__(self) -> str:
        return f"<Rows of {self._model}: {self.kind}, {self.seen} seen>"

    def _begin(self, model: base.Estimator) -> None:
        self._model = model
        self._learn, self._answer = _calls(model, self.kind, has_probabilities=self._has_probabilities)

    def predict(self, columns: Columns) -> Floats:
        """Return a score per row; nothing changes."""
        return np.array(self._run(columns, None, _SCORES[self.kind]), np.float64)

    def learn(self, columns: Columns, labels: Floats) -> None:
        """Learn row by row; a label that is NaN is none."""
        self._run(columns, labels, None)

    def predict_learn(self, columns: Columns, labels: Floats) -> Floats:
        """Predict each row, then learn it, before the next one is predicted."""
        return np.array(self._run(columns, labels, _SCORES[self.kind]), np.float64)

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute, or nothing if it can."""
        return "" if self._recipe is not None else _why_not_linear(self._model)

    def contributions(self, columns: Columns) -> Floats:
        """Return weight times scaled value of each column, a row per row, and in the last column the intercept."""
        if self._recipe is not None:
            return self._recipe.contributions(self._recipe.taken(self._model, self.seen), columns)
        before, linear = _plain_steps(self._model)
        weights, intercept = linear.weights, float(linear.intercept)
        made = np.zeros((len(next(iter(columns.values()))), len(columns) + 1))
        made[:, -1] = intercept
        for at, values in enumerate(zip(*map(_listed, columns.values()), strict=True)):
            row = dict(zip(columns, values, strict=True))
            for step in before:
                row = step.transform_one(row)
            made[at, :-1] = [weights.get(name, 0.0) * row.get(name, 0.0) for name in columns]
        return made

    def predict_classes(self, columns: Columns) -> list[Classes]:
        """Return the probability of each class, per row."""
        return self._run(columns, None, dict)

    def predict_learn_classes(self, columns: Columns, labels: Floats) -> list[Classes]:
        """Predict the classes of each row, then learn it."""
        return self._run(columns, labels, dict)

    def _run(self, columns: Columns, labels: Floats | None, read: Callable[[Any], Any] | None) -> list[Any]:
        names, lists = tuple(columns), [_listed(column) for column in columns.values()]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]
        given = [math.nan] * len(rows) if labels is None else labels.tolist()
        assert len(given) == len(rows), f"{len(rows)} rows, and {len(given)} labels"
        learn, answer, target = self._learn, self._answer, _TARGETS[self.kind]
        always = labels is not None and self.kind == "anomaly"
        made: list[Any] = []
        at, learned = -1, 0
        try:
            with np.errstate(all="ignore"):  # here and there River computes with numpy, which would warn
                for row, label in zip(rows, given, strict=True):
                    at += 1
                    if read is not None:
                        made.append(read(answer(row)))
                    if always or label == label:  # noqa: PLR0124 - NaN is not
                        learn(row, target(label))
                        learned += 1
        except Exception as error:
            raise RowFailed(at, error, *(([], made) if read is dict else (made,))) from error
        finally:
            self.seen += learned
        return made

    def dump(self) -> dict[str, Any]:
        """Return all that was learned as plain data."""
        if self._recipe is not None:
            return self._recipe.dumped(self._recipe.taken(self._model, self.seen))
        return {"river": frozen(self._model), "seen": self.seen}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned, of whichever engine."""
        if "river" in data:
            self._begin(thawed(data["river"]))
            self.seen = data["seen"]
            return
        if self._recipe is None:
            raise ValueError(f"what {data['steps']} has learned does not fit {self._model}")
        learned = self._recipe.loaded(data)
        model = self._fresh.clone()
        self._recipe.give(model, learned)
        self._begin(model)
        self.seen = learned.seen


def frozen(model: base.Estimator) -> Any:
    """Return a model of River's as plain data."""
    from headrace.models.frozen import freeze  # noqa: PLC0415

    return freeze(model)


def thawed(data: Any) -> Any:
    """Return the model that ``frozen`` was given."""
    from headrace.models.frozen import thaw  # noqa: PLC0415

    return thaw(data)


def _has_probabilities(model: Any) -> bool:
    try:
        model.predict_proba_one({})
    except NotImplementedError:
        return False
    except Exception:  # noqa: BLE001 - a row without features is odd, and only one answer says that there are none
        return True
    return True


def _calls(model: Any, kind: Kind, *, has_probabilities: bool) -> tuple[Learn, Answer]:
    """Return what learns a row, and what answers for it."""
    if is_ranker(model):
        return _ranker_calls(model)
    ask = {"anomaly": "score_one", "regression": "predict_one"}.get(kind, "predict_proba_one")
    before, last = _plain_steps(model)
    answer_last = getattr(last, ask if has_probabilities or ask != "predict_proba_one" else "predict_one")
    if not has_probabilities and ask == "predict_proba_one":
        answer_last = _certain(answer_last)
    fits = [(step.learn_one, step.transform_one) for step in before]
    transforms = [transform for _, transform in fits]
    learn_last, supervised = last.learn_one, kind != "anomaly"

    def learn(row: dict[str, Any], target: Any) -> None:
        for fit, transform in fits:
            fit(row)
            row = transform(row)
        if supervised:
            learn_last(x=row, y=target)
        else:
            learn_last(x=row)

    def answer(row: dict[str, Any]) -> Any:
        for transform in transforms:
            row = transform(row)
        return answer_last(row)

    return learn, answer if transforms else answer_last


def _plain_steps(model: Any) -> tuple[list[Any], Any]:
    """Take a pipeline apart where each step only hands on to the next: River's own way through it costs a tenth."""
    if class_of(model) == PIPELINE and len(model.steps):
        *before, last = model.steps.values()
        if all(map(_only_hands_on, before)):
            return before, last
    return [], model


def _only_hands_on(step: Any) -> bool:
    special = isinstance(step, base.AnomalyFilter) or hasattr(step, "transformers")
    return isinstance(step, base.Transformer) and not special and not step._supervised  # noqa: SLF001 - as River asks


_GLM = "river.linear_model.base.GLM"
_SCALERS = {
    f"river.preprocessing.scale.{name}"
    for name in ("AdaptiveStandardScaler", "MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler")
}


def _why_not_linear(model: Any) -> str:
    """Say why a row's score is no sum of what its features contribute, or nothing if it is."""
    before, last = _plain_steps(model)
    if not _is_kin(last, _GLM):
        return f"{type(last).__name__} is no linear model of River's, and says nothing of what a feature contributes"
    odd = [type(step).__name__ for step in before if class_of(step) not in _SCALERS]
    return f"{odd[0]} makes other features of those that the pipeline names" if odd else ""


def _is_kin(model: Any, name: str) -> bool:
    return any(f"{kin.__module__}.{kin.__qualname__}" == name for kin in type(model).__mro__)


def _certain(predict_one: Answer) -> Answer:
    """Give the class that a model names all the probability there is."""

    def answer(row: dict[str, Any]) -> Classes:
        label = predict_one(row)
        return {} if label is None else {label: 1.0}

    return answer


def is_ranker(model: Any) -> bool:
    """Say whether a model recommends items to users."""
    return _is_kin(model, "river.reco.base.Ranker")


def _ranker_calls(model: Any) -> tuple[Learn, Answer]:
    def parts(row: dict[str, Any]) -> tuple[Any, Any, dict[str, Any] | None]:
        context = {name: value for name, value in row.items() if name not in ("user", "item")}
        return row["user"], row["item"], context or None

    def learn(row: dict[str, Any], target: Any) -> None:
        user, item, context = parts(row)
        model.learn_one(user, item, target, context)

    return learn, lambda row: model.predict_one(*parts(row))


def _listed(column: Any) -> list[Any]:
    # Names of users and items stay what they are; whatever is a number is a float.
    column = np.asarray(column)
    numbers: list[Any] = (column if column.dtype.kind not in "iub" else column.astype(np.float64)).tolist()
    return numbers


def _probability(classes: Classes) -> float:
    # A model that has only ever seen one class does not name the other: River's metrics read that as zero.
    return float(classes.get(True, 0.0)) if classes else UNTRAINED


def _greatest(classes: Classes) -> float:
    return float(max(classes.values(), default=0.0))


def _number(answer: Any) -> float:
    return math.nan if answer is None else float(answer)


def _class(label: float) -> int | float:
    return int(label) if label.is_integer() else label


_SCORES: dict[Kind, Callable[[Any], float]] = {
    "binary": _probability,
    "multiclass": _greatest,
    "regression": _number,
    "anomaly": _number,
}
_TARGETS: dict[Kind, Callable[[float], Any]] = {
    "binary": bool,
    "multiclass": _class,
    "regression": float,
    "anomaly": float,
}
