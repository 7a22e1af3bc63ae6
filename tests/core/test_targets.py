"""What was true of a key's events, counted where it is known: beside a recount of every event and every label."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Label, Linear, Pipeline, field, log1p, per
from headrace.models import snapshot
from headrace.models.keyed import KeyedFeature
from headrace.models.pipeline import Seen
from headrace.models.usual import usual
from headrace.schemas.errors import BadPipeline
from headrace.stream.batch import score
from headrace.testing import Driver

WITHIN, LATE = 60.0, 30.0
WEIGHT, PRIOR = 4.0, 0.25
card = per("card", late="30s")


class Payment(Event, topic="payments", key="card"):
    """What is scored; one whose amount is below minus one is remembered, and has no prediction."""

    id: int
    at: float
    card: str
    merchant: str = "m"
    amount: float = 1.0


class Chargeback(Label, topic="chargebacks", of=Payment, within="60s", otherwise=0):
    """What is true of a payment, and what is where nobody says so."""

    id: int
    at: float
    card: str
    label: int | None


class Verdict(Label, topic="verdicts", of=Payment, within="60s"):
    """The same, where an event without a label is never known."""

    id: int
    at: float
    card: str
    label: int | None


FEATURES: dict[str, KeyedFeature] = {
    "exact": card.target("120s", delay="90s", prior=PRIOR, weight=WEIGHT, exact=True),
    "at once": card.target("120s", delay="60s", prior=PRIOR, weight=WEIGHT, exact=True),
    "in tiles": card.target("120s", delay="90s", prior=PRIOR, weight=WEIGHT, tile="20s"),
}
# Since when and until when an event counts, in seconds before, by the definition: with tiles of 20 seconds the delay
# is five whole ones, and one more, for the youngest event of a tile is nearly a tile younger than the oldest.
BOUNDS = {"exact": (210.0, 90.0, 0.0), "at once": (180.0, 60.0, 0.0), "in tiles": (240.0, 120.0, 20.0)}
DELAYS = {"exact": 90.0, "at once": 60.0, "in tiles": 90.0}


def _pipeline(labels: type[Label] = Chargeback, **other: Any) -> Pipeline:
    static = Linear({**dict.fromkeys(FEATURES, 1.0), "amount": 1.0}, logistic=False)
    features = {**FEATURES, "amount": log1p("amount")}  # NaN below minus one, and then there is no score
    return Pipeline(name="p", events=Payment, labels=labels, features=features, static=static, **other)


class One(NamedTuple):
    """An event that was scored, as a book has it."""

    id: int
    card: str
    at: float


class Book:
    """All that came, one thing at a time."""

    def __init__(self, otherwise: float | None) -> None:
        self.otherwise = otherwise
        self.stepped: list[One] = []  # events of which the memory heard
        self.scored: list[One] = []
        self.true: list[float | None] = []  # of each that was scored, as it is known by now
        self.waiting: dict[int, list[Any]] = {}  # id: the event's place, and whether something is known
        self.early: dict[int, tuple[float, float]] = {}

    def target(self, now: Payment, name: str) -> float:
        """Say what the feature is, as its definition has it."""
        since, until, tile = BOUNDS[name]

        def place(at: float) -> float:
            return math.floor(at / tile) * tile if tile else at

        longest = max(BOUNDS[one][0] for one in FEATURES if BOUNDS[one][2] == tile)
        late = math.ceil(LATE / tile) * tile if tile else LATE
        newest = max((place(one.at) for one in self.stepped if one.card == now.card), default=-math.inf)
        after = max(place(now.at) - since, newest - longest - late)
        known = [
            (one, true)
            for one, true in zip(self.scored, self.true, strict=True)
            if one.card == now.card and true is not None and after < place(one.at) <= place(now.at) - until
        ]
        assert all(now.at - one.at >= DELAYS[name] for one, _ in known), (
            "whatever a tile is, nobody is younger than that"
        )
        return (sum(true for _, true in known) + PRIOR * WEIGHT) / (len(known) + WEIGHT)

    def add(self, event: Payment) -> None:
        one = One(event.id, event.card, event.at)
        self.stepped.append(one)
        if event.amount < -1 or event.id in self.waiting:
            return
        self.waiting[one.id] = [len(self.scored), "waiting"]
        self.scored.append(one)
        self.true.append(self.otherwise)
        if one.id in self.early:
            self.label(one.id, *self.early.pop(one.id))

    def label(self, identity: int, at: float, label: float | None) -> None:
        if label is None:
            return
        if identity not in self.waiting:
            self.early.pop(identity, None)
            self.early[identity] = (at, label)
            return
        entry = self.waiting[identity]
        place, standing = entry
        if standing == "waiting" and at > self.scored[place].at + WITHIN and self.otherwise is None:
            return  # too late, and nobody says what is true then
        self.true[place] = label
        entry[1] = "known"

    def tick(self, wall: float, event: float) -> None:
        stays = WITHIN if self.otherwise is None else 2 * WITHIN
        for identity, entry in list(self.waiting.items()):
            at = self.scored[entry[0]].at
            if (at + WITHIN <= event or at + WITHIN <= wall) and self.otherwise is not None:
                entry[1] = "known"
            if at + stays <= event or at + stays <= wall:
                del self.waiting[identity]
        for identity, (at, _) in list(self.early.items()):
            if at + WITHIN <= event or at + WITHIN <= wall:
                del self.early[identity]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("events"),
            st.lists(
                st.tuples(
                    st.integers(0, 40),
                    st.sampled_from("aab"),
                    st.sampled_from([0, 0, 1, 19, 20, 30, 59, 60, 61, 90, 91, 120, 300]),
                    st.sampled_from([0, 0, 0, 0, 1, 25, 90, 130, 400]),
                    st.sampled_from([1.0, 1.0, 1.0, 1.0, -2.0]),
                ),
                min_size=1,
                max_size=12,
            ),
        ),
        st.tuples(
            st.just("labels"),
            st.lists(
                st.tuples(
                    st.integers(0, 40),
                    st.sampled_from([-90.0, -5.0, 0.0, 10.0, 70.0]),
                    st.sampled_from([0, 1, 1, None]),
                ),
                min_size=1,
                max_size=8,
            ),
        ),
        st.tuples(st.just("tick"), st.sampled_from([0.0, 30.0, 200.0])),
        st.tuples(st.just("snapshot"), st.none()),
        st.tuples(st.just("again"), st.none()),
    ),
    max_size=14,
)


class Lived:
    """A pipeline at work, and what it is from the changelog."""

    def __init__(self, pipeline: Pipeline, *, one_by_one: bool) -> None:
        self.pipeline, self.one_by_one = pipeline, one_by_one
        self.state, self.changes = pipeline.fresh(), []
        self.seen: dict[str, list[float]] = {name: [] for name in FEATURES}

    def _cut(self, some: list[Any]) -> list[list[Any]]:
        return [[one] for one in some] if self.one_by_one else [some]

    def _did(self, change: list[Any] | None) -> None:
        self.changes += [] if change is None else [snapshot.encode(change)]

    def events(self, events: list[Payment]) -> None:
        for part in self._cut(events):
            seen: list[Seen] = []
            self._did(self.pipeline.step(part, self.state, seen=seen).change)
            for name, values in self.seen.items():
                values += [value for one in seen for value in one.features[name].tolist()]

    def labels(self, labels: list[Any]) -> None:
        for part in self._cut(labels):
            self._did(self.pipeline.learn(part, self.state).change)

    def tick(self, wall: float, event: float) -> None:
        self._did(self.pipeline.tick(self.state, wall=wall, event=event).change)

    def moved(self) -> None:
        moved = self.pipeline.fresh()
        moved.load(snapshot.decode(snapshot.encode(self.state.dump())))
        self.state = moved

    def made_again(self) -> None:
        again = self.pipeline.fresh()
        for change in self.changes:
            again.take(snapshot.decode(change))
        assert snapshot.encode(again.dump()) == snapshot.encode(self.state.dump())
        self.state = again


@pytest.mark.parametrize("labels", [Chargeback, Verdict])
@settings(derandomize=True, deadline=None, max_examples=100)
@given(steps, st.booleans())
def test_a_target_equals_a_recount(labels: type[Label], drawn: list[Any], one_by_one: bool) -> None:
    lived = Lived(_pipeline(labels), one_by_one=one_by_one)
    book, now = Book(labels.truth.otherwise), 1_000.0
    want: dict[str, list[float]] = {name: [] for name in FEATURES}
    for kind, what in drawn:
        if kind == "events":
            events = []
            for identity, key, step, late, amount in what:
                now += step
                events.append(Payment(identity, now - late, key, amount=amount))
            lived.events(events)
            for event in events:
                for name in FEATURES:
                    want[name].append(book.target(event, name))
                book.add(event)
        elif kind == "labels":
            lived.labels([labels(identity, now + ahead, "a", label) for identity, ahead, label in what])
            for identity, ahead, label in what:
                book.label(identity, now + ahead, label)
        elif kind == "tick":
            now += what
            lived.tick(now, now - 20.0)
            book.tick(now, now - 20.0)
        elif kind == "snapshot":
            lived.moved()
        else:
            lived.made_again()
    for name, values in want.items():
        assert lived.seen[name] == values, name


def _one(feature: KeyedFeature, labels: Any = Chargeback, **other: Any) -> Pipeline:
    static = Linear({"target": 1.0}, logistic=False)
    return Pipeline(name="one", events=Payment, labels=labels, features={"target": feature}, static=static, **other)


AT_ONCE = card.target("1h", delay="60s", prior=0.5, weight=1, exact=True)


def _scores(pipeline: Pipeline, events: list[Payment], state: Any, *, one_by_one: bool = False) -> list[float]:
    parts = [[one] for one in events] if one_by_one else [events]
    return [made.score for part in parts for made in pipeline.step(part, state).predictions]  # type: ignore[attr-defined]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_key_that_left_begins_anew_and_hears_nothing_of_its_former_life(one_by_one: bool) -> None:
    pipeline = _one(AT_ONCE, keys_max=2)
    state = pipeline.fresh()
    # c pushes a out, and a comes again; of the two that wait under its key only the second is of this life.
    events = [Payment(number, float(number), key) for number, key in enumerate("abca")]
    _scores(pipeline, events, state, one_by_one=one_by_one)
    pipeline.learn([Chargeback(0, 10.0, "a", 1), Chargeback(3, 10.0, "a", 1)], state)
    assert _scores(pipeline, [Payment(9, 100.0, "a")], state) == [(1 + 0.5) / 2]


def test_the_oldest_leave_where_there_are_too_many_and_are_not_corrected_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.models.targets.ENTRIES_MAX", 16)
    pipeline = _one(AT_ONCE)
    state = pipeline.fresh()
    _scores(pipeline, [Payment(number, float(number), "a") for number in range(40)], state)
    pipeline.learn([Chargeback(number, 50.0, "a", 1) for number in range(0, 40, 2)], state)
    (table,) = state.tables.values()
    assert _scores(pipeline, [Payment(99, 200.0, "a")], state) == [(8 + 0.5) / (16 + 1)]
    assert table.bytes > 0


@pytest.mark.parametrize("labels", [Chargeback, Verdict])
@pytest.mark.parametrize("chance", range(4))
def test_of_numbers_that_are_not_whole_a_cut_moves_no_bit_either(labels: type[Label], chance: int) -> None:
    class Loss(Label, topic="losses", of=Payment, within="60s", otherwise=labels.truth.otherwise):
        id: int
        at: float
        card: str
        label: float

    made = []
    pipeline = _one(card.target("5m", delay="60s", prior=0.1, exact=True), Loss, kind="regression")
    for one_by_one in (False, True):
        rng, state, at, scores, known = np.random.default_rng(chance), pipeline.fresh(), 1_000.0, [], []
        for begin in range(0, 300, 20):
            times = at + np.cumsum(rng.choice([0.0, 1.0, 7.0, 50.0], 20))
            at = float(times[-1])
            times -= rng.choice([0.0, 0.0, 0.0, 20.0, 350.0], 20)  # the last is as late as anything is remembered
            events = [Payment(begin + place, time, "ab"[place % 2]) for place, time in enumerate(times.tolist())]
            scores += _scores(pipeline, events, state, one_by_one=one_by_one)
            known += times.tolist()
            of = rng.integers(max(0, begin - 30), begin + 20, 20).tolist()
            values = rng.random(20).tolist()
            told = [Loss(one, known[one] + 30.0, "a", value) for one, value in zip(of, values, strict=True)]
            for part in [[one] for one in told] if one_by_one else [told]:
                pipeline.learn(part, state)
        made.append(scores)
    assert made[0] == made[1]
    assert len(set(made[0])) > 50


# The doors.


def _stream(seed: int, label: Any = Chargeback) -> tuple[list[Payment], list[Any]]:
    """Return events of some keys over half an hour, and labels that come in time, later, or as a revision."""
    rng = np.random.default_rng(seed)
    times = 1_000.0 + np.sort(rng.integers(0, 1_800, 200)).astype(float)
    events = [Payment(number, at, f"c{rng.integers(4)}") for number, at in enumerate(times.tolist())]
    labels = [
        label(one.id, one.at + float(rng.choice([0, 5, 60, 61, 110, 120, 121])), one.card, int(rng.integers(2)))
        for one in rng.choice(events, 120)  # type: ignore[arg-type]
    ]
    return events, sorted(labels, key=lambda one: one.at)


@pytest.mark.parametrize("label", [Chargeback, Verdict])
@pytest.mark.parametrize(("chance", "size"), [(0, 37), (1, 1), (2, 200), (3, 200)])
def test_training_sees_what_serving_sees_bit_for_bit(
    label: type[Label], chance: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.models.pipeline.TRAINED_COUNT", 200 if chance == 2 else 64)
    pipeline, (events, labels) = _pipeline(label), _stream(chance, label)
    serving, seen = pipeline.fresh(), []
    for one in sorted([*labels, *events], key=lambda one: one.at):  # of one moment the labels first
        pipeline.tick(serving, wall=one.at - 0.5, event=-math.inf)
        if isinstance(one, Payment):
            pipeline.step([one], serving, seen=seen)
        else:
            pipeline.learn([one], serving)
    want = {name: np.concatenate([one.features[name] for one in seen]).tolist() for name in pipeline.features}
    assert len(set(want["at once"])) > 5

    training, got = pipeline.fresh(), {name: [] for name in pipeline.features}
    for begin in range(0, len(events), size):
        some, before = events[begin : begin + size], events[begin - 1].at if begin else -math.inf
        known = [one for one in labels if before < one.at <= some[-1].at]
        for name, column in pipeline.transform(some, training, known).items():
            got[name] += column.tolist()
    assert got == want
    assert training.learning is not None
    assert training.learning.taught == 0, "nobody learns from what is given for training"
    assert training.learning.waiting is not None
    assert len(training.learning.waiting) < 100, "and what nobody waits for any more is forgotten"


def test_a_training_that_gives_no_labels_is_told_so() -> None:
    pipeline = _one(AT_ONCE)
    with pytest.raises(ValueError, match=r"features\['target'\] .* looks back at labels: give those that became known"):
        pipeline.transform([Payment(1, 0.0, "a")], pipeline.fresh())
    with pytest.raises(ValueError, match="labels: the label is 7; allowed are 0 and 1, and null"):
        pipeline.transform([Payment(1, 0.0, "a")], pipeline.fresh(), [Chargeback(1, 0.0, "a", 7)])
    made = pipeline.transform([Payment(1, 0.0, "a"), Payment(2, 100.0, "a")], pipeline.fresh(), [])
    assert made["target"].tolist() == [0.5, 0.25]
    plain = Pipeline(name="p", events=Payment, features={"a": field("amount")}, static=Linear({"a": 1.0}))
    assert plain.transform([Payment(1, 0.0, "a")], plain.fresh(), [])["a"].tolist() == [1.0]


def test_a_door_with_events_alone_says_that_it_lacks_labels(tmp_path: Path) -> None:
    file = tmp_path / "payments.jsonl"
    file.write_text('{"id": 1, "at": 0.0, "card": "a"}\n')
    told = r"features\['target'\] .* looks back at labels, and here are events alone; a worker has both"
    with pytest.raises(BadPipeline, match=told):
        score(_one(AT_ONCE), str(file), str(tmp_path / "scores.jsonl"))
    assert not (tmp_path / "scores.jsonl").exists()
    with pytest.raises(BadPipeline, match=told):
        usual(_one(AT_ONCE), [[Payment(1, 0.0, "a")]])


def test_what_is_usual_of_a_target_is_learned_with_the_labels() -> None:
    pipeline, (events, labels) = _one(AT_ONCE), _stream(1)
    batches = [
        [Payment(number * 200 + one.id, one.at + 1_800 * number, one.card) for one in events] for number in range(9)
    ]
    known = [
        [Chargeback(number * 200 + one.id, one.at + 1_800 * number, one.card, one.label) for one in labels]
        for number in range(9)
    ]
    with_labels, without = (usual(pipeline, batches, labels=some)["reference"] for some in (known, [[]] * 9))
    assert list(with_labels["series"]) == ["target", "static"]
    assert with_labels != without


def test_a_driver_is_given_labels_as_ever_and_a_worker_that_died_goes_on() -> None:
    driver = Driver(_one(card.target("1d", delay="60s", prior=0.5, weight=1, exact=True)), auto_commit=False)
    driver.pipe({"id": 1, "card": "a"})
    driver.pipe({"id": 2, "card": "a"})
    driver.label(1, 1, key="a")
    driver.commit()
    driver.label(2, 1, key="a")
    lost = driver.crash()
    driver.advance("70s")
    driver.pipe({"id": 3, "card": "a"})
    driver.commit()
    driver.pipe_all(lost)  # the label of the second comes again, and corrects what its time being up had said
    driver.restart()
    driver.pipe({"id": 4, "card": "a"})
    driver.commit()
    assert [one["score"] for one in driver.predictions] == [0.5, 0.5, 1.5 / 3, 2.5 / 3]
    assert [(one["id"], one["by"]) for one in driver.outcomes] == [(1, "label"), (2, "timeout"), (2, "revision")]


class Kind(Label, topic="kinds", of=Payment, within="60s"):
    """Which class a payment belongs to."""

    id: int
    at: float
    card: str
    label: str


@pytest.mark.parametrize(
    ("feature", "other", "told"),
    [
        (AT_ONCE, {"labels": None}, "looks back at labels, and there are none; name their class by labels="),
        (
            AT_ONCE,
            {"labels": "amount"},
            "looks back at labels that come later, and labels='amount' come with their events: write rate('amount'",
        ),
        (
            card.target("1h", delay="59s", prior=0.5),
            {},
            "looks back at events that are 59 s old, and a Chargeback may take 60 s (within): what is known of the "
            "younger ones is no fair sample, and another one in training; allowed are delays of 60 s and more",
        ),
        (
            per("card", "merchant").target("1h", delay="60s", prior=0.5),
            {},
            "remembers per 'card' and 'merchant', and of an event that waits for its label the topic's key alone is "
            "known; write per('card')",
        ),
        (AT_ONCE, {"labels": Kind, "kind": "multiclass"}, "averages labels, and of kind = 'multiclass' they are names"),
    ],
)
def test_what_cannot_be_looked_back_at_is_refused_by_name(feature: KeyedFeature, other: Any, told: str) -> None:
    with pytest.raises(BadPipeline) as refused:
        _one(feature, **other)
    assert f"features['target'] ({feature.origin}) {told}" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"weight": 0}, "target('1h', delay='60s'): weight = 0: allowed are numbers above zero"),
        ({"prior": math.inf}, "target('1h', delay='60s'): prior = inf: allowed are finite numbers"),
    ],
)
def test_a_prior_that_says_nothing_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        card.target("1h", **{"delay": "60s", "prior": 0.5, **given})
    assert told in str(refused.value)
