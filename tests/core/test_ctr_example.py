"""Made-up impressions keep what their description promises, and the example learns from clicks and their absence."""

import doctest
import itertools
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from headrace.examples.ctr import generator, slates
from headrace.examples.ctr.generator import (
    CATEGORIES,
    HOUR_SECONDS,
    ITEM_HOURS,
    SLOTS,
    STARTED_AT,
    World,
    as_they_come,
    main,
    simulate,
)
from headrace.examples.ctr.learn import judged, outcomes
from headrace.examples.ctr.pipeline import CATEGORIES as KNOWN
from headrace.examples.ctr.pipeline import Click, Impression, pipeline

from headrace.models.slate import propensity_of
from headrace.testing import Driver, check_laws

USERS = 60
COLUMNS = ("number", "at", "user", "item", "slot", "engaged", "clicked_at")
SHOWN = {"user": "u", "item": "a", "category": "sports", "slot": 1, "published": STARTED_AT, "engaged": 0}


def _same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in COLUMNS[1:])


@pytest.fixture(scope="module")
def day() -> list:
    return list(simulate(users=400, hours=24))


def test_examples_in_the_docstrings_hold() -> None:
    done = doctest.testmod(generator)
    assert done.attempted
    assert not done.failed


def test_a_seed_gives_the_same_impressions_every_time_and_no_hour_needs_another() -> None:
    hours = list(simulate(users=USERS, hours=5))
    assert all(map(_same, hours, simulate(users=USERS, hours=30)))
    assert all(_same(World(users=USERS).hour(hour.number), hour) for hour in reversed(hours))
    assert not any(map(_same, hours, simulate(2, users=USERS, hours=5)))


def test_pages_have_different_items_in_all_slots_and_times_rise_within_their_hour(day: list) -> None:
    for hour in day:
        begin = STARTED_AT + hour.number * HOUR_SECONDS
        assert np.all((hour.at >= begin) & (hour.at < begin + HOUR_SECONDS))
        assert np.all(np.diff(hour.at) >= 0)
        pages = hour.item.reshape(-1, SLOTS)
        assert hour.slot.tolist() == list(range(1, SLOTS + 1)) * len(pages)
        assert all(len(set(page)) == SLOTS for page in pages.tolist())


def test_items_are_shown_from_their_first_minutes_on_and_taken_down_after_two_days(day: list) -> None:
    age = np.concatenate([hour.at - hour.world.published(hour.item) for hour in day])
    assert 0 <= age.min() < 60
    assert age.max() < ITEM_HOURS * HOUR_SECONDS
    assert np.mean(age < HOUR_SECONDS) > 0.02


def test_clicks_hang_on_the_slot_until_the_page_lies_on_its_side() -> None:
    for season, least, greatest in (("usual", 2.0, 5.0), ("other", 0.8, 1.6)):
        hours = list(map(World(users=400, season=season).hour, range(24)))
        slot, clicked_at = (np.concatenate([getattr(hour, name) for hour in hours]) for name in ("slot", "clicked_at"))
        rates = [np.mean(~np.isnan(clicked_at[slot == one])) for one in range(1, SLOTS + 1)]
        assert least < rates[0] / rates[-1] < greatest


def test_most_clicks_come_within_minutes_and_a_few_when_nobody_waits_any_more(day: list) -> None:
    delay = np.concatenate([hour.clicked_at - hour.at for hour in day])
    clicked = delay[~np.isnan(delay)]
    assert 0.04 < len(clicked) / len(delay) < 0.09
    assert np.mean(clicked < 300) > 0.9
    assert 0.01 < np.mean(clicked > 1_800) < 0.05


def test_impressions_and_clicks_come_in_the_order_of_their_times() -> None:
    hours = list(simulate(users=USERS, hours=6))
    told = list(as_they_come(iter(hours)))
    times = [one["at"] for _, one in told]
    assert times == sorted(times)
    clicks = {one["id"] for topic, one in told if topic == "clicks"}
    assert clicks == {one["id"] for hour in hours for one in hour.clicks()}
    seen = set()
    for topic, one in told:
        if topic == "clicks":
            assert one["id"] in seen
        seen.add(one["id"])
    assert len(list(itertools.islice(as_they_come(simulate(users=USERS, hours=10**9)), 10))) == 10


