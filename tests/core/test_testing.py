"""The kit for users' tests: a driver that does what a worker does, golden files, events, laws and brokers."""

import enum
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from aiokafka.partitioner import murmur2
from core.records import GOOD, fraud, transaction, without
from hypothesis import find, given, settings
from hypothesis import strategies as st

from headrace import Event, Linear, Pipeline, feature, field, per
from headrace.models import snapshot
from headrace.models.laws import LAWS
from headrace.models.pipeline import Effects
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.codec import encode
from headrace.schemas.dead_letter import Reason
from headrace.schemas.errors import BadConfig, StateLost, StateMismatch
from headrace.stream import driver as module
from headrace.stream import state as state_module
from headrace.stream.driver import START
from headrace.testing import DeadLetter, Driver, check_laws, events

fixed = settings(derandomize=True, deadline=None, max_examples=60)
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
card = per("card")


class Payment(Event, topic="payments", key="card"):
    """What is remembered here."""

    id: str
    at: float
    card: str
    amount: float


def _pipeline(weight: float = 1.0, **features: Any) -> Pipeline:
    features = features or {"n": card.count("1h"), "sum": card.sum("amount", "1d", exact=True)}
    static = Linear(dict.fromkeys(features, weight), logistic=False, version=str(weight))
    return Pipeline(name="p", events=Payment, features=features, static=static)


PIPELINE = _pipeline()


def _payment(number: int, card: str = "a", **other: Any) -> dict[str, Any]:
    return {"id": f"p{number}", "card": card, "amount": 1.0, **other}


def _scores(driver: Driver) -> list[float]:
    return [made["score"] for made in driver.predictions]


# Records in, outputs out.


def test_predictions_are_those_of_the_pipeline_in_the_order_of_the_events() -> None:
    made = [Payment(f"p{number}", 60.0 * number, "abc"[number % 3], number % 7) for number in range(1_200)]
    driver = Driver(PIPELINE)
    driver.pipe_all(made)
    want = PIPELINE.step(made, PIPELINE.fresh()).predictions
    assert driver.predictions == [msgspec.json.decode(encode(one)) for one in want]


def test_piping_one_by_one_all_at_once_or_over_more_partitions_gives_the_same_predictions() -> None:
    made = [_payment(number, card=f"c{number % 5}", at=60.0 * number) for number in range(300)]
    one_by_one, at_once, spread = Driver(PIPELINE), Driver(PIPELINE), Driver(PIPELINE, partitions=3)
    for one in made:
        one_by_one.pipe(one)
    at_once.pipe_all(made)
    spread.pipe_all(made)
    assert one_by_one.predictions == at_once.predictions == spread.predictions


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        transaction(),
        transaction().decode(),
        fraud.events(**GOOD),
    ],
    ids=["dictionary", "bytes", "text", "event"],
)
def test_an_event_may_be_given_in_every_form(value: Any) -> None:
    driver = Driver(fraud)
    driver.pipe(value)
    (made,) = driver.published()
    assert (made.topic, made.key) == ("predictions", "card-7")
    assert driver.predictions[0]["at"] == GOOD["at"]


def test_headers_travel() -> None:
    driver = Driver(fraud)
    driver.pipe(GOOD, headers=[TRACE])
    driver.pipe(GOOD, headers={"tenant": "a", "empty": None})
    assert [made.headers for made in driver.published()] == [[TRACE], [("tenant", b"a"), ("empty", None)]]


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (None, {"key": "card-7"}, Reason.EMPTY_VALUE),
        (b"\xff", {}, Reason.NOT_JSON),
        (b"[1]", {}, Reason.WRONG_TYPE),
        (without("amount"), {}, Reason.MISSING_FIELD),
        ({**GOOD, "amount": "much"}, {}, Reason.WRONG_TYPE),
        ({**GOOD, "at": None}, {}, Reason.WRONG_TYPE),
        (GOOD, {"key": None}, Reason.KEY_MISSING),
        ({**GOOD, "amount": -5.0}, {}, Reason.NOT_FINITE),
        (transaction(merchant="m" * 1_000_000), {}, Reason.EVENT_TOO_LARGE),
    ],
)
def test_what_cannot_be_scored_is_a_dead_letter_with_its_reason(value: Any, options: Any, reason: Reason) -> None:
    driver = Driver(fraud, event_bytes_max=1_000)
    driver.pipe(value, **options)
    (letter,) = driver.dead_letters
    assert isinstance(letter, DeadLetter)
    assert letter.reason is reason
    assert letter.message
    assert letter.value == (value if value is None or isinstance(value, bytes) else msgspec.json.encode(value))
    assert dict(letter.headers)["__connect.errors.offset"] == b"0"
    assert driver.predictions == []


