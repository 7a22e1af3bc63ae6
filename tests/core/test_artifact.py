"""Models in folders: each kind scores as its library does and keeps the laws, and what is wrong is told at once."""

import hashlib
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace import Event, Linear, Pipeline, Static, field, log1p, save_static
from headrace.models.laws import LAWS, Law
from headrace.models.matrix import BLOCK_ROWS, Matrix, place_never_shows
from headrace.schemas.errors import BadModel, BadPipeline
from headrace.schemas.manifest import NAME, Manifest
from headrace.stream import artifact, saving
from headrace.stream.load import load_pipeline
from headrace.testing import Driver

NAMES = ["count", "lat", "lon", "total"]
TREES = [
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
]


class Order(Event, topic="orders", key="shop"):
    """What is scored here; a total may be missing, which some models take and others do not."""

    id: str
    at: float
    shop: str
    count: int
    lat: float
    lon: float
    total: float | None = None


def _features() -> dict[str, Any]:
    return {"count": field("count"), "lat": field("lat"), "lon": field("lon"), "total": log1p("total")}


def _rows(count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, 10, count), rng.uniform(-90, 90, count), rng.normal(5, 30, count), rng.gamma(2, 1, count)
    return np.column_stack(columns).astype(float)


ROWS = _rows(400)
LABELS = (ROWS @ [0.3, 0.02, -0.05, 0.4] + np.random.default_rng(2).normal(size=400) > 1.5).astype(int)
AMOUNTS = ROWS @ [0.3, 0.02, -0.05, 0.4]
GOLDEN = dict(zip(NAMES, ROWS[:20].T, strict=True))


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(5, max_depth=4, random_state=1, n_jobs=2).fit(ROWS, LABELS)


def _scaled() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


def _squared() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    return make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression()).fit(ROWS, LABELS)


def _boosted() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(ROWS, LABELS)


def _layers() -> Any:
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(hidden_layer_sizes=(8, 4), max_iter=20, random_state=1).fit(ROWS, AMOUNTS)


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=10, verbose=-1).fit(ROWS, LABELS)


def _lightgbm_classes() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=5, verbose=-1).fit(ROWS, ROWS[:, 0] % 3)


def _xgboost() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=10, max_depth=3).fit(ROWS, LABELS)


def _xgboost_regressor() -> Any:
    from xgboost import XGBRegressor

    model = XGBRegressor(n_estimators=30, max_depth=3, early_stopping_rounds=2)
    return model.fit(ROWS[:300], AMOUNTS[:300], eval_set=[(ROWS[300:], LABELS[300:])], verbose=False)


def _onnx() -> Any:
    from skl2onnx import to_onnx

    return to_onnx(_scaled(), ROWS[:1].astype(np.float32), options={"zipmap": False})


def _onnx_forest() -> Any:
    from skl2onnx import to_onnx

    return to_onnx(_forest(), ROWS[:1].astype(np.float32), options={"zipmap": False})


def _onnx_of_four() -> Any:
    from onnx import TensorProto, helper

    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [4, 4])
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, [4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["rows", "axes"], ["score"], keepdims=0)
    graph = helper.make_graph([node], "g", [rows], [out], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _onnx_columns() -> Any:
    """A model with an input for each feature, of several types."""
    import onnx
    from onnx import TensorProto, helper

    kinds = [TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.DOUBLE]
    inputs = [helper.make_tensor_value_info(name, kind, [None, 1]) for name, kind in zip(NAMES, kinds, strict=True)]
    nodes = [helper.make_node("Cast", [name], [f"{name}_d"], to=TensorProto.DOUBLE) for name in NAMES]
    nodes.append(helper.make_node("Sum", [f"{name}_d" for name in NAMES], ["sum"]))
    nodes.append(helper.make_node("Reshape", ["sum", "flat"], ["score"]))
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    out = [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None])]
    graph = helper.make_graph(nodes, "g", inputs, out, [flat])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def _proba(model: Any, rows: np.ndarray, column: int = 1) -> np.ndarray:
    return np.asarray(model.predict_proba(rows)[:, column])


