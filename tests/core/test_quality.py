"""Progressive quality: equal to River and to slow recounts, whatever the cuts, the order and the partitions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, datasets, linear_model, metrics, naive_bayes, optim, preprocessing

from headrace.models import snapshot
from headrace.models.baselines import Baselines
from headrace.models.exact import POINT, as_float, exact_sums, read, written
from headrace.models.quality import Quality
from headrace.models.ranking import NUMBER_BINS, PROBABILITY_BINS, number_bins, probability_bins
from headrace.models.tally import TILES

KINDS = ("binary", "multiclass", "regression", "anomaly")
fixed = settings(max_examples=60, deadline=None, derandomize=True)


def _stream(kind: str, count: int, seed: int) -> tuple[np.ndarray, Any, Any]:
    """Times that mostly grow, scores of which some are missing, and labels."""
    rng = np.random.default_rng(seed)
    at = 1.7e9 + np.cumsum(rng.choice([0.0, 1.0, 40.0, 3_000.0], count)) - rng.choice([0.0, 0.0, 5e3, 5e5], count)
    if kind == "multiclass":
        return at, rng.choice(np.array(["a", "b", "c", None], object), count), rng.choice(["a", "b", "c"], count)
    scores = np.where(rng.random(count) < 0.05, np.nan, rng.beta(0.3, 2.0, count))
    if kind == "regression":
        return at, 1e3 * scores, rng.normal(300.0, 200.0, count)
    if kind == "anomaly":
        scores = scores * rng.choice([1.0, 1.0, -1.0, 300.0], count)
    return at, scores, (rng.random(count) < 0.3).astype(float)


def _added(kind: str, stream: tuple[Any, Any, Any], cuts: list[int], **options: Any) -> Quality:
    quality = Quality(kind, window="1d", **options)  # type: ignore[arg-type]
    at, scores, labels = stream
    for begin, end in zip([0, *cuts], [*cuts, len(at)], strict=True):
        quality.add(at[begin:end], scores[begin:end], labels[begin:end])
    return quality


def _bytes(quality: Quality) -> bytes:
    return snapshot.encode(quality.dump())


# Sums


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.integers(0, 2)), max_size=40))
@fixed
def test_sums_are_exact(drawn: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in drawn], np.float64)
    groups = np.array([group for _, group in drawn], np.int64)
    want = [sum((Fraction(value) for value, group in drawn if group == one), Fraction(0)) for one in range(3)]
    sums = exact_sums(values, groups, 3)
    assert [Fraction(one, 1 << POINT) for one in sums] == want
    assert [read(written(one)) for one in sums] == sums
    assert as_float(sums[0], 3) == float(want[0] / 3)


@pytest.mark.parametrize("value", [5e-324, -5e-324, 2.2e-308, 1.7e308, 0.0, -0.0])
def test_a_sum_of_one_is_that_one(value: float) -> None:
    assert as_float(exact_sums(np.array([value]), np.zeros(1, np.int64), 1)[0]) == value


# Against River


def _phishing() -> tuple[list[float], list[float]]:
    """What River's model says of each row before it learns it, and what is true."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    scores, labels = [], []
    for x, y in datasets.Phishing():
        scores.append(model.predict_proba_one(x)[True])
        labels.append(float(y))
        model.learn_one(x, y)
    return scores, labels


def test_every_number_of_a_binary_model_is_rivers_all_along_the_way() -> None:
    scores, labels = _phishing()
    theirs = {
        "accuracy": metrics.Accuracy(),
        "precision": metrics.Precision(),
        "recall": metrics.Recall(),
        "f1": metrics.F1(),
        "kappa": metrics.CohenKappa(),
        "log_loss": metrics.LogLoss(),
    }
    quality, rng, done = Quality("binary"), np.random.default_rng(1), 0
    while done < len(scores):
        upto = min(done + int(rng.integers(1, 60)), len(scores))
        quality.add(np.arange(done, upto), scores[done:upto], labels[done:upto])
        for score, label in zip(scores[done:upto], labels[done:upto], strict=True):
            for name, metric in theirs.items():
                metric.update(bool(label), score if name == "log_loss" else score > 0.5)
        done = upto
        mine = quality.report()["overall"]
        for name, metric in theirs.items():
            assert (mine[name] or 0.0) == pytest.approx(metric.get(), abs=1e-9), f"{name} after {done}"
    assert mine["count"] == 1_250
    # As published for River: scaler and logistic regression on Phishing.
    assert mine["accuracy"] == pytest.approx(0.8872, abs=0.005)
    assert mine["f1"] == pytest.approx(0.8712, abs=0.005)


