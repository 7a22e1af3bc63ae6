"""A pipeline that learns: what it learns from, what it does not, and what a person is told who writes it wrongly."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from faults.phishing import Site
from river import datasets, linear_model, metrics, optim, preprocessing, tree

from headrace import Event, Function, Label, Linear, Pipeline, field, log1p, online_only
from headrace.models import snapshot
from headrace.schemas.errors import BadPipeline
from headrace.stream.driver import Driver


class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float | None
    truth: int | None = None


class Verdict(Label, topic="verdicts", of=Payment, within="1h", otherwise=0):
    id: str
    at: float
    card: str
    label: int | None


class Chance(Label, topic="chances", of=Payment, within="1h"):
    id: str
    at: float
    card: str
    label: float


def _quarter(amount):
    return np.full(len(amount), 0.25)


def _learner():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def _page(**other):
    parts = {
        "labels": Verdict,
        "features": {"amount": field("amount")},
        "static": Function(_quarter, features=["amount"], version="1"),
        "online": _learner(),
        **other,
    }
    return Pipeline(name="learns", events=Payment, **parts)


def _payments(count, amount=float):
    return [{"id": f"p{number}", "card": "c", "amount": amount(number)} for number in range(count)]


def _weights(driver):
    (memory,) = driver._memories.values()
    return memory.state.learning.learner.dump()


def _finite(data):
    if isinstance(data, dict):
        return all(map(_finite, data.values()))
    if isinstance(data, list | tuple):
        return all(map(_finite, data))
    if isinstance(data, np.ndarray):
        return bool(np.isfinite(data).all())
    return not isinstance(data, float) or math.isfinite(data)


def test_an_event_teaches_once_by_the_first_that_becomes_known_of_it():
    driver = Driver(_page())
    driver.pipe_all(_payments(3))
    for truth in (1, 1, 0, None):
        driver.label("p0", truth, key="c")
    (memory,) = driver._memories.values()
    assert memory.state.learning.learner.seen == 1
    assert [(one["id"], one["by"], one["label"], one["was"]) for one in driver.outcomes] == [
        ("p0", "label", 1.0, None),
        ("p0", "revision", 0.0, 1.0),
    ]
    driver.advance("61m")
    assert memory.state.learning.learner.seen == 3, "two have timed out, and that teaches too"
    assert [one["by"] for one in driver.outcomes[2:]] == ["timeout", "timeout"]


def test_a_label_that_is_there_before_its_event_teaches_after_the_event_was_scored_and_before_the_next():
    early, late = Driver(_page(static=None)), Driver(_page(static=None))
    early.label("p1", 1, key="c", at=early.clock)
    early.pipe_all(_payments(3))
    late.pipe_all(_payments(2))
    late.label("p1", 1, key="c", at=late.clock)
    late.pipe_all(_payments(3)[2:])
    assert [one["score"] for one in early.predictions] == [one["score"] for one in late.predictions]
    assert early.predictions[1]["score"] == 0.5, "never by what it taught itself"


def test_a_label_of_which_no_event_comes_is_given_up_where_nothing_else_waits():
    driver = Driver(_page())
    driver.label("nobody", 1, key="c")
    driver.advance("2h")
    assert [(one["id"], one["by"]) for one in driver.outcomes] == [("nobody", "orphan")]
    (memory,) = driver._memories.values()
    assert not memory.state.due(driver.clock, memory.state.clock), "and nobody is told what time it is for ever after"
    driver.restart()
    assert [one["id"] for one in driver.outcomes] == ["nobody"]


@pytest.mark.parametrize("absurd", [None, math.inf, -math.inf, 1e308, -1e308, math.nan])
def test_a_feature_that_is_missing_or_absurd_is_not_in_the_weights(absurd):
    driver = Driver(_page())
    events = _payments(300, lambda number: absurd if number % 3 == 0 else float(number % 7))
    driver.pipe_all(event for event in events if event["amount"] is None or math.isfinite(event["amount"]))
    for number in range(300):
        driver.label(f"p{number}", number % 2, key="c")
    driver.advance("2h")
    assert _finite(_weights(driver))
    # The static model has a score for it, so it is published, by that one alone.
    for made in driver.predictions:
        assert math.isfinite(made["score"])
        if made["online"] is None:
            assert made["score"] == made["static"] == 0.25
    if absurd is not None and math.isfinite(absurd):
        assert any(made["online"] is None for made in driver.predictions)


def test_a_learner_that_raises_on_a_row_has_no_score_for_it_and_goes_on():
    class Picky(linear_model.LogisticRegression):
        def learn_one(self, x, y, w=1.0):
            if x["amount"] == 13:
                raise ValueError("thirteen")
            super().learn_one(x, y)

        def predict_proba_one(self, x):
            if x["amount"] == 14:
                raise ValueError("fourteen")
            return super().predict_proba_one(x)

    driver = Driver(_page(online=Picky()))
    driver.pipe_all(_payments(20))
    for number in range(20):
        driver.label(f"p{number}", number % 2, key="c")
    (memory,) = driver._memories.values()
    assert memory.state.learning.learner.seen == 19
    assert [made["id"] for made in driver.predictions if made["online"] is None] == ["p14"]
    assert [made["id"] for made in driver.predictions if made["flags"] == ["online_failed"]] == ["p14"]
    assert len(driver.predictions) == 20


def test_a_truth_that_cannot_be_is_a_dead_letter_and_teaches_nothing():
    driver = Driver(_page())
    driver.pipe_all(_payments(2))
    driver.label("p0", 7, key="c")
    (letter,) = driver.dead_letters
    assert letter.reason == "wrong_label"
    assert letter.message == "the label is 7; allowed are 0 and 1, and null"
    numbers = Driver(_page(labels=Chance, online=preprocessing.StandardScaler() | linear_model.LinearRegression()))
    numbers.pipe_all(_payments(2))
    numbers.label("p0", 7.5, key="c")
    assert numbers.dead_letters == []
    assert numbers.outcomes[0]["label"] == 7.5


@pytest.mark.parametrize(
    "model",
    [
        _learner(),
        tree.HoeffdingTreeClassifier(grace_period=20),
        preprocessing.StandardScaler() | linear_model.Perceptron(),
    ],
    ids=["kernel", "tree", "perceptron"],
)
def test_a_restart_in_the_middle_of_learning_cannot_be_told(model):
    stayed, moved = Driver(_page(online=model)), Driver(_page(online=model))
    for begin in range(0, 200, 20):
        events = [
            {**one, "id": f"p{begin}-{one['id']}", "amount": float((begin + at) % 13)}
            for at, one in enumerate(_payments(20))
        ]
        for driver in (stayed, moved):
            driver.pipe_all(events)
            for event in events[::2]:
                driver.label(event, int(event["amount"] > 6))
            driver.advance("20m")
        moved.restart()
    assert stayed.predictions == moved.predictions
    assert stayed.outcomes == moved.outcomes
    kept = [[snapshot.encode(one.state.dump()) for one in driver._memories.values()] for driver in (stayed, moved)]
    assert kept[0] == kept[1]


def _phishing():
    rows = list(datasets.Phishing())
    names = list(rows[0][0])
    return names, [Site(str(number), float(number), "s", truth, **row) for number, (row, truth) in enumerate(rows)]


@pytest.mark.parametrize("step", [1, 7, 500])
def test_phishing_gives_the_curve_that_river_gives_offline_to_the_last_bit(step):
    names, events = _phishing()
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    pipeline = Pipeline(
        name="phishing", events=Site, labels="label", features={name: field(name) for name in names}, online=model
    )
    state, made = pipeline.fresh(), []
    for at in range(0, len(events), step):
        made += pipeline.step(events[at : at + step], state).predictions
    offline, accuracy, f1 = model.clone(), metrics.Accuracy(), metrics.F1()
    for event, one in zip(events, made, strict=True):
        row = {name: getattr(event, name) for name in names}
        chance = offline.predict_proba_one(row).get(True, 0.5)
        assert one.score == chance
        accuracy.update(event.label, chance > 0.5)
        f1.update(event.label, chance > 0.5)
        offline.learn_one(row, event.label)
    assert abs(accuracy.get() - 0.8872) < 0.005, "as River's own page of benchmarks has it"
    assert abs(f1.get() - 0.8712) < 0.005
    report = state.learning.judges["score"].report()["overall"]
    assert math.isclose(report["accuracy"], accuracy.get(), rel_tol=1e-12)
    assert math.isclose(report["f1"], f1.get(), rel_tol=1e-9)


def test_everything_that_is_wrong_with_labels_and_learners_is_told_at_once():
    class Other(Event, topic="others", key="card"):
        id: str
        at: float
        card: str

    class Elsewhere(Label, topic="elsewhere", of=Other, within="1h"):
        id: str
        at: float
        card: str
        label: int

    with pytest.raises(BadPipeline) as told:
        _page(
            labels=Elsewhere,
            online=preprocessing.StandardScaler(),
            combine=online_only,
            static=None,
            quality_window="x",
        )
    assert str(told.value).splitlines()[1:] == [
        "  labels=Elsewhere: its labels are of Other, not of Payment",
        "  online: StandardScaler is no classifier, regressor, anomaly detector or recommender of River's",
        "  combine: it makes one score of two, and there is one model",
        "  quality_window: 'x' is no span of time: write a number and one of s, m, h, d, w, like 5m or 30d",
    ]
    with pytest.raises(BadPipeline) as told:
        _page(labels=None, static=None, online=None)
    assert "static, online: there is neither, and somebody has to score" in str(told.value)
    with pytest.raises(BadPipeline) as told:
        _page(labels="truht")
    assert "labels='truht': Payment has no such field; did you mean 'truth'?" in str(told.value)
    with pytest.raises(BadPipeline) as told:
        _page(labels=None)
    assert "online: it learns from labels, and there are none; name them by labels=" in str(told.value)


def test_a_truth_that_comes_with_its_event_is_learned_after_it_was_scored():
    page = Pipeline(
        name="p",
        events=Payment,
        labels="truth",
        features={"a": log1p("amount")},
        static=Linear({"a": 1.0}),
        online=_learner(),
    )
    driver = Driver(page)
    driver.pipe_all({**one, "truth": number % 2 if number < 8 else None} for number, one in enumerate(_payments(10)))
    (memory,) = driver._memories.values()
    assert memory.state.learning.learner.seen == memory.state.learning.taught == 8
    assert driver.predictions[0]["online"] == 0.5
    assert driver.outcomes == []


def test_a_file_that_is_scored_keeps_no_event_for_a_label_that_nobody_sends():
    page = _page()
    state = page.fresh(waits=False)
    events = [Payment(f"p{number}", float(number), "c", float(number)) for number in range(2_000)]
    effects = page.step(events, state)
    assert [made.id for made in effects.predictions] == [event.id for event in events]
    assert state.learning.waiting is None
    assert len(snapshot.encode(state.dump())) < 4_000
    assert list(effects.predictions) == list(page.step(events, page.fresh()).predictions)


HASHES = """
import sys
sys.path[:0] = {path!r}
from river import compose, linear_model
from headrace import Event, Pipeline, field
from headrace.stream.run import fix_hashes

class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float
    label: int

features = {{"amount": field("amount"), "again": field("amount")}}
online = {online}
fix_hashes(Pipeline(name="p", events=Payment, labels="label", features=features, online=online))
print(hash("amount"))
"""


@pytest.mark.parametrize(
    ("online", "same"),
    [
        ("compose.Select('amount', 'again') | linear_model.LogisticRegression()", True),
        ("linear_model.Perceptron()", False),
    ],
)
def test_a_learner_that_goes_through_sets_gets_the_same_hashes_in_every_process(tmp_path, online, same):
    script = tmp_path / "hashes.py"
    script.write_text(HASHES.format(path=sys.path, online=online))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    told = {subprocess.check_output([sys.executable, str(script)], env=env, timeout=100) for _ in range(3)}
    assert (len(told) == 1) == same