def _predicted(model: Any, rows: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(rows))


# What is saved and how; what its library says by itself; and the kind and the rows at a time that it becomes.
LINEAR = Linear(dict(zip(NAMES, [0.3, 0.02, -0.05, 0.4], strict=True)), bias=-1.5)
MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any], Callable[[Any, np.ndarray], Any], str, int]] = {
    "Linear": (
        lambda: LINEAR,
        {},
        lambda _, rows: 1 / (1 + np.exp(1.5 - rows @ [0.3, 0.02, -0.05, 0.4])),
        "linear",
        0,
    ),
    "scaler and logistic regression": (_scaled, {}, _proba, "linear", 0),
    "forest": (_forest, {}, _proba, "sklearn", 0),
    "boosted trees": (_boosted, {}, _proba, "sklearn", 0),
    "squares": (_squared, {}, _proba, "sklearn", BLOCK_ROWS),
    "layers": (_layers, {}, _predicted, "sklearn", BLOCK_ROWS),
    "LightGBM": (_lightgbm, {}, _proba, "lightgbm", 0),
    "LightGBM, classes": (_lightgbm_classes, {"column": 2}, lambda m, rows: _proba(m, rows, 2), "lightgbm", 0),
    "XGBoost": (_xgboost, {}, _proba, "xgboost", 0),
    "XGBoost, stopped early": (_xgboost_regressor, {}, _predicted, "xgboost", 0),
    "ONNX": (_onnx, {}, lambda _, rows: _proba(_scaled(), rows), "onnx", BLOCK_ROWS),
    "ONNX forest": (_onnx_forest, {}, lambda _, rows: _proba(_forest(), rows.astype("f4")), "onnx", BLOCK_ROWS),
    "ONNX, four rows at once": (_onnx_of_four, {}, lambda _, rows: rows.astype("f4").sum(axis=1), "onnx", 4),
    "ONNX, a column each": (
        _onnx_columns,
        {},
        lambda _, rows: rows[:, 0] + rows[:, 1].astype("f4").astype(float) + rows[:, 2] + rows[:, 3],
        "onnx",
        BLOCK_ROWS,
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every model, saved once."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that twenty rounds are few, the library thinks too
        for name, (made, options, _, _, _) in MODELS.items():
            found[name] = tmp_path_factory.mktemp("model")
            save_static(made(), found[name], features=NAMES, version="7", golden=GOLDEN, trusted=TREES, **options)
    return found


def _load(folder: Path) -> Static:
    return Static(folder, trusted=TREES)


def _pipeline(static: Any, **other: Any) -> Pipeline:
    return Pipeline(name="p", events=Order, features=_features(), static=static, **other)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_model_scores_as_its_library_does(name: str, folders: dict[str, Path]) -> None:
    made, _, want, kind, rows = MODELS[name]
    static = _load(folders[name])
    assert (static.manifest.kind, static.rows) == (kind, rows)
    assert (static.features, static.version) == (tuple(NAMES), "7")
    others = _rows(300, seed=3)
    got = static.score(dict(zip(NAMES, others.T, strict=True)))
    exact = kind in ("lightgbm", "sklearn") and rows == 0
    np.testing.assert_allclose(got, want(made(), others), rtol=1e-12 if exact else 2e-6, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_model_keeps_the_law(law: Law, name: str, folders: dict[str, Path]) -> None:
    law(_pipeline(_load(folders[name])), 1)


@pytest.mark.parametrize("name", MODELS)
def test_the_place_of_an_event_in_a_batch_of_any_size_never_shows(name: str, folders: dict[str, Path]) -> None:
    static = _load(folders[name])
    rows = _rows(600, seed=4)

    def score(part: np.ndarray) -> bytes:
        return np.asarray(static.score(dict(zip(NAMES, part.T, strict=True)))).tobytes()

    whole = score(rows)
    for size in (1, 7, 63, 64, 65, 200):
        count = 60 if size == 1 else 600
        parts = b"".join(score(rows[at : at + size]) for at in range(0, count, size))
        assert parts == whole[: len(parts)], f"in parts of {size}"


@pytest.mark.parametrize("name", MODELS)
def test_a_missing_value_costs_its_own_event_at_the_most(name: str, folders: dict[str, Path]) -> None:
    pipeline = _pipeline(_load(folders[name]))
    orders = [Order(str(at), 0.0, "s", at, 1.0, 2.0, None if at % 30 == 7 else 5.0) for at in range(100)]
    whole = [one for one in orders if one.total is not None]
    want = {one.id: one for one in pipeline.step(whole, pipeline.fresh()).predictions}  # type: ignore[attr-defined]
    effects = pipeline.step(orders, pipeline.fresh())
    got = {one.id: one for one in effects.predictions}  # type: ignore[attr-defined]
    assert {key: got[key] for key in want} == want
    assert len(want) == len(whole)
    assert {one.reason.value for one in effects.rejections} <= {"model_failed", "not_finite"}
    if "forest" in name or "boost" in name.lower() or "LightGBM" in name:
        assert not effects.rejections, "trees know what to do with it"


def test_a_model_whose_rows_show_their_place_is_asked_row_by_row() -> None:
    def by_place(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] + 1e-12 * (np.arange(len(rows)) % 8)

    sample = np.random.default_rng(1).normal(size=(64, 1))
    assert not place_never_shows(by_place, [sample], BLOCK_ROWS)
    assert place_never_shows(lambda rows: rows[:, 0], [sample], BLOCK_ROWS)
    alone = Matrix(by_place, ["a"], version="1", rows=1)
    assert alone.score({"a": np.array([1.0, 2.0])}).tolist() == [1.0, 2.0]


def test_a_block_that_is_not_full_is_filled_up_and_a_wrong_shape_is_told() -> None:
    seen = []

    def score(rows: np.ndarray) -> np.ndarray:
        seen.append(rows[:, 0].tolist())
        return rows[:, 0]

    assert Matrix(score, ["a"], version="1", rows=3).score({"a": np.arange(4.0)}).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert seen == [[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]
    wide = Matrix(lambda rows: rows, ["a"], version="1", rows=3)
    effects = Pipeline(name="p", events=Order, features={"a": field("lat")}, static=wide)
    (rejection,) = effects.step([Order("1", 0.0, "s", 1, 1.0, 1.0)], effects.fresh()).rejections
    assert rejection.message == "model returned shape (3, 1), expected (3,): one number per event"


# What becomes weights, and what does not.


@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", None])
@pytest.mark.parametrize("last", ["LogisticRegression", "SGDClassifier", "LinearRegression", "Ridge", "LinearSVC"])
def test_linear_models_with_scalers_become_weights_that_score_alike(
    scaler: str | None, last: str, tmp_path: Path
) -> None:
    from sklearn import linear_model, preprocessing, svm
    from sklearn.pipeline import make_pipeline

    options = {"SGDClassifier": {"loss": "log_loss"}}.get(last, {})
    steps = [getattr(preprocessing, scaler)()] if scaler else []
    model = make_pipeline(*steps, getattr(linear_model, last, None) or getattr(svm, last))
    model.steps[-1] = (last, model.steps[-1][1](**options))
    model.fit(ROWS, AMOUNTS if last in ("LinearRegression", "Ridge") else LABELS)
    made = save_static(model, tmp_path, features=NAMES, version="1", golden=GOLDEN)
    assert made.kind == "linear"
    others = _rows(300, seed=5)
    ask = next(getattr(model, one) for one in ("predict_proba", "decision_function", "predict") if hasattr(model, one))
    want = ask(others)[:, 1] if ask.__name__ == "predict_proba" else ask(others)
    np.testing.assert_allclose(Static(tmp_path).score(dict(zip(NAMES, others.T, strict=True))), want, rtol=1e-9)


def test_weights_need_no_library(tmp_path: Path) -> None:
    save_static(_scaled(), tmp_path, features=NAMES, version="1", golden=GOLDEN)
    code = (
        "import sys; from headrace import Static\n"
        f"model = Static({str(tmp_path)!r})\n"
        "assert not {'sklearn', 'skops', 'lightgbm', 'xgboost', 'onnxruntime'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("last", ["PoissonRegressor", "LogisticRegression of three", "first class", "PCA"])
def test_what_is_not_a_weighted_sum_stays_what_it_is(last: str, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression, PoissonRegressor
    from sklearn.pipeline import make_pipeline

    column = None
    if last == "PoissonRegressor":
        model = PoissonRegressor(max_iter=1_000).fit(ROWS, ROWS[:, 0])
    elif last == "LogisticRegression of three":
        model, column = LogisticRegression(max_iter=1_000).fit(ROWS, ROWS[:, 0] % 3), 1
    elif last == "first class":
        model, column = LogisticRegression(max_iter=1_000).fit(ROWS, LABELS), 0
    else:
        model = make_pipeline(PCA(4), LogisticRegression(max_iter=1_000)).fit(ROWS, LABELS)
    made = save_static(model, tmp_path, features=NAMES, version="1", golden=GOLDEN, column=column)
    assert made.kind == "sklearn"
    want = model.predict(ROWS) if last == "PoissonRegressor" else _proba(model, ROWS, 1 if column is None else column)
    np.testing.assert_allclose(Static(tmp_path).score(dict(zip(NAMES, ROWS.T, strict=True))), want, rtol=1e-9)


def test_a_scaler_that_takes_the_digits_away_is_kept(tmp_path: Path) -> None:
    # Seconds since 1970 that vary by some milliseconds: as one weight, nearly all digits would cancel out.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = 1.7e9 + 1e-3 * np.random.default_rng(1).normal(size=(400, 1))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 1.7e9)
    assert save_static(model, tmp_path, features=["at"], version="1", golden={"at": rows[:, 0]}).kind == "sklearn"


# What is wrong with a folder.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A linear model, saved."""
    save_static(LINEAR, tmp_path / "model", features=NAMES, version="7", golden=GOLDEN)
    return tmp_path / "model"


def _change(folder: Path, **fields: Any) -> None:
    path = folder / NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _held(folder: Path) -> dict[str, Any]:
    return json.loads((folder / NAME).read_text())


def _rewrite(folder: Path, content: bytes) -> None:
    """Put other bytes there, hash and all."""
    file = _held(folder)["file"]
    (folder / file).write_bytes(content)
    _change(folder, sha256={file: hashlib.sha256(content).hexdigest()})


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(BadModel) as refused:
        Static(folder, **options)
    return str(refused.value)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert _refused(tmp_path).endswith(f"{tmp_path}: there is no manifest.json")
    assert _refused(tmp_path / "nowhere").endswith("nowhere: there is no manifest.json")
    (tmp_path / NAME).mkdir()
    assert _refused(tmp_path).endswith(f"{tmp_path / NAME}: Is a directory")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"format": 2}, "format = 2: this version reads 1"),
        ({"kind": "pickle"}, "Invalid enum value 'pickle' - at `$.kind`"),
        ({"kind": "joblib"}, "Invalid enum value 'joblib' - at `$.kind`"),
        ({"version": 7}, "Expected `str`, got `int` - at `$.version`"),
        ({"features": []}, "features: there are none"),
        ({"features": [{"name": "a"}, {"name": "a"}]}, "features: 'a' is there twice"),
        ({"features": [{"name": "a", "type": "text"}]}, "Invalid enum value 'text' - at `$.features[0].type`"),
        ({"sha256": {}}, "sha256: has nothing for 'model-"),
        ({"sha256": {"../passwords": ""}, "file": "../passwords"}, "sha256: '../passwords' is no name in this folder"),
        ({"sha256": {"/etc/passwd": ""}, "file": "/etc/passwd"}, "sha256: '/etc/passwd' is no name in this folder"),
        ({"sha256": {"..": ""}, "file": ".."}, "sha256: '..' is no name in this folder"),
        ({"golden": {"rows": [], "scores": [], "tolerance": 0.0}}, "golden: has no rows"),
        ({"golden": {"rows": [[1]], "scores": [1], "tolerance": 0}}, "golden: every row needs 4 numbers"),
        ({"golden": {"rows": [[1, 2, 3, 4]], "scores": [], "tolerance": 0}}, "golden: 1 rows and 0 scores"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(fields: dict[str, Any], told: str, folder: Path) -> None:
    _change(folder, **fields)
    assert f"{folder / NAME}: {told}" in _refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\ud800"])
def test_a_manifest_that_is_none_is_refused(text: str, folder: Path) -> None:
    (folder / NAME).write_bytes(text.encode(errors="surrogatepass"))
    assert str(folder / NAME) in _refused(folder)


def test_a_later_manifest_with_fields_that_nobody_knows_is_read(folder: Path) -> None:
    _change(folder, signature="abc", notes={"by": "us"})
    assert Static(folder).version == "7"


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b"\0" + b, lambda b: b.replace(b"0.3", b"0.4"), lambda b: b""]
)
def test_a_file_that_was_changed_is_refused(change: Any, folder: Path) -> None:
    file = folder / _held(folder)["file"]
    file.write_bytes(change(file.read_bytes()))
    told = _refused(folder)
    assert f"{file}: its SHA-256 is " in told
    assert "it was changed, or is a part" in told


def test_a_file_that_is_not_there_is_refused(folder: Path) -> None:
    file = folder / _held(folder)["file"]
    file.unlink()
    assert _refused(folder).endswith(f"{file}: No such file or directory, and the manifest names it")


def test_a_file_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "BYTES_MAX", 10)
    assert "bytes; allowed are 10" in _refused(folder)


def test_every_file_that_the_manifest_names_is_checked(folder: Path) -> None:
    (folder / "vocabulary.txt").write_text("a")
    _change(folder, sha256={**_held(folder)["sha256"], "vocabulary.txt": hashlib.sha256(b"b").hexdigest()})
    assert f"{folder / 'vocabulary.txt'}: its SHA-256 is " in _refused(folder)


def test_a_model_that_scores_otherwise_than_when_it_was_saved_is_refused(folder: Path) -> None:
    weights = msgspec.json.decode((folder / _held(folder)["file"]).read_bytes())
    weights["bias"] += 0.01
    _rewrite(folder, msgspec.json.encode(weights))
    told = _refused(folder)
    assert f"{folder}: golden: row 0 scores 0." in told
    assert "when it was saved (tolerance 1e-06)" in told
    assert told.endswith("golden: so do 17 rows more")


def test_golden_rows_may_differ_by_the_tolerance(folder: Path) -> None:
    golden = _held(folder)["golden"]
    golden["scores"][0] += 1e-4
    _change(folder, golden={**golden, "tolerance": 1e-3})
    assert Static(folder).version == "7"
    _change(folder, golden={**golden, "tolerance": 1e-5})
    assert "golden: row 0" in _refused(folder)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name][3] != "sklearn"])
