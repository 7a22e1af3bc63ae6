"""Labels that come late, early, twice, otherwise, or never: beside a slow and obvious book-keeping."""

import copy
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models import snapshot
from headrace.models.labels import Scored, Waiting
from headrace.schemas.event import Truth
from headrace.schemas.outcome import By

WITHIN = 60.0
NAN = float("nan")


def _truth(otherwise):
    return Truth(None, "label", WITHIN, otherwise)


def _scored(events):
    """Events as (id, at); when they were written and their features follow from both."""
    at = np.array([at for _, at in events], np.float64)
    number = np.array([float(one) for one, _ in events])
    features = np.stack([number, at], axis=1) if events else np.empty((0, 2))
    ids = [one for one, _ in events]
    return Scored(ids, [f"key {one}" for one in ids], at, at + 1.0, features, number / 10, number / 20, number / 30, [])


class Book:
    """What Waiting does, one thing at a time, in dictionaries."""

    def __init__(self, otherwise):
        self.otherwise = otherwise
        self.events = {}  # id: [at, standing, label]
        self.early = {}
        self.told = []

    def add(self, one, at):
        if one in self.events:
            return
        self.events[one] = [at, "waiting", None]
        if one in self.early:
            self.label(one, *self.early.pop(one)[:2])

    def label(self, one, at, label, wrote=0.0):
        if label is None:
            return
        if one not in self.events:
            self.early.pop(one, None)
            self.early[one] = (at, label, wrote)
            return
        event = self.events[one]
        up = event[0] + WITHIN
        if event[1] == "waiting" and at > up:
            if self.otherwise is None:
                self.told.append((By.LATE, one, at, label, None))
                return
            self._time_out(one)
        if event[1] != "waiting" and event[2] == label:
            return
        by = By.LABEL if event[1] == "waiting" else By.REVISION
        self.told.append((by, one, at, label, event[2]))
        event[1:] = ["labelled", label]

    def _time_out(self, one):
        event = self.events[one]
        self.told.append((By.TIMEOUT, one, event[0] + WITHIN, self.otherwise, None))
        event[1:] = ["timed out", self.otherwise]

    def tick(self, wall, event_time):
        for one, (at, standing, _) in list(self.events.items()):
            if (
                (at + WITHIN <= event_time or at + 1.0 + WITHIN <= wall)
                and standing == "waiting"
                and (self.otherwise is not None)
            ):
                self._time_out(one)
        stays = WITHIN if self.otherwise is None else 2 * WITHIN
        for one, (at, _, _) in list(self.events.items()):
            if at + stays <= event_time or at + 1.0 + stays <= wall:
                del self.events[one]
        for one, (at, label, wrote) in list(self.early.items()):
            if at + WITHIN <= event_time or wrote + WITHIN <= wall:
                del self.early[one]
                self.told.append((By.ORPHAN, one, at, label, None))


def _told(outcomes):
    was = [None if np.isnan(one) else one for one in outcomes.was.tolist()]
    return list(zip(outcomes.by, outcomes.of.ids, outcomes.at.tolist(), outcomes.labels.tolist(), was, strict=True))


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("events"), st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.0, 5.0, 40.0])), max_size=5)
        ),
        st.tuples(
            st.just("labels"),
            st.lists(
                st.tuples(
                    st.integers(0, 12), st.sampled_from([-5.0, 10.0, 59.0, 90.0]), st.sampled_from([0.0, 1.0, None])
                ),
                max_size=5,
            ),
        ),
        st.tuples(st.just("tick"), st.sampled_from([1.0, 30.0, 61.0, 200.0])),
        st.tuples(st.just("snapshot"), st.none()),
    ),
    max_size=12,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(steps, st.sampled_from([None, 0.0, 1.0]), st.booleans())
def test_what_becomes_known_is_what_a_slow_book_keeping_says(steps, otherwise, one_by_one):
    waiting, book, now, made = Waiting(["n", "at"], _truth(otherwise)), Book(otherwise), 1_000.0, []
    for kind, what in steps:
        if kind == "snapshot":
            kept = snapshot.decode(snapshot.encode(waiting.dump()))
            waiting = Waiting(["n", "at"], _truth(otherwise))
            waiting.load(kept)
        elif kind == "tick":
            now += what
            made += _told(waiting.tick(wall=now, event=now - 20.0))
            book.tick(now, now - 20.0)
        elif kind == "events":
            events = [(one, now + late) for one, late in what]
            for part in [[one] for one in events] if one_by_one else [events]:
                made += _told(waiting.add(_scored(part)))
            for one, at in events:
                book.add(one, at)
        else:
            for part in [[one] for one in what] if one_by_one else [what]:
                given = [(one, now + ahead, NAN if label is None else label) for one, ahead, label in part]
                ids = [one for one, _, _ in given]
                at, labels = (np.array([row[place] for row in given], np.float64) for place in (1, 2))
                made += _told(waiting.label(ids, ids, at=at, labels=labels, wrote=np.full(len(ids), now)))
            for one, ahead, label in what:
                book.label(one, now + ahead, label, now)
    # Within one call, timeouts that a late label brings come first; each event's own story keeps its order.
    story = lambda told: {one: [row for row in told if row[1] == one] for _, one, *_ in told}  # noqa: E731
    assert story(made) == story(book.told)
    assert len(waiting) == len(book.events)
    assert waiting.early == len(book.early)


