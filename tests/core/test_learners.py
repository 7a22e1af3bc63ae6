"""Learners: River as an oracle of itself, and the compiled kernel beside it, bit for bit."""

import copy
import itertools
import math
import os
import shutil
import sysconfig
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import (
    active,
    anomaly,
    base,
    compose,
    dummy,
    ensemble,
    facto,
    feature_extraction,
    forest,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    reco,
    stats,
    tree,
)

from headrace.models import agreement, kernels, snapshot
from headrace.models.agreement import follow, same_state, some_rows
from headrace.models.kernels import Kernel
from headrace.models.laws import kernels_agree_with_river
from headrace.models.learners import KINDS, RowFailed, learner_of, problems_of, why_river
from headrace.models.rows import Rows
from headrace.schemas.errors import BadPipeline

NOT_BUILT = "the kernel was not compiled: `pip install -e .` does it, with a C compiler and Python's headers"
ON_CI = os.environ.get("CI") == "true"  # where nothing that is skipped counts as well
kernel_wanted = pytest.mark.skipif(not kernels.compiled() and not ON_CI, reason=NOT_BUILT)
fixed = settings(derandomize=True, deadline=None, max_examples=150)

SCALERS = {
    "none": lambda: None,
    "standard": preprocessing.StandardScaler,
    "centred": lambda: preprocessing.StandardScaler(with_std=False),
    "min-max": preprocessing.MinMaxScaler,
}
OPTIMIZERS = {
    "sgd": optim.SGD,
    "sgd, slower with time": lambda: optim.SGD(optim.schedulers.InverseScaling(0.5, 0.3)),
    "ada-grad": optim.AdaGrad,
    "adam": lambda: optim.Adam(0.01),
    "ftrl": optim.FTRLProximal,
    "ftrl with l1": lambda: optim.FTRLProximal(alpha=0.2, beta=0.5, l1=0.1, l2=0),
}
LOSSES = {
    linear_model.LogisticRegression: (
        optim.losses.Log,
        lambda: optim.losses.Log(weight_pos=5, weight_neg=0.5),
        optim.losses.Hinge,
        lambda: optim.losses.Hinge(threshold=0),
    ),
    linear_model.LinearRegression: (
        optim.losses.Squared,
        optim.losses.Absolute,
        lambda: optim.losses.Huber(1.5),
        lambda: optim.losses.Quantile(0.9),
    ),
}


def piped(scaler, model):
    return model if scaler is None else scaler | model


COMBINED = list(itertools.product(SCALERS, OPTIMIZERS, [(kind, loss) for kind in LOSSES for loss in LOSSES[kind]]))


@st.composite
def known(draw):
    """Draw a model that the kernel claims to know."""
    scaler, optimizer, (cls, loss) = draw(st.sampled_from(COMBINED))
    small = st.sampled_from((0, 0.0, 0.01, 0.5))
    model = cls(
        optimizer=OPTIMIZERS[optimizer](),
        loss=loss(),
        l2=draw(small),
        intercept_init=draw(st.sampled_from((0, 0.0, -3.5))),
        intercept_lr=draw(small | st.just(optim.schedulers.InverseScaling(1, 0.5))),
        clip_gradient=draw(st.sampled_from((1e12, 1, 0.1, math.inf))),
    )
    return piped(SCALERS[scaler](), model)


# The kernel


def test_the_kernel_is_compiled_where_that_is_possible() -> None:
    if kernels.compiled():
        return
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which(compiler) and headers.is_file():
        pytest.fail(f"{NOT_BUILT}, and both are here")
    told = f"{NOT_BUILT}; here there is no {headers if shutil.which(compiler) else compiler}"
    pytest.fail(told) if ON_CI else pytest.skip(told)


@kernel_wanted
@pytest.mark.parametrize(("scaler", "optimizer", "linear"), COMBINED)
def test_the_kernel_knows_what_its_page_lists(scaler, optimizer, linear) -> None:
    cls, loss = linear
    model = piped(SCALERS[scaler](), cls(optimizer=OPTIMIZERS[optimizer](), loss=loss()))
    assert not why_river(model)
    learner = learner_of(model)
    assert (learner.engine, learner.seen) == ("kernel", 0)
    assert learner.kind == ("binary" if cls is linear_model.LogisticRegression else "regression")


