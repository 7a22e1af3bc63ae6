"""What is done about alerts: ordered by one, followed once by every partition, and told from which event on."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from river import linear_model, preprocessing

from headrace import (
    Brake,
    Event,
    Function,
    Label,
    Pipeline,
    ask_for_retraining,
    fall_back,
    field,
    restart_learner,
    reweight,
)
from headrace.models import snapshot
from headrace.models.actions import BEGIN, Obedience, rules_of
from headrace.models.usual import usual, watch_of
from headrace.schemas.codec import encode
from headrace.schemas.config import configure
from headrace.schemas.errors import BadPipeline, BadSlice
from headrace.schemas.order import Action, Order, OrderState
from headrace.stream.driver import Driver
from headrace.stream.orders import Orders
from headrace.stream.replay import prepared
from headrace.stream.telemetry import Tally, Telemetry
from headrace.stream.topic_plan import planned
from headrace.stream.topics import asked_by, outputs_of

PER_SECOND = 100


class Click(Event, topic="clicks", key="user"):
    id: int
    at: float
    user: str
    a: float
    b: float


class Verdict(Label, topic="verdicts", of=Click, within="1h"):
    id: int
    at: float
    user: str
    label: int


def _half(a):
    """What a model knows that was trained when b did not matter."""
    return 1.0 / (1.0 + np.exp(-1.5 * a))


def _alone(a, b):
    """The same, beside a feature that it does not heed."""
    return _half(a + 0.0 * b)


FEATURES = {"a": field("a"), "b": field("b")}
PARTS: dict[str, Any] = {
    "events": Click,
    "labels": Verdict,
    "features": FEATURES,
    "static": Function(_half, features=["a"], version="1"),
    "online": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
}


def _clicks(seconds: int, *, seed: int, begin: int = 0, flipped: bool = False) -> tuple[list[Click], list[Verdict]]:
    """Return events and what is true of them: as ``b`` and the static model say, or the other way round."""
    draw, count = np.random.default_rng(seed), seconds * PER_SECOND
    a, b = draw.normal(size=(2, count))
    true = draw.random(count) < 1.0 / (1.0 + np.exp((1.5 * a + b) * (1 if flipped else -1)))
    clicks, verdicts = [], []
    for n in range(count):
        number, at = begin * PER_SECOND + n, begin + n / PER_SECOND
        clicks.append(Click(number, at, f"u{n % 40}", float(a[n]), float(b[n])))
        verdicts.append(Verdict(number, at + 0.5, f"u{n % 40}", int(true[n])))
    return clicks, verdicts


PLAIN = Pipeline(name="clicks", **PARTS)
DATA = usual(PLAIN, [_clicks(200, seed=9)[0]], every="1s")


def _page(when: Any, **other: Any) -> Pipeline:
    return Pipeline(name="clicks", watch=watch_of(DATA, when=when), **{**PARTS, **other})


def _drive(driver: Driver, clicks: list[Click], verdicts: list[Verdict], crashes: Sequence[int] = ()) -> None:
    """Pipe a second of events, then their labels; in some seconds that is lost, and comes again."""
    for begin in range(0, len(clicks), PER_SECOND):
        some = slice(begin, begin + PER_SECOND)
        labels = [driver._record(one, one.user, topic="verdicts") for one in verdicts[some]]
        work: list[Any] = [*clicks[some], *labels]
        driver.auto_commit = False
        driver.pipe_all(sorted_by_partition(driver, work))
        if clicks[begin].at in crashes:
            driver.pipe_all(driver.crash())
        driver.auto_commit = True
        driver.commit()


def sorted_by_partition(driver: Driver, work: list[Any]) -> list[Any]:
    """Return records with those of a partition one behind the other, so that steps are large."""
    records = [one if hasattr(one, "partition") else driver._record(one) for one in work]
    return sorted(records, key=lambda one: (one.topic, one.partition))


STORY = [(60, 1, False), (60, 2, True), (40, 3, False)]


def _story(driver: Driver, crashes: Sequence[int] = ()) -> None:
    begin = 0
    for seconds, seed, flipped in STORY:
        _drive(driver, *_clicks(seconds, seed=seed, begin=begin, flipped=flipped), crashes)
        begin += seconds


EVERYTHING = {"errors": [fall_back, reweight, restart_learner, ask_for_retraining]}


@pytest.fixture(scope="module")
def lived() -> Driver:
    driver = Driver(_page(EVERYTHING), partitions=2)
    _story(driver)
    return driver


def test_every_action_is_ordered_once_by_the_alert_and_its_record_says_so(lived: Driver) -> None:
    raised = next(one for one in lived.alerts if "actions" in one)
    assert 60 < raised["at"] < 75
    assert raised["kind"] == "quality"
    assert raised["actions"] == ["fall_back", "reweight", "restart_learner", "ask_for_retraining"]
    given = [one for one in lived.orders if one["state"] == "given" and one["alert"] == raised["id"]]
    assert [one["action"] for one in given] == raised["actions"]
    assert given[0]["id"] == f"{raised['id']}/fall_back"
    assert {(one["text"], one["at"], one["kind"]) for one in given} == {(raised["text"], raised["at"], "quality")}
    ids = [one["id"] for one in lived.orders]
    assert len(set(ids)) == len(ids)


def test_every_partition_applies_what_is_its_to_do_once_and_says_from_which_event_on(lived: Driver) -> None:
    raised = next(one for one in lived.alerts if "actions" in one)
    applied = [one for one in lived.orders if one["state"] == "applied" and one["alert"] == raised["id"]]
    begun = [(one["action"], one["partition"]) for one in applied if not one["lifted"]]
    assert sorted(begun) == sorted((name, n) for name in ("fall_back", "reweight", "restart_learner") for n in (0, 1))
    clicks = {one["id"]: one for one in lived.predictions}
    for number in (0, 1):
        first = next(one["offset"] for one in applied if one["partition"] == number)
        last = next(one["offset"] for one in applied if one["partition"] == number and one["lifted"])
        mine = [clicks[one] for one in _ids_of(lived, number)]
        assert all(one["score"] == one["static"] != one["online"] for one in mine[first:last])
        # The learner knows the world of the middle only, and its errors are told soon: that is another alert.
        end = max(one["offset"] for one in lived.orders if one["partition"] == number and one["lifted"])
        assert any(one["score"] != one["static"] for one in mine[end : end + 200])
        assert all(one["score"] != one["static"] for one in mine[end + 200 :])
        assert len(mine) > end + 400
        assert any(one["score"] != one["static"] for one in mine[first - 200 : first])
        assert abs(mine[first]["online"] - 0.5) < 1e-9, "a learner that knows nothing"


def _ids_of(driver: Driver, number: int) -> list[int]:
    begin, ids = 0, []
    for seconds, seed, flipped in STORY:
        clicks, _ = _clicks(seconds, seed=seed, begin=begin, flipped=flipped)
        ids += [one.id for one in clicks if driver._record(one).partition == number]
        begin += seconds
    return ids


def test_what_falls_back_is_lifted_when_the_alert_is_cleared(lived: Driver) -> None:
    cleared = next(one for one in lived.alerts if one["state"] == "cleared")
    (lifted,) = [one for one in lived.orders if one["state"] == "lifted" and one["alert"] == cleared["id"]]
    assert lifted["id"] == f"{cleared['id']}/fall_back/lifted"
    assert lifted["at"] == cleared["at"] > 120


def test_crashes_change_nothing_of_what_is_ordered_applied_and_scored(lived: Driver) -> None:
    driver = Driver(_page(EVERYTHING), partitions=2)
    _story(driver, crashes=[62, 63, 134])  # with what is ordered in a step that comes to nothing, and after it
    assert driver.orders == lived.orders
    assert driver.predictions == lived.predictions
    assert driver.alerts == lived.alerts


def test_a_page_that_asks_for_nothing_says_and_scores_what_it_did_before() -> None:
    driver, plain = Driver(_page({"drift: high": [ask_for_retraining]})), Driver(_page(None))
    for one in (driver, plain):
        _drive(one, *_clicks(20, seed=1))
    assert driver.orders == plain.orders == []
    assert driver.predictions == plain.predictions
    learning = plain._memories[0].state.learning
    assert learning is not None
    assert "obedience" not in learning.dump()


def test_nothing_is_done_about_errors_that_have_become_fewer() -> None:
    driver = Driver(_page({"errors": ask_for_retraining}, online=None, static=Function(_alone, version="1")))
    _drive(driver, *_clicks(62, seed=1, flipped=True))
    _drive(driver, *_clicks(10, seed=2, begin=62))
    (alert,) = driver.alerts
    assert alert["kind"] == "quality"
    assert alert["series"] == "error_static"  # what learns, or is made of it, may err less: that is no news
    assert alert["effect"]["error"] < alert["effect"]["error_before"]
    assert driver.orders == []


# The laws, with orders in between.


def _plain(*orders: tuple[Action, str, bool], upto: float) -> dict[str, Any]:
    return {"orders": [[action.value, alert, ends] for action, alert, ends in orders], "upto": [upto, 1]}


class Judged(Event, topic="judged", key="user"):
    """A click that comes with what is true of it."""

    id: int
    at: float
    user: str
    a: float
    b: float
    verdict: int | None


PAGES = {
    "labels": _page(EVERYTHING),
    "a brake": _page(EVERYTHING, brake=Brake(of_last=40, rest=20, margin=1.0, better=0.0)),
    "labels with the events": _page(EVERYTHING, labels="verdict", events=Judged),
}


@pytest.mark.parametrize("name", PAGES)
def test_orders_keep_the_laws(name: str) -> None:
    """Flow: events and labels, orders before four batches; batches cut, states moved, changes taken in again."""
    page = PAGES[name]
    clicks, verdicts = _clicks(4, seed=4)
    orders = {
        100: _plain((fall_back, "x", False), (restart_learner, "x", False), upto=1.0),
        200: _plain((reweight, "x", False), (fall_back, "y", False), upto=2.0),
        250: _plain((fall_back, "x", True), upto=3.0),
        300: _plain((fall_back, "y", True), upto=4.0),
    }
    made = []
    for size, moves in ((50, False), (50, True), (25, False), (10, False)):
        lived, again, told = page.fresh(), page.fresh(), []
        for begin in range(0, len(clicks), size):
            change: list[Any] = []
            if begin in orders:
                lived.learning.obey(orders[begin])
                change = [{"orders": orders[begin]}]
            events: list[Any] = clicks[begin : begin + size]
            if page.labels is None:
                events = [
                    Judged(one.id, one.at, one.user, one.a, one.b, known.label)
                    for one, known in zip(events, verdicts[begin : begin + size], strict=True)
                ]
            effects = page.step(events, lived)
            told += effects.predictions
            again.take(snapshot.decode(snapshot.encode([*change, *(effects.change or ())])))
            if page.labels is not None and (begin + size) % 100 == 0:
                labels = page.learn(verdicts[begin + size - 100 : begin + size], lived)
                again.take(snapshot.decode(snapshot.encode(labels.change)))
            if moves:
                moved = page.fresh()
                moved.load(snapshot.decode(snapshot.encode(lived.dump())))
                lived = moved
        made.append((told, snapshot.encode(lived.dump())))
        assert snapshot.encode(again.dump()) == made[-1][1]
    first, *others = made
    assert any(one.score == one.static for one in first[0][100:300])
    for other in others:
        assert other[0] == first[0]
        assert other[1] == first[1]


# What a partition follows.


def _order(action: Action, at: float, *, alert: str = "x", ends: bool = False, reference: str = "r") -> Order:
    state = OrderState.LIFTED if ends else OrderState.GIVEN
    return Order(
        id=f"{alert}/{action}/{at}", at=at, number=1, action=action, state=state, alert=alert, reference=reference
    )


def test_a_partition_that_meets_orders_first_takes_up_what_holds_and_leaves_out_what_was_done_once() -> None:
    heard = [
        _order(restart_learner, 1.0),
        _order(fall_back, 2.0),
        _order(fall_back, 3.0, alert="y"),
        _order(fall_back, 4.0, ends=True),
        _order(fall_back, 5.0, alert="z", reference="another"),
    ]
    new = Obedience("r")
    news = new.news(heard)
    assert news is not None
    assert ([one.alert for one in news.orders], news.upto) == (["y"], (5.0, 1))
    unheard = Obedience("r").news([])
    assert unheard is not None
    assert unheard.upto == BEGIN
    new.upto = unheard.upto
    assert [one.alert for one in new.news(heard).orders] == ["x", "x", "y", "x"]  # type: ignore[union-attr]
    new.upto = (5.0, 1)
    assert new.news(heard) is None


def test_what_another_watch_has_ordered_holds_no_more() -> None:
    old, new = Obedience("r"), Obedience("s")
    old.hold("x", ends=False)
    assert old.falls_back
    new.load(old.dump())
    assert not new.falls_back


@pytest.mark.parametrize(
    ("when", "told"),
    [
        (
            {"drfit": [reweight]},
            "when={'drfit': ...}: allowed are errors, drift, relation, score, quality, volume, any",
        ),
        ({"drift: bad": [reweight]}, "when={'drift: bad': ...}: allowed are errors"),
        ({"drift": ["panic"]}, "when={'drift': ['panic']}: allowed are ask_for_retraining, fall_back, reweight"),
        ({"drift": []}, "when={'drift': []}: allowed are ask_for_retraining"),
    ],
)
def test_what_nobody_can_do_is_refused(when: Any, told: str) -> None:
    with pytest.raises(ValueError, match="when=") as refused:
        rules_of(when)
    assert told in str(refused.value)


def test_what_a_pipeline_has_not_cannot_be_restarted_or_weighed() -> None:
    with pytest.raises(BadPipeline) as told:
        _page(EVERYTHING, online=None, labels=None, events=Click)
    assert "watch: restart_learner: there is no learner; name one by online=" in told.value.problems
    assert (
        "watch: fall_back: it is about how a static model and a learner are combined, and there are not both"
        in told.value.problems
    )
    with pytest.raises(BadPipeline, match="it restarts a partition's own learner, and this one is shared"):
        _page({"any": restart_learner}, learner="shared")


# Where it is written, and read.


def test_what_is_heard_are_orders_of_this_pipeline_each_once() -> None:
    orders = Orders("clicks", msgspec.structs.replace(configure({}), group="clicks"))
    mine = msgspec.structs.replace(_order(fall_back, 2.0), pipeline="clicks")
    others = [b"{", None, encode(mine.applied(0, offset=7)), encode(_order(fall_back, 3.0))]
    orders.hear([encode(mine), *others, encode(mine)])
    assert orders.heard == (mine,)
    assert orders.topic == "clicks-control"


def test_the_control_topic_is_there_where_anything_is_done_and_has_one_partition() -> None:
    config = msgspec.structs.replace(configure({}), group="clicks")
    for page, there in ((_page(EVERYTHING), True), (_page(None), False)):
        asked = asked_by(page)
        assert ("clicks-control" in outputs_of(config, list(page.topics), **asked)) is there
        steps = {step.topic: step for step in planned(page, config, {})}
        assert ("clicks-control" in steps) is there
        if there:
            assert (steps["clicks-control"].partitions, steps["clicks-control"].role) == (1, "for all")


def test_what_is_given_and_applied_is_counted_when_it_is_published(lived: Driver) -> None:
    telemetry = Telemetry()
    first = lived.orders[0]["alert"]
    orders = [msgspec.convert(one, Order) for one in lived.orders if one["alert"] == first]
    telemetry.sent(Tally(("clicks", 0), orders=orders), 0.0)
    assert not telemetry.registry.value("headrace_actions_total", "reweight", "applied")
    telemetry.published()
    assert telemetry.registry.value("headrace_actions_total", "reweight", "given") == 1
    assert telemetry.registry.value("headrace_actions_total", "reweight", "applied") == 2


def test_a_replay_of_what_acts_on_alerts_is_refused_by_name() -> None:
    with pytest.raises(BadSlice, match="clicks does something about alerts by itself"):
        prepared(_page(EVERYTHING, labels="verdict", events=Judged), configure({}))