def test_an_outcome_brings_back_what_was_kept_of_its_event():
    waiting = Waiting(["n", "at"], _truth(0.0))
    waiting.add(_scored([(7, 100.0), (8, 101.0)]))
    made = waiting.label([8], ["key 8"], at=np.array([120.0]), labels=np.array([1.0]), wrote=np.array([120.0]))
    want = _scored([(8, 101.0)])
    assert made.of.ids == [8]
    assert made.of.keys == ["key 8"]
    for name in ("at", "wrote", "features", "static", "online", "score"):
        assert getattr(made.of, name).tolist() == getattr(want, name).tolist()


def test_nothing_is_due_before_its_time_and_something_is_then():
    waiting = Waiting(["n", "at"], _truth(0.0))
    assert not waiting.due(1e12, 1e12)
    waiting.add(_scored([(1, 100.0)]))
    assert not waiting.due(160.9, 159.9)
    assert waiting.due(161.0, 0.0), "by the clock on the wall, from when it was written"
    assert waiting.due(0.0, 160.0), "by the times of events"
    waiting.tick(wall=161.0, event=0.0)
    assert not waiting.due(220.9, 0.0)
    assert waiting.due(221.0, 0.0), "until then it can be corrected"


def test_an_absurd_time_does_not_move_the_clock():
    waiting = Waiting(["n", "at"], _truth(0.0))
    waiting.add(_scored([(number, 100.0 + number) for number in range(20)]))
    waiting.add(_scored([(99, 1e12)]))
    assert 100.0 <= waiting.clock <= 120.0


def test_when_too_many_wait_those_leave_that_wait_for_longest_wherever_a_batch_is_cut():
    events = [(number, 100.0 + number) for number in range(1_000)]
    whole = Waiting(["n", "at"], _truth(0.0), waiting_max=128)
    whole.add(_scored(events))
    cut = Waiting(["n", "at"], _truth(0.0), waiting_max=128)
    for at in range(0, 1_000, 7):
        cut.add(_scored(events[at : at + 7]))
    assert whole.counts == cut.counts
    assert whole.counts["evicted"] == 1_000 - len(whole)
    assert 120 < len(whole) <= 128
    ids = list(range(1_000))
    labels = np.ones(1_000)
    for one in (whole, cut):
        made = one.label(ids, ids, at=labels * 100, labels=labels, wrote=labels)
        assert made.of.ids == list(range(1_000 - len(whole), 1_000))


def test_labels_that_nobody_asks_for_are_bounded():
    waiting = Waiting(["n", "at"], _truth(0.0), early_max=10)
    ids = list(range(30))
    ones = np.ones(30)
    waiting.label(ids, ids, at=ones, labels=ones, wrote=ones)
    made = waiting.tick(wall=2.0, event=2.0)
    assert [by for by, *_ in _told(made)] == [By.ORPHAN] * 20
    assert made.of.ids == list(range(20)), "the oldest go first"
    assert waiting.early == 10


def test_what_waits_is_as_large_as_it_is_said_to_be():
    waiting = Waiting([f"f{number}" for number in range(12)], _truth(0.0))
    count = 50_000
    column = np.arange(float(count))
    ids = [f"id-{number:09d}" for number in range(count)]
    waiting.add(Scored(ids, ids, column, column, np.zeros((count, 12)), column, column, column, []))
    assert waiting.bytes / count < 12 * 8 + 320


@pytest.mark.parametrize("otherwise", [None, 0.0])
def test_a_forgotten_event_leaves_nothing_behind(otherwise):
    waiting = Waiting(["n", "at"], _truth(otherwise))
    fresh = copy.deepcopy(waiting.dump())
    for begin in range(0, 5_000, 500):
        waiting.add(_scored([(number, float(begin)) for number in range(begin, begin + 500)]))
        waiting.tick(wall=begin + 1_000.0, event=begin + 1_000.0)
    assert len(waiting) == 0
    assert waiting.dump()["rows"]["at"].tolist() == [-np.inf] * 500
    assert fresh["ids"]["keys"] == []
    assert waiting.counts == Counter({"timeout": 5_000} if otherwise is not None else {"unlabelled": 5_000})
