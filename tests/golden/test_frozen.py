"""Learners that an earlier Headrace kept are thawed by today's, and go on as they would have gone on then.

When a learner or the format was changed on purpose: ``python tests/golden/test_frozen.py`` keeps them anew. What was
kept by an older format stays beside them, because state of that age is still in changelogs.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from river import anomaly, datasets, drift, forest, linear_model, metrics, neighbors, preprocessing, rules, tree

from headrace.models.frozen import digest, freeze, thaw
from headrace.models.snapshot import decode, encode

KEPT = Path(__file__).with_name("frozen-1")
TAUGHT, MORE = 300, 20


def _classifier(model: Any, rows: Iterator[Any]) -> Iterator[float]:
    for x, y in rows:
        yield model.predict_proba_one(x).get(True, 0.0)
        model.learn_one(x, y)


def _regressor(model: Any, rows: Iterator[Any]) -> Iterator[float]:
    for x, y in rows:
        yield model.predict_one(x)
        model.learn_one(x, y)


def _detector(model: Any, rows: Iterator[Any]) -> Iterator[float]:
    for x, _ in rows:
        yield model.score_one(x)
        model.learn_one(x)


def _watched(watch: Any, rows: Iterator[Any]) -> Iterator[float]:
    for number, (x, y) in enumerate(rows):
        watch["drift"].update(x["age_of_domain"] + number // 100)
        watch["auc"].update(y, x["ip_in_url"] / 2)
        yield watch["drift"].estimation + watch["auc"].get()


LEARNERS: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "logistic-regression": (
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        _classifier,
        datasets.Phishing,
    ),
    "forest": (lambda: forest.ARFClassifier(3, grace_period=30, seed=1), _classifier, datasets.Phishing),
    "neighbours": (
        lambda: neighbors.KNNClassifier(3, engine=neighbors.LazySearch(window_size=40)),
        _classifier,
        datasets.Phishing,
    ),
    "half-space-trees": (
        lambda: preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(4, 4, 50, seed=1),
        _detector,
        datasets.Phishing,
    ),
    "regression-tree": (
        lambda: tree.HoeffdingTreeRegressor(50, delta=0.1, leaf_prediction="adaptive"),
        _regressor,
        datasets.TrumpApproval,
    ),
    "rules": (lambda: rules.AMRules(n_min=50, delta=0.2), _regressor, datasets.TrumpApproval),
    "watch": (
        lambda: {"drift": drift.ADWIN(), "auc": metrics.RollingROCAUC(window_size=50)},
        _watched,
        datasets.Phishing,
    ),
}


def _rows(dataset: Any) -> list[Any]:
    return list(dataset().take(TAUGHT + MORE))


def test_every_kept_learner_is_looked_at() -> None:
    assert {path.stem for path in KEPT.glob("*.bin")} == LEARNERS.keys()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_kept_learner_is_thawed_and_goes_on(name: str) -> None:
    _, ask, dataset = LEARNERS[name]
    told = json.loads((KEPT / f"{name}.json").read_text())
    model = thaw(decode((KEPT / f"{name}.bin").read_bytes()))
    assert digest(model) == told["digest"], "it is thawed as another learner than it was"
    more = list(ask(model, iter(_rows(dataset)[TAUGHT:])))
    # Not to the last bit: exp() and log() come with the machine, and theirs may be another one.
    assert more == pytest.approx([float.fromhex(value) for value in told["more"]], rel=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_that_is_taught_today_is_kept_as_it_was_then(name: str) -> None:
    make, ask, dataset = LEARNERS[name]
    model = make()
    assert all(map(math.isfinite, ask(model, iter(_rows(dataset)[:TAUGHT]))))
    then = decode((KEPT / f"{name}.bin").read_bytes())
    today = freeze(model)
    if today["river"] == then["river"]:
        assert today["shapes"] == then["shapes"], "if this is meant: python tests/golden/test_frozen.py"
        assert len(today["objects"]) == len(then["objects"])


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for name, (make, ask, dataset) in LEARNERS.items():
        model, rows = make(), _rows(dataset)
        list(ask(model, iter(rows[:TAUGHT])))
        (KEPT / f"{name}.bin").write_bytes(encode(freeze(model)))
        told = {"digest": digest(model), "more": [value.hex() for value in map(float, ask(model, iter(rows[TAUGHT:])))]}
        (KEPT / f"{name}.json").write_text(f"{json.dumps(told, indent=1)}\n")