def test_the_last_class_is_as_good_on_phishing_as_is_published() -> None:
    _, labels = _phishing()
    baselines, quality = Baselines("binary"), Quality("binary")
    for begin in range(0, len(labels), 77):
        part = labels[begin : begin + 77]
        quality.add(np.full(len(part), 1.0), baselines.step(part)["last_class"], part)
    told = quality.report()["overall"]
    assert told["unusable"] == 1, "the first has nothing before it"
    assert told["accuracy"] == pytest.approx(0.5156, abs=0.0005)
    assert told["kappa_temporal"] == 0.0


def test_every_number_of_a_multiclass_model_is_rivers() -> None:
    model = preprocessing.StandardScaler() | naive_bayes.GaussianNB()
    theirs = {
        "accuracy": metrics.Accuracy(),
        "macro_f1": metrics.MacroF1(),
        "micro_f1": metrics.MicroF1(),
        "kappa": metrics.CohenKappa(),
        "log_loss": metrics.CrossEntropy(),
    }
    names = sorted({y for _, y in datasets.ImageSegments()})
    quality, foretold, columns, labels = Quality("multiclass"), Quality("multiclass"), [], []
    for x, y in datasets.ImageSegments().take(800):
        chances = model.predict_proba_one(x)
        model.learn_one(x, y)
        if len(chances) < len(names):  # of a class that is unknown River says nothing, and is not wrong about it
            continue
        columns.append([chances[name] for name in names])
        labels.append(y)
        for name, metric in theirs.items():
            metric.update(y, chances if name == "log_loss" else max(names, key=chances.__getitem__))
    table = np.array(columns).T
    at = np.arange(len(labels))
    quality.add(at, dict(zip(names, table, strict=True)), labels)
    foretold.add(at, [names[row] for row in table.argmax(axis=0)], labels)
    mine, without = quality.report()["overall"], foretold.report()["overall"]
    for name, metric in theirs.items():
        assert mine[name] == pytest.approx(metric.get(), abs=1e-9), name
    assert without == {**mine, "log_loss": None}
    assert mine["classes"] == 7


