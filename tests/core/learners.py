"""Every public class of River with a state, each with rows of a kind that it takes, and what it says to each row."""

import datetime as dt
import importlib
import inspect
import itertools
import math
import random
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from river import (
    anomaly,
    bandit,
    base,
    cluster,
    compose,
    covariance,
    datasets,
    drift,
    ensemble,
    feature_extraction,
    forest,
    linear_model,
    metrics,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    proba,
    reco,
    sketch,
    stats,
    time_series,
    tree,
    utils,
)

from headrace.models.frozen import allow

Row = tuple[Any, Any]
Step = Callable[[Any, int], Any]

ROWS = 200
STRINGS = False  # whether labels of several classes are strings; a set of strings has another order in every process


class Case(NamedTuple):
    """How to make one, and how to feed it its row of that number."""

    name: str
    make: Callable[[], Any]
    step: Step


# What River offers and nobody can make here, with the reason.
NOT_MADE = {
    "misc.ZstdClassifier": "it needs Python 3.14",
    "optim.Optimizer": "it is the base of the others and does nothing",
}


@cache
def binary() -> list[Row]:
    return list(datasets.Phishing().take(ROWS))


@cache
def classes() -> list[Row]:
    names: dict[str, int] = {}
    return [(x, y if STRINGS else names.setdefault(y, len(names))) for x, y in datasets.ImageSegments().take(ROWS)]


@cache
def numbers() -> list[Row]:
    return [({**x, "ordinal_date": x["ordinal_date"] - 736_000}, y) for x, y in datasets.TrumpApproval().take(ROWS)]


@cache
def numbers_of_strings() -> list[Row]:
    """Numbers beside strings and a value that is sometimes missing."""
    rows = []
    for number, (x, y) in enumerate(binary()):
        rows.append(({"a": number % 7, "b": "xyz"[number % 3], "c": x["popup_window"] if number % 5 else None}, y))
    return rows


@cache
def several_numbers() -> list[Row]:
    """Solar flares: what is a string is made a number."""
    rows = []
    for x, y in datasets.SolarFlare().take(ROWS):
        rows.append(({name: float(ord(str(value)[0])) for name, value in x.items()}, y))
    return rows


@cache
def several_classes() -> list[Row]:
    return [
        (dict(itertools.islice(x.items(), 8)), dict(itertools.islice(y.items(), 4)))
        for x, y in datasets.Yeast().take(ROWS)
    ]


@cache
def texts() -> list[Row]:
    rng = random.Random(5)
    words = ["free", "prize", "call", "now", "meeting", "tomorrow", "lunch", "offer", "click", "invoice"]
    return [(" ".join(rng.choices(words, k=6)), rng.random() < 0.5) for _ in range(ROWS)]


@cache
def ratings() -> list[tuple[str, str, float]]:
    rng = random.Random(6)
    return [(rng.choice("abcdef"), rng.choice("UVWXYZ"), rng.randrange(1, 6)) for _ in range(ROWS)]


@cache
def draws() -> list[float]:
    """Numbers whose mean moves, so that detectors have something to find."""
    rng = random.Random(7)
    return [rng.gauss(0.0 if at % 100 < 50 else 3.0, 1.0) for at in range(4 * ROWS)]


@cache
def series() -> list[float]:
    return [y for _, y in datasets.AirlinePassengers()]


def features(rows: list[Row]) -> int:
    return len(rows[0][0])


