"""The kinds of models that a folder may hold: from the bytes of a file to something that scores.

Nothing here executes what is in a file: no pickle, no joblib. Each library is imported when it is needed, so a worker
has only those that its model wants.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.models.matrix import ALL_ROWS, BLOCK_ROWS, Contribute, Matrix, Rows, Score, place_never_shows
from headrace.models.static import Linear, Model
from headrace.schemas.errors import BadModel
from headrace.schemas.manifest import Column, Manifest, Number, Weights
from headrace.stream import contributions

# Trees, and what may stand before them: these look at each row alone, whatever the number of rows.
_ALONE = (
    "DecisionTree",
    "ExtraTree",
    "GradientBoosting",
    "HistGradientBoosting",
    "MaxAbsScaler",
    "MinMaxScaler",
    "RandomForest",
    "RobustScaler",
    "SimpleImputer",
    "StandardScaler",
)
METHODS = ("predict_proba", "predict", "decision_function", "score_samples")
ONNX_NUMBERS: Mapping[str, Number] = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}


def library(name: str, extra: str) -> Any:
    """Import what a kind of model needs, or say what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".", maxsplit=1)[0]
        text = f"needs {package}, which cannot be imported ({error}): pip install 'headrace[{extra}]'"
        raise BadModel([text]) from error


def load(content: bytes, manifest: Manifest, *, trusted: Sequence[str] = ()) -> Model:
    """Return the model that a file holds."""
    if not content:
        raise BadModel(["is empty"])  # XGBoost would end the process
    if manifest.kind == "linear":
        return _linear(content, manifest)
    score, rows, explain = _LOADERS[manifest.kind](content, manifest, trusted)
    score = only(score, manifest.output.column)
    dtype = number_of(manifest.features)
    names = [one.name for one in manifest.features]
    if rows > 1 and not place_never_shows(score, [one.astype(dtype) for one in _samples(manifest)], rows):
        if rows != BLOCK_ROWS:
            raise BadModel([f"takes {rows} rows at once, and the place of a row among them shows in its score"])
        rows = 1
    return Matrix(score, names, version=manifest.version, rows=rows, dtype=dtype, explain=explain)


class _Loaded(NamedTuple):
    """How to ask a model, how many rows a call has, and what makes ready how to ask it why."""

    score: Score
    rows: int
    explain: Callable[[], Contribute] | None = None


def number_of(columns: Sequence[Column]) -> str:
    """Return the type of a matrix that has these columns."""
    kinds = {one.type for one in columns}
    return kinds.pop() if len(kinds) == 1 else "float64"


def _samples(manifest: Manifest) -> list[Rows]:
    """Return rows with which a model can be tried out: any numbers, and those that it came with."""
    samples = [np.random.default_rng(1).normal(size=(BLOCK_ROWS, len(manifest.features)))]
    return samples + ([np.array(manifest.golden.rows, np.float64)] if manifest.golden else [])


def only(score: Score, column: int | None) -> Score:
    """Return how to ask for one number per row of a model that gives one for each class."""
    return score if column is None else lambda rows: np.asarray(score(rows))[:, column]


def _linear(content: bytes, manifest: Manifest) -> Linear:
    held = msgspec.json.decode(content, type=Weights)
    same_names([one.name for one in manifest.features], list(held.weights))
    usual = held.reference or {}
    return Linear(held.weights, bias=held.bias, logistic=held.logistic, version=manifest.version, reference=usual)


def _sklearn(content: bytes, manifest: Manifest, trusted: Sequence[str]) -> _Loaded:
    library("sklearn", "sklearn")
    skops = library("skops.io", "sklearn")
    unknown = skops.get_untrusted_types(data=content)
    refuse_untrusted(unknown, trusted)
    estimator = skops.loads(content, trusted=unknown)
    counted(manifest.features, getattr(estimator, "n_features_in_", None))
    same_names([one.name for one in manifest.features], getattr(estimator, "feature_names_in_", None))
    method = manifest.output.method
    if method not in METHODS or not hasattr(estimator, method):
        raise BadModel([f"output.method = {method!r}: {type(estimator).__name__} has no such method that gives scores"])
    score, steps = sklearn_score(estimator, method), steps_of(estimator)
    explain = partial(contributions.sklearn, steps, score, method, manifest.output.column)
    return _Loaded(score, ALL_ROWS if all(map(_is_alone, steps)) else BLOCK_ROWS, explain)


def refuse_untrusted(unknown: Sequence[str], trusted: Sequence[str]) -> None:
    """Raise where a file has types that neither skops nor the page trusts."""
    if left := [one for one in unknown if one not in trusted]:
        listed = ", ".join(map(repr, left))
        raise BadModel(
            [
                f"holds {', '.join(left)}, which skops does not trust: loading it runs its code. If you know what that "
                f"does, say trusted=[{listed}]"
            ]
        )


