"""The learner of one partition: River's model row by row, or the same arithmetic compiled.

Both give the same results to the last bit, and either takes over what the other has learned. Which one a model gets
is decided here, and ``why_river`` says why it is not the compiled one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from river import base

from headrace.models.agreement import why_no_kernel
from headrace.models.kernels import Kernel
from headrace.models.recipes import Recipe, Unknown
from headrace.models.rows import Classes, Columns, Kind, Learner, RowFailed, Rows, is_ranker
from headrace.schemas.errors import BadPipeline

__all__ = ["KINDS", "Classes", "Columns", "Kind", "Learner", "RowFailed", "learner_of", "problems_of", "why_river"]

KINDS: tuple[Kind, ...] = get_args(Kind)


def learner_of(model: base.Estimator, *, kind: Kind | None = None, kernel: bool = True) -> Learner:
    """Return a learner that has learned nothing, of a model's classes and parameters.

    A classifier is ``binary`` unless ``kind`` says ``multiclass``: River's trees and forests can do both, so the
    model alone does not tell.

    >>> import numpy as np
    >>> from river import linear_model, preprocessing
    >>> learner = learner_of(preprocessing.StandardScaler() | linear_model.LogisticRegression(), kernel=False)
    >>> columns, labels = {"amount": np.array([1.0, 9.0, 8.0, 2.0])}, np.array([0.0, 1.0, 1.0, 0.0])
    >>> for _ in range(50):
    ...     learner.learn(columns, labels)
    >>> learner.predict(columns).round(1), learner.seen
    (array([0.3, 0.7, 0.7, 0.3]), 200)
    >>> learner_of(preprocessing.StandardScaler())
    Traceback (most recent call last):
    headrace.schemas.errors.BadPipeline: pipeline cannot run (1 problem):
      online: StandardScaler is no classifier, regressor, anomaly detector or recommender of River's
    """
    if problems := list(problems_of(model, kind)):
        raise BadPipeline(problems)
    wanted = kind or _kind_of(model)
    assert wanted is not None, "or there was a problem"
    fresh = model.clone()
    recipe = _recipe_of(fresh)
    if isinstance(recipe, str):
        return Rows(fresh, wanted, None)
    return Kernel(recipe) if kernel and not why_no_kernel(recipe, fresh) else Rows(fresh, wanted, recipe)


def why_river(model: base.Estimator) -> str:
    """Say why River itself learns this model, or nothing if the compiled kernel does.

    >>> from river import tree
    >>> why_river(tree.HoeffdingTreeClassifier())
    'the kernel does not know HoeffdingTreeClassifier'
    """
    fresh = model.clone()
    recipe = _recipe_of(fresh)
    return recipe if isinstance(recipe, str) else why_no_kernel(recipe, fresh)


def problems_of(model: Any, kind: Kind | None = None) -> Iterator[str]:
    """Yield why a model cannot be the learner of a pipeline."""
    said = f"online: {type(model).__name__}"
    if isinstance(model, type):
        yield f"online: {model.__name__} is a class; write {model.__name__}()"
        return
    fits = _kind_of(model) if isinstance(model, base.Estimator) else None
    if fits is None:
        yield f"{said} is no classifier, regressor, anomaly detector or recommender of River's"
        return
    if kind not in (None, *KINDS):
        yield f"online: kind = {kind!r}: allowed are {', '.join(KINDS)}"
    elif kind == "multiclass" and not (fits == "binary" and model._multiclass):  # noqa: SLF001 - River's only way to ask
        yield f"{said} cannot tell more than two classes apart; wrap it, as in multiclass.OneVsRestClassifier(...)"
    elif kind not in (None, "multiclass", fits):
        yield f"{said} makes {fits} predictions, not {kind} ones"
    for owner in dict.fromkeys(_unseeded(model, set())):
        yield f"online: {owner}(seed=None) draws other numbers in every process; give it a seed, as in seed=1"
    try:
        model.clone()
    except Exception as error:  # noqa: BLE001 - a class of the user's can fail in any way
        yield f"{said} cannot be made anew for each partition: clone() raised {error!r}"


def _kind_of(model: base.Estimator) -> Kind | None:
    # What decides by chance whether it wants a label returns two things where others return a probability.
    if hasattr(model, "_ask_for_label"):
        return None
    if isinstance(model, base.Classifier):
        return "binary"
    if isinstance(model, base.Regressor) or is_ranker(model):
        return "regression"
    return "anomaly" if isinstance(model, base.AnomalyDetector) else None


def _unseeded(thing: Any, met: set[int]) -> Iterator[str]:
    """Yield the classes within a model that draw random numbers without a seed."""
    if id(thing) in met:
        return
    met.add(id(thing))
    parts: Iterable[Any] = ()
    if isinstance(thing, base.Base):
        if vars(thing).get("seed", 0) is None:
            yield type(thing).__name__
        parts = vars(thing).values()
    elif isinstance(thing, Mapping):
        parts = thing.values()
    elif isinstance(thing, list | tuple):
        parts = thing
    for part in parts:
        yield from _unseeded(part, met)


def _recipe_of(model: base.Estimator) -> Recipe | str:
    try:
        return Recipe(model)
    except Unknown as why:
        return str(why)