def bits(value: Any) -> Any:
    """Return what a prediction is, to the last bit, in a form that ``==`` compares."""
    if isinstance(value, float):
        return type(value).__name__, struct.pack("<d", value)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == object:
            return "array", bits(value.tolist())
        return "array", value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return "dict", [(bits(key), bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [bits(item) for item in value]
    if isinstance(value, set | frozenset):
        return "set", sorted(repr(bits(item)) for item in value)
    if value is None or isinstance(value, bool | int | str):
        return type(value).__name__, value
    if isinstance(value, base.Base):
        return type(value).__name__, repr(value)
    if hasattr(value, "__dict__"):
        return type(value).__name__, bits(vars(value))
    return type(value).__name__, repr(value)


# ---- steps: what is asked of an object at a row, and what it is taught by it


def _learner(rows: Callable[[], list[Row]]) -> Step:
    def step(model: Any, at: int) -> Any:
        x, y = rows()[at]
        said = [_ask(model, name, x) for name in ("predict_proba_one", "predict_one", "score_one", "transform_one")]
        if isinstance(model, base.AnomalyDetector | base.AnomalyFilter) or not model._supervised:
            model.learn_one(x)
        else:
            model.learn_one(x, y)
        return said

    return step


def _ask(model: Any, name: str, x: Any) -> Any:
    if not hasattr(model, name):
        return None
    try:
        # A copy, because a prediction may have the row itself in it, and some estimators change theirs.
        return getattr(model, name)(dict(x) if isinstance(x, dict) else x)
    except (NotImplementedError, AttributeError):  # a pipeline has every method until it is called
        return None


def _clusterer(model: Any, at: int) -> Any:
    x, _ = numbers()[at]
    model.learn_one(x)
    return model.predict_one(x)


def _supervised_anomaly(model: Any, at: int) -> Any:
    x, y = numbers()[at]
    said = model.score_one(x, y)
    model.learn_one(x, y)
    return said


def _interval(model: Any, at: int) -> Any:
    x, y = numbers()[at]
    said = model.predict_one(x, with_interval=True)
    model.learn_one(x, y)
    return said


def _ranker(model: Any, at: int) -> Any:
    user, item, y = ratings()[at]
    said = model.predict_one(user, item), model.rank(user, list("UVWXYZ"))
    model.learn_one(user, item, y)
    return said


def _forecaster(model: Any, at: int) -> Any:
    said = model.forecast(3) if at > 30 else None
    model.learn_one(series()[at])
    return said


def _detector(detector: Any, at: int) -> Any:
    detector.update(draws()[at])
    return detector.drift_detected, getattr(detector, "warning_detected", None)


def _binary_detector(detector: Any, at: int) -> Any:
    detector.update(draws()[at] > 1.0)
    return detector.drift_detected, getattr(detector, "warning_detected", None)


def _univariate(stat: Any, at: int) -> Any:
    stat.update(round(draws()[at], 1))
    return stat.get()


def _bivariate(stat: Any, at: int) -> Any:
    stat.update(round(draws()[at], 1), round(draws()[at + 1], 1))
    return stat.get()


def _labels_metric(metric: Any, at: int) -> Any:
    metric.update(draws()[at] > 1, draws()[at + 1] > 1)
    return metric.get()


def _classes_metric(metric: Any, at: int) -> Any:
    metric.update(int(draws()[at]), int(draws()[at + 1]))
    return str(metric) if isinstance(metric, metrics.ConfusionMatrix | metrics.ClassificationReport) else metric.get()


def _proba_metric(metric: Any, at: int) -> Any:
    p = 1 / (1 + math.exp(-draws()[at + 1]))
    metric.update(draws()[at] > 1, {True: p, False: 1 - p} if isinstance(metric, metrics.CrossEntropy) else p)
    return metric.get()


def _numbers_metric(metric: Any, at: int) -> Any:
    metric.update(abs(draws()[at]), abs(draws()[at + 1]))
    return metric.get()


def _silhouette(metric: Any, at: int) -> Any:
    metric.update({"x": draws()[at]}, at % 2, {0: {"x": 0.0}, 1: {"x": 3.0}})
    return metric.get()


def _several_classes_metric(metric: Any, at: int) -> Any:
    metric.update({"a": draws()[at] > 1, "b": at % 2}, {"a": draws()[at + 1] > 1, "b": at % 3})
    return metric.get() if not isinstance(metric, metrics.multioutput.PerOutput) else repr(metric)


def _several_numbers_metric(metric: Any, at: int) -> Any:
    metric.update([draws()[at], at], [draws()[at + 1], at + 1])
    return metric.get()


def _distribution(law: Any, at: int) -> Any:
    law.update(round(draws()[at]) if isinstance(law, proba.Multinomial) else draws()[at])
    return law.n_samples, law.mode, law.sample()


def _beta(law: Any, at: int) -> Any:
    law.update(draws()[at] > 1)
    return law.n_samples, law.mode, law.sample()


def _multivariate(law: Any, at: int) -> Any:
    law.update({"x": draws()[at], "y": draws()[at + 1]})
    return law.n_samples, law.mode, law.mu


def _policy(policy: Any, at: int) -> Any:
    arm = policy.pull([0, 1, 2])
    policy.update(arm, draws()[at] > arm)
    return arm


def _contextual_policy(policy: Any, at: int) -> Any:
    context = {"x": draws()[at]}
    arm = policy.pull([0, 1, 2], context=context)
    policy.update(arm, context, draws()[at] * arm)
    return arm


def _sketch(held: Any, at: int) -> Any:
    value = round(draws()[at])
    held.update(value)
    return held[value] if not isinstance(held, sketch.Histogram) else held.cdf(value) if at > 5 else None


def _unique(held: Any, at: int) -> Any:
    held.update(str(round(draws()[at], 2)))
    return held.get()


def _bloom(held: Any, at: int) -> Any:
    held.add(round(draws()[at]))
    return [value in held for value in range(9)]


def _skyline(held: Any, at: int) -> Any:
    held.update({"cost": round(draws()[at]), "gain": round(draws()[at + 1])})
    return list(held)


def _fourier(held: Any, at: int) -> Any:
    held.update(draws()[at])
    return list(held.coefficients)


def _matrix(held: Any, at: int) -> Any:
    held.update({"x": draws()[at], "y": draws()[at + 1], "z": draws()[at + 2]})
    return [(key, held[key]) for key in (("x", "x"), ("x", "y"), ("y", "z"))]


def _engine(held: Any, at: int) -> Any:
    held.append({"x": draws()[at]})
    return held.search({"x": draws()[at + 1]}, 3) if at > 5 else None


def _window(held: Any, at: int) -> Any:
    held.append(draws()[at])
    return list(held)


def _timed(held: Any, at: int) -> Any:
    held.update(draws()[at], t=dt.datetime(2026, 1, 1) + dt.timedelta(hours=at))  # noqa: DTZ001 - as River wants it
    return held.get()


def _vector(held: Any, at: int) -> Any:
    held["abcdefg"[at % 7]] = draws()[at]
    return held.to_dict(), held @ held


def _text_step(model: Any, at: int) -> Any:
    x, y = texts()[at]
    said = _ask(model, "transform_one", x), _ask(model, "predict_one", x)
    _ = model.learn_one(x, y) if model._supervised else model.learn_one(x)
    return said


def _text_cluster(model: Any, at: int) -> Any:
    x, _ = texts()[at]
    model.learn_one(x)
    return model.predict_one(x)


def _target_agg(model: Any, at: int) -> Any:
    x, y = numbers_of_strings()[at]
    said = model.transform_one(x)
    model.learn_one(x, float(y))
    return said


def _impute(model: Any, at: int) -> Any:
    x, _ = numbers_of_strings()[at]
    model.learn_one(dict(x))
    return model.transform_one(dict(x))


def _stream_means(model: Any, at: int) -> Any:
    x, _ = numbers()[at]
    model.learn_one(x)
    return [model.predict_one(x), model.centers] if at > 40 else None


# ---- which parameters and which rows a class gets; by name, because the list is compared with River's own


def _scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


LINEAR = linear_model.LinearRegression
LOGISTIC = linear_model.LogisticRegression

# Parameters of what cannot be made without, and of what would do nothing in a few hundred rows with River's own.
PARAMETERS: dict[str, Callable[[], dict[str, Any]]] = {
    "active.EntropySampler": lambda: {"classifier": tree.HoeffdingTreeClassifier(grace_period=20)},
    "anomaly.HalfSpaceTrees": lambda: {"n_trees": 4, "height": 4, "window_size": 50},
    "anomaly.LODA": lambda: {"n_random_cuts": 10},
    "anomaly.LocalOutlierFactor": lambda: {"n_neighbors": 5},
    "anomaly.PredictiveAnomalyDetection": lambda: {"predictive_model": _scaled(LINEAR()), "horizon": 1},
    "anomaly.QuantileFilter": lambda: {"anomaly_detector": anomaly.HalfSpaceTrees(3, 3, 20, seed=1), "q": 0.9},
    "anomaly.ThresholdFilter": lambda: {"anomaly_detector": anomaly.HalfSpaceTrees(3, 3, 20, seed=1), "threshold": 0.9},
    "bandit.EpsilonGreedy": lambda: {"epsilon": 0.3},
    "bandit.Exp3": lambda: {"gamma": 0.2},
    "bandit.ThompsonSampling": lambda: {"reward_obj": proba.Beta(seed=1)},
    "bandit.UCB": lambda: {"delta": 1},
    "bandit.LinUCBDisjoint": lambda: {"alpha": 1.0},
    "cluster.CluStream": lambda: {"n_macro_clusters": 3, "max_micro_clusters": 10, "time_gap": 20},
    "cluster.DBSTREAM": lambda: {"clustering_threshold": 10.0, "cleanup_interval": 20},
    "cluster.DenStream": lambda: {"epsilon": 5.0, "n_samples_init": 30},
    "cluster.ODAC": lambda: {"n_min": 20},
    "cluster.STREAMKMeans": lambda: {"chunk_size": 20, "n_clusters": 3, "seed": 1},
    "compose.FuncTransformer": lambda: {"func": doubled},
    "compose.Grouper": lambda: {"transformer": compose.Select("a") | preprocessing.StandardScaler(), "by": "b"},
    "compose.Prefixer": lambda: {"prefix": "p_"},
    "compose.Suffixer": lambda: {"suffix": "_s"},
    "compose.TargetTransformRegressor": lambda: {
        "regressor": _scaled(LINEAR()),
        "func": math.sqrt,
        "inverse_func": math.fabs,
    },
    "conf.RegressionJackknife": lambda: {"regressor": _scaled(LINEAR()), "window_size": 50},
    "drift.ADWIN": lambda: {"clock": 4},
    "drift.DummyDriftDetector": lambda: {"trigger_method": "random", "t_0": 40, "w": 10},
    "drift.KSWIN": lambda: {"window_size": 40, "stat_size": 10},
    "drift.DriftRetrainingClassifier": lambda: {"model": _scaled(LOGISTIC()), "drift_detector": drift.binary.DDM()},
    "dummy.StatisticRegressor": lambda: {"statistic": stats.Mean()},
    "ensemble.ADWINBaggingClassifier": lambda: {"model": _scaled(LOGISTIC()), "n_models": 3},
    "ensemble.ADWINBoostingClassifier": lambda: {"model": _scaled(LOGISTIC()), "n_models": 3},
    "ensemble.AdaBoostClassifier": lambda: {"model": tree.HoeffdingTreeClassifier(grace_period=20), "n_models": 3},
    "ensemble.BOLEClassifier": lambda: {"model": _scaled(LOGISTIC()), "n_models": 3},
    "ensemble.BaggingClassifier": lambda: {"model": tree.HoeffdingTreeClassifier(grace_period=20), "n_models": 3},
    "ensemble.BaggingRegressor": lambda: {"model": _scaled(LINEAR()), "n_models": 3},
    "ensemble.EWARegressor": lambda: {"models": [_scaled(LINEAR()), _scaled(linear_model.PARegressor())]},
    "ensemble.LeveragingBaggingClassifier": lambda: {"model": _scaled(LOGISTIC()), "n_models": 3},
    "ensemble.SRPClassifier": lambda: {"n_models": 3},
    "ensemble.SRPRegressor": lambda: {"n_models": 3},
    "ensemble.StackingClassifier": lambda: {
        "models": [_scaled(LOGISTIC()), naive_bayes.GaussianNB()],
        "meta_classifier": LOGISTIC(),
    },
    "ensemble.VotingClassifier": lambda: {
        "models": [_scaled(LOGISTIC()), tree.HoeffdingTreeClassifier(grace_period=20), naive_bayes.GaussianNB()]
    },
    "feature_extraction.Agg": lambda: {"on": "a", "by": "b", "how": stats.Mean()},
    "feature_extraction.TargetAgg": lambda: {"by": "b", "how": stats.EWMean(0.3)},
    "feature_extraction.RBFSampler": lambda: {"n_components": 5},
    "feature_extraction.RandomTreesEmbedding": lambda: {"n_trees": 3, "height": 3},
    "feature_selection.PoissonInclusion": lambda: {"p": 0.3},
    "feature_selection.SelectKBest": lambda: {"similarity": stats.PearsonCorr(), "k": 3},
    "forest.AMFClassifier": lambda: {"n_estimators": 3},
    "forest.AMFRegressor": lambda: {"n_estimators": 3},
    "forest.ARFClassifier": lambda: {"n_models": 3, "grace_period": 20},
    "forest.ARFRegressor": lambda: {"n_models": 3, "grace_period": 20},
    "forest.OXTRegressor": lambda: {"n_models": 3, "grace_period": 20},
    "imblearn.ChebyshevOverSampler": lambda: {"regressor": _scaled(LINEAR())},
    "imblearn.ChebyshevUnderSampler": lambda: {"regressor": _scaled(LINEAR())},
    "imblearn.HardSamplingClassifier": lambda: {"classifier": _scaled(LOGISTIC()), "size": 20, "p": 0.3},
    "imblearn.HardSamplingRegressor": lambda: {"regressor": _scaled(LINEAR()), "size": 20, "p": 0.3},
    "imblearn.RandomOverSampler": lambda: {"classifier": _scaled(LOGISTIC()), "desired_dist": {False: 0.7, True: 0.3}},
    "imblearn.RandomSampler": lambda: {"classifier": _scaled(LOGISTIC()), "desired_dist": {False: 0.7, True: 0.3}},
    "imblearn.RandomUnderSampler": lambda: {"classifier": _scaled(LOGISTIC()), "desired_dist": {False: 0.7, True: 0.3}},
    "misc.SDFT": lambda: {"window_size": 8},
    "misc.Skyline": lambda: {"minimize": ["cost"], "maximize": ["gain"]},
    "model_selection.BanditClassifier": lambda: {
        "models": [_scaled(LOGISTIC(l2=l2)) for l2 in (0.0, 0.1)],
        "metric": metrics.Accuracy(),
        "policy": bandit.EpsilonGreedy(0.2, seed=1),
    },
    "model_selection.BanditRegressor": lambda: {
        "models": [_scaled(LINEAR(l2=l2)) for l2 in (0.0, 0.1)],
        "metric": metrics.MAE(),
        "policy": bandit.UCB(1.0, seed=1),
    },
    "model_selection.GreedyRegressor": lambda: {"models": [_scaled(LINEAR(l2=l2)) for l2 in (0.0, 0.1)]},
    "model_selection.SuccessiveHalvingClassifier": lambda: {
        "models": [_scaled(LOGISTIC(l2=l2)) for l2 in (0.0, 0.1, 0.2)],
        "metric": metrics.Accuracy(),
        "budget": 300,
    },
    "model_selection.SuccessiveHalvingRegressor": lambda: {
        "models": [_scaled(LINEAR(l2=l2)) for l2 in (0.0, 0.1, 0.2)],
        "metric": metrics.MAE(),
        "budget": 300,
    },
    "multiclass.OneVsOneClassifier": lambda: {"classifier": _scaled(LOGISTIC())},
    "multiclass.OneVsRestClassifier": lambda: {"classifier": _scaled(LOGISTIC())},
    "multiclass.OutputCodeClassifier": lambda: {
        "classifier": _scaled(LOGISTIC()),
        "code_size": 10,
        "coding_method": "random",
    },
    "multioutput.ClassifierChain": lambda: {"model": LOGISTIC()},
    "multioutput.MonteCarloClassifierChain": lambda: {"model": LOGISTIC(), "m": 3},
    "multioutput.MultiClassEncoder": lambda: {"model": tree.HoeffdingTreeClassifier(grace_period=20)},
    "multioutput.PerOutputClassifier": lambda: {"classifier": LOGISTIC()},
    "multioutput.PerOutputRegressor": lambda: {"model": LINEAR()},
    "multioutput.ProbabilisticClassifierChain": lambda: {"model": LOGISTIC()},
    "multioutput.RegressorChain": lambda: {"model": LINEAR(optim.SGD(1e-4))},
    "neighbors.KNNClassifier": lambda: {"engine": neighbors.LazySearch(window_size=50)},
    "neighbors.KNNRegressor": lambda: {"engine": neighbors.LazySearch(window_size=50)},
    "neighbors.LazySearch": lambda: {"window_size": 20},
    "neighbors.SWINN": lambda: {"graph_k": 4, "warm_up": 30, "maxlen": 60, "prune_prob": 0.3},
    "optim.Averager": lambda: {"optimizer": optim.SGD(0.01), "start": 5},
    "preprocessing.FeatureHasher": lambda: {"n_features": 16},
    "preprocessing.GapEncoder": lambda: {"n_components": 2},
    "preprocessing.LDA": lambda: {"n_components": 2},
    "preprocessing.PredClipper": lambda: {"regressor": _scaled(LINEAR()), "y_min": 0.0, "y_max": 45.0},
    "preprocessing.TargetMinMaxScaler": lambda: {"regressor": LINEAR(optim.SGD(1e-4))},
    "preprocessing.TargetStandardScaler": lambda: {"regressor": LINEAR(optim.SGD(1e-4))},
    "sketch.Histogram": lambda: {"max_bins": 16},
    "sketch.HeavyHitters": lambda: {"support": 0.01, "epsilon": 0.05},
    "stats.AutoCorr": lambda: {"lag": 3},
    "stats.BayesianMean": lambda: {"prior": 1.0, "prior_weight": 2.0},
    "time_series.HoltWinters": lambda: {"alpha": 0.3, "beta": 0.1, "gamma": 0.6, "seasonality": 12},
    "time_series.SNARIMAX": lambda: {"p": 2, "d": 1, "q": 2, "m": 12, "sp": 1, "sd": 1, "sq": 1},
    "time_series.HorizonMetric": lambda: {"metric": metrics.MAE()},
    "time_series.HorizonAggMetric": lambda: {"metric": metrics.MAE(), "agg_func": max},
    "tree.ExtremelyFastDecisionTreeClassifier": lambda: {"grace_period": 20, "min_samples_reevaluate": 20},
    "tree.HoeffdingAdaptiveTreeClassifier": lambda: {"grace_period": 20, "drift_window_threshold": 20},
    "tree.HoeffdingAdaptiveTreeRegressor": lambda: {"grace_period": 20, "drift_window_threshold": 20},
    "tree.HoeffdingTreeClassifier": lambda: {"grace_period": 20, "delta": 1e-2},
    "tree.HoeffdingTreeRegressor": lambda: {"grace_period": 20, "delta": 1e-2},
    "tree.ISOUPTreeRegressor": lambda: {"grace_period": 20, "delta": 1e-2},
    "tree.SGTClassifier": lambda: {"grace_period": 20, "delta": 0.5},
    "tree.SGTRegressor": lambda: {"grace_period": 20, "delta": 0.5},
    "rules.AMRules": lambda: {"n_min": 20, "delta": 0.2},
    "metrics.base.Metrics": lambda: {"metrics": [metrics.MAE(), metrics.RMSE()]},
    "metrics.MacroFBeta": lambda: {"beta": 2.0},
    "metrics.MicroFBeta": lambda: {"beta": 2.0},
    "metrics.WeightedFBeta": lambda: {"beta": 2.0},
    "metrics.FBeta": lambda: {"beta": 2.0},
    "metrics.MultiFBeta": lambda: {"betas": {False: 0.5, True: 2}, "weights": {False: 1, True: 2}},
    "metrics.RollingROCAUC": lambda: {"window_size": 20},
    "metrics.RollingPRAUC": lambda: {"window_size": 20},
    "metrics.multioutput.MacroAverage": lambda: {"metric": metrics.Accuracy()},
    "metrics.multioutput.MicroAverage": lambda: {"metric": metrics.Accuracy()},
    "metrics.multioutput.PerOutput": lambda: {"metric": metrics.Accuracy()},
    "metrics.multioutput.SampleAverage": lambda: {"metric": metrics.Accuracy()},
    "optim.schedulers.Constant": lambda: {"learning_rate": 0.02},
    "optim.schedulers.InverseScaling": lambda: {"learning_rate": 0.02},
    "optim.schedulers.Optimal": lambda: {"loss": optim.losses.Log()},
    "optim.initializers.Constant": lambda: {"value": 0.5},
}


@allow
def doubled(x: dict[str, float]) -> dict[str, float]:
    return {name: value * 2 for name, value in x.items()}


# What takes its parameters by position.
MAKERS: dict[str, Callable[[], Any]] = {
    "compose.Discard": lambda: compose.Discard("ordinal_date"),
    "compose.Select": lambda: compose.Select("gallup", "ipsos"),
    "compose.SelectType": lambda: compose.SelectType(float),
    "compose.Renamer": lambda: compose.Renamer({"gallup": "g"}),
    "compose.Pipeline": lambda: compose.Pipeline(
        ("scale", preprocessing.StandardScaler()),
        ("rest", compose.Select("gallup") + feature_extraction.PolynomialExtender()),
        ("learn", LINEAR(optim.SGD(1e-3))),
    ),
    "compose.TransformerProduct": lambda: compose.Select("gallup") * compose.Select("ipsos", "you_gov"),
    "compose.TransformerUnion": lambda: preprocessing.MinMaxScaler() + preprocessing.StandardScaler(),
    "preprocessing.StatImputer": lambda: preprocessing.StatImputer(("c", stats.Mean()), ("b", stats.Mode())),
    "sketch.Histogram": lambda: sketch.Histogram(max_bins=16),
    "stats.Link": lambda: stats.Shift(1) | stats.Mean(),
    "utils.Rolling": lambda: utils.Rolling(stats.Var, window_size=10, ddof=0),
    "utils.TimeRolling": lambda: utils.TimeRolling(stats.Mean, period=dt.timedelta(hours=5)),
    "utils.SortedWindow": lambda: utils.SortedWindow(size=9),
    "utils.VectorDict": lambda: utils.VectorDict({"a": 1.0}, optim.initializers.Normal(seed=3)),
    "cluster.TextClust": lambda: (
        feature_extraction.BagOfWords() | cluster.TextClust(real_time_fading=False, tgap=20, auto_r=True)
    ),
    "naive_bayes.ComplementNB": lambda: feature_extraction.BagOfWords() | naive_bayes.ComplementNB(),
    "naive_bayes.MultinomialNB": lambda: feature_extraction.BagOfWords() | naive_bayes.MultinomialNB(),
    "optim.losses.CrossEntropy": lambda: linear_model.SoftmaxRegression(loss=optim.losses.CrossEntropy()),
    "optim.losses.Poisson": lambda: _scaled(LINEAR(optim.SGD(1e-4), loss=optim.losses.Poisson())),
    "preprocessing.LDA": lambda: feature_extraction.BagOfWords() | preprocessing.LDA(n_components=2, seed=1),
    "tree.splitter.DynamicQuantizer": lambda: _gradient_tree(tree.splitter.DynamicQuantizer()),
    "tree.splitter.StaticQuantizer": lambda: _gradient_tree(tree.splitter.StaticQuantizer(n_bins=8, warm_start=20)),
}


# Rows of another kind than the class's own base says.
STEPS: dict[str, Step] = {
    "anomaly.GaussianScorer": _supervised_anomaly,
    "anomaly.PredictiveAnomalyDetection": _supervised_anomaly,
    "anomaly.StandardAbsoluteDeviation": _supervised_anomaly,
    "cluster.ODAC": _learner(numbers),
    "cluster.STREAMKMeans": _stream_means,
    "cluster.TextClust": _text_cluster,
    "naive_bayes.MultinomialNB": _text_step,
    "naive_bayes.ComplementNB": _text_step,
    "metrics.MultiFBeta": _labels_metric,
    "model_selection.SuccessiveHalvingClassifier": _learner(binary),
    "compose.Grouper": _learner(numbers_of_strings),
    "conf.RegressionJackknife": _interval,
    "feature_extraction.Agg": _learner(numbers_of_strings),
    "feature_extraction.TargetAgg": _target_agg,
    "feature_extraction.BagOfWords": _text_step,
    "feature_extraction.TFIDF": _text_step,
    "preprocessing.GapEncoder": _text_step,
    "preprocessing.LDA": _text_step,
    "preprocessing.OneHotEncoder": _learner(numbers_of_strings),
    "preprocessing.OrdinalEncoder": _learner(numbers_of_strings),
    "preprocessing.PreviousImputer": _impute,
    "preprocessing.StatImputer": _impute,
    "neighbors.LazySearch": _engine,
    "neighbors.SWINN": _engine,
    "bandit.LinUCBDisjoint": _contextual_policy,
    "misc.SDFT": _fourier,
    "misc.Skyline": _skyline,
    "metrics.LogLoss": _proba_metric,
    "metrics.CrossEntropy": _proba_metric,
    "metrics.ROCAUC": _proba_metric,
    "metrics.RollingROCAUC": _proba_metric,
    "metrics.RollingPRAUC": _proba_metric,
    "metrics.Silhouette": _silhouette,
    "metrics.base.Metrics": _numbers_metric,
    "proba.Beta": _beta,
    "proba.MultivariateGaussian": _multivariate,
    "sketch.NUnique": _unique,
    "sketch.Set": _bloom,
    "time_series.HorizonMetric": _several_numbers_metric,
    "time_series.HorizonAggMetric": _several_numbers_metric,
    "utils.Rolling": _univariate,
    "utils.TimeRolling": _timed,
    "utils.SortedWindow": _window,
    "utils.VectorDict": _vector,
}

KINDS: list[tuple[type, Step]] = [
    (reco.base.Ranker, _ranker),
    (time_series.base.Forecaster, _forecaster),
    (base.MultiTargetRegressor, _learner(several_numbers)),
    (base.MultiLabelClassifier, _learner(several_classes)),
    (base.Clusterer, _clusterer),
    (base.Regressor, _learner(numbers)),
    (base.AnomalyDetector | base.AnomalyFilter, _learner(binary)),
    (base.BaseTransformer, _learner(numbers)),
    (base.BinaryDriftDetector, _binary_detector),
    (base.DriftDetector, _detector),
    (stats.base.Bivariate, _bivariate),
    (stats.base.Statistic, _univariate),
    (metrics.multioutput.base.MultiOutputMetric, _several_classes_metric),
    (metrics.base.RegressionMetric, _numbers_metric),
    (metrics.base.BinaryMetric, _labels_metric),
    (metrics.base.Metric, _classes_metric),
    (proba.base.Distribution, _distribution),
    (bandit.base.Policy, _policy),
    (sketch.Counter, _sketch),
    (sketch.HeavyHitters, _sketch),
    (sketch.Histogram, _sketch),
    (covariance.emp.SymmetricMatrix, _matrix),
]


NAMESPACES = (
    "optim.losses optim.schedulers optim.initializers drift.binary metrics.multioutput tree.splitter utils covariance"
)


def public() -> dict[str, type]:
    """Return every class that River offers: by the name that a person writes, without what is abstract."""
    found: dict[type, str] = {}
    names = [n for n in importlib.import_module("river.api").__all__ if n not in APART]
    for name in [*names, *NAMESPACES.split()]:
        module = importlib.import_module(f"river.{name}")
        for here, cls in inspect.getmembers(module, inspect.isclass):
            kept = issubclass(cls, base.Base) or name in ("utils", "covariance")
            if kept and cls.__module__.startswith("river.") and not inspect.isabstract(cls):
                found.setdefault(cls, f"{name}.{here}")
    found[metrics.base.Metrics] = "metrics.base.Metrics"
    return {name: cls for cls, name in found.items()}


APART = {"api", "base", "checks", "compat", "datasets", "evaluate", "stream"}


def _gradient_tree(quantizer: Any) -> Any:
    return tree.SGTClassifier(feature_quantizer=quantizer, grace_period=20, delta=0.5)


# What people put together, and parameters that make a class keep something else.
COMPOSED: dict[str, tuple[Callable[[], Any], Step]] = {
    "adaptive random forest with its own leaves": (
        lambda: forest.ARFClassifier(5, leaf_prediction="mc", split_criterion="gini", grace_period=20, seed=1),
        _learner(classes),
    ),
    "a windowed scaler": (lambda: preprocessing.StandardScaler(window_size=20), _learner(numbers)),
    "bag of pairs of words": (
        lambda: (
            feature_extraction.BagOfWords(ngram_range=(1, 2), stop_words={"now", "call"}) | naive_bayes.MultinomialNB()
        ),
        _text_step,
    ),
    "expert advice": (
        lambda: ensemble.EWARegressor([_scaled(LINEAR(o)) for o in (optim.Adam(), optim.RMSProp())]),
        _learner(numbers),
    ),
    "l1": (lambda: _scaled(LOGISTIC(l1=0.01)), _learner(binary)),
    "metrics over one matrix": (
        lambda: metrics.Accuracy(cm := metrics.ConfusionMatrix()) + metrics.F1(cm),
        _labels_metric,
    ),
    "nearest neighbours by another distance": (
        lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=30, dist_func=manhattan)),
        _learner(classes),
    ),
    "nearest neighbours in a graph": (
        lambda: neighbors.KNNClassifier(engine=neighbors.SWINN(4, warm_up=30, maxlen=60, prune_prob=0.3, seed=1)),
        _learner(classes),
    ),
    "one of many classes": (
        lambda: _scaled(multiclass.OneVsRestClassifier(LOGISTIC(initializer=optim.initializers.Normal(seed=4)))),
        _learner(classes),
    ),
    "page hinkley for falls": (lambda: drift.PageHinkley(mode="down", min_instances=5, threshold=3), _detector),
    "several features of a text and its row": (
        lambda: (
            compose.TransformerUnion(
                compose.SelectType(int) | preprocessing.MinMaxScaler(),
                ("mean", feature_extraction.TargetAgg(by="b", how=stats.Mean())),
                compose.Select("b") | preprocessing.OneHotEncoder(),
            )
            | LOGISTIC()
        ),
        _learner(numbers_of_strings),
    ),
    "tree of models": (
        lambda: tree.HoeffdingTreeRegressor(20, leaf_prediction="adaptive", leaf_model=LINEAR(optim.SGD(1e-4))),
        _learner(numbers),
    ),
    "tree with strings": (
        lambda: tree.HoeffdingTreeClassifier(20, nominal_attributes=["b"], leaf_prediction="nb", delta=0.1),
        _learner(numbers_of_strings),
    ),
}