def test_alerts_are_read_like_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    alert = Alert(id="drift-1", at=1.0, kind="drift", state=AlertState.RAISED, text="amount moved")
    monkeypatch.setattr(Pipeline, "step", lambda *_: Effects([], [], [alert]))
    driver = Driver(fraud)
    driver.pipe(None, key="k")
    assert [one["id"] for one in driver.alerts] == ["drift-1-0"], "what is said of one partition names it"
    assert driver.read("alerts")["text"] == "amount moved"


@given(st.binary(max_size=40), st.integers(1, 50))
@fixed
def test_keys_are_spread_as_javas_client_does_it(key: bytes, partitions: int) -> None:
    assert module._partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_a_partition_may_be_named_and_has_to_be_there() -> None:
    driver = Driver(PIPELINE, partitions=3)
    for number in range(3):
        driver.pipe(_payment(number), partition=number)
    assert _scores(driver) == [2.0, 2.0, 2.0], "each partition has a memory of its own"
    with pytest.raises(ValueError, match=r"partition = 3: there are 3; Driver\(partitions=\.\.\.\) says how many"):
        driver.pipe(_payment(4), partition=3)
    with pytest.raises(ValueError, match="partitions = 0"):
        Driver(PIPELINE, partitions=0)


def test_options_are_those_of_a_worker() -> None:
    driver = Driver(PIPELINE, topic_predictions="scores")
    driver.pipe(_payment(1))
    assert driver.published()[0].topic == "scores"
    assert driver.read("scores")["id"] == "p1"
    with pytest.raises(BadConfig, match="did you mean topic_predictions"):
        Driver(PIPELINE, topic_prediction="scores")


def test_names_on_the_wire_may_be_others_than_those_of_the_class() -> None:
    class Renamed(Event, topic="t", key="card", rename={"at": "ts", "card": "pan"}):
        id: str
        at: int
        card: str

    pipeline = Pipeline(name="r", events=Renamed, features={"at": field("at")}, static=Linear({"at": 0.0}))
    driver = Driver(pipeline, clock=5.5)
    driver.pipe({"id": "1", "pan": "c"})
    assert driver.published()[0].key == "c"
    assert driver.predictions[0]["at"] == 5


# Reading, and the clock.


def test_a_reader_gets_each_record_once_from_the_oldest_on() -> None:
    driver = Driver(PIPELINE)
    driver.pipe_all([_payment(1), b"{}", _payment(2)])
    assert [driver.read()["id"], driver.read("predictions")["id"]] == ["p1", "p2"]
    with pytest.raises(LookupError, match="nothing to read in predictions: it has 2 records, and all were read"):
        driver.read()
    assert driver.read("dead-letters").reason == "missing_field"
    driver.pipe(_payment(3))
    assert driver.read()["id"] == "p3"
    assert len(driver.predictions) == 3
    with pytest.raises(ValueError, match="no topic 'dead_letters'; did you mean 'dead-letters'"):
        driver.read("dead_letters")


def test_the_clock_gives_an_event_its_time_and_moves_by_hand() -> None:
    driver = Driver(PIPELINE)
    driver.pipe(_payment(1))
    driver.pipe(_payment(2, at=7.0))
    driver.advance("5m")
    driver.advance(0.5)
    driver.pipe(_payment(3))
    driver.clock = 9.0
    driver.pipe(_payment(4))
    assert [made["at"] for made in driver.predictions] == [START, 7.0, START + 300.5, 9.0]
    with pytest.raises(ValueError, match="negative"):
        driver.advance(-1.0)
    with pytest.raises(ValueError, match="no span of time"):
        driver.advance("5 minutes")


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"])
def test_the_clock_may_begin_at_a_date(text: str) -> None:
    assert Driver(PIPELINE, clock=text).clock == START


def test_windows_move_with_the_clock() -> None:
    driver = Driver(_pipeline(n=card.count("1h", tile="1m")))
    for number in range(3):
        driver.pipe(_payment(number))
        driver.advance("40m")
    assert _scores(driver) == [1.0, 2.0, 2.0]


