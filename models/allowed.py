"""The names that a learner's state may have in it, and what they stand for. Whatever is not here is refused.

A name is written ``module:qualified name``, as in ``river.stats.mean:Mean``; what a person allowed has no module.
"""

import collections
import datetime as dt
import decimal
import importlib
import importlib.util
import inspect
import random
import re
import statistics
import struct
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from river._river_rust import drift as rust_drift
from river._river_rust import stats as rust_stats
from river._river_rust.vectordict import VectorDict

Thing = TypeVar("Thing", bound=Callable[..., Any])


class Unknown(Exception):
    """A name that stands for nothing here, or a thing that has no name; the text says why."""


# River's own packages, but for those that read files, the network or other libraries.
_PACKAGES = frozenset(
    (
        *("active", "anomaly", "bandit", "base", "cluster", "compose", "conf", "covariance", "drift", "dummy"),
        *("ensemble", "facto", "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model"),
        *("metrics", "misc", "model_selection", "multiclass", "multioutput", "naive_bayes", "neighbors", "optim"),
        *("preprocessing", "proba", "reco", "rules", "sketch", "stats", "time_series", "tree", "utils"),
    )
)
_NOT_IN = frozenset({"datasets", "envs"})
_MODULE = re.compile(r"river(\.[a-z][a-z0-9_]*)+")

# Classes of River whose state is not all in the object, and what to take instead.
REFUSED = {
    "river.sketch.counter:Counter": "it counts by hash(), which is another one in every process; take "
    "sketch.HeavyHitters",
    "river.sketch.set:Set": "it looks up by hash(), which is another one in every process",
    "river.misc.zstd_classifier:ZstdClassifier": "its compressors belong to another library and have no plain state",
}

# Classes that are not River's: their instances may be parts of a state, and so may they themselves.
CLASSES: dict[str, type] = {
    **{cls.__name__: cls for cls in (bool, int, float, complex, str, bytes, bytearray, tuple, frozenset)},
    **{cls.__name__: cls for cls in (list, dict, set, range)},
    **{
        f"collections:{cls.__name__}": cls
        for cls in (collections.deque, collections.Counter, collections.defaultdict, collections.OrderedDict)
    },
    **{f"datetime:{cls.__name__}": cls for cls in (dt.datetime, dt.date, dt.time, dt.timedelta)},
    **{f"numpy:{kind.__name__}": kind for kind in (np.bool_, np.float64, np.float32, np.int64, np.int32, np.ndarray)},
    "numpy:RandomState": np.random.RandomState,
    "numpy:Generator": np.random.Generator,
    "decimal:Decimal": decimal.Decimal,
    "random:Random": random.Random,
    "statistics:NormalDist": statistics.NormalDist,
    "river:VectorDict": VectorDict,
    **{f"river:{name}": getattr(rust_stats, name) for name in vars(rust_stats) if name.startswith("Rs")},
    "river:AdaptiveWindowing": rust_drift.AdaptiveWindowing,
}

_MATH = ("cbrt", "ceil", "exp", "exp2", "expm1", "fabs", "floor", "log", "log10", "log1p", "log2", "sqrt", "tanh")

# Functions, and methods bound to a part of the state, that River's classes keep in their attributes. What only a
# person gives as a parameter is here where it does nothing but arithmetic.
_FUNCTIONS = frozenset(
    [
        *("builtins:abs", "builtins:len", "builtins:max", "builtins:min", "builtins:sum", "builtins:str.lower"),
        *("copy:deepcopy", "numpy:array", "numpy:ones", "random:Random.gauss"),
        *("statistics:fmean", "statistics:mean", "statistics:median"),
        *(f"math:{name}" for name in _MATH),
        "river._river_rust.vectordict:euclidean_distance_dict",
        "river._river_rust.vectordict:euclidean_distance_tuple",
        "river.bandit.thompson:ThompsonSampling._clone_reward_obj_with_seed",
        "river.base.base:Base.clone",
        "river.drift.dummy:DummyDriftDetector._fixed_trigger",
        "river.drift.dummy:DummyDriftDetector._random_trigger",
        "river.drift.page_hinkley:PageHinkley._test_both",
        "river.drift.page_hinkley:PageHinkley._test_decrease",
        "river.drift.page_hinkley:PageHinkley._test_increase",
        "river.ensemble.bagging:LeveragingBaggingClassifier._leveraging_bag",
        "river.ensemble.bagging:LeveragingBaggingClassifier._leveraging_bag_half",
        "river.ensemble.bagging:LeveragingBaggingClassifier._leveraging_bag_me",
        "river.ensemble.bagging:LeveragingBaggingClassifier._leveraging_bag_wt",
        "river.ensemble.bagging:LeveragingBaggingClassifier._leveraging_subag",
        "river.feature_extraction.kernel_approx:RBFSampler._random_weights",
        "river.feature_extraction.vectorize:find_all_ngrams",
        "river.feature_extraction.vectorize:remove_stop_words",
        "river.feature_extraction.vectorize:strip_accents_unicode",
        "river.feature_extraction.vectorize:tokenize_using_regex_pattern",
        "river.forest.online_extra_trees:ExtraTrees._detection_mode_all",
        "river.forest.online_extra_trees:ExtraTrees._detection_mode_drop",
        "river.forest.online_extra_trees:ExtraTrees._detection_mode_off",
        "river.linear_model.pa:BasePA._calc_tau_0",
        "river.linear_model.pa:BasePA._calc_tau_1",
        "river.linear_model.pa:BasePA._calc_tau_2",
        "river.metrics.mutual_info:_average_arithmetic",
        "river.metrics.mutual_info:_average_geometric",
        "river.multiclass.occ:OutputCodeClassifier._next_code",
        "river.naive_bayes.gaussian:GaussianNB._make_gaussian",
        "river.preprocessing.random_projection:GaussianRandomProjector._rand_gauss",
        "river.preprocessing.random_projection:SparseRandomProjector._rand_weights_for_feature",
        "river.preprocessing.scale_target:TargetMinMaxScaler._scale",
        "river.preprocessing.scale_target:TargetMinMaxScaler._unscale",
        "river.preprocessing.scale_target:TargetStandardScaler._scale",
        "river.preprocessing.scale_target:TargetStandardScaler._unscale",
        "river.tree.splitter.ebst_splitter:EBSTNode._update_estimator_multivariate",
        "river.tree.splitter.ebst_splitter:EBSTNode._update_estimator_univariate",
        "river.tree.splitter.nominal_splitter_reg:NominalSplitterReg._update_estimator_multivariate",
        "river.tree.splitter.nominal_splitter_reg:NominalSplitterReg._update_estimator_univariate",
        "river.tree.splitter.qo_splitter:Slot._update_estimator_multivariate",
        "river.tree.splitter.qo_splitter:Slot._update_estimator_univariate",
        "river.utils.math:_manhattan_distance",
        "river.utils.math:minkowski_distance",
    ]
)