def sklearn_score(estimator: Any, method: str) -> Score:
    """Return how to ask an estimator: with one thread, and without a word about names that columns do not have."""
    for one in (estimator, *_parts(estimator)):
        if "n_jobs" in vars(one):
            one.n_jobs = 1  # threads would add up in the order in which they end
        vars(one).pop("feature_names_in_", None)
    controller = library("threadpoolctl", "sklearn").ThreadpoolController()
    ask = getattr(estimator, method)

    def score(rows: Rows) -> Any:
        with controller.limit(limits=1):
            return ask(rows)

    return score


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield the estimators within one."""
    for one in estimator.get_params(deep=True).values():
        if hasattr(one, "get_params") and not isinstance(one, type):
            yield one
    for name in ("estimators_", "calibrated_classifiers_"):
        held = getattr(estimator, name, ())
        for one in np.ravel(np.array(held, object)).tolist() if len(held) else ():
            if hasattr(one, "get_params"):
                yield one


def steps_of(estimator: Any) -> list[Any]:
    """Return what a model does, one after the other."""
    return (
        [step for _, step in estimator.steps if step != "passthrough"] if hasattr(estimator, "steps") else [estimator]
    )


def _is_alone(estimator: Any) -> bool:
    cls = type(estimator)
    return cls.__module__.startswith("sklearn.") and cls.__name__.startswith(_ALONE)


def _lightgbm(content: bytes, manifest: Manifest, _trusted: Sequence[str]) -> _Loaded:
    booster = library("lightgbm", "lightgbm").Booster(model_str=content.decode())
    counted(manifest.features, booster.num_feature())
    same_names([one.name for one in manifest.features], lightgbm_names(booster))
    return _Loaded(lightgbm_score(booster), ALL_ROWS, partial(contributions.lightgbm, booster, manifest.output.column))


def lightgbm_score(booster: Any) -> Score:
    """Return how to ask a booster."""
    return lambda rows: booster.predict(rows, num_threads=1)


def lightgbm_names(booster: Any) -> list[str] | None:
    """Return what a booster calls its features; None where nobody told it."""
    names = list(booster.feature_name())
    return None if all(name == f"Column_{place}" for place, name in enumerate(names)) else names


def _xgboost(content: bytes, manifest: Manifest, _trusted: Sequence[str]) -> _Loaded:
    booster = library("xgboost", "xgboost").Booster()
    booster.load_model(bytearray(content))
    counted(manifest.features, booster.num_features())
    same_names([one.name for one in manifest.features], booster.feature_names)
    return _Loaded(xgboost_score(booster), ALL_ROWS, partial(contributions.xgboost, booster, manifest.output.column))


def xgboost_score(booster: Any) -> Score:
    """Return how to ask a booster."""
    booster.set_param({"nthread": 1})
    return lambda rows: booster.inplace_predict(rows, validate_features=False)


def _onnx(content: bytes, manifest: Manifest, _trusted: Sequence[str]) -> _Loaded:
    session = onnx_session(content)
    kinds, rows = onnx_numbers(session, [one.name for one in manifest.features])
    wrong = [
        f"features: {one.name!r} is {one.type} in the manifest, and the model takes {kind}"
        for one, kind in zip(manifest.features, kinds, strict=True)
        if one.type != kind
    ]
    if wrong:
        raise BadModel(wrong)
    outputs = [one.name for one in session.get_outputs()]
    if manifest.output.name not in outputs:
        raise BadModel([f"output.name = {manifest.output.name!r}: the model has {', '.join(outputs)}"])
    return _Loaded(onnx_score(session, kinds, manifest.output.name), rows)


def onnx_session(content: bytes) -> Any:
    """Return what runs a model: on one thread, because others run beside it."""
    runtime = library("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised too
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_score(session: Any, kinds: Sequence[str], output: str) -> Score:
    """Return how to ask a model that takes one matrix, or a column for each feature."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        return lambda rows: session.run([output], {inputs[0].name: rows.astype(kinds[0], copy=False)})[0]

    def score(rows: Rows) -> Any:
        given = {
            one.name: np.ascontiguousarray(rows[:, place], kind).reshape((-1, 1)[: len(one.shape)])
            for place, (one, kind) in enumerate(zip(inputs, kinds, strict=True))
        }
        return session.run([output], given)[0]

    return score


def onnx_numbers(session: Any, names: Sequence[str]) -> tuple[list[Number], int]:
    """Return the type of number of each feature, and how many rows a call has."""
    inputs = session.get_inputs()
    problems = [
        f"input {one.name!r} is {one.type} of shape {one.shape}: allowed are {', '.join(ONNX_NUMBERS)}, in rows"
        for one in inputs
        if one.type not in ONNX_NUMBERS or len(one.shape) not in (1, 2)
    ]
    if problems:
        raise BadModel(problems)
    kinds, shape = [ONNX_NUMBERS[one.type] for one in inputs], inputs[0].shape
    rows = shape[0] if isinstance(shape[0], int) else BLOCK_ROWS
    if len(inputs) == 1 and len(shape) == 2:
        if isinstance(shape[1], int) and shape[1] != len(names):
            raise BadModel([f"input {inputs[0].name!r} has {shape[1]} columns, and there are {len(names)} features"])
        return kinds * len(names), rows
    same_names(names, [one.name for one in inputs])
    return kinds, rows


def counted(names: Sequence[Any], count: int | None) -> None:
    """Raise where the model reads another number of features."""
    if count is not None and count != len(names):
        raise BadModel([f"features: given are {len(names)}, and the model reads {count}"])


def same_names(names: Sequence[str], known: Any) -> None:
    """Raise where the model calls its features otherwise, or has them in another order."""
    if known is None or list(names) == list(known):
        return
    theirs = list(known)
    how = "them in another order" if sorted(theirs) == sorted(names) else "others"
    raise BadModel([f"features: given are {', '.join(names)}, and the model knows {how}: {', '.join(theirs)}"])


_LOADERS: Mapping[str, Callable[[bytes, Manifest, Sequence[str]], _Loaded]] = {
    "sklearn": _sklearn,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "onnx": _onnx,
}