def test_the_state_tells_how_many_keys_are_remembered() -> None:
    pairs = per("card", "merchant")

    class Bought(Payment, topic="payments", key="card"):
        merchant: str

    features = {"n": card.count("1h"), "pairs": pairs.count("1h")}
    pipeline = Pipeline(name="p", events=Bought, features=features, static=Linear(dict.fromkeys(features, 1.0)))
    driver = Driver(pipeline, partitions=4)
    driver.pipe_all(_payment(n, card=f"c{n % 6}", merchant=f"m{n % 12}", at=float(n)) for n in range(60))
    assert driver.state.keys == {"card": 6, "card, merchant": 12}
    assert driver.state.key_count == 18
    assert (driver.state.evicted, driver.state.expired, driver.state.late) == (0, 0, 0)
    assert driver.state.bytes > 0
    assert Driver(_pipeline(amount=field("amount"))).state.keys == {}


# Commits, crashes and restarts.


def test_what_is_not_committed_is_not_seen() -> None:
    driver = Driver(PIPELINE, auto_commit=False)
    driver.pipe(_payment(1))
    driver.pipe(b"{}")
    assert (driver.predictions, driver.dead_letters, driver.waiting) == ([], [], 2)
    with pytest.raises(LookupError, match="of 2 records nothing is committed yet"):
        driver.read()
    driver.commit()
    assert (len(driver.predictions), len(driver.dead_letters), driver.waiting) == (1, 1, 0)


def test_a_crash_forgets_what_was_not_committed() -> None:
    driver = Driver(PIPELINE, auto_commit=False)
    driver.pipe(_payment(1))
    driver.commit()
    driver.pipe(_payment(2))
    lost = driver.crash()
    assert len(lost) == 1
    assert [made["id"] for made in driver.predictions] == ["p1"]
    driver.pipe(_payment(3))
    driver.commit()
    assert _scores(driver) == [2.0, 4.0], "the third is the second that is remembered"


def test_a_crash_before_the_first_commit_leaves_nothing() -> None:
    driver = Driver(PIPELINE, auto_commit=False)
    driver.pipe(_payment(1))
    driver.crash()
    assert (driver.state.key_count, driver.waiting) == (0, 0)
    driver.pipe_all([_payment(1)])
    driver.commit()
    assert _scores(driver) == [2.0]


@given(
    st.lists(st.sampled_from(["pipe", "pipe", "pipe", "commit", "crash", "restart"]), max_size=40),
    st.integers(1, 3),
)
@fixed
def test_crashes_and_restarts_do_not_show(script: list[str], partitions: int) -> None:
    # The exactly-once property itself: whatever is lost is delivered again, and no score tells that it happened.
    steady, tried = Driver(PIPELINE, partitions=partitions), Driver(PIPELINE, partitions=partitions, auto_commit=False)
    for number, what in enumerate(script):
        if what == "pipe":
            one = _payment(number, card="abcd"[number % 4], at=START + 600.0 * number, amount=number % 5)
            steady.pipe(one)
            tried.pipe(one)
        elif what == "commit":
            tried.commit()
        elif what == "restart":
            tried.restart()
        else:
            tried.pipe_all(tried.crash())
    tried.commit()
    assert tried.predictions == steady.predictions
    assert tried.state.keys == steady.state.keys


def test_at_least_once_a_crash_repeats_predictions_and_remembers_each_event_once() -> None:
    driver = Driver(PIPELINE, auto_commit=False, guarantee="at-least-once")
    driver.pipe(_payment(1))
    driver.commit()
    driver.pipe(_payment(2))
    driver.pipe_all(driver.crash())
    driver.commit()
    assert [(made["id"], made["score"]) for made in driver.predictions] == [("p1", 2.0), ("p2", 4.0), ("p2", 4.0)]


def test_a_restart_makes_the_state_from_the_changelog_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "SNAPSHOT_BYTES_MIN", 1_000)
    driver = Driver(PIPELINE, partitions=2)
    for number in range(60):
        driver.pipe_all(_payment(10 * number + one, card=f"c{one}", at=60.0 * number) for one in range(10))
    heads = sum(record.key == b"h" for record in driver._published["p-state"])
    assert heads > 2, "a snapshot was in between"
    before = dict(driver._memories)
    driver.restart()
    for number, memory in driver._memories.items():
        assert memory is not before[number]
        assert snapshot.encode(memory.state.dump()) == snapshot.encode(before[number].state.dump())