@kernel_wanted
@given(model=known(), seed=st.integers(0, 10_000))
@fixed
def test_the_kernel_agrees_with_river_bit_for_bit(model, seed) -> None:
    assert learner_of(model).engine == "kernel"
    kernels_agree_with_river(model, seed)


@kernel_wanted
@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 1e300, -1e200, 1e160, 1e-160, 5e-324, -0.0])
def test_the_kernel_agrees_with_river_after_an_odd_number(odd) -> None:
    columns = {"a": np.array([1.0, 2.0, odd, 3.0, -1.0]), "b": np.array([0.5, odd, 0.0, odd, 0.5])}
    labels = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    for scaler, optimizer, (cls, loss) in COMBINED:
        model = piped(SCALERS[scaler](), cls(optimizer=OPTIMIZERS[optimizer](), loss=loss()))
        kernel, river = learner_of(model), learner_of(model, kernel=False)
        for _ in range(2):
            assert follow(kernel, columns, labels, []) == follow(river, columns, labels, []), kernel
            assert same_state(kernel, river), kernel


@kernel_wanted
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_kernel_agrees_with_river_over_a_long_stream(optimizer) -> None:
    # sqrt(v) and v ** 0.5 end in other bits once in a thousand times, x * x and x ** 2 as well.
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(OPTIMIZERS[optimizer](), l2=0.001)
    rng = np.random.default_rng(7)
    columns = {f"f{number}": rng.normal(number, 10.0**number, 4_000) for number in range(-4, 5)}
    labels = (rng.random(4_000) < 1 / (1 + np.exp(-columns["f0"]))).astype(float)
    kernel, river = learner_of(model), learner_of(model, kernel=False)
    assert follow(kernel, columns, labels, range(0, 4_000, 137)) == follow(river, columns, labels, [])
    assert same_state(kernel, river)


@kernel_wanted
@given(model=known(), seed=st.integers(0, 10_000))
@fixed
def test_predicting_changes_nothing(model, seed) -> None:
    for kernel in (True, False):
        columns, labels = some_rows(seed, 20, "binary")
        learner, other = learner_of(model, kernel=kernel), learner_of(model, kernel=kernel)
        other.predict(columns)
        learner.learn(columns, labels)
        other.learn(columns, labels)
        first = learner.predict(columns)
        assert first.tobytes() == learner.predict(columns).tobytes() == other.predict(columns).tobytes()
        assert same_state(learner, other)
        assert first.tobytes() == np.array([one(learner, columns, at) for at in range(20)]).tobytes()


def one(learner, columns, at):
    return learner.predict({name: column[at : at + 1] for name, column in columns.items()})[0]


@kernel_wanted
@given(
    model=known(),
    calls=st.lists(
        st.tuples(st.lists(st.sampled_from("abcd"), min_size=1, unique=True), st.booleans()), min_size=1, max_size=8
    ),
)
@fixed
def test_features_may_come_go_and_change_places(model, calls) -> None:
    rng = np.random.default_rng(0)
    kernel, river = learner_of(model), learner_of(model, kernel=False)
    for names, learned in calls:
        columns = {name: rng.normal(size=3) for name in names}
        labels = np.array([1.0, math.nan, 0.0]) if learned else np.full(3, math.nan)
        assert np.array_equal(kernel.predict(columns), river.predict(columns), equal_nan=True)
        kernel.learn(columns, labels)
        river.learn(columns, labels)
        assert same_state(kernel, river)
        again = learner_of(model)
        again.load(snapshot.decode(snapshot.encode(kernel.dump())))
        kernel = again


