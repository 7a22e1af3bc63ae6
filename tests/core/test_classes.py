"""A pipeline of several classes: it names one, keeps what its label will need, and is judged by what it said."""

import csv
import math
import random
from collections import Counter
from typing import Literal

import msgspec
import numpy as np
import pytest
from pyarrow import parquet
from river import datasets, linear_model, metrics, naive_bayes, optim, preprocessing, tree

from headrace import Event, Label, Linear, Pipeline, field, online_only
from headrace.models import snapshot
from headrace.models.classes import Classes
from headrace.models.labels import Scored, Waiting
from headrace.models.measures import CLASSES_MAX
from headrace.schemas.codec import encode_all
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import Truth
from headrace.stream import batch
from headrace.stream.driver import Driver


class Thing(Event, topic="things", key="shop"):
    id: str
    at: float
    shop: str
    a: float | None
    b: float
    truth: int | None = None
    colour: str | None = None


class Number(Label, topic="numbers", of=Thing, within="1h"):
    id: str
    at: float
    shop: str
    label: int | None


class Colour(Label, topic="colours", of=Thing, within="1h", otherwise="none"):
    id: str
    at: float
    shop: str
    label: str | None


class Known(Label, topic="known", of=Thing, within="1h", otherwise="red"):
    id: str
    at: float
    shop: str
    label: Literal["red", "green"]


class Half(Label, topic="halves", of=Thing, within="1h", otherwise=0.5):
    id: str
    at: float
    shop: str
    label: float


FEATURES = {"a": field("a"), "b": field("b")}


def _page(labels=Number, online=None, **other):
    parts = {"labels": labels, "online": online or naive_bayes.GaussianNB(), "kind": "multiclass", **other}
    return Pipeline(name="classes", events=Thing, features=FEATURES, **parts)