def test_a_restart_commits_first() -> None:
    driver = Driver(PIPELINE, auto_commit=False)
    driver.pipe(_payment(1))
    driver.restart()
    assert len(driver.predictions) == 1


def test_a_new_version_goes_on_with_what_was_remembered() -> None:
    driver = Driver(PIPELINE)
    driver.pipe(_payment(1))
    driver.restart(_pipeline(weight=10.0))
    driver.pipe(_payment(2))
    assert [(made["score"], made["version"]) for made in driver.predictions] == [(2.0, "1.0"), (40.0, "10.0")]


def test_a_new_version_that_remembers_something_else_is_refused_as_a_worker_would_be() -> None:
    driver = Driver(PIPELINE)
    driver.pipe(_payment(1))
    with pytest.raises(StateMismatch):
        driver.restart(_pipeline(n=card.count("2h")))
    driver.pipe(_payment(2))
    assert _scores(driver) == [2.0, 4.0], "the old version goes on"
    forgetful = Driver(PIPELINE, accept_state_loss=True)
    forgetful.pipe(_payment(1))
    forgetful.restart(_pipeline(n=card.count("2h")))
    forgetful.pipe(_payment(2))
    assert _scores(forgetful) == [2.0, 1.0]


def test_a_version_with_a_memory_after_one_without_finds_no_state() -> None:
    driver = Driver(_pipeline(amount=field("amount")))
    driver.pipe(_payment(1))
    with pytest.raises(StateLost):
        driver.restart(PIPELINE)


# Golden files.


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return tmp_path / "golden" / "payments.jsonl"


def _driver(*payments: dict[str, Any]) -> Driver:
    driver = Driver(PIPELINE)
    driver.pipe_all(payments)
    return driver


def test_a_golden_file_is_written_on_request_and_then_compared_with(golden: Path) -> None:
    driver = _driver(_payment(1), _payment(2))
    driver.assert_golden(golden, update=True)
    assert golden.read_bytes() == b"".join((made.value or b"") + b"\n" for made in driver.published())
    driver.assert_golden(golden)
    driver.assert_golden(str(golden), rel=0.0)


def test_a_golden_file_that_is_missing_is_a_failure(golden: Path) -> None:
    with pytest.raises(AssertionError, match=r"is not there; if this is meant: HEADRACE_UPDATE_GOLDEN=1, or update=T"):
        _driver().assert_golden(golden)
    assert not golden.exists()


def test_the_environment_may_ask_for_golden_files_to_be_written(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_UPDATE_GOLDEN", "0")
    with pytest.raises(AssertionError, match="is not there"):
        _driver(_payment(1)).assert_golden(golden)
    monkeypatch.setenv("HEADRACE_UPDATE_GOLDEN", "1")
    _driver(_payment(1)).assert_golden(golden)
    assert golden.is_file()


def test_a_difference_is_told_by_id_and_field(golden: Path) -> None:
    _driver(_payment(1), _payment(2), _payment(3), _payment(1)).assert_golden(golden, update=True)
    driver = _driver(_payment(1), _payment(2, amount=5.0), _payment(4), _payment(1, card="b"))
    with pytest.raises(AssertionError) as raised:
        driver.assert_golden(golden)
    assert str(raised.value).splitlines() == [
        f"{golden} has 4 predictions, 4 were made, and they differ:",
        "  id 'p2': score: got 8.0, want 4.0",
        "  id 'p2': static: got 8.0, want 4.0",
        "  id 'p3': missing",
        "  id 'p1', number 2 of that id: card: got 'b', want 'a'",
        "  id 'p1', number 2 of that id: score: got 2.0, want 8.0",
        "  id 'p1', number 2 of that id: static: got 2.0, want 8.0",
        "  id 'p4': not in the file",
        "  if this is meant: HEADRACE_UPDATE_GOLDEN=1, or update=True, writes the file anew",
    ]


def test_of_many_differences_the_first_are_told(golden: Path) -> None:
    _driver(*map(_payment, range(100))).assert_golden(golden, update=True)
    with pytest.raises(AssertionError, match=r"id 'p19': missing\n  and 80 more\n"):
        _driver().assert_golden(golden)


def test_another_order_is_a_difference(golden: Path) -> None:
    apart = [_payment(1, card="a"), _payment(2, card="b"), _payment(3, card="c")]
    _driver(*apart).assert_golden(golden, update=True)
    with pytest.raises(AssertionError, match="the order is another: line 2 is id 'p3', not id 'p2'"):
        _driver(apart[0], apart[2], apart[1]).assert_golden(golden)


def test_numbers_may_differ_by_the_last_bits_unless_they_must_not(golden: Path) -> None:
    driver = _driver(_payment(1))
    driver.assert_golden(golden, update=True)
    golden.write_text(golden.read_text().replace('"score":2.0', '"score":2.0000000000000004'))
    driver.assert_golden(golden)
    with pytest.raises(AssertionError, match=r"score: got 2\.0, want 2\.0000000000000004"):
        driver.assert_golden(golden, rel=0.0)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"online":null', '"online":0.0', "online: got None, want 0.0"),
        ('"online":null,', "", "online: got None, want nothing"),
        ('"model":"p"', '"model":"q"', "model: got 'p', want 'q'"),
        ("{", "", r"payments.jsonl:1: no prediction: Expected `object`, got `str`"),
    ],
)
def test_every_field_counts(golden: Path, before: str, after: str, told: str) -> None:
    driver = _driver(_payment(1))
    driver.assert_golden(golden, update=True)
    golden.write_text(golden.read_text().replace(before, after))
    with pytest.raises(AssertionError, match=told):
        driver.assert_golden(golden)