def test_probabilities_may_come_as_a_dictionary_per_row() -> None:
    listed: list[dict[str, float]] = [{}, {"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}, {"b": 1.0}]
    rows, columns = Quality("multiclass"), Quality("multiclass")
    rows.add([1.0] * 4, listed, ["a", "a", "a", "a"])
    told = rows.report()["overall"]
    # Of two that are equally likely the first one is meant, as in River; a class that is not named has no chance.
    assert (told["count"], told["unusable"], told["accuracy"]) == (3, 1, 1 / 3)
    assert told["log_loss"] == pytest.approx((2 * math.log(2) - math.log(1e-15)) / 3)
    table = {"a": np.array([np.nan, 0.5, 0.4, np.nan]), "b": np.array([np.nan, 0.5, 0.6, 1.0])}
    columns.add([1.0] * 4, table, ["a", "a", "a", "a"])
    assert columns.report()["overall"]["accuracy"] == 1 / 3


def test_every_number_of_a_regression_is_rivers() -> None:
    select = compose.SelectType(int, float)
    model = select | preprocessing.StandardScaler() | linear_model.LinearRegression()
    theirs = {"mae": metrics.MAE(), "rmse": metrics.RMSE(), "r2": metrics.R2()}
    scores, labels = [], []
    for x, y in datasets.TrumpApproval():
        scores.append(model.predict_one(x))
        labels.append(y)
        model.learn_one(x, y)
    quality = Quality("regression")
    for begin in range(0, len(scores), 97):
        part = slice(begin, begin + 97)
        quality.add(np.arange(len(scores))[part], scores[part], labels[part])
        for score, label in zip(scores[part], labels[part], strict=True):
            for metric in theirs.values():
                metric.update(label, score)
        mine = quality.report()["overall"]
        for name, metric in theirs.items():
            assert mine[name] == pytest.approx(metric.get(), rel=1e-9, abs=1e-9), f"{name} after {begin}"
    assert mine["bias"] == pytest.approx(np.mean(np.array(scores) - labels), rel=1e-9)


def test_r2_is_right_far_from_zero() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(-50, 50, 1_000) + 1e12
    scores = labels + rng.integers(-9, 9, 1_000)
    quality = Quality("regression")
    quality.add(np.arange(1_000), scores, labels)
    exact = [Fraction(one) for one in labels.tolist()]
    mean = sum(exact) / 1_000
    spread = sum((one - mean) ** 2 for one in exact)
    want = 1 - sum((Fraction(a) - b) ** 2 for a, b in zip(scores.tolist(), exact, strict=True)) / spread
    assert quality.report()["overall"]["r2"] == pytest.approx(float(want), rel=1e-12)


def test_absurd_numbers_are_no_end() -> None:
    quality = Quality("regression")
    quality.add([1.0, 1.0], [1e150, -1e150], [0.0, 5e-324])
    quality.add([1.0, 1.0], [1e150, -1e150], [1e-150, 0.0])
    told = quality.report()["overall"]
    assert (told["r2"], told["mae"], told["rmse"]) == (None, 1e150, pytest.approx(1e150))


# Against slow recounts


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Of all pairs of a one and a zero, how many are in the right order; equal ones are half of it."""
    ones, zeros = scores[labels == 1.0], scores[labels == 0.0]
    return float(np.mean((ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)))


def _average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Over the thresholds that there are: what recall grows by, times the precision there."""
    total, before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        recall = labels[above].sum() / labels.sum()
        total += (recall - before) * labels[above].mean()
        before = recall
    return total


SHAPES = {
    "spread": lambda rng, y: 1 / (1 + np.exp(-rng.normal(y - 2.0, 1.5))),
    "rare": lambda rng, y: np.clip(rng.lognormal(-7 + y, 1.0), 0, 1),
    "narrow": lambda rng, y: 0.3 + 0.001 * rng.normal(y, 1.0),
    "sure": lambda rng, y: 1 / (1 + np.exp(-rng.normal(20 * y - 10, 20.0))),
    "coarse": lambda rng, y: np.round(rng.beta(1 + y, 2), 1),
    "constant": lambda rng, y: np.full(len(y), 0.25) + 0 * rng.random(),
}


@pytest.mark.parametrize("kind", ["binary", "anomaly"])
@pytest.mark.parametrize("shape", SHAPES)
def test_areas_are_within_the_error_that_is_told(shape: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(3_000) < 0.1).astype(float)
    scores = SHAPES[shape](rng, labels)
    quality = Quality(kind, k=100)  # type: ignore[arg-type]
    quality.add(np.arange(3_000), scores, labels)
    told = quality.report()["overall"]
    roc, pr = _auc(scores, labels), _average_precision(scores, labels)
    assert abs(told["roc_auc"] - roc) <= told["roc_auc_error"] + 1e-12
    assert abs(told["pr_auc"] - pr) <= told["pr_auc_error"] + 1e-12
    if shape in {"spread", "rare"}:
        assert told["roc_auc_error"] < 0.002
        assert abs(told["roc_auc"] - roc) < 1e-4
        assert abs(told["pr_auc"] - pr) < 2e-3
    if shape in {"coarse", "constant"}:  # what is in one bin is equal indeed
        assert told["roc_auc"] == pytest.approx(roc, abs=1e-12)
        assert told["pr_auc"] == pytest.approx(pr, abs=1e-12)
    highest = labels[np.argsort(-scores, kind="stable")[:100]].mean()
    if shape not in {"coarse", "constant"}:  # the 100 highest are not told apart from others
        assert abs(told["precision_at_k"] - highest) <= told["precision_at_k_error"] + 1e-12


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=25))
@fixed
def test_areas_of_scores_that_differ_by_more_than_a_bin_are_exact(drawn: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 8 for score, _ in drawn])
    labels = np.array([float(label) for _, label in drawn])
    quality = Quality("binary", k=3)
    quality.add(np.zeros(len(drawn)), scores, labels)
    told = quality.report()["overall"]
    both = 0 < labels.sum() < len(labels)
    assert told["roc_auc"] == (pytest.approx(_auc(scores, labels), abs=1e-12) if both else None)
    assert told["pr_auc"] == (pytest.approx(_average_precision(scores, labels)) if labels.any() else None)