def _things(count, classes, seed=1):
    """Return things, and the class of each, which says where it lies."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count).tolist()
    at = (1.0 * np.arange(count)).tolist()
    spots = rng.normal(0.0, 1.0, (count, 2)) + np.array([[one % 4, one // 4] for one in truth]) * 2.0
    return [Thing(f"t{n}", at[n], "s", *spots[n].tolist()) for n in range(count)], truth


def _recount(said, chances, true):
    """Count again what a report says, from what was said: the likeliest classes, and the chance of each true one."""
    pairs = Counter(zip(true, said, strict=True))
    classes = sorted(set(true) | set(said), key=repr)
    each = []
    for one in classes:
        right = pairs[one, one]
        made = sum(many for pair, many in pairs.items() for side in pair if side == one)
        each.append(2 * right / made)
    return {
        "accuracy": sum(a == b for a, b in zip(true, said, strict=True)) / len(true),
        "log_loss": sum(-math.log(min(max(p, 1e-15), 1 - 1e-15)) for p in chances) / len(true),
        "macro_f1": sum(each) / len(each),
    }


@pytest.mark.parametrize(
    ("classes", "online"),
    [
        (3, naive_bayes.GaussianNB()),
        (11, tree.HoeffdingTreeClassifier(grace_period=30)),
        (40, naive_bayes.GaussianNB()),
    ],
)
def test_what_late_labels_report_is_a_recount_of_what_was_published(classes, online):
    things, truth = _things(600, classes)
    pipeline, model = _page(online=online), online.clone()
    state, made, outcomes, known, told = pipeline.fresh(), [], [], [], 0
    for begin in range(0, len(things), 50):
        # A label comes when so many others have been scored; by then there may be more classes than at the event.
        made += pipeline.step(things[begin : begin + 50], state).predictions
        known += [model.predict_proba_one({"a": one.a, "b": one.b}) for one in things[begin : begin + 50]]
        for one, true in list(zip(things, truth, strict=True))[told : max(0, begin - 50)]:
            outcomes += pipeline.learn([Number(one.id, one.at + 5.0, "s", true)], state).outcomes
            model.learn_one({"a": one.a, "b": one.b}, true)
        told = max(told, begin - 50)
    river = [max(one, key=one.get) if one else None for one in known]
    assert [one.predicted for one in made] == river
    assert [one.score for one in made] == [max(one.values(), default=0.0) for one in known]
    assert [(one.id, one.label, one.was, one.predicted) for one in outcomes] == [
        (things[n].id, truth[n], None, river[n]) for n in range(told)
    ]
    judged = [n for n in range(told) if river[n] is not None]
    want = _recount(
        [river[n] for n in judged], [known[n].get(truth[n], 0.0) for n in judged], [truth[n] for n in judged]
    )
    report = state.learning.judges["score"].report()["overall"]
    assert report["count"] == len(judged)
    assert report["unusable"] == told - len(judged)
    for name, value in want.items():
        assert math.isclose(report[name], value, rel_tol=1e-9), name
    assert report["accuracy"] > 2 / classes
    # River leaves a class without a chance out of its log loss, so that one is compared where there is none.
    scores = {"accuracy": metrics.Accuracy(), "macro_f1": metrics.MacroF1()}
    for metric in scores.values():
        for n in judged:
            metric.update(truth[n], river[n])
    assert {name: report[name] for name in scores} == pytest.approx({name: one.get() for name, one in scores.items()})


def test_a_label_that_is_revised_leaves_the_quality_as_if_it_had_been_right():
    things, truth = _things(200, 5)
    pages = _page(), _page()
    states = [page.fresh() for page in pages]
    for page, state in zip(pages, states, strict=True):
        page.step(things[:100], state)
        page.learn([Number(one.id, one.at, "s", true) for one, true in zip(things, truth, strict=True)][:100], state)
        page.step(things[100:], state)
    for one, true in list(zip(things, truth, strict=True))[100:]:
        pages[0].learn([Number(one.id, one.at, "s", true)], states[0])
    for wrong, right in ((3, 0), (0, 1)):  # every one is told wrongly, and then as it is
        told = [
            Number(one.id, one.at, "s", (true + wrong) % 5 if wrong else true)
            for one, true in list(zip(things, truth, strict=True))[100:]
        ]
        revised = pages[1].learn(told, states[1]).outcomes
        assert {one.by for one in revised} == {"revision" if right else "label"}
    assert {one.was for one in revised} == set(range(5))
    one, other = [state.learning.judges["online"].report()["overall"] for state in states]
    same = ("accuracy", "log_loss", "macro_f1", "kappa", "count")
    assert {name: one[name] for name in same} == {name: other[name] for name in same}


# Image segments: what River makes of them offline.


SEGMENTS = list(datasets.ImageSegments().take(1_000))
NAMES = [name.replace("-", "_") for name in SEGMENTS[0][0]]
TYPES = {"id": int, "at": float, "picture": str, "kind": str, **dict.fromkeys(NAMES, float)}
Segment = type(Event)("Segment", (Event,), {"__annotations__": TYPES}, topic="segments", key="picture")
OFFLINE = {
    "naive Bayes": naive_bayes.GaussianNB(),
    "softmax": preprocessing.StandardScaler() | linear_model.SoftmaxRegression(optim.SGD(0.05)),
    "Hoeffding tree": tree.HoeffdingTreeClassifier(grace_period=50),
}


@pytest.mark.parametrize("name", OFFLINE)
def test_image_segments_streamed_through_a_pipeline_are_told_apart_as_river_does_offline(name):
    features = {name: field(name) for name in NAMES}
    pipeline = Pipeline(
        name="segments", events=Segment, labels="kind", features=features, online=OFFLINE[name], kind="multiclass"
    )
    driver = Driver(pipeline)
    rows = [dict(zip(NAMES, map(float, x.values()), strict=True)) for x, _ in SEGMENTS]
    kinds = [kind for _, kind in SEGMENTS]
    driver.pipe_all(
        {"id": at, "at": float(at), "picture": "p", "kind": kinds[at], **row} for at, row in enumerate(rows)
    )
    model, said, chances, ties = OFFLINE[name].clone(), [], [], 0
    for row, kind, made in zip(rows, kinds, driver.predictions, strict=True):
        river = model.predict_proba_one(row)
        best = max(river.values(), default=0.0)
        # Of two names that are equally likely River's trees take the first in the alphabet, and here it is the one that
        # came first.
        first = [one for one, chance in river.items() if chance == best] or [None]
        ties += len(first) > 1
        assert made["score"] == best
        assert made["predicted"] in first
        said.append(made["predicted"])
        chances.append(river.get(kind, 0.0))
        model.learn_one(row, kind)
    assert ties < 10
    known = [at for at, one in enumerate(said) if one is not None]
    want = _recount([said[at] for at in known], [chances[at] for at in known], [kinds[at] for at in known])
    report = driver.quality["combined"]["overall"]
    assert {name: report[name] for name in want} == pytest.approx(want, rel=1e-9)
    assert report["accuracy"] > 0.6


# What is on the wire, and what is kept.


def _now(thing):
    """Return a thing that comes now, by the driver's clock."""
    return {"id": thing.id, "shop": thing.shop, "a": thing.a, "b": thing.b}


