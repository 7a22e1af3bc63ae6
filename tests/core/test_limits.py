"""What labels may teach at the most: so many in a while, of each source so many, and nothing that is too far out."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, preprocessing

from headrace import Event, Label, Limits, Linear, Pipeline, field
from headrace.models import snapshot
from headrace.models.limits import BLOCK, DEVIATION, Limiter
from headrace.schemas.errors import BadPipeline
from headrace.stream.driver import Driver


class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float
    truth: int = 0


class Verdict(Label, topic="verdicts", of=Payment, within="1h", otherwise=0):
    id: str
    at: float
    card: str
    label: int
    said_by: str = "bank"
    sure: float = 1.0


def _page(**other: Any) -> Pipeline:
    parts = {
        "labels": Verdict,
        "features": {"amount": field("amount")},
        "static": Linear({"amount": 0.1}),
        "online": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        **other,
    }
    return Pipeline(name="limited", events=Payment, **parts)


def _seen(driver: Driver) -> int:
    (memory,) = driver._memories.values()
    seen: int = memory.state.learning.learner.seen  # type: ignore[union-attr]
    return seen


def _piped(driver: Driver, count: int) -> None:
    driver.pipe_all({"id": f"p{number}", "card": f"c{number % 2}", "amount": float(number)} for number in range(count))


def test_what_exceeds_a_limit_is_an_outcome_and_counts_for_quality_and_teaches_nothing() -> None:
    driver = Driver(_page(limits=Limits(learn_max="3 per minute")))
    _piped(driver, 10)
    for number in range(5):
        driver.label(f"p{number}", 1, key=f"c{number % 2}")
    assert [one["withheld"] for one in driver.outcomes] == [None, None, None, "limit", "limit"]
    assert _seen(driver) == 3
    (memory,) = driver._memories.values()
    learning: Any = memory.state.learning
    assert learning.judges["score"].report()["overall"]["count"] == 5
    assert learning.limiter.counts == Counter({"limit": 2})
    driver.advance("1m")
    driver.label("p5", 1, key="c1")
    assert driver.outcomes[-1]["withheld"] is None, "a minute later there is room again"
    driver.advance("2h")
    assert [one["withheld"] for one in driver.outcomes[6:]] == [None] * 4, "what times out is nobody's label"
    assert _seen(driver) == 8


def test_one_source_takes_no_room_from_the_others() -> None:
    driver = Driver(_page(limits=Limits(learn_max="4 per minute", source="card", source_max="2 per minute")))
    _piped(driver, 10)
    for number in (0, 2, 4, 6, 1, 3, 5):
        driver.label(f"p{number}", 1, key=f"c{number % 2}")
    assert [one["withheld"] for one in driver.outcomes] == [
        None,
        None,
        *["source_limit"] * 2,
        None,
        None,
        "source_limit",
    ]


def test_a_label_that_waited_for_its_event_is_of_its_own_source_and_time() -> None:
    driver = Driver(_page(limits=Limits(source="card", source_max="1 per minute")))
    driver.label("p0", 1, key="c0")
    driver.label("p2", 1, key="c0")
    driver.restart()
    _piped(driver, 4)
    driver.label("p1", 1, key="c1")
    assert [(one["id"], one["withheld"]) for one in driver.outcomes] == [
        ("p0", None),
        ("p2", "source_limit"),
        ("p1", None),
    ]


def test_a_time_that_goes_back_gives_no_new_room() -> None:
    limiter = Limiter(Limits(learn_max="1 per minute"), 1)
    told = limiter.allow(np.array([100.0, 10.0, 110.0, 190.0, np.nan, 130.0]), [])
    assert [one is None for one in told] == [True, False, False, True, True, False]


class Ledger:
    """What a limiter does, by counting again each time all that taught."""

    def __init__(self) -> None:
        self.taught: list[tuple[float, str]] = []
        self.now = -math.inf

    def allow(self, at: float, source: str) -> str | None:
        self.now = max(self.now, at)
        if sum(one == source and then // 50 == self.now // 50 for then, one in self.taught) >= 2:
            return "source_limit"
        if sum(then // 60 == self.now // 60 for then, _ in self.taught) >= 3:
            return "limit"
        self.taught.append((self.now, source))
        return None


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from("abc")), max_size=40), st.integers(0, 40))
def test_who_may_teach_is_what_a_slow_count_says_wherever_a_batch_is_cut(
    labels: list[tuple[float, str]], cut: int
) -> None:
    limits, ledger, made = Limits(learn_max="3 per minute", source="s", source_max="2 per 50s"), Ledger(), []
    limiter = Limiter(limits, 1)
    for part in (labels[:cut], labels[cut:]):
        made += limiter.allow(np.array([at for at, _ in part]), [source for _, source in part])
        moved = Limiter(limits, 1)
        moved.load(snapshot.decode(snapshot.encode(limiter.dump())))
        limiter = moved
    assert made == [ledger.allow(*one) for one in labels]


@pytest.mark.parametrize("step", [1, 100, 5_000])
def test_what_is_too_far_out_is_brought_in_by_the_last_full_block_of_rows_that_taught(step: int) -> None:
    draw = np.random.default_rng(3)
    rows = np.stack([draw.normal(10.0, 2.0, 1_000), draw.random(1_000) < 0.05, np.full(1_000, 7.0)], axis=1)
    rows[500, 0], rows[501, 2] = 1e17, 8.0
    rows[502, 0] = np.nan
    limiter = Limiter(Limits(clip=5.0), 3)
    made = np.concatenate([limiter.clipped(rows[at : at + step]) for at in range(0, 1_000, step)])
    block = rows[:BLOCK, 0]
    middle = np.median(block)
    assert made[500, 0] == middle + 5.0 * DEVIATION * np.median(np.abs(block - middle))
    assert (made[:, 1] == rows[:, 1]).all(), "what is rare is not far out"
    assert made[501, 2] == 8.0, "of what never moved nobody knows how far is far"
    assert math.isnan(made[502, 0])
    assert (made[:BLOCK] == rows[:BLOCK]).all()
    assert limiter.counts["clipped"] == (made[~np.isnan(made[:, 0])] != rows[~np.isnan(made[:, 0])]).any(axis=1).sum()


def test_an_outlier_that_is_clipped_leaves_the_learner_where_it_was() -> None:
    def learned(limits: Limits | None, outlier: float) -> float:
        page, draw = _page(limits=limits), np.random.default_rng(1)
        state = page.fresh()
        amounts = [*draw.normal(size=600).tolist(), outlier]
        page.step([Payment(str(at), float(at), "c", amount) for at, amount in enumerate(amounts)], state)
        page.learn([Verdict(str(at), at + 1.0, "c", at % 2) for at in range(len(amounts))], state)
        (made,) = page.step([Payment("next", 700.0, "c", 1.0)], state).predictions
        online: float = made.online  # type: ignore[attr-defined]
        return online

    usual = learned(Limits(clip=8.0), 1.0)
    assert abs(learned(Limits(clip=8.0), 1e15) - usual) < 0.02
    assert learned(None, 1.0) == usual


def test_what_is_wrong_with_limits_is_told_at_once() -> None:
    with pytest.raises(BadPipeline) as told:
        _page(limits=Limits(learn_max="many", source="sayd_by", source_max="5 per minute", clip=0.0))
    assert str(told.value).splitlines()[1:] == [
        "  limits: learn_max: 'many' says not how often: write like 1000 per minute, 10 per day or 5 per 10s",
        "  limits: source='sayd_by' is no field of Verdict; there are id, at, card, label, said_by, sure",
        "  limits: clip=0.0: allowed are positive numbers of deviations",
    ]
    for limits, why in (
        (Limits(), "nothing is limited; set learn_max, source_max or clip"),
        (Limits(source="sure", source_max="1 per day"), "Verdict.sure is float; allowed are str, int and None"),
        (Limits(source="card", clip=1.0), "source='card' and source_max='' belong together"),
    ):
        with pytest.raises(BadPipeline, match=why.replace("(", r"\(")):
            _page(limits=limits)
    with pytest.raises(BadPipeline, match="labels that have a topic of their own"):
        _page(labels="truth", limits=Limits(clip=1.0))
    with pytest.raises(BadPipeline, match="limits: nothing learns"):
        _page(online=None, limits=Limits(clip=1.0))