def test_records_have_the_fields_that_are_declared_and_no_other(day: list) -> None:
    assert tuple(next(day[0].impressions())) == Impression.__struct_fields__
    assert set(next(day[0].clicks())) == set(Click.__struct_fields__)
    assert KNOWN == CATEGORIES


def test_a_changed_world_is_as_it_was_until_it_changes() -> None:
    usual, changed = (list(simulate(users=USERS, hours=6, change_hour=hour)) for hour in (None, 3))
    assert all(map(_same, usual[:3], changed[:3]))
    for one, other in zip(usual[3:], changed[3:], strict=True):
        assert np.array_equal(one.item, other.item)
        assert not np.array_equal(one.clicked_at, other.clicked_at, equal_nan=True)


def test_files_hold_what_the_pipeline_scores(tmp_path, capsys) -> None:
    files = [tmp_path / name for name in ("impressions.jsonl", "clicks.jsonl")]
    size = ["--hours", "3", "--users", str(USERS), "-o", str(files[0]), "--clicks", str(files[1])]
    assert main(size) == 0
    shown, clicks = (file.read_bytes().splitlines() for file in files)
    events = [msgspec.json.decode(line, type=Impression) for line in shown]
    labels = [msgspec.json.decode(line, type=Click) for line in clicks]
    hours = list(simulate(users=USERS, hours=3))
    assert [msgspec.to_builtins(one) for one in events] == [one for hour in hours for one in hour.impressions()]
    assert [one.at for one in labels] == sorted(one.at for one in labels)
    assert {one.id for one in labels} == {one["id"] for hour in hours for one in hour.clicks()}
    assert not pipeline.step(events, pipeline.fresh()).rejections
    assert f"{len(events):,} impressions, {len(labels):,} clicked on (" in capsys.readouterr().err
    assert main([*size, "--keys"]) == 0
    keyed = files[1].read_bytes().splitlines()
    assert keyed == [label.user.encode() + b"\t" + line for label, line in zip(labels, clicks, strict=True)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--hours", "0"], "--hours 0: must be 1 or more"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
        (["-o", "-", "--clicks", "-"], "-o and --clicks are both -: impressions and clicks are different topics"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str], told: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_reader_that_has_enough_ends_the_program_without_a_word() -> None:
    command = [sys.executable, generator.__file__, "--hours", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            assert program.stdout.read(1)
            program.stdout.close()
            told = program.stderr.read()
            assert program.wait(timeout=60) == 1
        finally:
            program.kill()
    assert told == b""


def test_a_click_in_time_is_a_label_and_half_an_hour_without_one_another() -> None:
    driver = Driver(pipeline)
    driver.pipe({"id": "i1", **SHOWN})
    driver.pipe({"id": "i2", **SHOWN, "slot": 2})
    driver.advance("5m")
    driver.label("i1", 1, key="u")
    driver.advance("30m")
    driver.label("i2", 1, key="u")
    told = [(one["id"], one["by"], one["label"]) for one in driver.outcomes]
    assert told == [("i1", "label", 1.0), ("i2", "timeout", 0.0), ("i2", "revision", 1.0)]


def test_the_pipeline_keeps_the_laws() -> None:
    check_laws(pipeline, seeds=[1])


def test_the_learner_overtakes_the_static_model_after_the_world_has_changed() -> None:
    parts = judged(outcomes(simulate(users=300, hours=36, change_hour=18)))
    usual, changed = parts[2], parts[4]
    assert usual["static"]["normalised_entropy"] < 0.95
    assert usual["combined"]["normalised_entropy"] < 1.02 * usual["static"]["normalised_entropy"]
    assert changed["static"]["normalised_entropy"] > 1.02
    assert changed["online"]["normalised_entropy"] < 0.95
    assert changed["combined"]["normalised_entropy"] < 0.95


@pytest.fixture(scope="module")
def pages() -> list:
    return list(slates.played(World(users=500), range(12)))


def test_requests_have_candidates_that_are_there_and_no_two_alike(pages: list) -> None:
    for requests, *_ in pages:
        begin = STARTED_AT + requests.number * HOUR_SECONDS
        assert np.all(np.diff(requests.at) >= 0)
        assert np.all((requests.at >= begin) & (requests.at < begin + HOUR_SECONDS))
        age = requests.at[:, None] - requests.world.published(requests.item)
        assert np.all((age >= 0) & (age < ITEM_HOURS * HOUR_SECONDS))
        assert all(len(set(row)) == len(row) for row in requests.item.tolist())
        again = World(users=500).requests(requests.number)
        assert list(again.candidates()) == list(requests.candidates())
    assert set(next(pages[0][0].candidates())) == set(slates.Candidate.__struct_fields__)


def test_what_is_said_of_policies_from_the_log_of_another_is_what_they_earn(pages: list) -> None:
    told, by_slot = slates.judged(pages)
    for estimate, earns, *_ in told.values():
        assert abs(estimate.ips - earns) < 3 * estimate.ips_error
        assert abs(estimate.snips - earns) < 3 * estimate.snips_error
        assert estimate.ips_error < 0.02
    assert told["greedy"][1] > told["explores half of the slots"][1] > told["at random"][1]
    assert by_slot[0] > 2 * by_slot[-1]


def test_what_a_slot_is_worth_is_told_apart_from_what_was_put_there(pages: list) -> None:
    _, _, estimates, truth = slates.judged(pages)[0]["at random"]
    for one, rate in zip(estimates, truth, strict=True):
        # Ten clicks or so are too few for the estimate's own error; this one comes from the truth.
        assert abs(one.snips - rate) < 3 * (rate * (1 - rate) / one.effective) ** 0.5
    assert 2.5 < truth[0] / truth[-1] < 5


def test_a_page_that_explores_is_the_same_at_a_replay(pages: list) -> None:
    for (*_, log, clicked), (*_, log_again, clicked_again) in zip(
        pages[:2], slates.played(World(users=500), range(2)), strict=True
    ):
        assert np.array_equal(log.places, log_again.places)
        assert np.array_equal(log.propensity, log_again.propensity)
        assert np.array_equal(clicked, clicked_again)
    other = next(iter(slates.played(World(users=500), range(1), seed=2)))
    assert not np.array_equal(other[2].places, pages[0][2].places)


def test_an_item_that_nobody_knows_is_scored_by_what_it_is_and_shown_with_a_chance_that_is_known(pages: list) -> None:
    known = {"at": STARTED_AT, "user": "u", "request": "r", "category": "travel"}
    new, old, other = (
        slates.Candidate(id=item, item=item, published=STARTED_AT - age, **known)
        for item, age in (("never seen", 60), ("old", 30 * HOUR_SECONDS), ("never seen either", 60))
    )
    scores = [made.score for made in slates.pipeline.step([new, old, other], slates.pipeline.fresh()).predictions]
    assert scores[0] == scores[2] > scores[1]
    for _, scores, log, _ in pages:
        count = scores.shape[1]
        for place in range(count):
            first = np.full((len(scores), 1), place)
            assert np.all(propensity_of(first, scores, slates.LOGS) >= 0.5 / count)
        assert np.all(log.propensity >= 0.5 / count)
    of_all, of_greedy, of_log = slates.newest(pages)
    assert of_all > 0.01
    assert of_greedy > of_all, "being new counts for an item"
    assert of_log > of_all


def test_a_user_who_was_never_here_has_what_is_true_of_all() -> None:
    state = pipeline.fresh()
    regular = [Impression(id=str(at), at=STARTED_AT + at, **{**SHOWN, "user": "old", "engaged": 1}) for at in range(50)]
    pipeline.transform(regular, state)
    both = [Impression(id=user, at=STARTED_AT + 60.0, **{**SHOWN, "user": user}) for user in ("old", "new")]
    made = pipeline.transform(both, state)
    assert made["engaged_7d"][0] > 0.5
    assert made["engaged_7d"][1] == pytest.approx(0.1)
    assert [made[name].tolist() for name in ("shown_1h", "category_1d")] == [[51.0, 1.0]] * 2, "this one included"
    assert made["new_to_user"].tolist() == [0.0, 1.0]
    assert np.isfinite([column[1] for column in made.values()]).all()


def test_candidates_keep_the_laws() -> None:
    check_laws(slates.pipeline, seeds=[1])