def test_what_is_not_committed_cannot_be_golden(golden: Path) -> None:
    driver = Driver(PIPELINE, auto_commit=False)
    driver.pipe(_payment(1))
    with pytest.raises(AssertionError, match="1 records were piped since the last commit"):
        driver.assert_golden(golden, update=True)


# Events from their class.


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct):
    lat: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    name: str | None = None


class Wide(Event, topic="wide", key="user"):
    """A field of every kind."""

    id: int
    at: int
    user: int
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    above: Annotated[float, msgspec.Meta(ge=1e9)]
    below: Annotated[int, msgspec.Meta(lt=-5)]
    tens: Annotated[int, msgspec.Meta(ge=5, le=50, multiple_of=10)]
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    short: Annotated[str, msgspec.Meta(min_length=2, max_length=3)]
    kind: Literal["in", "out"]
    colour: Colour
    place: Place
    items: Annotated[list[int], msgspec.Meta(min_length=1)]
    extra: dict[str, bool]
    maybe: float | None = None


@given(events(Wide))
@fixed
def test_events_keep_the_types_and_bounds_of_their_class(made: list[Wide]) -> None:
    for one in made:
        assert msgspec.json.decode(msgspec.json.encode(one), type=Wide) == one


@given(events(fraud.events))
@fixed
def test_ids_are_different_keys_are_few_and_times_do_not_go_back(made: list[Any]) -> None:
    assert 1 <= len(made) <= 20
    assert len({one.id for one in made}) == len(made)
    assert {one.card for one in made} <= {"a", "b", "c"}
    assert [one.at for one in made] == sorted(one.at for one in made)


@given(events(Payment, jitter="5m"))
@fixed
def test_with_jitter_no_event_is_later_than_that(made: list[Payment]) -> None:
    newest = START
    for one in made:
        newest = max(newest, one.at)
        assert one.at >= newest - 300.0


def test_with_jitter_some_events_come_late() -> None:
    def is_late(made: list[Payment]) -> bool:
        return any(after.at < before.at for before, after in itertools.pairwise(made))

    found = find(events(Payment, jitter="5m"), is_late, settings=settings(derandomize=True, database=None))
    assert [one.at for one in found] == [START, START - 0.001], "nothing that does not matter is left"


@given(events(Payment, count=7, gaps=st.just(60.0), amount=st.just(2.5), id=st.just("same")))
@fixed
def test_a_field_a_gap_and_a_count_may_be_given(made: list[Payment]) -> None:
    assert [(one.id, one.at, one.amount) for one in made] == [("same", START + 60 * n, 2.5) for n in range(7)]


@pytest.mark.parametrize(("least", "most"), [(0, 0), (0, 3), (1, 1), (1, 2), (5, 6), (18, 40)])
def test_counts_have_bounds(least: int, most: int) -> None:
    @given(events(Payment, min_count=least, max_count=most))
    @settings(fixed, max_examples=20)
    def within(made: list[Payment]) -> None:
        assert least <= len(made) <= most

    within()