def _named(count=30, **other):
    things, truth = _things(count, 3)
    driver = Driver(_page(Colour, **other))
    colours = [("red", "green", "blue")[one] for one in truth]
    return driver, things, colours


def test_predictions_and_outcomes_name_the_class():
    driver, things, colours = _named()
    for one, colour in zip(things, colours, strict=True):
        driver.pipe(_now(one))
        driver.label(one.id, colour, key="s")
    first, last = driver.predictions[0], driver.predictions[-1]
    assert (first["predicted"], first["score"], first["static"], first["online"]) == (None, 0.0, None, 0.0)
    assert list(last)[-3:] == ["version", "flags", "predicted"]
    assert last["predicted"] in {"red", "green", "blue"}
    assert last["score"] == last["online"] > 1 / 3
    told = [(one["label"], one["was"], one["predicted"], one["score"]) for one in driver.outcomes]
    said = [(one["predicted"], one["score"]) for one in driver.predictions]
    assert told == [(colour, None, *one) for colour, one in zip(colours, said, strict=True)]


def test_an_event_without_a_label_in_time_is_of_the_class_that_is_true_otherwise():
    driver, things, _ = _named()
    driver.pipe(_now(things[0]))
    driver.advance("61m")
    driver.label("t0", "red", key="s")
    told = [(one["by"], one["label"], one["was"]) for one in driver.outcomes]
    assert told == [("timeout", "none", None), ("revision", "red", "none")]


def test_a_label_may_come_before_its_event_and_for_none():
    driver, things, _ = _named()
    driver.label("t0", "red", key="s")
    driver.label("nobody", "blue", key="s")
    driver.pipe(_now(things[0]))
    driver.advance("2h")
    told = [(one["id"], one["by"], one["label"], one["predicted"]) for one in driver.outcomes]
    assert told == [("t0", "label", "red", None), ("nobody", "orphan", "blue", None)]


def test_after_a_crash_classes_are_what_they_were():
    lived, crashed = _named(60)[0], _named(60)[0]
    _, things, colours = _named(60)
    for number, (one, colour) in enumerate(zip(things, colours, strict=True)):
        for driver in (lived, crashed):
            driver.pipe(_now(one))
            if number % 3:
                driver.label(one.id, colour, key="s")
        if number in (1, 20, 40):
            crashed.commit()
            crashed.restart()
    assert crashed.predictions == lived.predictions
    assert crashed.outcomes == lived.outcomes
    assert crashed.quality == lived.quality
    assert lived.quality["combined"]["overall"]["classes"] == 3


def test_partitions_that_meet_classes_in_another_order_are_judged_together():
    things, truth = _things(80, 3)
    colours = [("red", "green", "blue")[one] for one in truth]
    driver = Driver(_page(Colour), partitions=4)
    for number, one in enumerate(things):
        driver.pipe(_now(one) | {"shop": f"s{number % 5}"})
        if number >= 9:
            driver.label(f"t{number - 9}", colours[number - 9], key=f"s{(number - 9) % 5}")
    assert len({tuple(memory.state.learning.classes.names) for memory in driver._memories.values()}) > 1
    said = {one["id"]: one["predicted"] for one in driver.predictions}
    told = [(one["label"], said[one["id"]]) for one in driver.outcomes if said[one["id"]] is not None]
    assert len(told) > 40
    want = _recount([said for _, said in told], [1.0], [true for true, _ in told])
    report = driver.quality["combined"]["overall"]
    for name in ("accuracy", "macro_f1"):
        assert math.isclose(report[name], want[name], rel_tol=1e-9)


