"""More values than are kept are estimated with the error that is promised, and counted exactly while they are few."""

import functools
import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Linear, Pipeline, per
from headrace.models import keyed, sketch, snapshot
from headrace.models.features import Columns
from headrace.models.hashes import hashes_of
from headrace.models.keyed import KeyedFeature, Values, ValuesOf
from headrace.models.laws import LAWS, Law
from headrace.models.state import State

settings.register_profile("oracle", derandomize=True, deadline=None, max_examples=60)
oracle = settings.get_profile("oracle")
FEW = 4  # values that are counted exactly, in tests that want to have more than these soon
SPANS = {"10s": 10.0, "1m": 60.0, "5m": 300.0}
LATE = 20.0
KEEP = max(SPANS.values()) + LATE
user = per("user", late="20s")


class Visit(Event, topic="visits", key="user"):
    """A user looks at a page."""

    id: str
    at: float
    user: str
    page: str | None = None
    price: float | None = None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "VALUES_MAX", FEW)


def zeros(value: int) -> int:
    """Count the zeros that 64 bits begin with."""
    return 64 - (value % 2**64).bit_length()


def recount(hashes: list[int], capacity: int) -> int:
    """Count as the definition has it, over all values and not over those that were kept."""
    level = 0
    while True:
        found = sum(zeros(one) >= level for one in hashes)
        if found < capacity:
            return found * 2**level
        level += 1


@functools.cache
def _hash(page: str) -> int:
    return int(hashes_of(np.array([page], object))[0])


class Recount:
    """When each value of each user was met last, with nothing left out."""

    def __init__(self) -> None:
        self._met: dict[str, dict[str, float]] = {}
        self._newest: dict[str, float] = {}

    def distinct(self, visit: Visit, span: float, capacity: int) -> int:
        """Return what an event is told before it is taken in."""
        since = max(visit.at - span, self._newest.get(visit.user, -math.inf) - KEEP)
        met = [page for page, at in self._met.get(visit.user, {}).items() if at > since and page != visit.page]
        return recount(list(map(_hash, met)), capacity) + (visit.page is not None)

    def take(self, visit: Visit) -> None:
        newest = self._newest[visit.user] = max(visit.at, self._newest.get(visit.user, -math.inf))
        if visit.page is not None and visit.at > newest - KEEP:
            met = self._met.setdefault(visit.user, {})
            met[visit.page] = max(visit.at, met.get(visit.page, -math.inf))


def _visits(seed: int, count: int, *, late: bool = True) -> list[Visit]:
    """Make visits of two users, who are busy at one time and calm at another, over many pages or a few."""
    rng = random.Random(seed)
    at, made = 1_000.0, []
    steps, pages = (1,), 1
    for number in range(count):
        if number % 50 == 0:
            steps = rng.choice(((0, 0, 1), (0, 1, 2, 5), (11, 30), (61, 330)))
            pages = rng.choice((3, 12, 60, 2_000))
        at += rng.choice(steps)
        behind = rng.choice((1, 5, 19, 21, 250, 400)) if late and rng.random() < 0.2 else 0
        page = None if rng.random() < 0.1 else f"/{rng.randrange(pages)}"
        made.append(Visit(str(number), at - behind, rng.choice("aaab"), page))
    return made


def _features() -> dict[str, KeyedFeature]:
    return {span: user.distinct("page", span) for span in SPANS}


def _made(state: State, features: dict[str, KeyedFeature], events: list[Visit]) -> dict[str, list[float]]:
    columns = Columns(events)
    past = state.step(columns)[("user",)]
    return {name: one.combined(columns["at"], past, columns).tolist() for name, one in features.items()}


@pytest.mark.usefixtures("few")
@oracle
@given(st.integers(0), st.lists(st.integers(0, 400), max_size=3), st.integers(0, 3))
def test_what_is_kept_tells_what_all_values_would(seed: int, cuts: list[int], moved_at: int) -> None:
    events, features = _visits(seed, 400), _features()
    state, slow = State("at", features), Recount()
    got: dict[str, list[float]] = {span: [] for span in SPANS}
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        if number == moved_at:
            moved = State("at", features)
            moved.load(snapshot.decode(snapshot.encode(state.dump())))
            state = moved
        for span, values in _made(state, features, events[begin:end]).items():
            got[span] += values
    want: dict[str, list[float]] = {span: [] for span in SPANS}
    for visit in events:
        for span, length in SPANS.items():
            want[span].append(float(slow.distinct(visit, length, FEW)))
        slow.take(visit)
    assert got == want


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_pipeline_that_estimates_keeps(law: Law, number: int) -> None:
    features = {
        "a": user.distinct("page", "5m"),
        "b": user.distinct("price", "30d"),
        "c": user.is_new("price", "1d"),
        "d": per("user").distinct("id", "30d"),
    }
    static = Linear(dict.fromkeys(features, 0.25), logistic=False)
    law(Pipeline(name="p", events=Visit, features=features, static=static), number)


