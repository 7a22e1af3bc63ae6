"""The fraud example learns: from chargebacks, from their absence, and from another way of stealing."""

import itertools

import numpy as np
from headrace.examples.fraud.generator import DAY_SECONDS, SMALL_AMOUNTS, World, as_they_come, main, simulate
from headrace.examples.fraud.learn import judged, outcomes
from headrace.examples.fraud.pipeline import pipeline

from headrace.stream.shows import fraud
from headrace.testing import Driver

SMALL = {"customers": 200, "terminals": 800}
PAYMENT = {"card": "c-7", "merchant": "m", "amount": 20.0, "lat": 48.9, "lon": 2.4, "country": "FR"}


def _told(driver: Driver) -> list[tuple]:
    return [(one["id"], one["by"], one["label"]) for one in driver.outcomes]


def test_a_chargeback_teaches_the_learner_and_says_how_good_the_scores_were() -> None:
    driver = Driver(pipeline)
    driver.pipe({"id": "t1", **PAYMENT})
    assert driver.predictions[0]["online"] == 0.5
    driver.advance("7d")
    driver.label(driver.predictions[0], 1)
    driver.pipe({"id": "t2", **PAYMENT})
    (outcome,) = driver.outcomes
    assert (outcome["id"], outcome["by"], outcome["label"]) == ("t1", "label", 1.0)
    assert outcome["score"] == driver.predictions[0]["score"]
    assert driver.predictions[1]["online"] > 0.5


def test_a_payment_of_which_nobody_says_anything_was_honest_and_a_late_chargeback_corrects_that() -> None:
    driver = Driver(pipeline)
    driver.pipe({"id": "t1", **PAYMENT})
    driver.advance("7d")
    assert driver.outcomes == []
    driver.advance("2d")
    driver.label("t1", 1, key="c-7")
    assert _told(driver) == [("t1", "timeout", 0.0), ("t1", "revision", 1.0)]


def test_a_changed_world_is_as_it_was_until_it_changes() -> None:
    usual, changed = (list(simulate(**SMALL, days=12, change_day=day)) for day in (None, 6))
    records = [[list(day.transactions()) for day in one] for one in (usual, changed)]
    assert records[0][:6] == records[1][:6]
    assert all(one != other for one, other in zip(records[0][6:], records[1][6:], strict=True))
    for one, other in zip(usual, changed, strict=True):
        assert np.array_equal(one.at, other.at)
        assert np.array_equal(one.customer, other.customer)
        assert np.array_equal(one.scenario == 3, other.scenario == 3)


def test_in_the_changed_world_stolen_cards_pay_small_round_amounts_anywhere() -> None:
    world = World(**SMALL, leaked_a_day=5, way="small")
    far = []
    for number in range(20, 30):
        day = world.day(number)
        stolen = day.scenario == 3
        assert stolen.any()
        assert set(day.amount[stolen]) <= set(map(float, SMALL_AMOUNTS))
        away = np.hypot(*(world.homes[day.customer] - world.sites[day.terminal]).T)
        assert away[~stolen].max() < 5
        far.append(away[stolen])
        # That an amount is large means nothing any more.
        assert not np.any(day.scenario == 1)
    assert np.concatenate(far).mean() > 30


def test_payments_and_labels_come_in_the_order_of_their_times() -> None:
    days = list(simulate(**SMALL, days=9))
    told = list(as_they_come(iter(days)))
    times = [one["at"] for _, one in told]
    assert times == sorted(times)
    for topic, made in (("transactions", "transactions"), ("labels", "labels")):
        assert [one for name, one in told if name == topic] == [one for day in days for one in getattr(day, made)()]


def test_payments_and_labels_of_a_run_without_end_begin_at_once() -> None:
    told = itertools.islice(as_they_come(simulate(**SMALL, days=10**9), delay_seconds=DAY_SECONDS), 1_000)
    assert {topic for topic, _ in told} == {"transactions", "labels"}


def test_the_change_can_be_asked_for_by_its_day(tmp_path) -> None:
    files = [tmp_path / name for name in ("usual.jsonl", "changed.jsonl")]
    size = ["--days", "4", "--customers", "200", "--terminals", "800"]
    for file, more in zip(files, ([], ["--change-day", "2"]), strict=True):
        assert main([*size, *more, "-o", str(file)]) == 0
    usual, changed = (file.read_bytes().splitlines() for file in files)
    two_days = sum(len(day.at) for day in simulate(**SMALL, days=2))
    assert usual[:two_days] == changed[:two_days]
    assert usual[two_days:] != changed[two_days:]


def test_the_learner_overtakes_the_static_model_after_the_world_has_changed() -> None:
    known = outcomes(
        simulate(customers=300, terminals=600, compromised_a_day=0, leaked_a_day=1, days=107, change_day=50)
    )
    warming, usual, changing, changed = (judged(itertools.islice(known, count)) for count in (20, 30, 20, 30))
    assert usual["static"]["log_loss"] < usual["online"]["log_loss"] < warming["online"]["log_loss"]
    assert usual["combined"]["log_loss"] < 1.05 * usual["static"]["log_loss"]
    assert changing["static"]["log_loss"] > 1.5 * usual["static"]["log_loss"]
    assert changed["online"]["log_loss"] < 0.5 * changed["static"]["log_loss"]
    assert changed["combined"]["log_loss"] < 0.5 * changed["static"]["log_loss"]
    assert changed["combined"]["roc_auc"] > 0.95
    assert changed["static"]["roc_auc"] < 0.8


def test_a_world_that_stays_raises_nothing_and_a_change_that_passes_is_told_and_cleared() -> None:
    show = fraud(320_000, "passes")  # planned: the change comes at a half of it, and is over at three quarters
    driver = Driver(pipeline, partitions=4)
    ends = show.passes_at + 60 * DAY_SECONDS
    for day, some in itertools.groupby(show.records, key=lambda one: one[1]["at"] // DAY_SECONDS):
        records = [driver._record(record, record["card"], topic=topic) for topic, record in some]
        driver.pipe_all(sorted(records, key=lambda one: (one.partition, one.topic != "transactions")))
        if day * DAY_SECONDS > ends:
            break
    raised = {one["id"]: one["at"] for one in driver.alerts if one["state"] == "raised"}
    cleared = {one["id"]: one["at"] for one in driver.alerts if one["state"] == "cleared"}
    assert show.changes_at < min(raised.values()) <= show.changes_at + 5 * DAY_SECONDS
    assert any(raised[name] < show.passes_at < cleared[name] for name in raised), "one lasted as long as the change"
    assert max(raised.values()) < show.passes_at
    assert raised.keys() == cleared.keys(), "and sixty days later all are over"