def test_a_higher_score_is_never_in_a_lower_bin() -> None:
    rng = np.random.default_rng(1)
    near = np.concatenate([10.0 ** -np.arange(0, 300, 0.7), [0.0, -0.0, 0.5, 1.0], rng.random(2_000)])
    chances = np.sort(np.concatenate([near[near <= 1.0], 1.0 - near[near <= 1.0], np.nextafter(0.5, [0, 1])]))
    bins = probability_bins(chances)
    assert (np.diff(bins) >= 0).all()
    assert (bins.min(), bins.max()) == (0, PROBABILITY_BINS - 1)
    numbers = np.sort(
        np.concatenate(
            [chances, -chances, 1 / near[near > 0.0], -1 / near[near > 0.0], [1e308, -1e308, 5e-324, -5e-324]]
        )
    )
    bins = number_bins(numbers)
    assert (np.diff(bins) >= 0).all()
    assert (bins.min(), bins.max()) == (0, NUMBER_BINS - 1)


def test_what_is_said_of_probabilities_is_what_it_is_by_definition() -> None:
    _, scores, labels = _stream("binary", 2_000, 7)
    scores = np.nan_to_num(scores, nan=0.5)
    quality = Quality("binary", threshold=0.2, costs=(1.0, 25.0))
    quality.add(np.arange(2_000), scores, labels)
    told = quality.report()["overall"]
    rate = labels.mean()
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores)))
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    bins = np.minimum((10 * scores).astype(int), 9)
    gaps = [abs(scores[bins == one].sum() - labels[bins == one].sum()) for one in range(10)]
    alerts = scores > 0.2
    stays = np.mean(labels[1:] == labels[:-1])
    want = {
        "brier": np.mean((scores - labels) ** 2),
        "log_loss": loss,
        "normalised_entropy": loss / entropy,
        "calibration_error": sum(gaps) / 2_000,
        "calibration_ratio": scores.sum() / labels.sum(),
        "cost": np.mean(1.0 * (alerts & (labels == 0)) + 25.0 * (~alerts & (labels == 1))),
        "alert_rate": alerts.mean(),
        "kappa_temporal": (np.mean(alerts == labels) - stays) / (1 - stays),
    }
    for name, number in want.items():
        assert told[name] == pytest.approx(number, rel=1e-9), name