def test_a_hundred_classes_are_told_apart_and_a_label_of_another_one_is_a_dead_letter():
    things, _ = _things(CLASSES_MAX + 2, 3)
    pipeline = _page(online=tree.HoeffdingTreeClassifier(leaf_prediction="mc"))
    state = pipeline.fresh()
    pipeline.step(things, state)
    labels = [Number(one.id, one.at, "s", 7 * number) for number, one in enumerate(things)]
    made = pipeline.learn(labels, state)
    assert [(one.at, one.reason.value, one.message) for one in made.rejections] == [
        (at, "wrong_label", f"the label is {7 * at}; allowed are whole numbers below 9007199254740992 of 100 classes, "
         "those that came first, and null")
        for at in (CLASSES_MAX, CLASSES_MAX + 1)
    ]  # fmt: skip
    assert len(made.outcomes) == CLASSES_MAX
    assert not pipeline.learn([Number("t0", 0.0, "s", 7), Number("t0", 0.0, "s", None)], state).rejections
    (one,) = pipeline.step([Thing("x", 0.0, "s", 1.0, 1.0)], state).predictions
    assert one.predicted % 7 == 0
    assert abs(one.score - 1 / CLASSES_MAX) < 0.001
    moved = pipeline.fresh()
    moved.load(snapshot.decode(snapshot.encode(state.dump())))
    assert pipeline.step([Thing("x", 0.0, "s", 1.0, 1.0)], moved).predictions == [one]


@pytest.mark.parametrize("wrong", [1.5, float("inf"), float(1 << 53)])
def test_a_class_that_is_no_whole_number_is_none(wrong):
    classes = Classes(text=False)
    taken = classes.take([3, wrong, 3.0, True, None])
    assert np.array_equal(taken.numbers, [3.0, np.nan, 3.0, 1.0, np.nan], equal_nan=True)
    assert taken.wrong.tolist() == [False, True, False, False, False]
    assert (taken.new, classes.names) == ([3, 1], [3, 1])


def test_what_waits_keeps_the_probability_of_every_class_however_many_come_later():
    rng = random.Random(1)
    waiting = Waiting(["a"], Truth(Thing, "label", 1e9, None), classes=True)
    kept = {}
    for number in range(60):
        width = min(CLASSES_MAX, 1 + number * 2)
        chances, said = np.array([[rng.random() for _ in range(width)]]), float(rng.randrange(width))
        one = np.full(1, float(number))
        waiting.add(Scored([number], ["k"], one, one, one[:, None], one, one, one, [], one * 0 + said, chances))
        kept[number] = said, chances[0].tolist()
        if number % 10 == 9:
            moved = Waiting(["a"], Truth(Thing, "label", 1e9, None), classes=True)
            moved.load(snapshot.decode(snapshot.encode(waiting.dump())))
            assert snapshot.encode(moved.dump()) == snapshot.encode(waiting.dump())
            waiting = moved
    order = rng.sample(range(60), 60)
    at = np.zeros(60)
    of = waiting.label(order, ["k"] * 60, at=at, labels=at, wrote=at).of
    widest = max(len(chances) for _, chances in kept.values())
    assert of.chances.shape == (60, widest)
    assert of.said.tolist() == [kept[number][0] for number in order]
    assert of.chances.tolist() == [kept[number][1] + [0.0] * (widest - len(kept[number][1])) for number in order]


def test_an_event_with_a_missing_feature_is_a_dead_letter_and_teaches_nothing():
    pipeline = _page("truth")
    state = pipeline.fresh()
    things, truth = _things(20, 3)
    events = [
        msgspec.structs.replace(one, truth=true, a=None if number % 5 == 4 else one.a)
        for number, (one, true) in enumerate(zip(things, truth, strict=True))
    ]
    made = pipeline.step(events, state)
    assert [one.at for one in made.rejections] == [4, 9, 14, 19]
    assert state.learning.learner.seen == 16


class _Picky(naive_bayes.GaussianNB):
    def learn_one(self, x, y):
        if x["a"] > 4.0:
            raise ArithmeticError("above four")
        super().learn_one(x, y)


def test_an_event_on_which_a_learner_raises_takes_no_other_with_it():
    things, truth = _things(40, 3)
    events = [msgspec.structs.replace(one, truth=true) for one, true in zip(things, truth, strict=True)]
    pipeline = _page("truth", online=_Picky())
    state = pipeline.fresh()
    made = pipeline.step(events, state)
    bad = [number for number, one in enumerate(events) if one.a > 4.0]
    assert 0 < len(bad) < 20
    assert [one.at for one in made.rejections] == bad
    other = _page("truth")
    fine = other.step([one for one in events if one.a <= 4.0], other.fresh())
    assert [(one.id, one.predicted, one.score) for one in made.predictions] == [
        (one.id, one.predicted, one.score) for one in fine.predictions
    ]


