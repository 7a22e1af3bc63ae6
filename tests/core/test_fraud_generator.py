"""Made-up payments keep what their description promises."""

import doctest
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from core.records import Transaction, fraud
from headrace.examples.fraud import generator
from headrace.examples.fraud.generator import DAY_SECONDS, World, main, simulate

from headrace import Label

SMALL = {"customers": 200, "terminals": 800}
SEEDS = range(1, 4)
# The columns of a day, without the world that they belong to.
COLUMNS = ("number", "at", "customer", "terminal", "amount", "scenario")


class Outcome(Label, topic="labels", key="card"):
    """What was true of a payment."""

    id: str
    at: float
    card: str
    label: int


def _same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


@pytest.fixture(scope="module")
def half_a_year() -> list:
    """Return the Handbook's own size: 183 days, 5,000 customers, 10,000 terminals."""
    return list(simulate(seed=1, days=183))


def test_examples_in_the_docstrings_hold() -> None:
    done = doctest.testmod(generator)
    assert done.attempted
    assert not done.failed


@pytest.mark.parametrize("number", SEEDS)
def test_a_seed_gives_the_same_payments_every_time(number: int) -> None:
    first, second = (list(simulate(number, **SMALL, days=5)) for _ in range(2))
    assert all(map(_same, first, second))
    assert [list(day.transactions()) for day in first] == [list(day.transactions()) for day in second]
    assert not any(map(_same, first, simulate(number + 1, **SMALL, days=5)))


def test_a_short_run_is_the_beginning_of_a_long_one() -> None:
    assert all(map(_same, simulate(**SMALL, days=5), simulate(**SMALL, days=40)))


def test_a_day_needs_none_before_it() -> None:
    world = World(**SMALL)
    assert all(_same(world.day(day.number), day) for day in reversed(list(simulate(**SMALL, days=40))))


def test_a_run_without_end_begins_at_once() -> None:
    # Days are made when they are asked for, and nothing keeps them.
    days = simulate(**SMALL, days=sys.maxsize)
    assert [day.number for day in itertools.islice(days, 3)] == [0, 1, 2]


@pytest.mark.parametrize("number", SEEDS)
def test_times_rise_and_lie_within_their_day(number: int) -> None:
    started_at = 1e9
    days = list(simulate(number, **SMALL, days=30, started_at=started_at))
    for day in days:
        midnight = started_at + day.number * DAY_SECONDS
        assert np.all((day.at >= midnight) & (day.at < midnight + DAY_SECONDS))
    assert np.all(np.diff(np.concatenate([day.at for day in days])) >= 0)


def test_there_is_more_to_do_by_day_than_by_night(half_a_year: list) -> None:
    hours = np.concatenate([day.at for day in half_a_year]) / 3_600 % 24
    counts = np.bincount(hours.astype(int), minlength=24)
    assert np.all(counts > 0)
    assert np.all(np.diff(counts[:12]) > 0), "until noon more and more"
    assert np.all(np.diff(counts[12:]) < 0), "and from then on less and less"


def test_customers_pay_near_home_about_as_often_and_as_much_as_they_do(half_a_year: list) -> None:
    world = half_a_year[0].world
    customer = np.concatenate([day.customer for day in half_a_year])
    terminal = np.concatenate([day.terminal for day in half_a_year])
    away = np.hypot(*(world.homes[customer] - world.sites[terminal]).T)
    assert 4.99 < away.max() < 5
    counts = np.bincount(customer, minlength=len(world.homes))
    # A few in a hundred are drawn for a time before or after the day and do not take place.
    assert 0.96 < counts.sum() / (183 * world.payments_a_day.sum()) < 0.98
    genuine = np.concatenate([day.scenario for day in half_a_year]) == 0
    amounts = np.concatenate([day.amount for day in half_a_year])
    means = world.mean_amounts[customer]
    assert 0.95 < amounts[genuine].sum() / means[genuine].sum() < 1.05
    assert amounts.min() > 0


def test_every_customer_reaches_every_terminal_near_home() -> None:
    world = World(**SMALL)
    near = [set(one.tolist()) for one in np.split(world._near, np.cumsum(world._counts)[:-1])]
    for home, found in zip(world.homes, near, strict=True):
        assert found == set(np.flatnonzero(np.sum((world.sites - home) ** 2, axis=1) < 25).tolist())


