"""One learner for all partitions: what it learns, who scores with what, and what is refused by name."""

import numpy as np
import pytest
from river import linear_model, preprocessing

from headrace import Event, Label, Linear, Pipeline, field
from headrace.models import snapshot
from headrace.models.laws import LAWS
from headrace.models.lessons import UNTAUGHT, Lessons, Version
from headrace.schemas.config import Given, configure
from headrace.schemas.errors import BadConfig, BadPipeline, BadSlice, StateMismatch
from headrace.stream.driver import Driver
from headrace.stream.replay import prepared
from headrace.stream.shared import Shared, Staleness, check
from headrace.stream.state import Found


class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float
    truth: int | None = None


class Verdict(Label, topic="verdicts", of=Payment, within="1h", otherwise=0):
    id: str
    at: float
    card: str
    label: int


def _page(**other):
    parts = {
        "labels": Verdict,
        "features": {"amount": field("amount")},
        "static": Linear({"amount": 0.01}, bias=-1.0),
        "online": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        "learner": "shared",
        **other,
    }
    return Pipeline(name="shares", events=Payment, **parts)


def _play(driver, count, *, begin=0):
    """Events on every partition, most of them with labels, some of which time out."""
    for number in range(begin, begin + count):
        driver.pipe({"id": f"p{number}", "card": f"c{number % 7}", "amount": float(number * 37 % 101)})
        if number % 3:
            driver.label(f"p{number}", int(number * 37 % 101 > 50), key=f"c{number % 7}")
        if number % 10 == 9:
            driver.advance("20m")


def _lessons(driver):
    return [snapshot.decode(one.value) for one in driver._published["shares-lessons"]]


def _told(driver):
    return driver._course.state.dump()


def _taught_by(page, lessons, count=None):
    """A fresh learner that is fed with lessons one by one."""
    trained, rows = page.trained(), 0
    for one in lessons:
        for row in range(len(one["labels"])):
            if count is not None and rows == count:
                return trained
            some = slice(row, row + 1)
            trained.learn(Lessons(one["ids"][some], one["features"][some], one["labels"][some], one["at"][some]), 0.0)
            rows += 1
    return trained


def _changes(driver, partition):
    found = Found()
    for one in driver._published["shares-state"]:
        if one.partition == partition:
            found.take(one.key, one.value)
    blobs = [found.changes[offset].blob for offset in sorted(found.changes)]
    return [snapshot.decode(blob) for blob in blobs if blob]


def test_what_any_partition_knows_is_learned_by_one_and_scores_on_all():
    driver = Driver(_page(static=None), partitions=4)
    for number in range(60):
        driver.pipe({"id": f"p{number}", "card": "c1", "amount": float(number % 2)})
        driver.label(f"p{number}", number % 2, key="c1")
    others = [f"c{number}" for number in range(40)]
    for one in others:
        driver.pipe({"id": f"late-{one}", "card": one, "amount": 1.0})
    assert all(len(memory.state.learning.waiting) > 5 for memory in driver._memories.values()), "all have some"
    scores = {made["id"]: made["score"] for made in driver.predictions}
    assert {scores[f"late-{one}"] for one in others} == {scores["late-c1"]}, "one learner has one answer"
    assert scores["late-c1"] > 0.55
    assert scores["p0"] == 0.5


def test_the_learner_is_what_a_fresh_one_becomes_that_is_fed_with_the_lessons_in_order():
    driver = Driver(_page(), partitions=4)
    _play(driver, 120)
    driver.advance("3h")
    lessons = _lessons(driver)
    ids = [one for lesson in lessons for one in lesson["ids"]]
    assert sorted(ids) == sorted({f"p{number}" for number in range(120)}), "every event teaches once"
    want, told = _taught_by(_page(), lessons), _told(driver)
    assert snapshot.encode(told["learner"]) == snapshot.encode(want.learner.dump())
    assert told["version"] == [0.0, 120]


def test_every_score_is_that_of_the_version_that_the_changelog_names():
    driver = Driver(_page(), partitions=3, auto_commit=False)
    for begin in range(0, 90, 9):
        _play(driver, 9, begin=begin)
        driver.commit()
    lessons, seen = _lessons(driver), set()
    for partition in range(3):
        version = UNTAUGHT
        for change in _changes(driver, partition):
            for part in change:
                version = Version(*part["learner"]) if "learner" in part else version
                if "scored" not in part:
                    continue
                seen.add(version.lessons)
                learner = _taught_by(_page(), lessons, version.lessons).learner
                columns = {"amount": part["scored"]["features"][:, 0].copy()}
                assert part["scored"]["online"].tolist() == learner.predict(columns).tolist()
    assert len(seen) > 5, "it was another learner after each commit"