# What people allowed: by the name in the state, and the other way round.
_allowed: dict[str, Any] = {}
_names: dict[Any, str] = {}


def allow(thing: Thing, name: str | None = None) -> Thing:
    """Let a class or a function of your own be a part of a learner that is kept; works as a decorator.

    Of an object of such a class the attributes are kept, and given back without calling anything of the class.
    The name in the state is the class's own, without its module, so that the file can move. Choose another where
    two would be called the same.

    >>> @allow
    ... class Halver:
    ...     def learn_one(self, x): ...
    >>> allow(lambda x: x / 2)
    Traceback (most recent call last):
    ValueError: a lambda has no name that another process knows: write it as a function, or give it one, \
allow(..., name="...")
    """
    if not isinstance(thing, type) and not callable(thing):
        raise TypeError(f"{thing!r} is no class and no function")
    own = getattr(thing, "__qualname__", "")
    if name is None and (not own or own.endswith("<lambda>")):
        raise ValueError(
            f"a {'lambda' if own else type(thing).__name__} has no name that another process knows: write it as a "
            'function, or give it one, allow(..., name="...")'
        )
    if isinstance(thing, type) and (hiding := _hides_state(thing)):
        raise ValueError(f"{thing.__qualname__} cannot be kept: {hiding.__qualname__} is not written in Python")
    known = f":{name or own.rpartition('<locals>.')[2]}"
    before = _allowed.get(known, thing)
    # A file that is loaded again brings the same class anew, and the newer one is right.
    if (before.__module__, before.__qualname__) != (thing.__module__, own):
        raise ValueError(f"{known[1:]} is already the name of {before!r}: choose another, allow(..., name=...)")
    _allowed[known] = thing
    _names[thing] = known
    return thing


@cache
def _of_river(cls: type) -> str:
    """Return the name of a class of River's, or nothing."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        return name if _found(name) is cls else ""
    except Unknown:
        return ""


def name_of_class(cls: type) -> str:
    """Return the name of a class, or raise ``Unknown``.

    >>> from river import stats
    >>> name_of_class(stats.Mean), name_of_class(dict)
    ('river.stats.mean:Mean', 'dict')
    """
    name = _names.get(cls) or _STANDARD.get(cls) or _of_river(cls)
    if not name:
        raise Unknown(
            f"a {cls.__qualname__} of {cls.__module__} cannot be kept: allow({cls.__qualname__}) if it is yours"
        )
    if name in REFUSED:
        raise Unknown(f"a {cls.__qualname__} cannot be kept: {REFUSED[name]}")
    return name


def class_of_name(name: Any) -> type:
    """Return the class of that name, or raise ``Unknown``. Nothing but a module of River's own is ever imported.

    >>> class_of_name("river.stats.mean:Mean")
    <class 'river.stats.mean.Mean'>
    >>> class_of_name("subprocess:Popen")
    Traceback (most recent call last):
    headrace.models.allowed.Unknown: 'subprocess:Popen' is no class that may be a part of a learner
    """
    if isinstance(name, str) and name not in REFUSED:
        known = CLASSES.get(name) or _allowed.get(name)
        if isinstance(known, type):
            return known
        if not known and (cls := _found(name)):
            return cls
    raise Unknown(f"{_short(name)} is no class that may be a part of a learner")


def _found(name: str) -> type | None:
    """Return the class of River's own that has this name."""
    module, _, qualname = name.partition(":")
    parts = module.split(".")
    if not _MODULE.fullmatch(module) or parts[1] not in _PACKAGES or not _NOT_IN.isdisjoint(parts):
        return None
    thing = _walk(module, qualname)
    # A module has in it what it imported, too: the class must be its own.
    if not isinstance(thing, type) or (thing.__module__, thing.__qualname__) != (module, qualname):
        return None
    return None if issubclass(thing, type | BaseException) or _hides_state(thing) else thing


