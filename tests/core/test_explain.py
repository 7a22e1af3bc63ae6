"""The parts of a story: what came before, what had been learned by then, how it is told."""

from typing import Any

import msgspec
import pytest
from core.records import Record
from river import linear_model, preprocessing

from headrace import Event, Label, Linear, Pipeline, field, per
from headrace.schemas.codec import encode
from headrace.schemas.prediction import Contribution
from headrace.stream.explain import At, FeatureSeen, History, Past, Story, Watch, as_then
from headrace.stream.explain import Record as Found
from headrace.testing import Driver


class Payment(Event, topic="payments", key="card"):
    """What is scored here."""

    id: str
    at: float
    card: str
    amount: float


class Verdict(Label, topic="verdicts", of=Payment, within="1h", otherwise=0):
    """What was true of a payment."""

    id: str
    at: float
    card: str
    label: int


card = per("card")
FEATURES = {"amount": field("amount"), "count": card.count("1h")}
STATIC = Linear({"amount": 0.1, "count": 0.5}, bias=-1.0)
LEARNER = preprocessing.StandardScaler() | linear_model.LogisticRegression()
remembering = Pipeline(name="r", events=Payment, features=FEATURES, static=STATIC)
learning = Pipeline(
    name="l", events=Payment, labels=Verdict, features=FEATURES, static=STATIC, online=LEARNER, reasons=2
)


def _payment(number: int, **other: Any) -> dict[str, Any]:
    given = {"id": f"p{number}", "at": 1_767_225_600.0 + number, "card": f"c{number % 2}", "amount": float(number % 7)}
    return {**given, **other}


def _watched(event: dict[str, Any], before: list[Any]) -> list[Past]:
    records = [Record(one if isinstance(one, bytes) else encode(one), offset=at) for at, one in enumerate(before)]
    state = remembering.fresh()
    remembering.step([Payment(**one) for one in before if isinstance(one, dict)], state)
    watch = Watch(remembering, list(state.tables), Record(encode(event)))  # type: ignore[arg-type]
    for record in records:
        watch.take(record)  # type: ignore[arg-type]
    return watch.past(state)


def test_what_came_before_with_the_same_key_is_counted_with_its_age() -> None:
    (past,) = _watched(_payment(8), [_payment(0), _payment(1), b"no JSON", _payment(4), _payment(5)])
    assert past == Past(
        key={"card": "c0"}, events=2, known_since=1_767_225_600.0, known_for_s=8.0, last_at=1_767_225_604.0,
        last_before_s=4.0, last_offset=3, remembered=True,
    )  # fmt: skip


def test_the_first_event_of_a_key_has_no_past() -> None:
    assert _watched(_payment(8), [_payment(1)]) == [Past(key={"card": "c0"}, events=0)]


def test_what_was_learned_when_an_event_was_scored_is_found_in_the_changelog(monkeypatch: pytest.MonkeyPatch) -> None:
    # Snapshots and tombstones are many, and what was deleted is still in the log.
    monkeypatch.setattr("headrace.stream.state.SNAPSHOT_BYTES_MIN", 2_000)
    driver = Driver(learning)
    for number in range(120):
        driver.pipe(_payment(number))
        if number % 3 == 2:
            driver.label(f"p{number - 2}", number % 2, key=f"c{number % 2}")
    outputs = driver._published[driver._changelog]
    assert sum(output.value is None for output in outputs) > 10
    history = History()
    for output in outputs:
        history.take(output.key, output.value)  # type: ignore[arg-type]
    assert len(history.states) > 2
    published = {made["id"]: made for made in driver.predictions}
    tables = learning.fresh(waits=False)
    for number in range(120):
        then = history.before(learning, f"p{number}")
        assert then is not None
        tables.learning = then.learning
        (made,) = learning.step([Payment(**_payment(number))], tables).predictions
        assert msgspec.json.decode(encode(made)) == published[f"p{number}"]
    assert history.before(learning, "p999") is None