def _keeper(rows: int, spans: list[float], *, known: bool = True) -> ValuesOf:
    wanted = [Values("page", "others", span, LATE) for span in spans]
    keeper = ValuesOf([*wanted, Values("page", "known", spans[-1], LATE)] if known else wanted)
    keeper.grow(rows)
    return keeper


def _told(keeper: ValuesOf, rows: np.ndarray, at: float) -> list[list[float]]:
    """Ask with events that have no value, which leave nothing behind but a time."""
    nothing = {"page": np.full(len(rows), np.nan)}
    return [column.tolist() for column in keeper.step(rows, np.full(len(rows), at), nothing)]


@pytest.mark.usefixtures("few")
@oracle
@given(st.integers(0))
def test_two_sketches_merge_into_that_of_all_their_values(seed: int) -> None:
    rng = random.Random(seed)
    events = [visit for visit in _visits(seed, rng.randrange(300), late=False) if visit.page]
    spans = list(SPANS.values())
    together, *apart = (_keeper(5, spans) for _ in range(3))
    places = {"a": (0, 3), "b": (1, 2)}  # a key has another row in each
    for visit in events:
        side, values = rng.randrange(2), {"page": np.array([visit.page], object)}
        rows = np.array([places[visit.user][side]])
        apart[side].step(rows, np.array([visit.at]), values)
        together.step(np.array([places[visit.user][0]]), np.array([visit.at]), values)
    ours, theirs = np.array([0, 1]), np.array([3, 2])
    before = snapshot.encode(apart[1].dump(5))
    apart[0].merge(ours, apart[1], theirs)
    assert snapshot.encode(apart[1].dump(5)) == before
    now = max((visit.at for visit in events), default=0.0)
    assert _told(apart[0], ours, now) == _told(together, ours, now)
    assert _told(apart[0], ours, now + 45.0) == _told(together, ours, now + 45.0)


def test_large_sketches_merge_too() -> None:
    together, *apart = (_keeper(1, [3_600.0], known=False) for _ in range(3))
    row = np.array([0])
    for at in range(3_000):
        values = {"page": np.array([f"/{at * 7 % 2_000}"], object)}
        together.step(row, np.array([at / 10]), values)
        apart[at % 2].step(row, np.array([at / 10]), values)
    first, second, all_of_them = (_told(one, row, 300.0)[0][0] for one in (*apart, together))
    apart[0].merge(row, apart[1], row)
    assert _told(apart[0], row, 300.0) == [[all_of_them]]
    assert max(first, second) < all_of_them == pytest.approx(2_000, rel=0.2)


CARDINALITIES = [257, 300, 400, 511, 600, 1_000, 2_000, 5_000, 10_000, 100_000]


@pytest.mark.parametrize("count", CARDINALITIES)
def test_the_error_is_what_is_promised(count: int) -> None:
    seeds = 300
    shares = np.empty(seeds)
    for seed in range(seeds):
        hashes = hashes_of(np.random.default_rng(seed).uniform(0, 1e6, count))[None]
        shares[seed] = sketch.counted(hashes, np.ones(hashes.shape, bool), 256)[0] / count - 1
    error = math.sqrt((shares**2).mean())
    assert error < 1.1 / math.sqrt(128)  # 300 seeds know it to 4 %, and more than twice that is rare
    assert abs(shares.mean()) < 3 / math.sqrt(128 * seeds)


def test_up_to_as_many_as_are_told_apart_the_count_is_exact() -> None:
    features = {"n": user.distinct("page", "5m")}
    events = [Visit(str(at), 1_000.0 + at / 10, "a", f"/{at}") for at in range(1_000)]
    made = _made(State("at", features), features, events)["n"]
    assert made[:256] == [at + 1 for at in range(256)]
    assert made[256:] != [at + 1 for at in range(256, 1_000)]
    assert all(abs(one / (at + 257) - 1) < 0.3 for at, one in enumerate(made[256:]))


def test_many_values_of_one_key_are_told_within_the_error_and_in_bounded_memory() -> None:
    keeper = _keeper(1, [60.0, 3_600.0], known=False)
    row, count = np.array([0]), 30_000
    pages = np.empty(count, object)
    pages[:] = [f"/{at}" for at in range(count)]
    told = []
    for at in range(count):
        short, long = keeper.step(row, np.array([at / 100]), {"page": pages[at : at + 1]})
        if at % 500 == 499:
            told.append((at, short[0], long[0]))
    assert keeper.bytes < 400_000
    errors = np.array([[short / min(at, 5_999) - 1, long / at - 1] for at, short, long in told])
    assert np.sqrt((errors**2).mean(axis=0)).max() < 0.12
    # The last minute has 6,000 values, the hour 30,000: each is counted at a level of its own.
    assert told[-1][1:] == (
        recount([_hash(page) for page in pages[-6_000:-1]], 256),
        recount([_hash(page) for page in pages[:-1]], 256),
    )