def _one_by_one(stream: tuple[Any, Any, Any], kind: str) -> dict[str, dict[str, float | None]]:
    """The window by brute force: at the end, which rows are in a tile that is not too old."""
    at, scores, labels = stream
    tiles = np.floor(at / (86_400 / TILES))
    whole, inside = Quality(kind, window=1e9), Quality(kind, window=1e9)  # type: ignore[arg-type]
    whole.add(at, scores, labels)
    recent = tiles > tiles.max() - TILES
    inside.add(at[recent], scores[recent], labels[recent])
    return {"overall": whole.report()["overall"], "recent": inside.report()["overall"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(3))
def test_the_window_has_what_came_in_its_tiles(kind: str, number: int) -> None:
    stream = _stream(kind, 700, number)
    got, want = _added(kind, stream, [1, 2, 300, 301, 500]).report(), _one_by_one(stream, kind)
    for part in ("overall", "recent"):
        # What came before a label is another one where labels are left out.
        for name in got[part].keys() - {"kappa_temporal"}:
            assert got[part][name] == want[part][name], f"{part} {name}"
    assert 0 < got["recent"]["count"] < got["overall"]["count"]


def test_the_window_covers_its_span_but_for_a_thirty_second() -> None:
    day = 86_400.0
    for ago, inside in ((0.0, True), (day * 31 / 32, True), (day, False), (1.01 * day, False)):
        quality = Quality("binary", window="1d")
        quality.add([1e9 * day - ago, 1e9 * day], [0.5, 0.5], [0, 0])
        assert quality.report()["recent"]["count"] == 1 + inside, ago


def test_an_idle_stream_has_an_empty_window_in_the_end() -> None:
    quality = Quality("binary", window="1h")
    quality.add([100.0], [0.5], [0])
    before = _bytes(quality)
    assert quality.report(now=200.0)["recent"]["count"] == 1
    later = quality.report(now=9_000.0)
    assert (later["recent"]["count"], later["overall"]["count"]) == (0, 1)
    assert later["recent"]["accuracy"] is None
    assert _bytes(quality) == before, "asking changes nothing"


# Laws


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(4))
def test_where_a_batch_is_cut_never_shows(kind: str, number: int) -> None:
    stream = _stream(kind, 400, number)
    cuts = sorted(np.random.default_rng(number).integers(0, 400, 7).tolist())
    whole = _added(kind, stream, [])
    assert _bytes(_added(kind, stream, cuts)) == _bytes(whole)
    assert _bytes(_added(kind, stream, list(range(1, 400)))) == _bytes(whole)