@kernel_wanted
def test_columns_may_be_parts_of_others_and_of_other_numbers() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    kernel, river = learner_of(model), learner_of(model, kernel=False)
    table = np.random.default_rng(0).normal(size=(50, 3))
    labels = (np.arange(100) % 3 == 0).astype(float)[::2]
    columns = {"a": table[:, 0], "b": table[:, 2], "c": np.arange(50), "d": np.arange(50) % 2 == 0}
    assert kernel.predict_learn(columns, labels).tobytes() == river.predict_learn(columns, labels).tobytes()
    assert kernel.predict_learn(columns, labels > 0).tobytes() == river.predict_learn(columns, labels).tobytes()
    assert same_state(kernel, river)


@kernel_wanted
@pytest.mark.parametrize("kernel", [True, False])
def test_a_batch_may_be_empty(kernel) -> None:
    learner = learner_of(linear_model.LogisticRegression(), kernel=kernel)
    nothing = np.empty(0)
    assert learner.predict({}).shape == learner.predict({"a": nothing}).shape == (0,)
    assert learner.predict_learn({"a": nothing}, nothing).shape == (0,)
    learner.learn({"a": nothing}, nothing)
    assert learner.seen == 0
    assert not learner.dump()["names"]


@kernel_wanted
def test_what_was_learned_is_plain_numbers() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.5), intercept_lr=0.25)
    for kernel in (True, False):
        learner = learner_of(model, kernel=kernel)
        learner.learn({"a": np.array([1.0, 3.0]), "b": np.array([4.0, 4.0])}, np.array([1.0, 0.0]))
        dumped = learner.dump()
        assert dumped.pop("state").round(4).tolist() == [
            [2.0, 2.0],  # how often each was seen
            [2.0, 4.0],  # means
            [1.0, 0.0],  # variances
            [-0.2656, 0.0],  # weights
            [0.0, 0.0],  # nothing that this optimizer keeps
            [0.0, 0.0],
        ]
        assert round(dumped.pop("intercept"), 4) == -0.0078
        assert dumped == {
            "steps": "StandardScaler | LogisticRegression(SGD, Log)",
            "names": ["a", "b"],
            "seen": 2,
        }


@kernel_wanted
def test_what_another_model_has_learned_is_refused() -> None:
    dumped = learner_of(linear_model.LogisticRegression()).dump()
    for kernel in (True, False):
        learner = learner_of(linear_model.LogisticRegression(optim.Adam()), kernel=kernel)
        with pytest.raises(ValueError, match=r"LogisticRegression\(SGD, Log\) has learned does not fit"):
            learner.load(dumped)


@pytest.mark.parametrize("kernel", [pytest.param(True, marks=kernel_wanted), False])
@pytest.mark.parametrize("optimizer", [optim.AdaGrad, optim.FTRLProximal])
def test_a_row_at_which_river_raises_is_named_and_can_be_gone_past(kernel, optimizer) -> None:
    learner = learner_of(linear_model.LinearRegression(optimizer()), kernel=kernel)
    columns, labels = {"a": np.array([1.0, 2.0, 1e200, 4.0])}, np.array([0.0, 1.0, 0.0, 1.0])
    with pytest.raises(RowFailed, match=r"row 2: River raised OverflowError\(34, ") as failed:
        learner.predict_learn(columns, labels)
    assert failed.value.row == 2
    assert len(failed.value.scores) == 3, "it was predicted before it could not be learned"
    assert learner.seen == 2
    learner.learn({"a": columns["a"][3:]}, labels[3:])
    assert learner.seen == 3
    with pytest.raises(RowFailed) as failed:
        learner.learn(columns, labels)
    assert failed.value.scores.size == 0


