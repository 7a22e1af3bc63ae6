"""The protocol of the benchmark of drift detection: what it finds where the truth is known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from drift import changes, contestants, intervals, picture, protocol, tables, worlds  # noqa: E402
from drift.contestant import Always, Contestant, Measured, Tumbling  # noqa: E402

sys.path.remove(str(BENCHMARKS))

MIXED = worlds.BY_NAME["mixed"]
ONE = worlds.World("one", "a single feature, where no more are needed", (("normal", 1),))
TINY = protocol.Form(
    rate=1e-3, reference=2_000, lead=2_000, horizon=2_000, rest=100, stretch=20_000, tuning=40_000, quiet=40_000,
    seeds=2, steps=8, priced=9_000,
)  # fmt: skip
MACHINE = {"cpu": "a test", "cores": 1}


class Knows(Contestant):
    """Is told where the change is."""

    at = 0

    def fit(self, reference):
        self.change_at = protocol.change_at(TINY, self.seed)

    def update(self, batch):
        began, self.at = self.at, self.at + worlds.ROWS
        return [self.change_at - began] if began <= self.change_at < self.at else []


class Toy(Contestant):
    """Alarms where a feature, uniform as the normal distribution makes it, is above its knob."""

    knobs = (0.1, 10.0)

    def update(self, batch):
        return np.flatnonzero(batch["normal-0"] > self.knob).tolist()


class MeasuredToy(Measured):
    """The same one, which says what it compares."""

    def measure(self, batch):
        yield from enumerate(batch["normal-0"].tolist())


class Loud(Contestant):
    knobs = (1.0, 2.0)

    def update(self, batch):
        return [0, 500]


class Heard(Tumbling):
    """Says how many it was given."""

    rows = 3_000

    def learn(self, reference):
        self.reference_count = len(reference["error"])

    def test(self, batch):
        return float(len(batch["error"]))


def _form(**other):
    return protocol.Form(**{**vars(TINY), **other})


def test_whoever_knows_the_truth_detects_all_at_once():
    for seed in (1, 2):
        outcomes = list(protocol.changed(Knows, 1.0, MIXED, TINY, seed))
        assert [outcome.change for outcome in outcomes] == [change.name for change in changes.CHANGES]
        assert {(outcome.delay, outcome.false_alarms) for outcome in outcomes} == {(0, 0)}


def test_whoever_alarms_at_random_is_tuned_to_the_rate_and_keeps_it_on_other_runs():
    form = _form(rest=1, tuning=400_000)
    tuned = protocol.tune(Always, ONE, form)
    assert tuned.alarms <= tuned.allowed == 400
    assert 900 < tuned.knob < 1_300, "events between alarms"
    alarms = protocol.false_alarms(Always, tuned.knob, ONE, form, 200_000, protocol.QUIET)
    low, high = intervals.rate(alarms, 200_000, 0.999)
    assert low < 1 / tuned.knob < high


def test_tuning_finds_the_knob_of_a_detector_whose_rate_is_known():
    # A normal number is above 3.09 once in a thousand events.
    form = _form(tuning=200_000, rest=1)
    searched, measured = protocol.tune(Toy, ONE, form), protocol.tune(MeasuredToy, ONE, form)
    for tuned in (searched, measured):
        assert tuned.alarms <= tuned.allowed == 200
        assert 3.0 < tuned.knob < 3.2
    assert measured.alarms == 200, "every number that was met can be the knob"
    assert measured.knob <= searched.knob < measured.knob * 1.02, "the search ends within a step of it"
    again = protocol.false_alarms(Toy, measured.knob, ONE, form, form.tuning, protocol.TUNING)
    assert again == measured.alarms, "measured or searched, it is the same count"


def test_whoever_alarms_too_often_with_every_knob_is_not_tuned():
    assert protocol.tune(Loud, MIXED, TINY).knob is None


def test_alarms_within_the_rest_are_one_and_the_change_ends_it():
    watch = protocol.Watch(Loud(1.0, 1), _form(rest=600))
    assert watch.step({}) == [0]  # and at 500 it is still the same
    assert watch.step({}) == [1_000]
    assert watch.step({}, change_at=2_400) == [2_000, 2_500]


def test_no_change_begins_before_its_time_and_each_changes_only_what_it_says():
    since = np.arange(worlds.ROWS) - 400
    for change in changes.CHANGES:
        batch = next(MIXED.batches(7))
        before = {name: column.copy() for name, column in batch.items()}
        after = change.begin(MIXED, 7)(batch, since)
        moved = [name for name in batch if not np.array_equal(before[name], after[name], equal_nan=True)]
        kinds = MIXED.kinds | {"error": "error"}
        assert len(moved) == change.count
        assert {kinds[name] for name in moved} == {change.kind}
        for name in batch:
            assert np.array_equal(before[name], batch[name], equal_nan=True), "the stationary columns are left alone"
            assert np.array_equal(before[name][:400], after[name][:400], equal_nan=True)


@pytest.mark.parametrize("world", worlds.WORLDS, ids=lambda world: world.name)
def test_a_world_is_decided_by_its_seed_and_has_fifty_features_as_they_are_described(world):
    def some(seed):
        batches = world.batches(seed)
        return protocol._joined([next(batches) for _ in range(10)])

    one, again, other = some(1), some(1), some(2)
    assert len(world.kinds) == 50
    assert [*one] == [*world.kinds, "error"]
    for name, kind in world.kinds.items():
        assert np.array_equal(one[name], again[name], equal_nan=True)
        assert not np.array_equal(one[name], other[name], equal_nan=True)
        if kind == "category":
            assert 3 <= len(np.unique(one[name])) <= 30
            assert one[name].max() < 30
        elif kind not in {"lognormal", "t3"}:
            assert abs(np.nanmean(one[name])) < 0.3
            assert 0.85 < np.nanstd(one[name]) < 1.15
        if kind.startswith("serial"):
            found = np.corrcoef(one[name][1:], one[name][:-1])[0, 1]
            assert abs(found - int(kind[-2:]) / 100) < 0.05, "also where two batches meet"
    assert 0.08 < one["error"].mean() < 0.12


def test_a_key_comes_once_in_each_part_and_goes_on_from_its_last_value():
    batches = worlds.World("keys", "", (("keyed90", 1),)).batches(3)
    parts = [part for _ in range(3) for part in np.split(next(batches)["keyed90-0"], worlds.ROWS // worlds.KEYS)]
    means = [part.mean() for part in parts]
    assert np.corrcoef(means[1:], means[:-1])[0, 1] > 0.5, "the mean of all keys remembers"


def test_a_tumbling_contestant_waits_until_its_batch_is_full():
    one = Heard(3_000.0, 1)
    batches = MIXED.batches(1)
    one.fit(next(batches))
    assert one.reference_count == 1_000
    assert [one.update(next(batches)) for _ in range(6)] == [[], [], [999], [], [], [999]]


def test_an_interval_of_a_rate_is_the_exact_one():
    assert intervals.rate(0, 1_000_000) == (0.0, pytest.approx(3.689e-6, rel=1e-3))
    low, high = intervals.rate(10, 1_000_000)
    assert (low, high) == (pytest.approx(4.795e-6, rel=1e-3), pytest.approx(18.39e-6, rel=1e-3))


def test_every_contestant_is_there_once_and_the_missing_ones_say_why():
    assert len(contestants.BY_NAME) == len(contestants.ENTRIES)
    odd = contestants.Entry("odd", "", "nowhere:Odd", needs="headrace.nowhere.odd")
    assert odd.missing() == "headrace.nowhere.odd is not there"
    assert not contestants.BY_NAME["always-fire"].missing()


def test_a_contestant_measures_in_a_process_of_its_own_and_the_tables_and_the_picture_tell_of_it():
    form = _form(changes=("mean-1", "label-flip"), stretch=10_000, tuning=10_000, quiet=10_000, steps=4)
    asked = {"form": vars(form), "worlds": ["mixed"]}
    command = [sys.executable, "-m", "drift.one", "river-ddm", "contest", json.dumps(asked)]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["what"] for line in lines] == ["tuned", "quiet", *["change"] * 4]
    flips = [line for line in lines if line.get("change") == "label-flip"]
    assert all(line["delay"] is not None for line in flips), "errors rise from 10 % to 26 %"
    told = tables.contest(lines, vars(form), {"river-adwin": "it was not asked"})
    assert "| River ADWIN | not run: it was not asked |" in told
    assert "| `label-flip`: 20 % of the labels flipped: errors 10 % to 26 % | 100% · " in told
    assert "| `mean-1`: mean +1 sigma in 1 feature | - |" in told, "who watches errors alone is not asked of features"
    run = {"what": "run", "world": "", "contestant": "", "form": vars(form), "started_at": "", "machine": MACHINE}
    assert "River DDM" in picture.svg([run, *lines])


def test_what_a_stationary_run_says_of_a_promise():
    alarms = protocol.stationary(Always, 1_000.0, ONE, TINY, 100_000, 1)
    row = {"what": "stationary", "contestant": "always-fire", "world": "independent", "events": 100_000}
    told = tables.stationary([{**row, "alarms": alarms, "promised": 1e-2}])
    assert f"| 100,000 | {alarms} | " in told
    assert told.count("| kept |") == 2, "of the world, and of all of them"
    assert "BROKEN" in tables.stationary([{**row, "alarms": alarms, "promised": 1e-5}])


def test_the_cost_is_of_an_event_that_is_looked_at():
    class Sparse(Toy):
        reads = 0.5

    whole, half = (protocol.cost(kind, 9.0, ONE, TINY) for kind in (Toy, Sparse))
    assert {*whole} == {"us_per_event", "state_kib", "process_mib"}
    assert whole["us_per_event"] > 0
    assert half["us_per_event"] > 0
    assert whole["process_mib"] > 10