def test_where_a_batch_is_cut_never_shows_in_which_classes_are_one_too_many() -> None:
    rng = np.random.default_rng(1)
    stream = (np.arange(300.0), rng.integers(0, 9, 300), rng.integers(0, 9, 300))
    whole = _added("multiclass", stream, [], classes_max=5)
    assert _bytes(_added("multiclass", stream, list(range(1, 300)), classes_max=5)) == _bytes(whole)
    told, all_of_them = whole.report()["overall"], _added("multiclass", stream, []).report()["overall"]
    assert told["classes"] == 6
    assert told["accuracy"] == all_of_them["accuracy"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_snapshot_goes_on_alike(kind: str) -> None:
    at, scores, labels = _stream(kind, 400, 1)
    stayed = _added(kind, (at[:200], scores[:200], labels[:200]), [50])
    moved = Quality(kind, window="1d")  # type: ignore[arg-type]
    moved.load(snapshot.decode(_bytes(stayed)))
    assert moved.report() == stayed.report()
    for one in (stayed, moved):
        one.add(at[200:], scores[200:], labels[200:])
    assert _bytes(moved) == _bytes(stayed)


@pytest.mark.parametrize("kind", KINDS)
def test_partitions_together_are_the_whole(kind: str) -> None:
    at, scores, labels = _stream(kind, 600, 2)
    of = np.random.default_rng(2).integers(0, 3, 600)
    parts = [_added(kind, (at[of == one], scores[of == one], labels[of == one]), []) for one in range(3)]
    together = [parts[a].merged(parts[b]).merged(parts[c]) for a, b, c in ((0, 1, 2), (2, 1, 0), (1, 2, 0))]
    assert len({_bytes(one) for one in together}) == 1
    whole = _added(kind, (at, scores, labels), []).report()
    for part, told in together[0].report().items():
        for name in told.keys() - {"kappa_temporal"}:  # each label is compared with the last of its own partition
            assert told[name] == whole[part][name], f"{part} {name}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_is_corrected_leaves_no_trace_of_the_wrong_one(kind: str) -> None:
    at, scores, labels = _stream(kind, 300, 3)
    wrong = labels.copy()
    which = np.random.default_rng(3).random(300) < 0.2
    wrong[which] = {"multiclass": "c", "regression": 7.25}.get(kind, 0.0)
    corrected, right = _added(kind, (at, scores, wrong), [100]), _added(kind, (at, scores, labels), [])
    corrected.revise(at[which], scores[which], wrong[which], labels[which])
    for part, told in corrected.report().items():
        for name in told.keys() - {"kappa_temporal"}:
            assert told[name] == right.report()[part][name], f"{part} {name}"


def test_a_correction_of_what_has_left_the_window_changes_the_whole_only() -> None:
    quality = Quality("binary", window="1h")
    quality.add([0.0, 1e6], [0.9, 0.9], [0, 1])
    before = quality.report()
    quality.revise([0.0], [0.9], [0], [1])
    after = quality.report()
    assert after["recent"] == before["recent"]
    assert (before["overall"]["accuracy"], after["overall"]["accuracy"]) == (0.5, 1.0)


def test_a_correction_of_what_nobody_knows_the_time_of_changes_the_whole_only() -> None:
    quality, right = Quality("binary", window="1h"), Quality("binary", window="1h")
    quality.add([0.0, 1e6], [0.9, 0.8], [0, 1])
    before = quality.report()["recent"]
    quality.revise([math.nan, math.nan], [0.9, 0.8], [0, 1], [1, 0])
    right.add([0.0, 1e6], [0.9, 0.8], [1, 0])
    after = quality.report()
    assert after["recent"] == before
    assert {**after["overall"], "kappa_temporal": None} == {**right.report()["overall"], "kappa_temporal": None}


def test_inputs_are_left_alone() -> None:
    for kind in KINDS:
        stream = _stream(kind, 100, 1)
        before = [one.copy() for one in stream]
        quality = _added(kind, stream, [])
        quality.revise(*stream, stream[2])
        for mine, theirs in zip(stream, before, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_memory_does_not_grow_with_the_stream() -> None:
    quality, rng, sizes = Quality("binary", window="1d"), np.random.default_rng(1), []
    for part in range(120):
        at = part * 3_600.0 + np.sort(rng.uniform(0, 3_600, 300))
        quality.add(at, rng.beta(0.5, 5, 300), rng.random(300) < 0.1)
        sizes.append(quality.bytes)
    assert max(sizes[60:]) < 1.1 * max(sizes[:60]) < 500_000


# What is odd


@pytest.mark.parametrize("kind", ["binary", "regression", "anomaly"])
def test_a_row_that_cannot_be_is_counted_as_that_only(kind: str) -> None:
    quality = Quality(kind, window="1d")  # type: ignore[arg-type]
    odd = [math.nan, 0.5, math.inf, 0.5, 0.5]
    labels = [0.0, math.nan, 1.0, math.inf, 1.0]
    at = [1.0, 1.0, 1.0, 1.0, math.nan]
    quality.add([2.0], [0.25], [1.0])
    want = {**quality.report()["overall"], "unusable": 5.0}
    quality.add(at, odd, labels)
    told = quality.report()
    assert told["overall"] == want
    assert told["recent"]["unusable"] == 4, "and where it has no time it is in no window"


def test_a_probability_is_between_zero_and_one_and_a_label_one_of_them() -> None:
    quality = Quality("binary")
    quality.add([1.0] * 4, [1.1, -0.1, 0.5, 1.0], [1, 1, 0.5, 1])
    assert (quality.report()["overall"]["unusable"], quality.report()["overall"]["count"]) == (3, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_label_nothing_is_known(kind: str) -> None:
    quality = Quality(kind)  # type: ignore[arg-type]
    quality.add([], [], [])
    told = quality.report()["overall"]
    assert {name: value for name, value in told.items() if value is not None} == {
        name: 0.0 for name in ("count", "unusable", "positives", "classes") if name in told
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_the_same_row_twice(kind: str) -> None:
    at, scores, labels = _stream(kind, 200, 4)
    weights = np.random.default_rng(4).integers(0, 4, 200)
    weighted = Quality(kind, window="1d")  # type: ignore[arg-type]
    weighted.add(at[:50], scores[:50], labels[:50], weights[:50])
    weighted.add(at[50:], scores[50:], labels[50:], weights[50:])
    each = np.repeat(np.arange(200), weights)
    repeated = _added(kind, (at[each], scores[each], labels[each]), [])
    for part, told in weighted.report().items():
        for name in told.keys() - {"kappa_temporal", "unusable"}:
            want = repeated.report()[part][name]
            assert told[name] == (want if want is None else pytest.approx(want, rel=1e-12)), f"{part} {name}"


def test_a_weight_that_is_none_is_refused() -> None:
    for weight in (-1.0, math.nan, 2e6):
        with pytest.raises(ValueError, match="weights: allowed are 0 to 1048576, and there are"):
            Quality("binary").add([1.0], [0.5], [1], [weight])


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="kind = 'ranking': allowed are binary, multiclass, regression, anomaly"):
        Quality("ranking")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window = 0: allowed are spans such as '1d', or a positive number of sec"):
        Quality("binary", window=0)
    with pytest.raises(ValueError, match="k = 0: there is no precision among fewer than one"):
        Quality("binary", k=0)


def test_flipped_labels_lower_the_accuracy_as_they_must() -> None:
    rng = np.random.default_rng(8)
    labels = (rng.random(200_000) < 0.5).astype(float)
    scores = np.where(rng.random(200_000) < 0.9, labels, 1.0 - labels)
    accuracy = {}
    for q in (0.0, 0.1, 0.3):
        quality = Quality("binary")
        flipped = np.where(rng.random(200_000) < q, 1.0 - labels, labels)
        quality.add(np.zeros(200_000), scores, flipped)
        accuracy[q] = quality.report()["overall"]["accuracy"]
    for q in (0.1, 0.3):
        assert accuracy[q] == pytest.approx(accuracy[0.0] * (1 - q) + (1 - accuracy[0.0]) * q, abs=0.004)


# Baselines


def _streams_of_labels(kind: str) -> np.ndarray:
    return _stream(kind, 300, 5)[2]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_baselines_say_what_a_recount_says(kind: str) -> None:
    labels = _streams_of_labels(kind).tolist()
    baselines, got = Baselines(kind), ([], [])  # type: ignore[arg-type]
    cuts = sorted(np.random.default_rng(2).integers(0, 300, 6).tolist())
    for begin, end in zip([0, *cuts], [*cuts, 300], strict=True):
        moved = Baselines(kind)  # type: ignore[arg-type]
        moved.load(snapshot.decode(snapshot.encode(baselines.dump())))
        baselines = moved
        for kept, column in zip(got, baselines.step(labels[begin:end]).values(), strict=True):
            kept.extend(column.tolist())
    for row in range(1, 300):
        before = labels[:row]
        assert got[0][row] == before[-1]
        if kind == "multiclass":
            assert before.count(got[1][row]) == max(map(before.count, before))
        else:
            assert got[1][row] == pytest.approx(sum(before) / row, rel=1e-12)
    whole = Baselines(kind)  # type: ignore[arg-type]
    for name, column in whole.step(labels).items():
        np.testing.assert_array_equal(column, np.array(got[whole.names.index(name)], column.dtype))
    assert snapshot.encode(whole.dump()) == snapshot.encode(baselines.dump())


def test_a_baseline_is_corrected_too() -> None:
    baselines = Baselines("binary")
    baselines.step([0, 0, 0, 1])
    baselines.revise([0, 0], [1, 1])
    assert baselines.step([0])["majority"].tolist() == [0.75]
    classes = Baselines("multiclass")
    classes.step(["a", "a", "b", "b", "a"])
    classes.revise(["a"], ["b"])
    assert classes.step(["a"])["majority"].tolist() == ["b"]


def test_an_anomaly_detector_has_no_baselines() -> None:
    assert Baselines("anomaly").step([0, 1]) == {}