SUBCLASS = type("Mine", (linear_model.LogisticRegression,), {})


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (tree.HoeffdingTreeClassifier(), "the kernel does not know HoeffdingTreeClassifier"),
        (SUBCLASS(), "the kernel does not know Mine"),
        (linear_model.LogisticRegression(l1=0.1), "LogisticRegression.l1 is 0.1, and the kernel knows 0"),
        (
            linear_model.LogisticRegression(initializer=optim.initializers.Constant(1.0)),
            "LogisticRegression.initializer is Constant, and the kernel knows Zeros",
        ),
        (linear_model.LogisticRegression(optim.RMSProp()), "the kernel does not know the optimizer RMSProp"),
        (
            linear_model.LogisticRegression(optim.Adam(eps=0)),
            "the kernel does not know Adam with beta_1=0.9, beta_2=0.999, eps=0.0",
        ),
        (
            linear_model.LogisticRegression(optim.SGD(optim.schedulers.Optimal(optim.losses.Log()))),
            "SGD.lr is Optimal, and the kernel knows Constant and InverseScaling",
        ),
        (
            linear_model.LinearRegression(loss=optim.losses.Poisson()),
            "the kernel does not know LinearRegression with the loss Poisson",
        ),
        (
            linear_model.LogisticRegression(loss=optim.losses.Squared()),
            "the kernel does not know LogisticRegression with the loss Squared",
        ),
        (
            linear_model.LogisticRegression(l2=np.float64(0.1)),
            "LogisticRegression.l2 is np.float64(0.1), and the kernel knows plain numbers that are not too large",
        ),
        (
            linear_model.LogisticRegression(clip_gradient=True),
            "LogisticRegression.clip_gradient is True, and the kernel knows plain numbers that are not too large",
        ),
        (
            preprocessing.StandardScaler(window_size=9) | linear_model.LogisticRegression(),
            "StandardScaler.window_size is 9, and the kernel knows None",
        ),
        (
            preprocessing.RobustScaler() | linear_model.LogisticRegression(),
            "the kernel does not know RobustScaler",
        ),
        (
            compose.Select("a") | preprocessing.StandardScaler() | linear_model.LogisticRegression(),
            "the kernel knows a scaler and a model, and not 3 steps",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_the_kernel_does_not_know_is_rivers_and_says_why(model, why) -> None:
    assert why_river(model) == why
    assert learner_of(model).engine == "river"


def test_an_attribute_that_another_river_brings_makes_a_model_unknown(monkeypatch) -> None:
    made = preprocessing.StandardScaler.__init__

    def init(self, with_std=True, window_size=None):
        made(self, with_std, window_size)
        self.ddof = 1

    monkeypatch.setattr(preprocessing.StandardScaler, "__init__", init)
    why = why_river(preprocessing.StandardScaler() | linear_model.LogisticRegression())
    assert why == "StandardScaler is of another River than the kernel knows: it differs in ddof"


def test_without_a_compiled_kernel_river_learns(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "_kernel", None)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    assert why_river(model) == "headrace.models._kernel was not compiled when Headrace was installed"
    assert learner_of(model).engine == "river"


@kernel_wanted
@pytest.mark.parametrize(
    ("run", "why"),
    [
        (lambda *_: -1, "its results are not those of the River that is installed"),
        (lambda *_: 1 / 0, "the kernel fails where River does not: ZeroDivisionError('division by zero')"),
    ],
)
def test_a_kernel_that_does_not_agree_here_is_not_used(run, why, monkeypatch) -> None:
    monkeypatch.setattr(agreement, "_checked", {})
    monkeypatch.setattr(kernels, "_kernel", types.SimpleNamespace(run=run))
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    assert why_river(model) == why
    assert learner_of(model).engine == "river"


@kernel_wanted
@pytest.mark.parametrize(("spoilt", "text"), [(5, "other scores than River's"), (2, "it has learned something else")])
def test_the_law_finds_a_last_bit_that_is_not_rivers(spoilt, text, monkeypatch) -> None:
    compiled = kernels._kernel

    def run(*given):
        failed = compiled.run(*given)
        given[spoilt][-1:] = np.nextafter(given[spoilt][-1:], math.inf)
        return failed

    monkeypatch.setattr("headrace.models.learners.why_no_kernel", lambda *_: "")
    monkeypatch.setattr(kernels, "_kernel", types.SimpleNamespace(run=run))
    with pytest.raises(AssertionError, match=text):
        kernels_agree_with_river(linear_model.LogisticRegression(), seed=2)


@kernel_wanted
def test_the_kernel_can_be_switched_off() -> None:
    assert learner_of(linear_model.LogisticRegression(), kernel=False).engine == "river"


# River itself

LOGISTIC = preprocessing.StandardScaler() | linear_model.LogisticRegression()
OTHERS = {
    "logistic": (LOGISTIC, "binary"),
    "linear": (preprocessing.StandardScaler() | linear_model.LinearRegression(), "regression"),
    "perceptron": (preprocessing.StandardScaler() | linear_model.Perceptron(), "binary"),
    "bayes": (naive_bayes.GaussianNB(), "binary"),
    "tree": (tree.HoeffdingTreeClassifier(grace_period=20), "binary"),
    "tree of three": (tree.HoeffdingTreeClassifier(grace_period=20), "multiclass"),
    "forest": (forest.ARFClassifier(n_models=3, seed=1), "binary"),
    "bag": (ensemble.BaggingClassifier(LOGISTIC, n_models=3, seed=1), "binary"),
    "neighbours": (
        preprocessing.MinMaxScaler() | neighbors.KNNClassifier(engine=neighbors.SWINN(seed=1)),
        "multiclass",
    ),
    "one against the rest": (multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), "multiclass"),
    "softmax": (preprocessing.StandardScaler() | linear_model.SoftmaxRegression(), "multiclass"),
    "factors": (facto.FMClassifier(seed=1), "binary"),
    "regression tree": (tree.HoeffdingTreeRegressor(grace_period=20), "regression"),
    "half-space trees": (preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=1, window_size=20), "anomaly"),
    "one class": (anomaly.OneClassSVM(), "anomaly"),
    "filtered": (
        anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9) | linear_model.LogisticRegression(),
        "binary",
    ),
    "union": (
        (preprocessing.StandardScaler() + preprocessing.MinMaxScaler() | linear_model.LogisticRegression()),
        "binary",
    ),
    "selected": (
        compose.Select("a", "c") | preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        "binary",
    ),
    "target as a feature": (
        feature_extraction.TargetAgg(by="c", how=stats.Mean()) | linear_model.LinearRegression(),
        "regression",
    ),
    "function": (compose.FuncTransformer(lambda row: {"a": row["a"]}) | linear_model.LogisticRegression(), "binary"),
}


