"""Changes are told, once each, with what shows them; chance is not; and how a stream is cut up changes nothing."""

import random
from typing import Any

import numpy as np
import pytest
from core.test_watch import DATA, FEATURES, STATIC, Visit, _pipeline

from headrace import Pipeline
from headrace.models import snapshot
from headrace.models.bins import Binner, Bins
from headrace.models.distances import DISTANCES, distances
from headrace.models.evidence import EFFECTS, Evidence, log_gamma
from headrace.models.monitor import Monitor
from headrace.models.reference import Reference
from headrace.models.usual import watch_of
from headrace.models.watch import Counted
from headrace.schemas.alert import Alert, AlertState, Severity


def _stream(
    seconds: int,
    *,
    seed: int,
    per_second: int = 100,
    begin: int = 0,
    depth: float = 0.0,
    missing: float = 0.0,
    kinds: int = 4,
    together: float = 0.0,
    users: int = 9,
) -> list[Visit]:
    rng = np.random.default_rng(seed)
    count = seconds * per_second
    raw = rng.normal(0.0, 1.0, count)
    kind = rng.integers(0, kinds, count)
    deep = depth + together * (kind - 1.5) / 1.118 + np.sqrt(1 - together**2) * raw
    gone = rng.random(count) < missing
    return [
        Visit(str(n), begin + n / per_second, f"u{n % users}", None if gone[n] else float(deep[n]), int(kind[n]))
        for n in range(count)
    ]


def _said(events: list[Visit], *, partitions: int = 1, pipeline: Pipeline | None = None) -> list[dict[str, Any]]:
    """Return what partitions say of events: each slice, in the order in which they are over."""
    pipeline = pipeline or _pipeline()
    said = []
    for partition in range(partitions):
        state = pipeline.fresh()
        mine = [event for event in events if int(event.user[1:]) % partitions == partition]
        for begin in range(0, len(mine), 500):
            said += [(partition, one) for one in pipeline.step(mine[begin : begin + 500], state).slices]
        said += [(partition, one) for one in pipeline.tick(state, wall=1e12, event=0.0).slices]
    return [
        {"partition": partition, "partitions": partitions, "slice": one.dump()}
        for partition, one in sorted(said, key=lambda one: one[1].number)
    ]


def _monitor(**options: Any) -> Monitor:
    return Monitor(watch_of(DATA, **options), name="visits", version="1")


def _alerts(events: list[Visit], **options: Any) -> list[Alert]:
    return _monitor(**options).step(_said(events))


def test_a_stream_that_stays_as_it_was_raises_nothing() -> None:
    assert _alerts(_stream(2_000, seed=11)) == []


@pytest.mark.parametrize(
    ("changed", "series", "kind"),
    [
        ({"depth": 0.2}, "depth", "drift"),
        ({"depth": 1.0}, "depth", "drift"),
        ({"missing": 0.05}, "depth", "drift"),
        ({"kinds": 5}, "kind", "drift"),
        ({"together": 0.4}, "depth~kind", "relation"),
        ({"users": 90, "per_second": 1}, "volume", "volume"),
    ],
    ids=["shift", "large shift", "missing", "new value", "relation", "volume"],
)
def test_a_change_is_told_once_and_cleared_when_it_is_over(changed: dict[str, Any], series: str, kind: str) -> None:
    events = [
        *_stream(600, seed=1),
        *_stream(400, seed=2, begin=600, **changed),
        *_stream(1_000, seed=3, begin=1_000),
    ]
    said = [one for one in _alerts(events) if one.state in (AlertState.RAISED, AlertState.CLEARED)]
    assert [one.state for one in said] == [AlertState.RAISED, AlertState.CLEARED], [one.text for one in said]
    raised, cleared = said
    assert (raised.series, raised.kind, cleared.id) == (series, kind, raised.id)
    assert 600 < raised.at <= 700
    assert raised.since is not None
    assert 590 <= raised.since <= raised.at
    assert 1_000 < cleared.at <= 1_400
    assert raised.pipeline == "visits"
    if kind != "volume":
        assert sum(raised.evidence.reference) == pytest.approx(1.0, abs=1e-4)
        assert len(raised.evidence.bins) == len(raised.evidence.current)
        assert set(raised.evidence.distances) >= set(DISTANCES)


def test_a_change_of_one_slice_is_told_of_that_slice() -> None:
    events = _stream(600, seed=1)
    shifted = [
        Visit(one.id, one.at, one.user, None if one.depth is None else one.depth + (one.user == "u3"), one.kind)
        for one in _stream(600, seed=2, begin=600)
    ]
    raised = next(one for one in _alerts([*events, *shifted]) if one.state == AlertState.RAISED)
    assert (raised.series, raised.slice) == ("depth", "user=u3")
    assert "where user=u3" in raised.text