def test_as_many_are_fraudulent_as_the_handbook_says(half_a_year: list) -> None:
    # Its table has 1,754,155 payments: 978 frauds by amount, 9,099 by terminal, 4,604 by card, in all 0.84 %.
    counts = Counter(np.concatenate([day.scenario for day in half_a_year]).tolist())
    frauds = counts.total() - counts[0]
    assert 1_700_000 < counts.total() < 1_800_000
    assert 0.0075 < frauds / counts.total() < 0.0093
    assert 800 < counts[1] < 1_200
    assert 8_000 < counts[2] < 10_000
    assert 4_200 < counts[3] < 5_200


def test_every_amount_above_the_threshold_is_fraudulent(half_a_year: list) -> None:
    for day in half_a_year:
        assert np.all(day.scenario[day.amount > 220] > 0)
        assert np.all(day.amount[day.scenario == 1] > 220)


def test_compromised_terminals_have_nothing_but_frauds_for_28_days(half_a_year: list) -> None:
    # Who is compromised on a day is recounted from when it began, with as many days as the description says.
    world = half_a_year[0].world
    began: dict[int, list[int]] = {}
    for day in half_a_year:
        before = set() if day.number == 0 else set(world.compromised(day.number - 1).tolist())
        for terminal in set(world.compromised(day.number).tolist()) - before:
            began.setdefault(terminal, []).append(day.number)
    assert 2 * 183 * 0.98 < sum(map(len, began.values())) <= 2 * 183, "two a day, and hardly one twice in 28 days"
    for day in half_a_year:
        for terminal, is_fraud in zip(day.terminal.tolist(), (day.scenario >= 2).tolist(), strict=True):
            lasting = any(0 <= day.number - first < 28 for first in began.get(terminal, ()))
            if lasting:
                assert is_fraud
        hit = set(day.terminal[day.scenario == 2].tolist())
        assert hit <= set(world.compromised(day.number).tolist())
        assert len(world.compromised(day.number)) <= 2 * min(day.number + 1, 28)
    assert len(world.compromised(0)) == 2


def test_compromised_terminals_are_honest_again_after_28_days() -> None:
    world = World(seed=1, customers=10, terminals=100_000)
    first = set(world.compromised(0).tolist())
    for number in range(28):
        assert first <= set(world.compromised(number).tolist())
    assert not first & set(world.compromised(28).tolist())


def test_leaked_cards_are_their_owners_alone_again_after_14_days() -> None:
    world = World(seed=1, customers=20_000, terminals=10)
    first = set(world.leaked(0).tolist())
    assert len(first) == 3
    for number in range(14):
        assert first <= set(world.leaked(number).tolist())
        assert len(world.leaked(number)) <= 3 * (number + 1)
    assert not first & set(world.leaked(14).tolist())


def test_a_third_of_a_leaked_cards_payments_is_somebody_elses(half_a_year: list) -> None:
    world = half_a_year[0].world
    total = stolen = 0
    for day in half_a_year:
        leaked = np.isin(day.customer, world.leaked(day.number))
        assert not np.any(day.scenario[~leaked] == 3)
        total += int(leaked.sum())
        stolen += int((day.scenario == 3).sum())
    deviation = np.sqrt(total * 1 / 3 * 2 / 3)
    assert abs(stolen - total / 3) < 4 * deviation


@pytest.mark.parametrize("number", SEEDS)
def test_a_stolen_payment_is_the_same_one_with_five_times_the_amount(number: int) -> None:
    world, safe = World(number, **SMALL), World(number, **SMALL, leaked_a_day=0)
    some = 0
    for which in range(30):
        day, want = world.day(which), safe.day(which)
        stolen = day.scenario == 3
        some += stolen.sum()
        assert np.array_equal(day.at, want.at)
        assert np.array_equal(day.terminal, want.terminal)
        assert np.array_equal(day.amount, np.where(stolen, np.round(5 * want.amount, 2), want.amount))
        assert np.array_equal(day.scenario[~stolen], want.scenario[~stolen])
    assert some