def _walk(module: str, qualname: str) -> Any:
    """Return what is found under that name, without calling anything; None where there is nothing."""
    if module not in sys.modules:
        try:
            if importlib.util.find_spec(module) is None:
                return None
        except ModuleNotFoundError:
            return None
    thing: Any = importlib.import_module(module)
    for part in qualname.split("."):
        if not isinstance(thing, types.ModuleType | type):
            return None
        thing = vars(thing).get(part)
    return thing.__func__ if isinstance(thing, staticmethod | classmethod) else thing


def name_of_function(function: Any) -> str:
    """Return the name of a function, or raise ``Unknown``.

    >>> import math
    >>> name_of_function(math.log), name_of_function(str.lower)
    ('math:log', 'builtins:str.lower')
    >>> name_of_function(lambda x: x)
    Traceback (most recent call last):
    headrace.models.allowed.Unknown: a lambda cannot be kept: write it as a function, and allow() that
    """
    try:
        known = _names.get(function)
    except TypeError:
        known = None
    if known:
        return known
    owner = getattr(function, "__objclass__", None)
    module = getattr(function, "__module__", None) or (owner.__module__ if owner else "")
    qualname = getattr(function, "__qualname__", type(function).__qualname__)
    name = f"{module}:{qualname}"
    if name in _FUNCTIONS and _walk(module, qualname) is function:
        return name
    if qualname.endswith("<lambda>"):
        raise Unknown("a lambda cannot be kept: write it as a function, and allow() that")
    raise Unknown(
        f"the function {qualname} of {module or 'no module'} cannot be kept: allow({qualname}) if it is yours"
    )


def function_of_name(name: Any) -> Callable[..., Any]:
    """Return the function of that name, or raise ``Unknown``.

    >>> function_of_name("math:log")
    <built-in function log>
    >>> function_of_name("os:system")
    Traceback (most recent call last):
    headrace.models.allowed.Unknown: 'os:system' is no function that may be a part of a learner
    """
    if isinstance(name, str):
        known = _allowed.get(name)
        if known is None and name in _FUNCTIONS:
            module, _, qualname = name.partition(":")
            known = _walk(module, qualname)
        if known is not None and not isinstance(known, type):
            return known  # type: ignore[no-any-return]
    raise Unknown(f"{_short(name)} is no function that may be a part of a learner")


def name_of_method(method: types.MethodType) -> str:
    """Return the name of the function that a method calls: one of the list, or one of a class that a person allowed."""
    function = method.__func__
    owner = method.__self__ if isinstance(method.__self__, type) else type(method.__self__)
    if owner in _names:
        if _of_class(owner, function.__name__) is function:
            return f"{_names[owner]}.{function.__name__}"
        raise Unknown(f"the method {function.__qualname__} cannot be kept: {owner.__qualname__} has no such function")
    return name_of_function(function)


def method_of_name(held: Any, name: Any) -> types.MethodType:
    """Return the method of that name of an object, or of a class, that is a part of the state."""
    owner = held if isinstance(held, type) else type(held)
    prefix = f"{_names.get(owner)}."
    if isinstance(name, str) and owner in _names and name.startswith(prefix):
        function = _of_class(owner, name.removeprefix(prefix))
    else:
        function = function_of_name(name)
    if not isinstance(function, types.FunctionType) or _of_class(owner, function.__name__) is not function:
        raise Unknown(f"{_short(name)} is no method of a {owner.__qualname__}")
    return types.MethodType(function, held)


def _of_class(cls: type, name: str) -> Any:
    """Return the plain function of that name that a class or one of its bases defines."""
    if name.startswith("__"):
        return None
    held = inspect.getattr_static(cls, name, None)
    return held.__func__ if isinstance(held, classmethod) else held


_POINTER = struct.calcsize("P")
_HOLDERS = {object, *CLASSES.values()}


def _hides_state(cls: type) -> type | None:
    """Return the base, if there is one, whose objects have more in them than attributes: one written in C or Rust."""
    for base in cls.__mro__:
        if base in _HOLDERS or base.__base__ is None:
            continue
        held = vars(base)
        slots = sum(isinstance(value, types.MemberDescriptorType) for value in held.values())
        slots += ("__dict__" in held) + ("__weakref__" in held)
        if base.__basicsize__ > base.__base__.__basicsize__ + slots * _POINTER:
            return base
    return None


def _short(name: Any) -> str:
    told = repr(name)
    return told if len(told) <= 80 else f"{told[:77]}..."


_STANDARD = {cls: name for name, cls in CLASSES.items()}