def test_bytes_that_are_no_model_are_refused(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    _copied(folders[name], tmp_path)
    for content in (b"", b"tree\n", b"\0" * 100, b"{}"):
        _rewrite(tmp_path, content)
        assert "model cannot be used" in _refused(tmp_path, trusted=TREES)


def test_a_skops_file_that_is_none_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    _copied(folders["forest"], tmp_path)
    for content in (b"no zip", b"PK\3\4", b"\x80\4\x95"):  # the last is how a pickle begins
        _rewrite(tmp_path, content)
        assert "cannot be read as sklearn" in _refused(tmp_path, trusted=TREES)


def _copied(source: Path, target: Path) -> None:
    for one in source.iterdir():
        (target / one.name).write_bytes(one.read_bytes())


@pytest.mark.parametrize("name", MODELS)
def test_features_in_another_number_are_refused(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    _copied(folders[name], tmp_path)
    _change(tmp_path, features=_held(tmp_path)["features"][:3], golden=None)
    told = _refused(tmp_path, trusted=TREES)
    assert "features" in told or "columns" in told


@pytest.mark.parametrize("name", ["Linear", "ONNX, a column each"])
def test_features_in_another_order_are_refused_where_the_model_knows_theirs(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    _copied(folders[name], tmp_path)
    _change(tmp_path, features=_held(tmp_path)["features"][::-1], golden=None)
    told = (
        "features: given are total, lon, lat, count, and the model knows them in another order: count, lat, lon, total"
    )
    assert told in _refused(tmp_path)


def test_features_of_another_type_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    _copied(folders["ONNX"], tmp_path)
    _change(tmp_path, features=[{**one, "type": "float64"} for one in _held(tmp_path)["features"]], golden=None)
    assert "features: 'lon' is float64 in the manifest, and the model takes float32" in _refused(tmp_path)


def test_a_model_that_knows_its_features_by_name_is_held_to_them(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    boosters = [
        lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(ROWS, LABELS, feature_name=NAMES), 3),
        xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(ROWS, LABELS, feature_names=NAMES), 3),
    ]
    for booster in boosters:
        save_static(booster, tmp_path, features=NAMES, version="1")
        assert Static(tmp_path).features == tuple(NAMES)
        with pytest.raises(BadModel, match="and the model knows them in another order: count, lat, lon, total"):
            save_static(booster, tmp_path, features=NAMES[::-1], version="1")
        with pytest.raises(BadModel, match="and the model knows others: count, lat, lon, total"):
            save_static(booster, tmp_path, features=["a", "b", "c", "d"], version="1")


def test_a_model_of_which_nobody_said_which_class_is_meant_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadModel) as refused:
        save_static(_lightgbm_classes(), tmp_path, features=NAMES, version="1")
    assert "there are 3 classes (0.0, 1.0, 2.0), and a score is one number: say which one's by column=..." in str(
        refused.value
    )
    with pytest.raises(BadModel, match=r"column = 3: allowed are 0 to 2 \(0.0, 1.0, 2.0\)"):
        save_static(_lightgbm_classes(), tmp_path, features=NAMES, version="1", column=3)
    _copied(folders["LightGBM, classes"], tmp_path)
    _change(tmp_path, output={}, golden=None)
    assert "the model returned shape (2, 3) for 2 rows, expected (2,)" in _refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("forest", "sklearn", "sklearn"),
        ("forest", "skops.io", "sklearn"),
        ("LightGBM", "lightgbm", "lightgbm"),
        ("XGBoost", "xgboost", "xgboost"),
        ("ONNX", "onnxruntime", "onnx"),
    ],
)
def test_a_library_that_is_missing_is_told_with_the_extra_that_brings_it(
    name: str, module: str, extra: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"pip install 'headrace[{extra}]'" in _refused(folders[name], trusted=TREES)


def test_types_that_nobody_trusts_are_refused_and_nothing_of_them_runs(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    assert "holds sklearn.tree._tree.Tree, which skops does not trust" in _refused(folders["forest"])
    from sklearn.base import BaseEstimator, ClassifierMixin

    module = ModuleType("theirs")
    sys.modules["theirs"] = module

    class Evil(ClassifierMixin, BaseEstimator):
        ran = False

        def __setstate__(self, state: Any) -> None:
            Evil.ran = True

        def predict_proba(self, rows: Any) -> Any:
            return np.full((len(rows), 2), 0.5)

    Evil.__module__, Evil.__qualname__ = "theirs", "Evil"
    module.Evil = Evil  # type: ignore[attr-defined]
    try:
        evil = Evil()
        evil.classes_ = np.array([0, 1])
        with pytest.raises(BadModel, match=r"holds theirs\.Evil, which skops does not trust"):
            save_static(evil, tmp_path / "none", features=NAMES, version="1")
        assert not (tmp_path / "none").exists()
        save_static(evil, tmp_path, features=NAMES, version="1", trusted=["theirs.Evil"])
        Evil.ran = False
        assert "say trusted=['theirs.Evil']" in _refused(tmp_path)
        assert not Evil.ran
    finally:
        del sys.modules["theirs"]


def test_another_version_of_scikit_learn_needs_golden_rows(folders: dict[str, Path], tmp_path: Path) -> None:
    _copied(folders["forest"], tmp_path)
    _change(tmp_path, libraries={"scikit-learn": "0.24.2"})
    assert _load(tmp_path).version == "7", "its golden rows show that it scores the same"
    _change(tmp_path, golden=None)
    assert "was made with scikit-learn 0.24.2, and here is " in _refused(tmp_path, trusted=TREES)


# How a folder is written.


def test_a_manifest_says_where_a_model_comes_from(tmp_path: Path) -> None:
    rows = {**GOLDEN, "total": [np.nan, *ROWS[1:20, 3]], "other": ROWS[:20, 0]}
    made = save_static(_lightgbm(), tmp_path, features=NAMES, version="2026-11", golden=rows, metrics={"auc": 0.9})
    held = msgspec.json.decode((tmp_path / NAME).read_bytes(), type=Manifest)
    assert held == made
    assert (held.kind, held.made_from, held.version, held.metrics) == (
        "lightgbm",
        "lightgbm.LGBMClassifier",
        "2026-11",
        {"auc": 0.9},
    )
    assert {"python", "headrace", "numpy", "lightgbm"} == set(held.libraries)
    assert held.golden is not None
    assert (len(held.golden.rows), held.golden.rows[0][3]) == (20, None)
    assert Static(tmp_path).manifest == made
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([NAME, made.file])


def test_golden_rows_are_the_first_hundred(tmp_path: Path) -> None:
    made = save_static(LINEAR, tmp_path, features=NAMES, version="1", golden=dict(zip(NAMES, ROWS.T, strict=True)))
    assert made.golden is not None
    assert len(made.golden.rows) == len(made.golden.scores) == 100


@pytest.mark.parametrize(
    ("golden", "told"),
    [
        ({"count": [1.0]}, "golden: has no column lat, lon, total; it has count"),
        (dict.fromkeys(NAMES, ()), "golden: has no rows"),
        ({**GOLDEN, "lat": np.full(20, np.inf)}, "golden: 'lat' is inf in row 0; allowed are finite numbers and NaN"),
        ({**GOLDEN, "lat": np.full(20, np.nan)}, "golden: row 0 scores nan, and a score is a finite number"),
    ],
)
def test_golden_rows_that_show_nothing_are_refused(golden: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel) as refused:
        save_static(LINEAR, tmp_path / "m", features=NAMES, version="1", golden=golden)
    assert told in str(refused.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            lambda rows: rows,
            "allowed are fitted models of scikit-learn, LightGBM and XGBoost, an ONNX model or its file",
        ),
        (Linear({"count": 1.0}), "features: given are count, lat, lon, total, and the model knows others: count"),
        (Linear(dict.fromkeys(NAMES, np.nan)), "count = nan: allowed are finite numbers"),
        (b"no onnx", "bytes: raised InvalidProtobuf"),
        ("nowhere.onnx", "nowhere.onnx: raised FileNotFoundError"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel) as refused:
        save_static(model, tmp_path / "m", features=NAMES, version="1")
    assert told in str(refused.value)
    assert not (tmp_path / "m").exists()


def test_a_model_that_is_not_fitted_or_gives_no_number_is_refused(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import LocalOutlierFactor

    for model, told in (
        (LogisticRegression(), "raised"),
        (RidgeClassifier().fit(ROWS, ROWS[:, 0] % 3), "returned shape"),
        (LocalOutlierFactor().fit(ROWS), "method = '': of sklearn.LocalOutlierFactor allowed are none"),
        (to_onnx(_scaled(), ROWS[:1].astype("f4")), "leave ZipMap out when you convert: options={'zipmap': False}"),
    ):
        with pytest.raises(BadModel) as refused:
            save_static(model, tmp_path / "m", features=NAMES, version="1")
        assert told in str(refused.value)
        assert not (tmp_path / "m" / NAME).exists()


def test_a_newer_model_takes_the_place_of_the_older_at_once(folder: Path) -> None:
    old = Static(folder).manifest
    new = save_static(Linear(dict.fromkeys(NAMES, 0.5)), folder, features=NAMES, version="8")
    assert Static(folder).version == "8"
    assert sorted(one.name for one in folder.iterdir()) == sorted([NAME, new.file])
    assert old.file != new.file
    assert save_static(LINEAR, folder, features=NAMES, version="9").file == old.file, "a file is called by its content"


@pytest.mark.parametrize("reached", range(6))
def test_a_writer_that_dies_leaves_the_older_model_or_the_newer_and_never_a_mixture(
    reached: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    left = reached

    def dying(function: Any) -> Any:
        def called(*given: Any, **options: Any) -> Any:
            nonlocal left
            if not left:
                raise Died
            left -= 1
            return function(*given, **options)

        return called

    monkeypatch.setattr(saving, "_put", dying(saving._put))
    monkeypatch.setattr(saving, "_sync", dying(saving._sync))
    monkeypatch.setattr(Path, "replace", dying(Path.replace))
    monkeypatch.setattr(saving.shutil, "rmtree", lambda *_, **__: None)  # whoever is dead tidies nothing up
    with pytest.raises(Died):
        save_static(Linear(dict.fromkeys(NAMES, 0.5)), folder, features=NAMES, version="8")
    monkeypatch.undo()
    static = Static(folder)
    assert static.version == ("8" if reached == 5 else "7")
    one = {name: np.zeros(1) for name in NAMES}
    assert static.score(one)[0] == pytest.approx(0.5 if reached == 5 else LINEAR.score(one)[0])
    save_static(LINEAR, folder, features=NAMES, version="9")
    assert Static(folder).version == "9"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadModel, match="file"):
        save_static(LINEAR, tmp_path / "file", features=NAMES, version="1")


# A page with a model.


PAGE = """
from headrace import Event, Pipeline, Static, field

class Order(Event, topic="orders", key="shop"):
    id: str
    at: float
    shop: str
    lat: float

pipeline = Pipeline(name="page", events=Order, features={"lat": field("lat")}, static=Static("model"))
"""


def test_a_path_is_relative_to_the_page_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "shop" / "orders.py"
    save_static(Linear({"lat": 0.5}), tmp_path / "shop" / "model", features=["lat"], version="7")
    page.write_text(PAGE)
    monkeypatch.chdir("/")
    pipeline = load_pipeline(str(page))
    driver = Driver(pipeline)
    driver.pipe({"id": "1", "shop": "s", "lat": 2.0})
    assert [(made["score"], made["version"]) for made in driver.predictions] == [
        (Linear({"lat": 0.5}).score({"lat": np.array([2.0])})[0], "7")
    ]
    events = tmp_path / "events.jsonl"
    events.write_text('{"id": "1", "at": 0, "shop": "s", "lat": 2.0}\n')
    command = [sys.executable, "-m", "headrace.stream.cli", "score", str(page), str(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout)["score"] == driver.predictions[0]["score"]


def test_where_no_file_says_it_a_path_is_relative_to_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    names: dict[str, Any] = {"Static": Static}
    exec("static = Static('model')", names)  # as in a notebook
    assert names["static"].version == "7"


def test_a_page_whose_model_is_damaged_ends_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PAGE)
    command = [sys.executable, "-m", "headrace.stream.cli", "score", str(tmp_path), "events.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (BadModel.exit_code, "")
    assert done.stderr.startswith("BAD_MODEL: model cannot be used (1 problem):\n")


def test_a_model_of_other_features_does_not_fit_the_pipeline(folder: Path) -> None:
    with pytest.raises(BadPipeline) as refused:
        Pipeline(name="p", events=Order, features={"lat": field("lat"), "cuont": field("count")}, static=Static(folder))
    assert "static reads 'count', which is no feature; did you mean 'cuont'?" in str(refused.value)
    assert "features['cuont'] is read by no model" in str(refused.value)
