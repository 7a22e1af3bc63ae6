"""From a fitted model to the bytes of a file, and what has to be known to read them again."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.models.features import Floats
from headrace.models.matrix import Rows, Score, in_blocks
from headrace.models.static import Linear
from headrace.schemas.errors import BadModel
from headrace.schemas.manifest import Column, Kind, Number, Output, Weights
from headrace.stream import formats

EXACT = 1e-9  # the share by which weights may score otherwise than the model of scikit-learn that they stand for


class Wish(NamedTuple):
    """What the person who saves a model says of it."""

    features: list[str]
    rows: Floats  # that it will be tried out with
    method: str = ""
    output: str = ""
    column: int | None = None
    trusted: Sequence[str] = ()


class Packed(NamedTuple):
    """A model as a file, and how it scores while it is none."""

    kind: Kind
    suffix: str
    content: bytes
    columns: list[Column]
    output: Output
    score: Score


def pack(model: Any, wish: Wish) -> Packed:
    """Return a model as bytes, whichever library it is of."""
    if isinstance(model, Linear):
        formats.same_names(wish.features, model.features)
        if problems := list(model.problems()):
            raise BadModel(problems)
        return _linear(model)
    if isinstance(model, bytes):
        return _onnx(model, wish)
    if isinstance(model, str | Path):
        return _onnx(Path(model).read_bytes(), wish)
    modules = {cls.__module__.split(".", maxsplit=1)[0] for cls in type(model).__mro__}
    if "lightgbm" in modules:  # it and the next are estimators of scikit-learn as well
        return _lightgbm(model, wish)
    if "xgboost" in modules:
        return _xgboost(model, wish)
    if "sklearn" in modules:
        packed = _sklearn(model, wish)
        return _as_weights(model, packed, wish) or packed
    if hasattr(model, "SerializeToString"):
        return _onnx(model.SerializeToString(), wish)
    raise BadModel(
        [
            f"{model!r}: allowed are fitted models of scikit-learn, LightGBM and XGBoost, an ONNX model or its file, "
            "and Linear. A function needs no folder: static=Function(...)"
        ]
    )


def named(model: Any) -> str:
    """Say what a model is, with its steps where it has some.

    >>> named(Linear({"a": 1.0})), named("model.onnx")
    ('headrace.Linear', 'model.onnx')
    """
    if isinstance(model, str | Path):
        return Path(model).name
    steps = getattr(model, "steps", None)
    within = f" of {', '.join(type(step).__name__ for _, step in steps)}" if steps else ""
    return f"{type(model).__module__.split('.', maxsplit=1)[0]}.{type(model).__name__}{within}"


def _linear(model: Linear) -> Packed:
    names = model.features
    weights = Weights(model.weights, model.bias, model.logistic, model.reference or msgspec.UNSET)
    content = msgspec.json.format(msgspec.json.encode(weights), indent=2)

    def score(rows: Rows) -> Any:
        return model.score({name: rows[:, place].copy() for place, name in enumerate(names)})

    return Packed("linear", ".json", content, [Column(name) for name in names], Output(), score)


def _lightgbm(model: Any, wish: Wish) -> Packed:
    booster = getattr(model, "booster_", model)
    formats.same_names(wish.features, formats.lightgbm_names(booster))
    formats.counted(wish.features, booster.num_feature())
    content = booster.model_to_string().encode()  # up to the best iteration, where training looked for it
    return _trees(("lightgbm", ".txt", "float64"), content, formats.lightgbm_score(booster), model, wish)


def _xgboost(model: Any, wish: Wish) -> Packed:
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    formats.same_names(wish.features, booster.feature_names)
    formats.counted(wish.features, booster.num_features())
    if (best := booster.attr("best_iteration")) is not None:
        booster = booster[: int(best) + 1]
    content = bytes(booster.save_raw("ubj"))
    return _trees(("xgboost", ".ubj", "float32"), content, formats.xgboost_score(booster), model, wish)


def _trees(what: tuple[Kind, str, Number], content: bytes, score: Score, model: Any, wish: Wish) -> Packed:
    kind, suffix, number = what
    made = np.asarray(score(np.zeros((2, len(wish.features)), number)))
    column = _column(made.shape[1], getattr(model, "classes_", ()), wish) if made.ndim > 1 else None
    columns = [Column(name, number) for name in wish.features]
    return Packed(kind, suffix, content, columns, Output(column=column), formats.only(score, column))


def _onnx(content: bytes, wish: Wish) -> Packed:
    session = formats.onnx_session(content)
    kinds, count = formats.onnx_numbers(session, wish.features)
    outputs = {one.name: one for one in session.get_outputs()}
    numbers = [name for name, one in outputs.items() if one.type in ("tensor(float)", "tensor(double)")]
    name = wish.output or next(iter(numbers), "")
    if name not in numbers:
        there = ", ".join(f"{one.name} ({one.type})" for one in outputs.values())
        hint = "; leave ZipMap out when you convert: options={'zipmap': False}" if "seq(map" in there else ""
        raise BadModel([f"output = {name!r} gives no scores: there are {there}{hint}"])
    shape = outputs[name].shape
    width = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 2
    column = _column(width, (), wish) if len(shape) > 1 else None
    columns = [Column(one, kind) for one, kind in zip(wish.features, kinds, strict=True)]
    asked = formats.only(formats.onnx_score(session, kinds, name), column)
    output = Output(name=name, column=column)
    return Packed("onnx", ".onnx", content, columns, output, lambda rows: in_blocks(asked, rows, count))


def _sklearn(model: Any, wish: Wish) -> Packed:
    formats.same_names(wish.features, getattr(model, "feature_names_in_", None))
    formats.counted(wish.features, getattr(model, "n_features_in_", None))
    allowed = [one for one in formats.METHODS if hasattr(model, one)]
    if hasattr(model, "classes_") and "predict" in allowed:
        allowed.remove("predict")  # it gives a class, and a score is a number
    method = wish.method or next(iter(allowed), "")
    if method not in allowed:
        raise BadModel([f"method = {method!r}: of {named(model)} allowed are {', '.join(allowed) or 'none'}"])
    column = _column(len(model.classes_), model.classes_, wish) if method == "predict_proba" else None
    skops = formats.library("skops.io", "sklearn")
    content = skops.dumps(model)
    unknown = skops.get_untrusted_types(data=content)
    formats.refuse_untrusted(unknown, wish.trusted)
    copy = skops.loads(content, trusted=unknown)  # because asking changes what it says of threads and names
    score = formats.only(formats.sklearn_score(copy, method), column)
    columns = [Column(name) for name in wish.features]
    return Packed("sklearn", ".skops", content, columns, Output(method=method, column=column), score)


def _column(width: int, classes: Sequence[Any], wish: Wish) -> int:
    """Return which number is the score, where there is one for each class."""
    known = f" ({', '.join(map(str, classes))})" if len(classes) else ""
    if wish.column is None and width > 2:
        raise BadModel([f"there are {width} classes{known}, and a score is one number: say which one's by column=..."])
    column = width - 1 if wish.column is None else wish.column
    if not 0 <= column < width:
        raise BadModel([f"column = {column}: allowed are 0 to {width - 1}{known}"])
    return column


def _as_weights(model: Any, packed: Packed, wish: Wish) -> Packed | None:
    """Return a linear model as weights, scaler and all; None where it is another, or they would not be exact enough.

    Weights need no library, and are added in an order that no batch changes.
    """
    *scalers, last = formats.steps_of(model)
    count = len(wish.features)
    slopes = np.ravel(getattr(last, "coef_", ()))
    if len(slopes) != count or packed.output.column == 0:
        return None
    factor, shift = np.ones(count), np.zeros(count)
    for one in scalers:
        step = _affine(one)
        if step is None:
            return None
        factor, shift = factor * step[0], shift * step[0] + step[1]
    bias = math.fsum([*np.ravel(getattr(last, "intercept_", 0.0)).tolist(), *(slopes * shift).tolist()])
    weights = dict(zip(wish.features, (slopes * factor).tolist(), strict=True))
    usual = dict(zip(wish.features, _usual(scalers), strict=False))
    made = _linear(Linear(weights, bias=bias, logistic=packed.output.method == "predict_proba", reference=usual))
    spread = 3.0 * np.random.default_rng(1).normal(size=(256, count))
    for rows in ((spread - shift) / np.where(factor == 0, 1.0, factor), wish.rows):
        if len(rows) and not np.allclose(made.score(rows), packed.score(rows), rtol=EXACT, atol=1e-12):
            return None
    return made._replace(score=packed.score)


def _usual(scalers: Sequence[Any]) -> list[float]:
    """Return the means of the training, or the medians, where the first scaler has them."""
    for name in ("mean_", "center_"):
        if scalers and (held := getattr(scalers[0], name, None)) is not None:
            usual: list[float] = np.ravel(held).tolist()
            return usual
    return []


def _affine(scaler: Any) -> tuple[Any, Any] | None:
    """Return by what a scaler multiplies and what it adds then; None where it does something else."""
    match type(scaler).__name__:
        case "StandardScaler":
            factor = 1.0 / scaler.scale_ if scaler.with_std else 1.0
            return factor, -scaler.mean_ * factor if scaler.with_mean else 0.0
        case "RobustScaler":
            factor = 1.0 / scaler.scale_ if scaler.with_scaling else 1.0
            return factor, -scaler.center_ * factor if scaler.with_centering else 0.0
        case "MaxAbsScaler":
            return 1.0 / scaler.scale_, 0.0
        case "MinMaxScaler" if not scaler.clip:
            return scaler.scale_, scaler.min_
    return None