def test_what_becomes_worse_is_said_to() -> None:
    events = [
        *_stream(600, seed=1),
        *_stream(300, seed=2, begin=600, depth=0.15),
        *_stream(300, seed=3, begin=900, depth=1.5),
    ]
    said = _alerts(events)
    assert [one.state for one in said[:2]] == [AlertState.RAISED, AlertState.WORSE]
    assert said[0].severity == Severity.LOW
    assert said[-1].severity == Severity.HIGH
    assert len({one.id for one in said}) == 1


def test_what_moves_together_is_one_alert_that_names_the_others() -> None:
    (raised, *rest) = _alerts([*_stream(600, seed=1), *_stream(300, seed=2, begin=600, depth=1.0)])
    assert raised.state == AlertState.RAISED
    assert "static" in raised.explained_by or raised.series == "static"
    assert all(one.id == raised.id for one in rest)


def test_an_alert_that_is_acknowledged_says_so_once() -> None:
    monitor = _monitor()
    (raised, *_) = monitor.step(_said([*_stream(600, seed=1), *_stream(300, seed=2, begin=600, depth=1.0)]))
    (said,) = monitor.step(
        [{"acknowledged": raised.id, "by": "ana"}, {"acknowledged": raised.id}, {"acknowledged": "x"}]
    )
    assert (said.state, said.id) == (AlertState.ACKNOWLEDGED, raised.id)
    assert said.text.endswith("(acknowledged by ana)")


def _changed() -> list[Visit]:
    return [
        *_stream(600, seed=1),
        *_stream(400, seed=2, begin=600, depth=0.3, missing=0.02),
        *_stream(600, seed=3, begin=1_000),
    ]


def test_three_partitions_in_any_order_raise_the_alerts_that_one_raises() -> None:
    events = _changed()
    want = _monitor().step(_said(events))
    assert len(want) >= 2
    said = _said(events, partitions=3)
    for seed in range(3):
        # Each partition's own order stays; how far one is ahead of another is as chance has it, within a minute.
        rng = random.Random(seed)
        mixed = sorted(said, key=lambda one: (one["slice"][0] + rng.random() * 6, one["partition"]))
        by = {p: iter([one for one in said if one["partition"] == p]) for p in range(3)}
        mixed = [next(by[one["partition"]]) for one in mixed]
        assert _monitor().step(mixed) == want


def test_a_monitor_that_moves_goes_on_alike() -> None:
    said = _said(_changed())
    want = _monitor().step(said)
    for cut in (3, 65, 80, 120):
        stayed, moved = _monitor(), _monitor()
        before = stayed.step(said[:cut])
        moved.load(snapshot.decode(snapshot.encode(stayed.dump())))
        assert before + moved.step(said[cut:]) == want, f"moved after {cut}"
        one_by_one = _monitor()
        assert [alert for one in said for alert in one_by_one.step([one])] == want


def test_a_partition_that_says_nothing_is_waited_for_unless_it_is_idle() -> None:
    said = _said(_stream(200, seed=1), partitions=2)
    monitor = _monitor()
    one = [part for part in said if part["partition"] == 0]
    monitor.step(said[:20])
    done = monitor.looked
    assert done > 0
    monitor.step([part for part in one if not any(part is other for other in said[:20])])
    assert monitor.looked <= done + 1, "the other may still say something"
    monitor.step([{"partition": 1, "partitions": 2}])
    assert monitor.looked >= done + 9


def test_what_comes_too_late_is_counted_in_the_next_slice() -> None:
    said = _said(_stream(200, seed=1))
    monitor = _monitor()
    monitor.step(said[:10])
    late = Counted.load(said[3]["slice"])
    monitor.step([{"partition": 1, "partitions": 1, "slice": late.dump()}, {"partition": 1, "partitions": 1}])
    assert monitor.late == 1
    monitor.step(said[10:])
    assert monitor.looked == len(said)


def test_a_slice_that_comes_twice_is_counted_once() -> None:
    said = _said(_stream(200, seed=1))
    once, twice = _monitor(), _monitor()
    once.step(said)
    twice.step([again for one in said for again in (one, one)])
    assert twice.repeated == len(said)
    twice.repeated = 0
    assert snapshot.encode(twice.dump()) == snapshot.encode(once.dump())


def test_nothing_is_looked_at_while_features_warm_up() -> None:
    events = [*_stream(300, seed=2, depth=1.0), *_stream(600, seed=1, begin=300)]
    assert _alerts(events)[0].at < 100
    assert _alerts(events, warm_up="5m") == []


def test_the_state_of_a_monitor_stays_small() -> None:
    monitor = _monitor()
    monitor.step(_said(_stream(800, seed=1)))
    before = len(snapshot.encode(monitor.dump()))
    monitor.step(_said(_stream(1_600, seed=2, begin=800)))
    assert len(snapshot.encode(monitor.dump())) <= 1.1 * before


