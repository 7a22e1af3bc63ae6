"""What is counted of a stream is what a slow recount finds, whatever the batches, and it adds up over partitions."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Linear, Pipeline, field
from headrace.models import bins as bins_module
from headrace.models import snapshot
from headrace.models.bins import Binner, Bins
from headrace.models.usual import usual, watch_of
from headrace.models.watch import Counted, Watch, seconds_per_alarm
from headrace.schemas.errors import BadPipeline

fixed = settings(derandomize=True, deadline=None, max_examples=60)


class Visit(Event, topic="visits", key="user"):
    """What is watched here."""

    id: str
    at: float
    user: str
    depth: float | None = None
    kind: int = 0


FEATURES = {"depth": field("depth"), "kind": field("kind")}
STATIC = Linear({"depth": 0.1, "kind": 0.2})


def _visits(count: int, seed: int, *, depth: float = 0.0) -> list[Visit]:
    rng = np.random.default_rng(seed)
    depths, kinds = rng.normal(depth, 1.0, count).tolist(), rng.integers(0, 4, count).tolist()
    return [Visit(str(n), n / 50, f"u{n % 9}", depths[n], kinds[n]) for n in range(count)]


PLAIN = Pipeline(name="visits", events=Visit, features=FEATURES, static=STATIC)
DATA = usual(PLAIN, [_visits(20_000, seed=1)], slices=["user"])


def _pipeline(**options: Any) -> Pipeline:
    return Pipeline(name="visits", events=Visit, features=FEATURES, static=STATIC, watch=watch_of(DATA, **options))


values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-3, 3).map(float),
    st.sampled_from([1e300, -0.0, 5e-324]),
)


@fixed
@given(st.lists(values, min_size=1, max_size=40), st.lists(values, min_size=1, max_size=60))
def test_every_value_has_the_bin_that_its_name_promises(reference: list[float], seen: list[float]) -> None:
    """Go through all edges for each value, which nobody would do in earnest; the kernel and numpy agree with that."""
    one = Bins.of_values("a", np.array(reference), bins_max=4)
    want = []
    for value in seen:
        place = sum(value >= edge for edge in one.edges.tolist())
        want.append(one.count - 1 if np.isnan(value) or value == np.inf else int(one.places[place]))
    assert one.bin(np.array(seen)).tolist() == want
    assert Binner([one, one]).bin([np.array(seen)] * 2).T.tolist() == [want, want]
    again = Bins.load("a", one.dump())
    assert (again.names, again.bin(np.array(seen)).tolist()) == (one.names, want)


def test_the_kernel_bins_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    columns = [rng.normal(size=1_001), rng.integers(0, 40, 1_001).astype(float), np.full(1_001, np.nan)]
    columns[0][::7], columns[1][::9] = np.nan, np.inf
    binner = Binner([Bins.of_values(str(at), column) for at, column in enumerate(columns)])
    compiled = binner.bin(columns)
    monkeypatch.setattr(bins_module, "_kernel", None)
    assert (binner.bin(columns) == compiled).all()


def test_a_kernel_that_is_given_what_does_not_fit_says_so() -> None:
    kernel = bins_module._kernel
    assert kernel is not None, "these tests want a compiler"
    edges, lengths, places = np.array([0.0, 1.0]), np.array([2]), np.zeros(3, np.int8)
    with pytest.raises(ValueError, match="do not fit together"):
        kernel.bins((np.zeros(4),), edges, lengths, places, np.zeros((3, 1), np.int8), 4)
    with pytest.raises(TypeError, match="expected a column of 4"):
        kernel.bins((np.zeros(5),), edges, lengths, places, np.zeros((4, 1), np.int8), 4)


def _recounted(watch: Watch, events: list[Visit]) -> dict[int, Counted]:
    """Count one event after the other."""
    latest = -np.inf
    held: dict[int, list[Visit]] = defaultdict(list)
    for event in events:
        latest = max(latest, event.at // watch.every_s)
        held[int(latest)].append(event)
    found = {}
    for number, some in held.items():
        counts = np.zeros(watch.binner.total, np.int64)
        products = np.zeros((2, 2))
        groups: dict[str, np.ndarray] = {}
        for event in some:
            depth = np.nan if event.depth is None else event.depth
            row = {"depth": depth, "kind": float(event.kind)}
            row["static"] = float(STATIC.score({name: np.array([one]) for name, one in row.items()})[0])
            mine, ranks = np.zeros_like(counts), []
            for place, one in enumerate(watch.binner.series):
                at = int(one.bin(np.array([row[one.name]]))[0])
                mine[watch.binner.begins[place] + at] += 1
                if one.name != "static":
                    ranks.append(round(8 * float(watch.reference.scores[place][0][at])))
            counts += mine
            products += np.outer(ranks, ranks)
            name = f"user={event.user}"
            if event.user in watch.slices["user"]:
                groups[name] = groups.get(name, 0) + mine
        found[number] = Counted(number, len(some), counts, None, None, products, groups)  # type: ignore[arg-type]
    return found


@fixed
@given(st.integers(0, 1_000), st.lists(st.integers(1, 900), min_size=1, max_size=8), st.booleans())
def test_slices_are_what_a_recount_finds_whatever_the_batches(seed: int, cuts: list[int], moved: bool) -> None:
    pipeline = _pipeline(every="2s")
    assert pipeline.watch is not None
    rng = np.random.default_rng(seed)
    events = [
        Visit(one.id, max(0.0, one.at - rng.choice([0.0, 0.0, 3.0])), f"u{rng.integers(0, 12)}", one.depth, one.kind)
        for one in _visits(1_500, seed)
    ]
    events[7] = Visit("gone", events[7].at, "u1")
    state, made = pipeline.fresh(), []
    while events_left := events[sum(len(part) for part in made) :]:
        part = events_left[: cuts[len(made) % len(cuts)]]
        made.append(part)
    slices = []
    for part in made:
        slices += pipeline.step(part, state).slices
        if moved:
            other = pipeline.fresh()
            other.load(snapshot.decode(snapshot.encode(state.dump())))
            state = other
    slices += pipeline.tick(state, wall=1e9, event=1e9).slices
    want = _recounted(pipeline.watch, events)
    assert [one.number for one in slices] == sorted(want)
    for one in slices:
        other = want[one.number]
        assert one.events == other.events
        assert one.counts.tolist() == other.counts.tolist()
        assert one.products.tolist() == other.products.tolist()
        assert {name: counts.tolist() for name, counts in one.groups.items()} == {
            name: counts.tolist() for name, counts in other.groups.items()
        }


def test_slices_of_partitions_add_up_to_those_of_the_whole_stream() -> None:
    events = _visits(3_000, seed=5)
    whole, parts = _pipeline(), [_pipeline() for _ in range(3)]
    together: dict[int, Counted] = {}
    for number, pipeline in enumerate(parts):
        state = pipeline.fresh()
        mine = [event for event in events if int(event.user[1:]) % 3 == number]
        for one in [*pipeline.step(mine, state).slices, *pipeline.tick(state, wall=1e9, event=0.0).slices]:
            together[one.number] = together[one.number].plus(one) if one.number in together else one
    state = whole.fresh()
    for one in [*whole.step(events, state).slices, *whole.tick(state, wall=1e9, event=0.0).slices]:
        other = together.pop(one.number)
        assert snapshot.encode(Counted.load(one.dump())._replace(groups={}).dump()) == snapshot.encode(
            other._replace(groups={}).dump()
        )
        assert {name: counts.tolist() for name, counts in one.groups.items()} == {
            name: counts.tolist() for name, counts in other.groups.items()
        }
    assert not together


def test_what_was_counted_in_other_bins_is_left_out() -> None:
    state, other = _pipeline().fresh(), _pipeline(every="3s").fresh()
    _pipeline().step(_visits(600, seed=2), state)
    other.load({**snapshot.decode(snapshot.encode(state.dump())), "fingerprint": other.fingerprint})
    assert other.watching is not None
    assert other.watching.dump()["number"] is None


@pytest.mark.parametrize(
    ("text", "length"), [("1 per hour", 3_600.0), (" 10 per day ", 8_640.0), ("0.5 per 2 weeks", 28 * 86_400.0)]
)
def test_a_rate_of_false_alarms_is_said_in_words(text: str, length: float) -> None:
    assert seconds_per_alarm(text) == length


@pytest.mark.parametrize("text", ["", "0 per day", "often", "1 per fortnight", "-1 per day"])
def test_a_rate_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write how many per second"):
        seconds_per_alarm(text)


def test_a_reference_of_other_features_is_refused_by_name() -> None:
    features = {"deep": field("depth"), "score": field("kind")}
    static = Linear({"deep": 0.1, "score": 0.2})
    with pytest.raises(BadPipeline) as told:
        Pipeline(name="visits", events=Visit, features=features, static=static, watch=watch_of(DATA))
    said = "\n".join(told.value.problems)
    assert "watch: its reference knows 'depth', which is no feature; did you mean 'deep'?; make it anew" in said
    assert "watch: its reference does not know the feature 'deep'; make it anew" in said
    assert "features['score']: what the worker watches by itself has that name; take another" in said


def test_few_events_are_no_reference() -> None:
    with pytest.raises(ValueError, match="there are 10 events, and what is usual cannot be told from fewer than 1000"):
        usual(PLAIN, [_visits(10, seed=1)])


def test_a_reference_is_the_same_again_from_its_data() -> None:
    watch = watch_of(DATA)
    again = watch_of(snapshot.decode(snapshot.encode(DATA)))
    assert watch.fingerprint == again.fingerprint
    assert watch.reference.dump() == again.reference.dump()