def test_without_scenarios_only_the_amount_makes_a_fraud() -> None:
    world = World(**SMALL, leaked_a_day=0, compromised_a_day=0)
    for number in range(30):
        day = world.day(number)
        assert np.array_equal(day.scenario > 0, day.amount > 220)


@pytest.mark.parametrize("number", SEEDS)
def test_labels_say_of_each_payment_what_it_was_and_when_that_is_known(number: int) -> None:
    for day in simulate(number, **SMALL, days=30):
        payments, labels = list(day.transactions()), list(day.labels(3_600.5))
        assert [one["id"] for one in labels] == [one["id"] for one in payments]
        assert [one["card"] for one in labels] == [one["card"] for one in payments]
        assert [one["label"] for one in labels] == [int(scenario > 0) for scenario in day.scenario.tolist()]
        assert [one["at"] for one in labels] == [round(one["at"] + 3_600.5, 3) for one in payments]
        assert next(day.labels())["at"] == round(payments[0]["at"] + 7 * DAY_SECONDS, 3)


def test_ids_are_unique_and_a_terminal_stays_where_it_is() -> None:
    payments = [one for day in simulate(**SMALL, days=10) for one in day.transactions()]
    assert len({one["id"] for one in payments}) == len(payments)
    places = {(one["merchant"], one["lat"], one["lon"], one["country"]) for one in payments}
    assert len(places) == len({one["merchant"] for one in payments})
    assert {"FR"} < {one["country"] for one in payments}


def test_a_world_without_terminals_in_reach_has_no_payments() -> None:
    day = World(customers=1, terminals=1).day(0)
    assert list(day.transactions()) == list(day.labels()) == []


def test_files_hold_what_the_pipeline_scores(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    payments, labels = tmp_path / "transactions.jsonl", tmp_path / "labels.jsonl"
    size = ["--days", "20", "--customers", "200", "--terminals", "800"]
    assert main([*size, "-o", str(payments), "--labels", str(labels)]) == 0
    events = [msgspec.json.decode(line, type=Transaction) for line in payments.read_bytes().splitlines()]
    outcomes = [msgspec.json.decode(line, type=Outcome) for line in labels.read_bytes().splitlines()]
    days = list(simulate(**SMALL, days=20))
    assert [msgspec.to_builtins(one) for one in events] == [one for day in days for one in day.transactions()]
    assert [msgspec.to_builtins(one) for one in outcomes] == [one for day in days for one in day.labels()]
    effects = fraud.step(events, fraud.fresh())
    assert len(effects.predictions) == len(events)
    assert not effects.rejections
    assert f"{len(events):,} payments, {sum(one.label for one in outcomes):,} fraudulent (" in capsys.readouterr().err


def test_records_have_the_fields_that_are_declared_and_no_other() -> None:
    (day,) = simulate(**SMALL, days=1)
    assert tuple(next(day.transactions())) == Transaction.__struct_fields__
    assert set(next(day.labels())) == set(Outcome.__struct_fields__)


def test_lines_with_keys_begin_with_the_card_and_a_tab() -> None:
    size = ["--days", "1", "--customers", "50", "--terminals", "800"]
    printed = [
        subprocess.run(
            [sys.executable, generator.__file__, *size, *more], capture_output=True, check=True, timeout=60
        ).stdout.splitlines()
        for more in ([], ["--keys"])
    ]
    plain, keyed = printed
    assert plain
    assert keyed == [msgspec.json.decode(line)["card"].encode() + b"\t" + line for line in plain]


def test_a_reader_that_has_enough_ends_the_program_without_a_word() -> None:
    command = [sys.executable, generator.__file__, "--days", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stderr is not None
            assert os.read(program.stdout.fileno(), 1)
            program.stdout.close()
            told = program.stderr.read()
            assert program.wait(timeout=60) == 1
        finally:
            program.kill()
    assert told == b""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--days", "0"], "--days 0: must be 1 or more"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
        (["--started-at", "nan"], "--started-at nan: must be 0 or more"),
        (["--label-delay-days", "inf"], "--label-delay-days inf: must be 0 or more"),
        (["-o", "-", "--labels", "-"], "-o and --labels are both -: payments and labels are different topics"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str], told: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