def some_data(kind, count=120):
    rng = np.random.default_rng(3)
    columns = {"a": rng.normal(size=count), "b": rng.lognormal(size=count), "c": rng.integers(4, size=count) * 1.0}
    labels = columns["a"] + columns["c"] if kind == "regression" else np.clip(columns["c"], 0, 2)
    if kind == "binary":
        labels = (columns["a"] > 0).astype(float)
    labels[::7] = math.nan
    return columns, labels


def offline(model, kind, columns, labels):
    """Predict and learn with River's own calls, as its pages show them."""
    model, made = model.clone(), []
    for at, label in enumerate(labels):
        row = {name: float(column[at]) for name, column in columns.items()}
        if kind == "anomaly":
            made.append(model.score_one(row))
            model.learn_one(row)
            continue
        if kind == "regression":
            made.append(model.predict_one(row))
        else:
            classes = model.predict_proba_one(row)
            greatest = max(classes.values()) if classes else 0.0
            made.append(greatest if kind == "multiclass" else classes.get(True, 0.0) if classes else 0.5)
        if not math.isnan(label):
            y = {"binary": label == 1, "multiclass": int(label), "regression": float(label)}[kind]
            model.learn_one(row, y)
    return np.array(made, np.float64)


@pytest.mark.parametrize(("model", "kind"), OTHERS.values(), ids=OTHERS)
def test_rows_are_rivers_own_calls_wherever_a_batch_is_cut(model, kind) -> None:
    columns, labels = some_data(kind)
    want = offline(model, kind, columns, labels)
    for cuts in ((), (1, 2, 50, 119)):
        learner = learner_of(model, kind=kind, kernel=False)
        assert learner.kind == kind
        got = follow(learner, columns, labels, cuts)
        assert got == (agreement._bits(want), [])
        assert learner.seen == (len(labels) if kind == "anomaly" else np.sum(~np.isnan(labels)))


def test_every_kind_is_tried() -> None:
    assert {kind for _, kind in OTHERS.values()} == set(KINDS)


