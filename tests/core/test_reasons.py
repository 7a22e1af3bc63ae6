"""Reasons are the largest contributions, add up to the model's own sum, and never show where a batch is cut."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from core.records import fraud
from river import linear_model, optim, preprocessing, tree

from headrace import (
    Event,
    Function,
    Label,
    Linear,
    Pipeline,
    Static,
    by_recent_loss,
    field,
    log1p,
    online_only,
    per,
    save_static,
    stacked,
    static_only,
)
from headrace.models import laws
from headrace.models.learners import learner_of
from headrace.models.matrix import ALL_ROWS
from headrace.schemas.codec import encode
from headrace.schemas.errors import BadPipeline
from headrace.schemas.prediction import Contribution
from headrace.stream import contributions

NAMES = ["count", "lat", "lon", "total"]
FEATURES = {"count": field("count"), "lat": field("lat"), "lon": field("lon"), "total": log1p("total")}
SCALED = preprocessing.StandardScaler() | linear_model.LogisticRegression()
CUTS = (laws.where_a_batch_is_cut_never_shows, laws.one_by_one_is_the_same_as_all_at_once)


class Order(Event, topic="orders", key="shop"):
    """What is scored here."""

    id: str
    at: float
    shop: str
    count: int
    lat: float
    lon: float
    total: float
    paid: bool


class Verdict(Label, topic="verdicts", of=Order, within="1h", otherwise=0):
    """What was true of an order."""

    id: str
    at: float
    shop: str
    label: int


def _pipeline(static: Any = None, features: Any = None, **other: Any) -> Pipeline:
    parts = {"name": "p", "events": Order, "features": features or FEATURES, "static": static, "reasons": 2}
    return Pipeline(**{**parts, **other})


def _order(number: int = 0, **other: Any) -> Order:
    given = {"count": 2, "lat": 10.0, "lon": -5.0, "total": 3.0, "paid": number % 2 == 0}
    return Order(id=f"o{number}", at=60.0 * number, shop="s", **{**given, **other})


def _reasons(pipeline: Pipeline, *events: Order, state: Any = None) -> list[Any]:
    made = pipeline.step(list(events), state or pipeline.fresh()).predictions
    return [[(one.model, one.code, one.value, one.contribution) for one in each.reasons] for each in made]


WEIGHTS = {"count": 1.0, "lat": -0.5, "lon": 0.1, "total": 0.0}


def test_the_largest_contributions_come_first_whichever_way_they_point() -> None:
    assert _reasons(_pipeline(Linear(WEIGHTS)), _order()) == [
        [("static", "lat", 10.0, -5.0), ("static", "count", 2.0, 2.0)]
    ]


def test_equal_contributions_come_in_the_order_of_the_pipeline_and_not_of_the_model() -> None:
    weights = {"lon": 0.4, "lat": -0.2, "count": 1.0, "total": 0.0}
    assert [code for _, code, *_ in _reasons(_pipeline(Linear(weights), reasons=3), _order())[0]] == [
        "count", "lat", "lon"
    ]  # fmt: skip


def test_what_contributes_nothing_is_no_reason() -> None:
    (told,) = _reasons(_pipeline(Linear(WEIGHTS), reasons=9), _order(count=0, lon=0.0))
    assert [code for _, code, *_ in told] == ["lat"]
    assert _reasons(_pipeline(Linear(WEIGHTS)), _order(count=0, lon=0.0, lat=0.0)) == [[]]


def test_a_code_stands_for_a_feature_and_stays_when_the_feature_is_renamed() -> None:
    renamed = {**{name: one for name, one in FEATURES.items() if name != "lat"}, "latitude": FEATURES["lat"]}
    weights = {**{name: one for name, one in WEIGHTS.items() if name != "lat"}, "latitude": -0.5}
    before = _pipeline(Linear(WEIGHTS), codes={"lat": "R01"})
    after = _pipeline(Linear(weights), renamed, codes={"latitude": "R01"})
    assert _reasons(before, _order()) == _reasons(after, _order())
    assert _reasons(before, _order())[0][0] == ("static", "R01", 10.0, -5.0)


def test_a_reference_moves_contributions_and_no_score() -> None:
    usual = {"lat": 12.0, "count": 2.0}
    plain, relative = Linear(WEIGHTS, bias=0.5), Linear(WEIGHTS, bias=0.5, reference=usual)
    columns = {name: np.array([2.0, 10.0, -5.0]) for name in NAMES}
    assert relative.score(columns).tobytes() == plain.score(columns).tobytes()
    want = plain.contributions(columns).sum(axis=1)
    np.testing.assert_allclose(relative.contributions(columns).sum(axis=1), want, rtol=1e-12)
    assert _reasons(_pipeline(relative), _order())[0][0] == ("static", "lat", 10.0, 1.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"reasons": -1}, "reasons = -1: allowed are whole numbers"),
        ({"reasons": True}, "reasons = True: allowed are whole numbers"),
        ({"reasons": 0, "codes": {"lat": "R1"}}, "codes: they are what features are called in reasons, and there are"),
        ({"codes": {"lta": "R1"}}, "codes['lta'] is of no feature; did you mean 'lat'?"),
        ({"codes": {"lat": ""}}, "codes['lat'] = '': allowed is text"),
        ({"codes": {"lat": "R1", "lon": "R1"}}, "codes: 'lat' and 'lon' are both called 'R1'"),
        ({"codes": {"lat": "lon"}}, "codes: 'lat' and 'lon' are both called 'lon'"),
        ({"static": Linear(WEIGHTS, reference={"x": 1.0})}, "static: reference['x'] = 1.0: there is no such weight"),
        ({"static": Function(lambda *all_: all_[0])}, "reasons = 2: static: a Function does not say what its features"),
        (
            {"static": None, "online": tree.HoeffdingTreeClassifier(), "labels": "paid"},
            "reasons = 2: online: HoeffdingTreeClassifier is no linear model of River's",
        ),
    ],
)
def test_reasons_that_nobody_can_give_and_codes_that_fit_nothing_are_refused(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadPipeline) as refused:
        _pipeline(**{"static": Linear(WEIGHTS), **options})
    assert told in str(refused.value)


def test_a_model_that_gives_none_beside_one_that_does_is_told_of() -> None:
    pipeline = _pipeline(Linear(WEIGHTS), online=tree.HoeffdingTreeClassifier(), labels="paid")
    assert list(pipeline.without_reasons) == ["online"]
    assert {one[0] for each in _reasons(pipeline, *map(_order, range(5))) for one in each} == {"static"}


def test_a_model_of_your_own_gives_reasons_where_it_has_contributions() -> None:
    class Rules:
        features = ("lat", "count")
        version = "3"

        def score(self, features: Any) -> Any:
            return self.contributions(features).sum(axis=1)

        def contributions(self, features: Any) -> Any:
            zero = np.zeros_like(features["lat"])
            return np.stack([features["lat"] > 5, features["count"] * 2.0, zero], axis=1)

    pipeline = _pipeline(Rules(), {name: FEATURES[name] for name in ("count", "lat")})
    want = [("static", "count", 2.0, 4.0), ("static", "lat", 10.0, 1.0)]
    assert _reasons(pipeline, _order()) == [want]


def test_an_event_of_which_nobody_can_say_why_is_scored_and_flagged_alone() -> None:
    class Shy:
        features = ("lat",)
        version = "3"

        def score(self, features: Any) -> Any:
            return features["lat"]

        def contributions(self, features: Any) -> Any:
            if (features["lat"] == 7).any():
                raise ValueError("seven")
            return np.stack([features["lat"], 0 * features["lat"]], axis=1)

    pipeline = _pipeline(Shy(), {"lat": field("lat")})
    events = [_order(number, lat=float(number)) for number in range(1, 12)]
    made = pipeline.step(events, pipeline.fresh()).predictions
    assert [one.score for one in made] == [float(number) for number in range(1, 12)]
    assert [one.flags for one in made] == [("no_reasons",) if number == 7 else () for number in range(1, 12)]
    assert [len(one.reasons) for one in made] == [number != 7 for number in range(1, 12)]


def test_an_event_that_gets_the_fallback_has_no_reasons_of_the_model_that_failed() -> None:
    class Fragile(Linear):
        def score(self, features: Any) -> Any:
            if (features["count"] < 0).any():
                raise ValueError("a refund")
            return super().score(features)

    made = _pipeline(Fragile(WEIGHTS), fallback=0.5)
    events = [_order(0), _order(1, count=-3)]
    effects = made.step(events, made.fresh()).predictions
    assert [(one.flags, len(one.reasons)) for one in effects] == [((), 2), (("static_fallback",), 0)]


# Two models.


def _both(combine: Any, labels: Any = "paid", **other: Any) -> Pipeline:
    return _pipeline(Linear(WEIGHTS), online=SCALED, combine=combine, labels=labels, **other)


def test_a_model_that_had_no_say_gives_no_reasons() -> None:
    events = [_order(number, count=number) for number in range(40)]
    for combine, models in (
        (static_only, {"static"}),
        (online_only, {"static", "online"}),  # before it has a label the learner has no say
        (by_recent_loss, {"static", "online"}),
    ):
        told = _reasons(_both(combine), *events)
        assert {model for model, *_ in told[0]} == {"static"}
        assert {one[0] for each in told for one in each} == models
    assert {model for model, *_ in _reasons(_both(online_only), *events)[-1]} == {"online"}


def test_each_model_gives_its_own_reasons_the_static_one_first() -> None:
    (*_, last) = _reasons(_both(by_recent_loss), *[_order(number, count=number % 5) for number in range(30)])
    assert [model for model, *_ in last] == ["static", "static", "online"], "three of the learner's features never move"


@pytest.mark.parametrize("labels", ["paid", Verdict])
def test_where_a_batch_is_cut_never_shows_in_the_reasons_of_two_models(labels: Any) -> None:
    pipeline = _both(stacked(linear_model.LogisticRegression(), least=10), labels, codes={"lat": "R1"})
    for law in (*CUTS, laws.a_restored_snapshot_goes_on_alike):
        law(pipeline, 1)
    steps = laws.some_steps(pipeline, 200, 1)
    made = steps.play(pipeline, pipeline.fresh()).predictions
    assert {one.model for each in made for one in each.reasons} == {"static", "online"}


def test_reasons_may_come_and_go_without_the_state_being_another() -> None:
    features = {**FEATURES, "orders": per("shop").count("1h")}
    fingerprints = {
        _both(by_recent_loss, Verdict, reasons=count, features=features).fresh().fingerprint for count in (0, 1, 3)
    }
    assert len(fingerprints) == 1


# What is contributed adds up.


LEARNERS = {
    "kernel": SCALED,
    "regression": preprocessing.StandardScaler() | linear_model.LinearRegression(intercept_lr=0.1),
    "centred": preprocessing.StandardScaler(with_std=False) | linear_model.LogisticRegression(optim.SGD(0.001)),
    "min max": preprocessing.MinMaxScaler() | linear_model.LogisticRegression(),
    "unscaled": linear_model.LogisticRegression(optim.SGD(1e-4)),
    "l1, which the kernel does not know": preprocessing.StandardScaler() | linear_model.LogisticRegression(l1=0.001),
    "robust": preprocessing.RobustScaler() | linear_model.LogisticRegression(l1=0.001),
}


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("name", LEARNERS)
def test_what_a_learner_is_told_by_adds_up_to_its_raw_score(name: str, kernel: bool) -> None:
    rng = np.random.default_rng(3)
    columns = {name: rng.normal(5, 3, 200) for name in NAMES}
    learner = learner_of(LEARNERS[name], kernel=kernel)
    labels = (columns["lat"] > 5).astype(float)
    assert learner.why_no_reasons() == ""
    assert not learner.contributions(columns)[:, :-1].any(), "who has learned nothing says nothing"
    learner.learn(columns, labels)
    raw = learner.contributions(columns).sum(axis=1)
    said = raw if learner.kind == "regression" else 1 / (1 + np.exp(-raw))
    np.testing.assert_allclose(said, learner.predict(columns), rtol=1e-9)


def test_with_and_without_a_compiler_contributions_are_the_same_bits() -> None:
    rng = np.random.default_rng(3)
    columns = {name: rng.normal(5, 3, 200) for name in NAMES}
    made = []
    for kernel in (True, False):
        learner = learner_of(SCALED, kernel=kernel)
        learner.learn(columns, (columns["lat"] > 5).astype(float))
        made.append(learner.contributions(columns).tobytes())
    assert made[0] == made[1]


def _rows(count: int = 400) -> Any:
    rng = np.random.default_rng(1)
    columns = rng.integers(0, 10, count), rng.uniform(-90, 90, count), rng.normal(5, 30, count), rng.gamma(2, 1, count)
    return np.column_stack(columns).astype(float)


ROWS = _rows()
LABELS = (ROWS @ [0.3, 0.02, -0.05, 0.4] > 1.5).astype(int)


def _lightgbm() -> Any:
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=8, verbose=-1).fit(ROWS, LABELS)


def _xgboost() -> Any:
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=8, n_jobs=1).fit(ROWS, LABELS)


def _forest() -> Any:
    ensemble = pytest.importorskip("sklearn.ensemble")
    return ensemble.RandomForestClassifier(6, max_depth=5, random_state=1).fit(ROWS, LABELS)


def _scaled_tree() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    return make_pipeline(StandardScaler(), DecisionTreeRegressor(max_depth=4, random_state=1)).fit(ROWS, ROWS[:, 1])


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


def _three_classes() -> Any:
    labels = LABELS + (ROWS[:, 1] > 50)
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=4, verbose=-1).fit(ROWS, labels)


MODELS: dict[str, tuple[Callable[[], Any], bool, dict[str, Any]]] = {  # whether it is told in log odds
    "lightgbm": (_lightgbm, True, {}),
    "xgboost": (_xgboost, True, {}),
    "forest": (_forest, False, {}),
    "scaled tree": (_scaled_tree, False, {}),
    "logistic regression": (_logistic, True, {}),
}
TRUSTED = ["sklearn.tree._tree.Tree"]


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_in_a_folder_is_told_by_adds_up_to_its_raw_score(name: str, tmp_path: Path) -> None:
    make, log_odds, options = MODELS[name]
    save_static(make(), tmp_path, features=NAMES, version="1", trusted=TRUSTED, **options)
    static = Static(tmp_path, trusted=TRUSTED)
    columns = dict(zip(NAMES, ROWS[:100].T.copy(), strict=True))
    assert static.why_no_reasons() == ""
    raw, scores = static.contributions(columns).sum(axis=1), static.score(columns)
    np.testing.assert_allclose(1 / (1 + np.exp(-raw)) if log_odds else raw, scores, rtol=1e-4, atol=1e-9)
    for law in CUTS:
        law(_pipeline(static), 1)


def test_of_several_classes_the_one_is_told_that_is_the_score(tmp_path: Path) -> None:
    model = _three_classes()
    save_static(model, tmp_path, features=NAMES, version="1", column=1)
    static = Static(tmp_path)
    assert static.why_no_reasons() == ""
    want = model.booster_.predict(ROWS[:50], raw_score=True)[:, 1]
    columns = dict(zip(NAMES, ROWS[:50].T.copy(), strict=True))
    np.testing.assert_allclose(static.contributions(columns).sum(axis=1), want, rtol=1e-9)


def test_a_linear_model_of_scikit_learn_is_relative_to_the_means_of_its_training(tmp_path: Path) -> None:
    save_static(_logistic(), tmp_path, features=NAMES, version="1")
    static = Static(tmp_path)
    made = static.contributions({name: np.full(1, mean) for name, mean in zip(NAMES, ROWS.mean(axis=0), strict=True)})
    np.testing.assert_allclose(made[0, :-1], 0.0, atol=1e-9)


def test_a_model_in_a_process_of_its_own_gives_the_same_reasons(tmp_path: Path) -> None:
    save_static(_lightgbm(), tmp_path, features=NAMES, version="1")
    columns = dict(zip(NAMES, ROWS[:20].T.copy(), strict=True))
    alone, here = Static(tmp_path, deadline_ms=60_000), Static(tmp_path)
    assert alone.why_no_reasons() == ""
    assert alone.contributions(columns).tobytes() == here.contributions(columns).tobytes()
    assert alone.score(columns).tobytes() == here.score(columns).tobytes()


def test_a_model_that_cannot_tell_says_why(tmp_path: Path) -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(n_estimators=3).fit(ROWS, LABELS)
    trusted = [*TRUSTED, "sklearn._loss._loss.CyHalfBinomialLoss", "sklearn._loss.link.Interval"]
    trusted += ["sklearn._loss.loss.HalfBinomialLoss", "sklearn._loss.link.LogitLink"]
    save_static(model, tmp_path, features=NAMES, version="1", trusted=trusted)
    with pytest.raises(BadPipeline, match="trees, forests and linear models do, and GradientBoostingClassifier does n"):
        _pipeline(Static(tmp_path, trusted=trusted))


def test_what_does_not_add_up_or_depends_on_the_batch_is_not_told() -> None:
    checked = contributions._checked
    with pytest.raises(contributions.NotTold, match="does not add up"):
        checked(lambda rows: np.hstack([rows, rows[:, :1]]), lambda rows: rows.sum(axis=1), 3, 1e-6)
    with pytest.raises(contributions.NotTold, match="depends on the others of its batch"):
        checked(
            lambda rows: np.hstack([rows + rows.mean(axis=0) * 1e-9, np.zeros((len(rows), 1))]),
            lambda rows: rows.sum(axis=1),
            3,
            1e-6,
        )
    assert ALL_ROWS == 0


# On the wire, and in files.


def test_without_reasons_a_prediction_has_the_bytes_that_it_had() -> None:
    event = laws.some_events(fraud.events, 1, 1)
    (made,) = fraud.step(event, fraud.fresh()).predictions
    assert b"reasons" not in encode(made)
    asked = Pipeline(name="fraud", events=fraud.events, features=fraud.features, static=fraud.static, reasons=1)
    (told,) = asked.step(event, asked.fresh()).predictions
    assert encode(told).startswith(encode(made)[:-1] + b',"reasons":[{"model":"static","code":"')


def test_a_value_that_is_missing_is_null(tmp_path: Path) -> None:
    class Blind(Linear):
        def score(self, features: Any) -> Any:
            return np.nan_to_num(features["lat"])

        def contributions(self, features: Any) -> Any:
            return np.ones((len(features["lat"]), 2))

    class Sparse(Event, topic="sparse", key="shop"):
        id: str
        at: float
        shop: str
        lat: float | None = None

    pipeline = Pipeline(name="p", events=Sparse, features={"lat": field("lat")}, static=Blind({"lat": 1.0}), reasons=1)
    (made,) = pipeline.step([Sparse("a", 0.0, "s")], pipeline.fresh()).predictions
    assert made.reasons == (Contribution("static", "lat", None, 1.0),)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_has_the_reasons(suffix: str, tmp_path: Path) -> None:
    from headrace.stream import batch

    pipeline = _pipeline(Linear(WEIGHTS), codes={"lat": "R01"})
    source, out = tmp_path / "in.jsonl", tmp_path / f"out.{suffix}"
    source.write_bytes(b"\n".join(map(encode, [_order(0), _order(1)])))
    batch.main(
        pipeline, str(source), str(out), source_format=None, target_format=None, dead_letters=None, strict=True,
        force=False,
    )  # fmt: skip
    want = [
        {"model": "static", "code": "R01", "value": 10.0, "contribution": -5.0},
        {"model": "static", "code": "count", "value": 2.0, "contribution": 2.0},
    ]
    if suffix == "jsonl":
        rows = [json.loads(line)["reasons"] for line in out.read_text().splitlines()]
    elif suffix == "csv":
        import csv

        with out.open() as file:
            rows = [json.loads(row["reasons"]) for row in csv.DictReader(file)]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [row["reasons"] for row in parquet.read_table(out).to_pylist()]
    assert rows == [want, want]


def test_contributions_are_decoded_as_they_were_encoded() -> None:
    one = Contribution("online", "é", math.pi, -5e-324)
    assert msgspec.json.decode(encode(one), type=Contribution) == one