def test_distances_are_what_their_definitions_say() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.integers(1, 100, 12), rng.integers(1, 100, 12)
    p, q = (before + 0.5) / (before.sum() + 6), (now + 0.5) / (now.sum() + 6)
    m = (p + q) / 2
    want = {
        "psi": sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True)),
        "jensen_shannon": np.sqrt((sum(p * np.log2(p / m)) + sum(q * np.log2(q / m))) / 2),
        "ks": max(abs(sum(p[:at]) - sum(q[:at])) for at in range(13)),
        "chi_square": sum((b - a) ** 2 / a for a, b in zip(p, q, strict=True)),
    }
    found = distances(before, now)
    assert {name: found[name] for name in want} == pytest.approx(want)
    # What lies in the middle of the ranks, moved to the top end: by half of them.
    assert distances(np.array([10**6] * 101), np.eye(101, dtype=int)[100] * 10**8)["wasserstein"] == pytest.approx(
        0.5, abs=0.01
    )


def test_scores_are_zero_and_vary_by_one_under_the_reference() -> None:
    one = Bins.of_values("a", np.random.default_rng(1).lognormal(size=5_000))
    counts = one.bin(np.random.default_rng(1).lognormal(size=5_000))
    binner = Binner([one])
    reference = Reference.learn(binner, np.array([binner.count(counts[:, None])] * 10))
    share = reference.shares(0)
    for at, mine in enumerate(reference.scores[0]):
        assert (share * mine[:-1]).sum() == pytest.approx(0.0, abs=1e-9)
        for other_at, other in enumerate(reference.scores[0]):
            assert (share * mine[:-1] * other[:-1]).sum() == pytest.approx(float(at == other_at), abs=1e-9)


def test_what_is_summed_up_is_one_on_the_average_as_long_as_nothing_changes() -> None:
    """The promise about false alarms rests on it: the mean of exp(effect * sum - cost) over slices is at most one."""
    rng = np.random.default_rng(2)
    one = Bins.of_values("a", rng.exponential(size=20_000))
    binner = Binner([one])
    whole = one.bin(rng.exponential(size=400_000))
    rows = np.array([binner.count(part[:, None]) for part in np.split(whole, 8_000)])
    reference = Reference.learn(binner, rows)
    evidence = Evidence(reference, slices_per_alarm=1e9)
    sums = rows[:, :-1] @ reference.scores[0][:, :-1].T
    events = rows[:, :-1].sum(axis=1)
    for at in range(2):
        for way, sign in enumerate((1, -1)):
            gains = np.exp(EFFECTS * sign * sums[:, at, None] - events[:, None] * evidence._costs[0, at, way])
            # Of the larger effects the mean is made by slices that hardly ever come, and some thousand do not tell it.
            assert gains.mean(axis=0)[:3] == pytest.approx(1.0, abs=0.15)
            share, score = reference.shares(0), reference.scores[0][at, :-1]
            exact = (share * np.exp(np.outer(EFFECTS, sign * score))).sum(axis=1)
            assert np.exp(evidence._costs[0, at, way]) == pytest.approx(exact)


def test_the_logarithm_of_gamma_is_right_from_small_to_large() -> None:
    import math

    given = np.array([1e-6, 0.1, 0.5, 1.0, 2.5, 7.0, 100.0, 1e5, 3e6, 1e9])
    assert log_gamma(given) == pytest.approx([math.lgamma(one) for one in given], rel=1e-10, abs=1e-10)


def test_false_alarms_stay_below_what_was_promised() -> None:
    """Six streams, each as long as one false alarm may take to come; `make bench-drift` looks at many more."""
    raised = 0
    for seed in range(6):
        events = _stream(1_000, seed=100 + seed, per_second=60)
        raised += sum(one.state == AlertState.RAISED for one in _alerts(events, false_alarms="1 per 1000 seconds"))
    assert raised <= 6, "so many were promised at the most"


__all__ = ["FEATURES", "STATIC"]


def _of_keys(share: float, *, slices: int, series: int) -> np.ndarray:
    """Return values of 100 keys, two of each in a slice; each value is a part of the one before it of the same key."""
    rng = np.random.default_rng(5)
    last, rows = rng.standard_normal((series, 100)), []
    for _ in range(2 * slices):
        last = share * last + np.sqrt(1 - share**2) * rng.standard_normal((series, 100))
        rows.append(last)
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 1.0, 1.4), (0.5, 3.0, 8.0), (0.9, 19.0, 60.0)])
def test_what_lasts_for_longer_than_a_slice_counts_for_less(share: float, least: float, most: float) -> None:
    """Sums of many such values vary (1 + share) / (1 - share) times as much as those of independent ones."""
    columns = list(_of_keys(share, slices=100, series=40))
    binner = Binner([Bins.of_values(str(place), column) for place, column in enumerate(columns)])
    bins = binner.bin(columns)
    reference = Reference.learn(binner, np.array([binner.count(some) for some in np.split(bins, 100)]))
    assert least <= np.median(reference.inflation[:, 0]) <= most