# What is refused.


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            {"static": Linear({"a": 1.0, "b": 1.0})},
            "static: Linear gives an event one number, and kind = 'multiclass' needs one of each class: the two cannot "
            "be combined; leave out static=, or score with it in a pipeline of its own",
        ),
        (
            {"static": Linear({"a": 1.0, "b": 1.0}), "combine": online_only},
            "static: Linear gives an event one number, and kind = 'multiclass' needs one of each class",
        ),
        ({"kind": None, "labels": Colour}, "labels=Colour: Colour.label is text, which names one of many classes: "
         "kind='multiclass' tells them apart; other labels are numbers"),
        ({"kind": None, "labels": "colour"}, "labels='colour': Thing.colour is str | None, which names one of many"),
        ({"labels": Half}, "labels: otherwise=0.5: allowed are whole numbers, as a class is one"),
        ({"reasons": 2}, "reasons = 2: online: GaussianNB is no linear model of River's"),
        ({"online": linear_model.LogisticRegression()}, "LogisticRegression cannot tell more than two classes apart"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_of_classes_is_refused_by_name(parts, told):
    with pytest.raises(BadPipeline) as refused:
        _page(**parts)
    assert told in str(refused.value)


def test_several_classes_without_a_learner_are_refused():
    with pytest.raises(BadPipeline) as refused:
        Pipeline(
            name="p", events=Thing, features=FEATURES, labels=Number, kind="multiclass",
            static=Linear({"a": 1.0, "b": 1.0}),
        )  # fmt: skip
    assert "only a learner tells more than two classes apart; name one by online=" in str(refused.value)


def test_a_field_that_is_in_every_prediction_may_not_have_the_name_of_the_class():
    class Taken(Event, topic="taken", key="predicted"):
        id: str
        at: float
        predicted: str
        a: float
        truth: int

    parts = {"features": {"a": field("a")}, "labels": "truth", "online": naive_bayes.GaussianNB()}
    assert Pipeline(name="p", events=Taken, **parts).kind == "binary"
    with pytest.raises(BadPipeline) as refused:
        Pipeline(name="p", events=Taken, kind="multiclass", **parts)
    assert "Taken calls a field 'predicted' that is in every prediction" in str(refused.value)


@pytest.mark.parametrize(("hint", "otherwise"), [(int, "none"), (str, 0)])
def test_what_is_true_otherwise_is_of_the_kind_that_labels_are(hint, otherwise):
    names = {"id": str, "at": float, "shop": str, "label": hint}
    with pytest.raises(BadPipeline) as refused:
        type(Label)("Odd", (Label,), {"__annotations__": names}, topic="o", of=Thing, within="1h", otherwise=otherwise)
    allowed = "text" if hint is str else "a number"
    assert f"otherwise={otherwise!r}: allowed is what may stand in 'label', {allowed}" in str(refused.value)


def test_a_label_of_some_texts_alone_is_checked_where_it_is_read():
    things, _ = _things(3, 2)
    driver = Driver(_page(Known))
    for one in things:
        driver.pipe(_now(one))
    driver.label("t0", "green", key="s")
    driver.label("t1", "mauve", key="s")
    assert [one["label"] for one in driver.outcomes] == ["green"]
    assert [one.reason for one in driver.dead_letters] == ["wrong_type"]


# Files.


@pytest.mark.parametrize("labels", ["truth", "colour"])
def test_a_file_of_scores_names_the_classes(labels, tmp_path):
    things, truth = _things(20, 3)
    events = [
        msgspec.structs.replace(one, truth=true, colour=["red", "green", "é"][true])
        for one, true in zip(things, truth, strict=True)
    ]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(encode_all(events)))
    pipeline = _page(labels)
    want = [one.predicted for one in pipeline.step(events, pipeline.fresh()).predictions]
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        batch.score(pipeline, str(source), str(tmp_path / name))
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["predicted"] for line in lines] == want
    assert parquet.read_table(tmp_path / "out.parquet")["predicted"].to_pylist() == want
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["predicted"] for row in csv.DictReader(file)] == ["" if one is None else str(one) for one in want]