def test_a_failing_stream_shrinks_to_what_matters() -> None:
    def fails(made: list[Payment]) -> bool:
        driver = Driver(PIPELINE)
        driver.pipe_all(made)
        return any(score > 12 for score in _scores(driver))

    found = find(events(Payment), fails, settings=settings(derandomize=True, database=None))
    assert found == [Payment("id-0", START, "a", 12.0)]


def test_a_field_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="Payment has no field amuont; it has id, at, card, amount"):
        events(Payment, amuont=st.just(1.0))


def test_a_type_without_a_strategy_asks_for_one() -> None:
    class Odd(Event, topic="odd", key="user"):
        id: str
        at: float
        user: str
        blobs: list[bytes]

    told = r"Odd\.blobs\[\.\.\.\] is of type bytes, for which there is no strategy: give one, as events\(\.\.\., blobs="
    with pytest.raises(TypeError, match=told):
        events(Odd)
    made = find(events(Odd, blobs=st.just([b"x"])), bool)
    assert made[0].blobs == [b"x"]


# Laws.


def test_a_pipeline_that_keeps_the_laws_passes() -> None:
    check_laws(fraud)
    check_laws(PIPELINE, seeds=[7])


def test_a_law_that_is_broken_is_told_with_its_reason_and_the_seed() -> None:
    @feature
    def unusual(amount: Any) -> Any:
        return amount - amount.mean()

    with pytest.raises(AssertionError) as raised:
        check_laws(_pipeline(u=unusual), seeds=[4, 5])
    lines = str(raised.value).splitlines()
    assert lines[:3] == [
        f"<Pipeline p: Payment from payments> breaks 2 of {len(LAWS)} laws:",
        "  where a batch is cut never shows",
        "    Kafka cuts batches where it likes, so a cut must not move a single bit.",
    ]
    assert lines[3].startswith("    seed 4: the batch was cut at")


def test_a_pipeline_that_raises_breaks_the_law_that_met_it() -> None:
    class Raises(Pipeline):
        def step(self, *_: Any) -> Effects:
            raise RuntimeError("no")

    pipeline = Raises(name="p", events=Payment, features={"a": field("amount")}, static=Linear({"a": 1.0}))
    with pytest.raises(AssertionError, match=r"seed 0: raised RuntimeError\('no'\)") as raised:
        check_laws(pipeline)
    assert isinstance(raised.value.__cause__, RuntimeError)


# What is not installed, and brokers.


def test_the_kit_imports_neither_hypothesis_nor_pytest() -> None:
    code = "import sys, headrace.testing as t; t.Driver; print(sorted({'hypothesis', 'pytest'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs hypothesis, .*: pip install 'headrace\[testing\]'"):
        events(Payment)
    monkeypatch.delitem(sys.modules, "headrace.stream.fixtures", raising=False)
    monkeypatch.delattr("headrace.stream.fixtures", raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ModuleNotFoundError, match=r"need pytest, .*: pip install 'headrace\[testing\]'"):
        from headrace.testing import embedded_broker  # noqa: F401


def test_the_kit_has_no_other_names() -> None:
    import headrace.testing as kit

    assert all(hasattr(kit, name) for name in kit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'driver_'"):
        _ = kit.driver_  # type: ignore[attr-defined]


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., str]:
    """A user's project with the brokers as fixtures, and what pytest says of a test in it."""

    def run(test: str, **env: str) -> str:
        (tmp_path / "conftest.py").write_text("from headrace.testing import embedded_broker, real_broker\n")
        (tmp_path / "test_it.py").write_text(test)
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, timeout=200, check=False
        )
        return done.stdout + done.stderr

    return run


REACHED = """
from confluent_kafka import Producer

def test_reached({broker}):
    assert Producer({{"bootstrap.servers": {broker}.address}}).list_topics(timeout=10).brokers
"""


def test_the_embedded_broker_is_a_fixture(project: Callable[..., str]) -> None:
    told = project(REACHED.format(broker="embedded_broker"))
    assert "1 passed" in told, told


def test_without_java_tests_on_the_real_broker_are_skipped_with_the_reason(project: Callable[..., str]) -> None:
    told = project(REACHED.format(broker="real_broker"), PATH="", XDG_CACHE_HOME="nowhere")
    assert "1 skipped" in told, told
    assert "is not installed" in told


@pytest.mark.broker
def test_the_real_broker_is_a_fixture(project: Callable[..., str]) -> None:
    told = project(REACHED.format(broker="real_broker"))
    assert "1 passed" in told, told