def test_what_looked_back_at_labels_is_found_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stream.state.SNAPSHOT_BYTES_MIN", 2_000)
    risk = card.target("4h", delay="1h", prior=0.1, weight=2, exact=True)
    features = {**FEATURES, "risk": risk}
    back = Pipeline(
        name="b", events=Payment, labels=Verdict, features=features, static=Linear(dict.fromkeys(features, 1.0))
    )
    driver = Driver(back)
    payments = [Payment(**_payment(number, at=1_767_225_600.0 + 300 * number)) for number in range(80)]
    for number, begin in enumerate(range(0, 80, 2)):
        driver.clock = payments[begin].at
        driver.pipe_all(payments[begin : begin + 2])
        driver.label(f"p{begin}", number % 2, key=payments[begin].card)
    history = History()
    for output in driver._published[driver._changelog]:
        history.take(output.key, output.value)  # type: ignore[arg-type]
    published = {made["id"]: made for made in driver.predictions}
    assert len({made["score"] for made in published.values()}) > 20
    for number, payment in enumerate(payments):
        state, then = back.fresh(), history.before(back, payment.id)
        assert then is not None
        if number:
            back.step(payments[:number], state)
        as_then(back, state, then)
        (made,) = back.step([payment], state).predictions
        assert msgspec.json.decode(encode(made)) == published[payment.id]


def test_a_changelog_that_begins_later_does_not_say_what_was_learned() -> None:
    driver = Driver(learning)
    for number in range(20):
        driver.pipe(_payment(number))
    history = History()
    for output in driver._published[driver._changelog][5:]:
        history.take(output.key, output.value)  # type: ignore[arg-type]
    assert history.before(learning, "p19") is None


def _story(**other: Any) -> Story:
    at = At("payments", 2, 41, "2026-01-01T00:00:00.000Z")
    return Story(pipeline="fraud", version="7", id="p1", event=at, key="c1", value={"id": "p1"}, **other)


def test_a_story_is_told_in_the_order_in_which_it_happened() -> None:
    story = _story(
        past=[
            Past(
                key={"card": "c1"},
                events=1_200,
                known_since=0.0,
                known_for_s=172_800.0,
                last_at=1.0,
                last_before_s=90.0,
                last_offset=40,
            )
        ],
        features=[
            FeatureSeen("count", 3.0, "per('card').count('1h')", ("card",)),
            FeatureSeen("x", None, "field('x')"),
        ],
        static=0.25,
        online=0.5,
        weight=0.05,
        score=0.2625,
        combine="by_recent_loss",
        reasons=[Contribution("static", "R01", 3.0, 1.5)],
        recomputed="the events before it",
        published=Found(At("predictions", 0, 7, "2026-01-01T00:00:00.012Z"), {"id": "p1"}),
        same_bits=True,
        outcomes=[Found(At("outcomes", 0, 3), {"by": "label", "label": 1.0, "at": 1_767_225_600.0})],
    )
    assert story.told().splitlines() == [
        "fraud 7: event p1",
        "",
        "The event",
        "  payments[2] offset 41, written 2026-01-01T00:00:00.000Z",
        '  key c1  value {"id":"p1"}',
        "",
        "What was known before it",
        "  card = c1  1,200 events  known for 2 d  last seen 1.5 min before, at offset 40; no longer remembered",
        "",
        "Features",
        "  count  3.0   per('card').count('1h')",
        "  x      null  field('x')",
        "",
        "Scores, computed again from the events before it",
        "  static  0.25",
        "  online  0.5",
        "  score   0.2625",
        "  by_recent_loss: the learner's weight is 0.05",
        "",
        "Reasons",
        "  static  R01  3.0  +1.5",
        "",
        "Published",
        "  predictions[0] offset 7, written 2026-01-01T00:00:00.012Z",
        '  {"id":"p1"}',
        "  computed again it is the same, bit for bit",
        "",
        "What became known",
        "  label: 1.0, true since 2026-01-01T00:00:00.000Z  (outcomes[0] offset 3)",
    ]


def test_a_difference_is_told_with_both_values() -> None:
    told = _story(
        score=0.5, published=Found(At("predictions", 0, 7), {}), same_bits=False, differences={"score": (0.5, 0.25)}
    ).told()
    assert "\n  score: published 0.5, computed now 0.25\n" in f"{told}\n"
    assert "bit for bit" not in told