def test_nothing_is_learned_from_what_was_not_committed_and_after_a_crash_all_of_it_once():
    smooth, rough = Driver(_page(), partitions=2), Driver(_page(), partitions=2, auto_commit=False)
    _play(smooth, 80)
    done = 0
    for end, crashes in ((20, False), (33, True), (50, False), (71, True), (80, False)):
        _play(rough, end - done, begin=done)
        if crashes:
            for record in rough.crash():
                rough.pipe(record)
        rough.commit()
        done = end
    smooth.advance("5h")
    rough.advance("5h")
    rough.commit()
    for driver in (smooth, rough):
        ids = [one for lesson in _lessons(driver) for one in lesson["ids"]]
        assert sorted(ids) == sorted({f"p{number}" for number in range(80)})
        want = _taught_by(_page(), _lessons(driver))
        assert snapshot.encode(_told(driver)["learner"]) == snapshot.encode(want.learner.dump())


def test_a_restart_goes_on_with_the_learner_that_was_in_use():
    stayed, moved = Driver(_page(), partitions=2), Driver(_page(), partitions=2)
    for driver in (stayed, moved):
        _play(driver, 50)
    moved.restart()
    for driver in (stayed, moved):
        _play(driver, 50, begin=50)
    assert moved.predictions == stayed.predictions
    for one in range(2):
        assert snapshot.encode(moved._memories[one].state.dump()) == snapshot.encode(stayed._memories[one].state.dump())


@pytest.mark.parametrize("law", LAWS)
def test_a_pipeline_whose_learner_is_shared_keeps(law):
    law(_page(), 1)
    law(_page(labels="truth"), 2)


def test_labels_that_come_with_their_events_are_lessons_too():
    driver = Driver(_page(labels="truth"), partitions=2)
    for number in range(40):
        driver.pipe({"id": f"p{number}", "card": f"c{number % 5}", "amount": float(number % 2), "truth": number % 2})
    driver.pipe({"id": "nobody", "card": "c0", "amount": 0.0, "truth": None})
    ids = [one for lesson in _lessons(driver) for one in lesson["ids"]]
    assert ids == [f"p{number}" for number in range(40)]
    want = _taught_by(_page(labels="truth"), _lessons(driver))
    assert snapshot.encode(_told(driver)["learner"]) == snapshot.encode(want.learner.dump())


def test_a_state_remembers_which_learner_was_in_use_and_nothing_of_it():
    page = _page()
    state, other = page.fresh(), page.trained()
    lessons = Lessons(["a"], np.array([[1.0]]), np.array([1.0]), np.array([5.0]))
    other.learn(lessons, 77.0)
    state.learning.adopt(other.version, other.learner)
    again = page.fresh()
    again.load(snapshot.decode(snapshot.encode(state.dump())))
    assert state.dump()["learning"]["learner"] is None
    assert again.learning.version == Version(77.0, 1)
    assert again.learning.lacks
    again.learning.adopt(other.version, other.learner)
    assert not again.learning.lacks


def test_where_lessons_are_cut_does_not_show_and_what_was_remembered_makes_the_learner_again():
    page = _page()
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(50, 1)), rng.integers(0, 2, 50).astype(float)
    features[7] = np.nan
    whole, cut, again = page.trained(), page.trained(), page.trained()
    all_of_it = Lessons([f"p{number}" for number in range(50)], features, labels, np.arange(50.0))
    change = whole.learn(all_of_it, 9.0)
    for half in all_of_it.halves():
        for quarter in half.halves():
            cut.learn(quarter, 9.0)
    again.take(snapshot.decode(snapshot.encode(change)))
    loaded = page.trained()
    loaded.load(snapshot.decode(snapshot.encode(whole.dump())))
    assert len({snapshot.encode(one.dump()) for one in (whole, cut, again, loaded)}) == 1
    assert whole.version == Version(9.0, 50)


def _shared(bytes_max=400):
    topics = ("shares-lessons", "shares-learner", "shares-learner-state")
    return Shared(_page(), configure({"group": Given("shares", "test")}), dict.fromkeys(topics, bytes_max))


def test_lessons_that_are_too_many_for_a_record_go_out_in_several_and_a_long_name_is_left_out():
    shared, driver = _shared(), Driver(_page())
    lessons = Lessons([f"p{number}" for number in range(100)], np.ones((100, 1)), np.ones(100), np.arange(100.0))
    outputs = shared.lessons([lessons], driver._memories[0])
    said = [snapshot.decode(one.value) for one in outputs]
    assert [one for part in said for one in part["ids"]] == lessons.ids
    assert len(outputs) > 10
    assert max(one.size for one in outputs) <= 400
    (named,) = shared.lessons([lessons._replace(ids=["x" * 500])._replace(**_first(lessons))], driver._memories[0])
    assert snapshot.decode(named.value)["ids"] == [None]


def _first(lessons):
    return {name: getattr(lessons, name)[:1] for name in ("features", "labels", "at")}