def test_a_probability_is_a_half_before_any_class_is_known_and_nothing_for_one_never_seen() -> None:
    # River's own metrics read a class that is not named as zero.
    learner = learner_of(tree.HoeffdingTreeClassifier())
    row = {"a": np.array([1.0])}
    assert learner.predict(row).tolist() == [0.5]
    assert learner.predict_classes(row) == [{}]
    learner.learn(row, np.array([0.0]))
    assert learner.predict(row).tolist() == [0.0]
    learner.learn(row, np.array([1.0]))
    assert learner.predict(row).tolist() == [0.5]


def test_a_model_knows_its_intercept_before_it_has_learned() -> None:
    row = {"a": np.array([1.0])}
    for kernel in (True, False):
        learner = learner_of(linear_model.LogisticRegression(intercept_init=-2.0), kernel=kernel)
        assert learner.predict(row).tolist() == [1 / (1 + math.exp(2.0))]


def test_classes_come_with_their_probabilities() -> None:
    columns, labels = some_data("multiclass")
    learner = learner_of(naive_bayes.GaussianNB(), kind="multiclass")
    made = learner.predict_learn_classes(columns, labels)
    assert made[0] == {}
    assert set(made[-1]) == {0, 1, 2}
    last = learner.predict_classes(columns)
    assert learner.predict(columns).tolist() == [max(classes.values()) for classes in last]
    columns, labels = some_data("binary")
    for kernel in (True, False):
        learner = learner_of(LOGISTIC, kernel=kernel)
        made = learner.predict_learn_classes(columns, labels)
        assert made[0] == {False: 0.5, True: 0.5}
        assert [classes[True] for classes in learner.predict_classes(columns)] == learner.predict(columns).tolist()


class Certain(base.Classifier):
    """Names a class and no probability."""

    def __init__(self):
        self.last = None

    def learn_one(self, x, y):
        self.last = y

    def predict_one(self, x, **kwargs):
        return self.last


def test_a_model_without_probabilities_is_certain() -> None:
    row = {"a": np.array([1.0, 2.0])}
    learner = learner_of(preprocessing.StandardScaler() | Certain())
    assert learner.predict_learn(row, np.array([1.0, 0.0])).tolist() == [0.5, 1.0]
    assert learner.predict_learn_classes(row, np.array([1.0, 0.0])) == [{False: 1.0}, {True: 1.0}]


class Silent(base.Regressor):
    """Has no answer."""

    def learn_one(self, x, y):
        """Learn nothing."""

    def predict_one(self, x):
        return None


def test_no_answer_is_not_a_number() -> None:
    assert np.isnan(learner_of(Silent()).predict({"a": np.array([1.0])})).all()


def test_a_recommender_is_asked_about_a_user_and_an_item() -> None:
    learner = learner_of(reco.BiasedMF(seed=1))
    assert learner.kind == "regression"
    columns = {"user": np.array(["ann", "bob", "ann"]), "item": np.array([1, 1, 2])}
    model = reco.BiasedMF(seed=1)
    want = []
    for user, item, rating in zip(["ann", "bob", "ann"], [1.0, 1.0, 2.0], [5.0, 1.0, 4.0], strict=True):
        want.append(model.predict_one(user, item))
        model.learn_one(user, item, rating)
    assert learner.predict_learn(columns, np.array([5.0, 1.0, 4.0])).tolist() == want


def test_a_learner_begins_with_nothing_learned_and_leaves_the_users_model_alone() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    model.learn_one({"a": 5.0}, True)
    before = copy.deepcopy(model["LogisticRegression"].weights)
    for kernel in (True, False):
        learner = learner_of(model, kernel=kernel)
        assert learner.seen == 0
        assert learner.predict({"a": np.array([1.0])}).tolist() == [0.5]
        learner.learn({"a": np.array([1.0])}, np.array([1.0]))
        assert model["LogisticRegression"].weights == before


def test_a_failure_in_rivers_predicting_is_named_too() -> None:
    learner = learner_of(compose.FuncTransformer(lambda row: {"a": 1 / row["a"]}) | linear_model.LinearRegression())
    with pytest.raises(RowFailed, match="row 1: River raised ZeroDivisionError") as failed:
        learner.predict({"a": np.array([1.0, 0.0, 2.0])})
    assert failed.value.scores.tolist() == [0.0]