def test_a_key_that_calms_down_is_counted_exactly_as_soon_as_its_span_holds_few_values() -> None:
    features = {"n": user.distinct("page", "5m")}
    busy = [Visit(str(at), 1_000.0 + at / 100, "a", f"/{at}") for at in range(10_000)]  # until 1,100
    calm = [Visit(f"c{at}", 1_100.0 + at * 10, "a", f"/{at % 40}") for at in range(1, 100)]
    state = State("at", features)
    _made(state, features, busy)
    made = dict(zip((visit.at for visit in calm), _made(state, features, calm)["n"], strict=True))
    # At 1,390 the five minutes hold what came after 1,090: a thousand, and 29 of the calm ones.
    assert made[1_390.0] != 1_029
    assert made[1_390.0] == pytest.approx(1_029, rel=0.3)
    # At 1,400 there are the calm ones and nothing else.
    assert [made[1_400.0 + at * 10] for at in range(1, 50)] == [30.0] * 49


def test_the_last_values_are_known_however_many_there_were() -> None:
    features = {"n": user.distinct("page", "30d"), "new": user.is_new("page", "30d")}
    state = State("at", features)
    _made(state, features, [Visit(str(at), 1_000.0 + at, "a", f"/{at}") for at in range(20_000)])
    again = [Visit(f"x{at}", 30_000.0 + at, "a", f"/{at}") for at in range(19_999, 19_999 - 256, -1)]
    assert _made(state, features, again)["new"] == [0.0] * 256


def test_what_is_kept_grows_with_the_logarithm_of_how_many_values_there_are() -> None:
    rng = np.random.default_rng(3)
    for count in (1_000, 10_000, 100_000):
        hashes = hashes_of(rng.uniform(0, 1e6, count))[None]
        kept = ~sketch.needless(np.arange(count, dtype=float)[None], hashes, 256)
        assert kept.sum() == pytest.approx(257 * (1 + math.log2(count / 257) / 2), rel=0.1)


def test_hashes_chosen_by_an_enemy_fill_no_more_than_there_is_room_for() -> None:
    # The dearest order: those of the highest level first, then each lower level, which makes no other needless.
    capacity, levels = 16, sketch.LEVELS
    hashes = [2 ** (63 - level) + at for level in range(levels - 1, -1, -1) for at in range(10 * capacity)]
    table = np.array(hashes, np.uint64).view(np.int64)[None]
    tags = np.arange(len(hashes), dtype=float)[None]
    kept = ~sketch.needless(tags, table, capacity)
    assert kept.sum() == (capacity + 1) * levels < sketch.entries_max(capacity)


def test_more_values_than_the_highest_level_can_tell_show_as_the_largest_number() -> None:
    hashes = np.arange(1_000)[None]  # all of the highest level
    assert sketch.counted(hashes, hashes >= 0, 256).tolist() == [255 * 2**14]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100_000.0),
        np.arange(100_000.0) / 100,
        1.7e9 + np.arange(100_000.0),
        -np.arange(100_000.0) * 1e6,
        np.array([f"m{at}" for at in range(100_000)], object),
        np.array(list(range(100_000)), object),
    ],
    ids=["whole", "cents", "times", "negative", "text", "objects"],
)
def test_values_that_hardly_differ_have_hashes_of_every_level(values: np.ndarray) -> None:
    hashes = hashes_of(values)
    assert len(np.unique(hashes)) == len(values)
    for bits in (hashes, hashes << 20, hashes << 40):  # the first bits are no better than the others
        of_each = np.bincount(sketch.levels_of(bits), minlength=sketch.LEVELS)
        for level, count in enumerate(of_each[:10].tolist()):
            want = 100_000 / 2 ** (level + 1)
            assert abs(count - want) < 5 * math.sqrt(want), level


def test_hashes_are_the_same_in_every_release() -> None:
    text = np.array(["", "FR", "Zürich", b"FR", 5, 5.5, True, 2**53 + 1, None], object)
    numbers = np.array([0.0, -0.0, 5.0, 5.5, 1.0, -1.5, 1.7e9])
    assert hashes_of(text).tolist() == TEXT_HASHES
    assert hashes_of(numbers).tolist() == NUMBER_HASHES


TEXT_HASHES = [
    -3320067381165874710,
    3692424197725818078,
    3198224088545830625,
    -4457366339396811465,
    -2682074925832010359,
    -3916630808876519670,
    -8586179365795795475,
    177333621320240686,
    8811614688734364551,
]
NUMBER_HASHES = [
    -2152535657050944081,
    -2152535657050944081,
    -2682074925832010359,
    -3916630808876519670,
    -8586179365795795475,
    6650937253580682039,
    3980436926579857624,
]