def test_a_lesson_that_cannot_be_read_or_is_for_another_model_is_a_dead_letter():
    driver, other = Driver(_page()), Driver(_page(features={"other": field("amount")}, static=None))
    _play(driver, 10)
    _play(other, 10)
    strange = other._published["shares-lessons"][0]
    before = snapshot.encode(_told(driver))
    driver._published["shares-lessons"] += [strange, strange._replace(value=b"what?")]
    driver.commit()
    assert [one.reason for one in driver.dead_letters] == ["wrong_lesson", "wrong_lesson"]
    assert "other features" in driver.dead_letters[0].message
    telemetry = driver._scorer._telemetry
    telemetry.count_steps()
    assert telemetry.registry.value("headrace_events_rejected_total", "wrong_lesson") == 2
    assert telemetry.registry.value("headrace_events_consumed_total", "shares-lessons") == len(
        driver._published["shares-lessons"]
    )
    assert snapshot.encode(_told(driver)) == before


def test_what_is_told_is_found_again_however_many_records_it_takes():
    driver, found = Driver(_page()), Found()
    _play(driver, 10)
    shared = _shared(100)
    for one in shared.tell(driver._course):
        if one.topic == "shares-learner":
            found.take(one.key, one.value)
    assert found.head["pieces"] > 1
    assert snapshot.encode(found.snapshot()) == snapshot.encode(_told(driver))
    assert shared.tell(driver._course) == [], "there is no news"


def test_what_was_learned_by_another_model_is_refused():
    driver = Driver(_page())
    _play(driver, 10)
    with pytest.raises(StateMismatch):
        driver.restart(_page(learner="partition"))
    with pytest.raises(StateMismatch):
        driver.restart(_page(online=linear_model.LogisticRegression()))


def test_a_quality_report_says_how_stale_the_learner_was():
    driver = Driver(_page(), partitions=2)
    _play(driver, 30)
    reports = [one for one in driver.published("quality") if one.key == "shares-all-shared"]
    assert reports
    assert b'"behind_lessons":' in reports[0].value


def test_staleness_counts_the_lessons_that_were_published_before_and_not_known():
    staleness, told = Staleness(), [(0, 1.0), (0, 2.0), (1, 2.5), (3, 9.0)]  # which lessons were known, and when it was
    want_lessons, want_seconds = [], []
    for number, (known, wrote) in enumerate(told):
        staleness.heard(Version(1.0, known), 1, now=Version(1.0, number), wrote=wrote)
        want_lessons.append(number - known)
        want_seconds.append(wrote - told[known][1] if known < number else 0.0)
    said = staleness.told()
    assert said["behind_lessons"] == sum(want_lessons) / 4
    assert said["behind_lessons_max"] == max(want_lessons)
    assert said["behind_seconds"] == sum(want_seconds) / 4
    assert said["behind_seconds_max"] == max(want_seconds)
    assert staleness.told()["behind_lessons"] is None, "it begins anew with every report"


def test_a_learner_that_began_anew_counts_as_one_that_is_newer():
    shared, driver = _shared(), Driver(_page())
    memory = driver._memories[0]
    old, new = _page().trained(), _page().trained()
    one = Lessons(["a"], np.array([[1.0]]), np.array([1.0]), np.array([5.0]))
    for _ in range(3):
        old.learn(one, 10.0)
    new.learn(one, 20.0)
    for trained, in_use in ((old, old), (new, new), (old, new)):
        shared.newest = shared.newest._replace(version=trained.version, learner=trained.learner)
        shared.adopt(memory)
        assert memory.state.learning.version == in_use.version


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"learner": "all"}, "learner = 'all': allowed are 'partition', 'shared'"),
        ({"online": None}, "learner = 'shared': there is no learner to share; name one by online="),
    ],
)
def test_a_page_that_cannot_share_is_refused(parts, told):
    with pytest.raises(BadPipeline, match="pipeline cannot run") as refused:
        _page(**parts)
    assert told in refused.value.problems


def test_what_does_not_go_together_with_a_shared_learner_is_refused_with_every_reason():
    given = {"guarantee": "at-least-once", "topic_lessons": "mine", "topic_learner": "mine", "group": "g"}
    config = configure({name: Given(value, "test") for name, value in given.items()})
    with pytest.raises(BadConfig) as refused:
        check(_page(), config)
    assert len(refused.value.problems) == 2
    assert "guarantee = at-least-once: shares has learner='shared'" in refused.value.problems[0]
    assert "mine, mine, mine-state: must be different topics" in refused.value.problems[1]
    with pytest.raises(BadConfig, match="at-least-once"):
        Driver(_page(), guarantee="at-least-once")
    with pytest.raises(BadSlice, match="learner='shared'"):
        prepared(_page(labels="truth"), config)
    check(_page(learner="partition"), config)