@pytest.mark.parametrize(
    ("model", "kind", "text"),
    [
        (5, None, "online: int is no classifier, regressor, anomaly detector or recommender of River's"),
        (
            linear_model.LogisticRegression,
            None,
            "online: LogisticRegression is a class; write LogisticRegression()",
        ),
        (
            preprocessing.StandardScaler(),
            None,
            "online: StandardScaler is no classifier, regressor, anomaly detector or recommender of River's",
        ),
        (
            LOGISTIC,
            "multi",
            "online: kind = 'multi': allowed are binary, multiclass, regression, anomaly",
        ),
        (
            LOGISTIC,
            "multiclass",
            "online: Pipeline cannot tell more than two classes apart; wrap it, as in "
            "multiclass.OneVsRestClassifier(...)",
        ),
        (LOGISTIC, "regression", "online: Pipeline makes binary predictions, not regression ones"),
        (
            preprocessing.StandardScaler() | forest.ARFClassifier(),
            None,
            "online: ARFClassifier(seed=None) draws other numbers in every process; give it a seed, as in seed=1",
        ),
        (
            ensemble.VotingClassifier([forest.AMFClassifier(), dummy.NoChangeClassifier()]),
            None,
            "online: AMFClassifier(seed=None) draws other numbers in every process; give it a seed, as in seed=1",
        ),
    ],
    ids=lambda value: value.split(":")[-1][:40] if isinstance(value, str) else "",
)
def test_a_model_that_cannot_be_a_learner_is_told_why(model, kind, text) -> None:
    assert list(problems_of(model, kind)) == [text]
    with pytest.raises(BadPipeline, match="cannot run"):
        learner_of(model, kind=kind)


def test_an_anomaly_detector_that_needs_labels_is_refused() -> None:
    # Its score compares the label with a forecast of it, and here labels come later, if at all.
    assert list(problems_of(anomaly.GaussianScorer()))
    assert list(problems_of(active.EntropySampler(LOGISTIC, seed=1)))


def test_a_model_that_cannot_be_made_anew_is_refused() -> None:
    class Odd(linear_model.LogisticRegression):
        def __init__(self, forgotten):
            super().__init__()

    (problem,) = problems_of(Odd(1))
    assert problem.startswith("online: Odd cannot be made anew for each partition: clone() raised AttributeError(")


# Models that are kept as River has them


def test_a_model_that_the_kernel_does_not_know_goes_on_where_it_was() -> None:
    columns, labels = some_data("binary")
    learner = learner_of(naive_bayes.GaussianNB())
    want = learner.predict_learn(columns, labels)
    again = learner_of(naive_bayes.GaussianNB())
    half = {name: column[:60] for name, column in columns.items()}
    rest = {name: column[60:] for name, column in columns.items()}
    again.learn(half, labels[:60])
    moved = learner_of(naive_bayes.GaussianNB())
    moved.load(again.dump())
    assert moved.seen == again.seen
    assert moved.predict_learn(rest, labels[60:]).tobytes() == want[60:].tobytes()
    assert moved.seen == learner.seen


@kernel_wanted
def test_the_kernel_takes_over_from_a_frozen_model() -> None:
    # A version whose kernel knew less has frozen it.
    columns, labels = some_data("binary")
    rows = Rows(LOGISTIC.clone(), "binary", None)
    rows.learn(columns, labels)
    kernel = learner_of(LOGISTIC)
    assert isinstance(kernel, Kernel)
    kernel.load(rows.dump())
    assert kernel.seen == rows.seen
    assert kernel.predict(columns).tobytes() == rows.predict(columns).tobytes()


def test_what_the_kernel_has_learned_is_refused_by_a_model_that_it_does_not_know() -> None:
    dumped = learner_of(LOGISTIC).dump()
    with pytest.raises(ValueError, match="has learned does not fit GaussianNB"):
        learner_of(naive_bayes.GaussianNB()).load(dumped)