@allow
def manhattan(a: Any, b: Any) -> float:
    return sum(abs(a[name] - b[name]) for name in a)


# Learners, or what stands for one: an optimizer is kept in what it optimizes.
def _in_a_learner(part: Any) -> Any:
    if isinstance(part, optim.base.Optimizer):
        return LINEAR(part)
    if isinstance(part, optim.base.Loss):
        return (LINEAR if isinstance(part, optim.losses.RegressionLoss) else LOGISTIC)(loss=part)
    if isinstance(part, optim.base.Scheduler):
        return LOGISTIC(optim.SGD(part))
    if isinstance(part, optim.base.Initializer):
        return LOGISTIC(initializer=part)
    if isinstance(part, tree.splitter.Splitter):
        kind = tree.HoeffdingTreeClassifier if part.is_target_class else tree.HoeffdingTreeRegressor
        return kind(splitter=part, grace_period=20, delta=1e-2)
    return part


def make(name: str, cls: type, seed: int | None = 1) -> Any:
    """Return a new one of a class, with that seed where it takes one."""
    if name in MAKERS:
        return MAKERS[name]()
    if name in PARAMETERS:
        parameters = PARAMETERS[name]()
    else:
        parameters = next(iter(cls._unit_test_params()), {}) if hasattr(cls, "_unit_test_params") else {}
    taken = inspect.signature(cls).parameters
    if "seed" in taken:
        parameters["seed"] = seed
    if name.startswith("stats.Rolling"):
        parameters |= {"window_size": 9} | ({"q": 0.3} if "q" in taken else {})
    return _in_a_learner(cls(**parameters))


def step_of(name: str, made: Any) -> Step:
    """Return how one of a class is fed."""
    if name in STEPS:
        return STEPS[name]
    if isinstance(made, base.Classifier) and not isinstance(made, base.MultiLabelClassifier):
        return _learner(classes if made._multiclass else binary)
    return next(step for kind, step in KINDS if isinstance(made, kind))


def cases(seed: int | None = 1) -> list[Case]:
    """Return every public class of River's that can be made, and what people put together."""
    found = [
        Case(name, partial(make, name, cls, seed), step_of(name, make(name, cls, seed)))
        for name, cls in public().items()
        if name not in NOT_MADE
    ]
    return found + [Case(name, maker, step) for name, (maker, step) in COMPOSED.items()]
