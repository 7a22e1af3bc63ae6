"""From the records of a batch to what is published: one output for each, in their order, whatever they are."""

from typing import Any

import msgspec
import pytest
from core.records import GOOD, Alone, Headers, Record, config_of, fraud, raw, transaction, without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event, Linear, Pipeline, feature, field, per
from headrace.models.pipeline import Effects
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.dead_letter import Reason
from headrace.stream.agents import _parts
from headrace.stream.commit import Output, Outputs
from headrace.stream.poller import Taken
from headrace.stream.transport import RecordBatch

fixed = settings(derandomize=True, deadline=None, max_examples=100)
PREDICTIONS, ALERTS, DEAD_LETTERS = "predictions", "alerts", "dead-letters"
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def _scorer(pipeline: Pipeline = fraud, *, bytes_max: int = 100_000, **options: Any) -> Alone:
    config = config_of(event_bytes_max=50_000, **options)
    topics = (config.topic_predictions, config.topic_alerts, config.topic_dead_letters)
    return Alone(pipeline, config, dict.fromkeys(topics, bytes_max))


def _published(outputs: Outputs) -> list[tuple[str, Any, dict, Headers | None]]:
    """Every prediction, with the topic, key and headers that it goes out with."""
    headers = outputs.headers or [None] * len(outputs.values)
    columns = zip(outputs.keys, outputs.values, headers, strict=True)
    return [(outputs.topic, key, msgspec.json.decode(value), given) for key, value, given in columns]


def _letters(outputs: Outputs) -> list[Output]:
    return [output for output in outputs.others if output.topic == DEAD_LETTERS]


def _header(output: Output, name: str) -> bytes | None:
    values = [value for header, value in output.headers or [] if header == name]
    assert len(values) == 1, f"{name}: {values}"
    return values[0]


def _code(output: Output) -> str:
    return (_header(output, "headrace.errors.code") or b"").decode()


class Whole(Event, topic="whole", key="card"):
    """Its time is a whole number."""

    id: str
    at: int
    card: str


def test_a_time_that_no_float_can_hold_is_a_dead_letter() -> None:
    pipeline = Pipeline(name="w", events=Whole, features={"n": per("card").count("1h")}, static=Linear({"n": 1.0}))
    values = [b'{"id": "1", "card": "a", "at": 1%s}' % (b"0" * zeros) for zeros in (9, 400)]
    outputs = _scorer(pipeline).step([Record(value) for value in values])
    assert [_code(letter) for letter in _letters(outputs)] == ["time_ahead"]


def test_predictions_are_in_the_order_of_the_records() -> None:
    records = [Record(transaction(id=f"p{number}"), offset=number) for number in range(50)]
    published = _published(_scorer().step(records))
    assert [made["id"] for _, _, made, _ in published] == [f"p{number}" for number in range(50)]


REMEMBERING = Pipeline(
    name="remembering",
    events=fraud.events,
    features={"n": per("card").count("1h")},
    static=Linear({"n": 1.0}, logistic=False),
)


@pytest.mark.parametrize(
    ("at", "count"), [(1.7e9, 2), (1.7e9 + 86_400, 2), (1.7e9 + 86_401, 1), (1.7e12, 1), (1.7e308, 1), (-1.7e9, 2)]
)
def test_a_time_far_ahead_of_its_record_is_a_dead_letter_and_is_not_remembered(at: float, count: int) -> None:
    records = [Record(transaction(id="odd", at=at)), Record(transaction(id="good", at=1.7e9), offset=1)]
    outputs = _scorer(REMEMBERING).step(records)
    made = {made["id"]: made["score"] for _, _, made, _ in _published(outputs)}
    assert len(made) == count
    assert made["good"] == (2.0 if at == 1.7e9 else 1.0)
    assert [_code(letter) for letter in _letters(outputs)] == ["time_ahead"] * (2 - count)
    off = _scorer(REMEMBERING, event_ahead_max_ms=0).step(records)
    assert len(_published(off)) == 2, "it can be turned off"
    assert len(_published(_scorer().step(records))) == 2, "where nothing is remembered, a time harms nothing"


def test_a_prediction_has_the_fields_that_readers_count_on() -> None:
    ((topic, key, made, headers),) = _published(_scorer().step([Record(transaction())]))
    assert (topic, key, headers) == (PREDICTIONS, "card-7", None)
    score = made.pop("score")
    assert 0 < score < 1
    assert made.pop("static") == score
    assert made == {
        "id": "p1",
        "at": 1.7e9,
        "card": "card-7",
        "online": None,
        "model": "fraud",
        "version": "1",
        "flags": [],
    }


def test_topics_are_those_of_the_options() -> None:
    scorer = _scorer(topic_predictions="scores", topic_dead_letters="graveyard")
    outputs = scorer.step([Record(transaction()), Record(b"")])
    assert outputs.topic == "scores"
    assert [output.topic for output in outputs.others] == ["graveyard"]


def test_a_batch_of_no_records_publishes_nothing() -> None:
    # What it carries is an offset: the marker of a transaction at the end of the partition.
    assert _scorer().step([]) == Outputs(PREDICTIONS, [], [], None, [], 0)


def test_the_size_is_that_of_the_values_and_of_all_that_goes_with_single_outputs() -> None:
    outputs = _scorer().step([Record(transaction()), Record(b"bad")])
    (letter,) = outputs.others
    assert outputs.size == len(outputs.values[0]) + _size(letter)
    # Where any record has headers, keys and headers count too.
    each = _scorer().step([Record(transaction(), headers=[TRACE]), Record(b"bad")])
    assert each.size == outputs.size + len("card-7") + len(TRACE[0]) + len(TRACE[1])


def test_headers_travel_with_their_record() -> None:
    given: list[Headers | None] = [[TRACE, ("tenant", b"a")], None, [], [("tenant", b"b"), ("empty", None)]]
    records = [Record(transaction(id=str(place)), headers=headers) for place, headers in enumerate(given)]
    published = _published(_scorer().step(records))
    assert [(made["id"], headers or []) for _, _, made, headers in published] == [
        (str(place), headers or []) for place, headers in enumerate(given)
    ]


@pytest.mark.parametrize("name", ["Faust-Ag-ReplyTo", "Faust-Ag-CorrelationId", "faust-ag-replyto"])
def test_headers_that_would_send_results_elsewhere_do_not_travel(name: str) -> None:
    ((_, _, _, headers),) = _published(_scorer().step([Record(transaction(), headers=[(name, b"theirs"), TRACE])]))
    assert headers == [TRACE]


def test_headers_stay_with_their_record_when_others_are_dead_letters() -> None:
    records = [
        Record(b"", headers=[("n", b"0")]),
        Record(transaction(id="1"), headers=[("n", b"1")]),
        Record(transaction(id="2", amount=-5.0), headers=[("n", b"2")]),
        Record(transaction(id="3"), key=None, headers=[("n", b"3")]),
        Record(transaction(id="4"), headers=[("n", b"4")]),
    ]
    outputs = _scorer().step(records)
    assert [(made["id"], headers) for _, _, made, headers in _published(outputs)] == [
        ("1", [("n", b"1")]),
        ("4", [("n", b"4")]),
    ]
    assert [(_header(letter, "n"), _code(letter)) for letter in _letters(outputs)] == [
        (b"0", "empty_value"),
        (b"2", "not_finite"),
        (b"3", "key_missing"),
    ]


def test_a_dead_letter_keeps_key_value_and_headers_as_they_came() -> None:
    given: Headers = [TRACE, ("Faust-Ag-ReplyTo", b"theirs"), ("same", b"1"), ("same", b"2"), ("none", None)]
    (letter,) = _letters(_scorer().step([Record(b"\xff\x00", key=b"\xfe", headers=given)]))
    assert (letter.topic, letter.key, letter.value) == (DEAD_LETTERS, b"\xfe", b"\xff\x00")
    assert letter.headers is not None
    assert letter.headers[:5] == given


def test_a_dead_letter_says_where_it_was_and_why() -> None:
    record = Record(transaction(amount="x"), topic="payments", partition=3, offset=41)
    (letter,) = _letters(_scorer().step([record]))
    assert dict(letter.headers or []) == {
        "__connect.errors.topic": b"payments",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"41",
        "__connect.errors.stage": b"DECODE",
        "__connect.errors.class.name": b"headrace",
        "__connect.errors.exception.class.name": b"msgspec.ValidationError",
        "__connect.errors.exception.message": b"Expected `float`, got `str` - at `$.amount`",
        "headrace.errors.code": b"wrong_type",
        "headrace.errors.stage": b"decode",
        "headrace.errors.pipeline": b"fraud",
        "headrace.errors.version": b"1",
    }


def test_what_connect_wrote_before_is_kept() -> None:
    given: Headers = [("__connect.errors.topic", b"first"), ("__connect.errors.offset", b"7")]
    (letter,) = _letters(_scorer().step([Record(b"bad", headers=given, offset=99)]))
    assert _header(letter, "__connect.errors.topic") == b"first"
    assert _header(letter, "__connect.errors.offset") == b"7"
    assert _header(letter, "__connect.errors.stage") == b"DECODE"


@pytest.mark.parametrize("name", ["code", "stage", "pipeline", "version", "cut.from.bytes", "whatever"])
@pytest.mark.parametrize("bytes_max", [100_000, 3_000])
def test_what_a_record_says_in_our_name_does_not_stay(name: str, bytes_max: int) -> None:
    # A dead letter that was produced again and failed again must tell of this failure, not of the first.
    given: Headers = [TRACE, (f"headrace.errors.{name}", b"forged"), (f"headrace.errors.{name}", None)]
    (letter,) = _letters(_scorer(bytes_max=bytes_max).step([Record(b"!" * 5_000, headers=given)]))
    assert [header for header in letter.headers or [] if header[1] in (b"forged", None)] == []
    assert _header(letter, "traceparent") == TRACE[1]
    assert _code(letter) == "not_json"


class Unreadable(Record):
    """A record with a header whose name is not text."""

    def headers(self) -> Headers | None:
        if self.key() == b"pending":
            raise SystemError("<built-in method headers> returned a result with an exception set")
        b"\xff".decode()
        raise AssertionError


@pytest.mark.parametrize("key", [b"pending", b"raised"])
def test_headers_that_cannot_be_read_are_dropped_from_their_record_and_from_no_other(key: bytes) -> None:
    records = [
        Record(transaction(id="1"), headers=[("n", b"1")], offset=1),
        Unreadable(transaction(id="2"), key=key, offset=2),
        Unreadable(b"bad", key=key, offset=3),
        Record(transaction(id="4"), headers=[("n", b"4")], offset=4),
    ]
    outputs = _scorer().step(records)
    assert [(made["id"], headers) for _, _, made, headers in _published(outputs)] == [
        ("1", [("n", b"1")]),
        ("2", None),
        ("4", [("n", b"4")]),
    ]
    (letter,) = _letters(outputs)
    assert (letter.key, letter.value, _code(letter)) == (key, b"bad", "not_json")
    assert _header(letter, "__connect.errors.offset") == b"3"


def test_a_record_alone_whose_headers_cannot_be_read_is_scored() -> None:
    ((_, _, made, headers),) = _published(_scorer().step([Unreadable(transaction())]))
    assert (made["id"], headers) == ("p1", None)


def test_a_key_that_is_not_the_one_in_the_event_is_not_looked_at() -> None:
    ((_, key, _, _),) = _published(_scorer().step([Record(transaction(card="card-9"), key=b"another")]))
    assert key == "card-9", "a prediction goes where the event says"


def test_a_record_without_a_key_is_a_dead_letter() -> None:
    (letter,) = _letters(_scorer().step([Record(transaction(), key=None)]))
    assert (letter.key, letter.value, _code(letter)) == (None, transaction(), "key_missing")
    told = "the record has no key, and the key decides which partition knows its history"
    assert _header(letter, "__connect.errors.exception.message") == told.encode()


def test_an_empty_key_is_a_key() -> None:
    assert len(_published(_scorer().step([Record(transaction(), key=b"")]))) == 1


def test_what_is_wrong_in_two_ways_is_one_dead_letter() -> None:
    (letter,) = _letters(_scorer().step([Record(b"bad", key=None)]))
    assert _code(letter) == "not_json"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b"\xff", "not_json"),
        (b'{"a":' * 5_000, "not_json"),
        (raw("id", rb'"\ud800"'), "not_json"),
        (raw("card", rb'"\udfff"'), "not_json"),
        (without("card"), "missing_field"),
        (transaction(amount=None), "wrong_type"),
        (raw("amount", b"1e999"), "wrong_type"),
        (b" " * 50_001, "event_too_large"),
        (transaction(amount=-2.0), "not_finite"),
    ],
    ids=lambda it: repr(it)[:30],
)
def test_every_record_that_cannot_be_scored_has_its_code(value: bytes | None, code: str) -> None:
    outputs = _scorer().step([Record(transaction(id="a")), Record(value), Record(transaction(id="b"))])
    assert [made["id"] for _, _, made, _ in _published(outputs)] == ["a", "b"]
    (letter,) = _letters(outputs)
    assert (_code(letter), letter.value) == (code, value)


def test_when_everything_is_rejected_nothing_else_is_published() -> None:
    outputs = _scorer().step([Record(b"bad", offset=number) for number in range(5)])
    assert outputs.values == []
    offsets = [_header(letter, "__connect.errors.offset") for letter in outputs.others]
    assert offsets == [b"0", b"1", b"2", b"3", b"4"]


def test_dead_letters_are_in_the_order_of_the_records() -> None:
    values = [b"", transaction(amount=-2.0), b"bad", transaction(), without("id"), transaction(amount=-3.0)]
    outputs = _scorer().step([Record(value, offset=number) for number, value in enumerate(values)])
    offsets = [_header(letter, "__connect.errors.offset") for letter in _letters(outputs)]
    assert offsets == [b"0", b"1", b"2", b"4", b"5"]


@pytest.mark.parametrize("headers", [None, [TRACE]])
def test_a_prediction_that_its_topic_would_refuse_is_a_dead_letter_and_the_others_go_on(headers: Any) -> None:
    values = [transaction(id="a"), transaction(id="x" * 900), transaction(id="b"), b"bad"]
    records = [Record(value, offset=number, headers=headers) for number, value in enumerate(values)]
    scorer = _scorer(bytes_max=1_000)
    outputs = scorer.step(records)
    assert [made["id"] for _, _, made, _ in _published(outputs)] == ["a", "b"]
    letters = _letters(outputs)
    assert [(_code(letter), _header(letter, "__connect.errors.offset")) for letter in letters] == [
        ("output_too_large", b"1"),
        ("not_json", b"3"),
    ]
    told = (_header(letters[0], "__connect.errors.exception.message") or b"").decode()
    assert told.startswith("the prediction has 1")
    assert told.endswith(" bytes with its key and headers; topic predictions takes 1000")
    assert (scorer.scored, scorer.rejected) == (2, 2)


def test_headers_count_towards_the_size_of_a_prediction() -> None:
    scorer = _scorer(bytes_max=2_000)
    record = Record(transaction(), headers=[("large", b"x" * 1_950)])
    assert _published(scorer.step([record])) == []


@pytest.mark.parametrize("headers", [None, [TRACE]])
def test_a_size_is_counted_in_bytes_and_with_the_key(headers: Any) -> None:
    # The card is in the value and is the key: four bytes a character, twice.
    record = Record(transaction(card="😀" * 300), headers=headers)
    made = _scorer().step([record])
    size = _size(Output(made.topic, made.keys[0], made.values[0], headers))
    assert size > 2 * 4 * 300
    assert len(_published(_scorer(bytes_max=size).step([record]))) == 1
    outputs = _scorer(bytes_max=size - 1).step([record])
    assert _published(outputs) == []
    (letter,) = _letters(outputs)
    told = f"the prediction has {size} bytes with its key and headers; topic predictions takes {size - 1}"
    assert _header(letter, "__connect.errors.exception.message") == told.encode()


def test_a_dead_letter_that_would_not_fit_is_cut_and_says_so() -> None:
    value = b"x" * 5_000
    (whole,) = _letters(_scorer().step([Record(value)]))
    (letter,) = _letters(_scorer(bytes_max=3_000).step([Record(value)]))
    assert letter.value is not None
    assert value.startswith(letter.value)
    assert _header(letter, "headrace.errors.cut.from.bytes") == str(_size(whole)).encode()
    assert _size(letter) == 3_000, "no more is cut than has to be"


def test_a_dead_letter_that_fits_is_not_cut() -> None:
    record = Record(b"x" * 5_000, headers=[TRACE])
    (whole,) = _letters(_scorer().step([record]))
    (letter,) = _letters(_scorer(bytes_max=_size(whole)).step([record]))
    assert letter == whole
    assert "headrace.errors.cut.from.bytes" not in dict(letter.headers or [])


@pytest.mark.parametrize(
    ("bytes_max", "value", "own_headers", "key"),
    [
        (5_000, slice(1, 4_999), True, 700),  # the value first
        (4_000, slice(0, 0), False, 700),  # then the record's own headers
        (1_000, slice(0, 0), False, slice(1, 699)),  # then the key
    ],
    ids=["value", "headers", "key"],
)
def test_a_dead_letter_is_cut_value_first_then_headers_then_key(
    bytes_max: int, value: slice, own_headers: bool, key: int | slice
) -> None:
    record = Record(b"v" * 5_000, key=b"k" * 700, headers=[("large", b"h" * 3_000), ("small", b"1")])
    (whole,) = _letters(_scorer().step([record]))
    (letter,) = _letters(_scorer(bytes_max=bytes_max).step([record]))
    assert _size(letter) <= bytes_max
    assert value.start <= len(letter.value or b"") <= value.stop
    assert letter.key is not None
    least, most = (key.start, key.stop) if isinstance(key, slice) else (key, key)
    assert least <= len(letter.key) <= most
    names = dict(letter.headers or [])
    assert ("large" in names, "small" in names) == (own_headers, own_headers)
    assert names["headrace.errors.cut.from.bytes"] == str(_size(whole)).encode()
    assert _code(letter) == "not_json", "what we say of it is never cut"
    assert _header(letter, "__connect.errors.topic") == b"transactions"


def test_a_dead_letter_for_a_prediction_that_was_too_large_is_cut_too() -> None:
    # Both topics take the same, and the dead letter has all that the prediction had and the reason besides.
    record = Record(transaction(id="x" * 900), headers=[("large", b"h" * 700)])
    (letter,) = _letters(_scorer(bytes_max=1_500).step([record]))
    assert _code(letter) == "output_too_large"
    assert _size(letter) <= 1_500


def _size(output: Output) -> int:
    key = output.key.encode() if isinstance(output.key, str) else output.key or b""
    headers = sum(len(name.encode()) + len(value or b"") for name, value in output.headers or [])
    return len(key) + len(output.value or b"") + headers


def test_a_feature_that_fails_on_one_event_is_named_with_its_file_and_line() -> None:
    @feature
    def fussy(amount):
        for one in amount:
            assert one != 13.0, "thirteen"
        return amount

    line = 1 + fussy._function.__code__.co_firstlineno
    pipeline = Pipeline(name="p", events=fraud.events, features={"f": fussy}, static=Linear({"f": 1.0}))
    amounts = (1.0, 13.0, 2.0)
    outputs = _scorer(pipeline).step([Record(transaction(id=str(amount), amount=amount)) for amount in amounts])
    assert [made["id"] for _, _, made, _ in _published(outputs)] == ["1.0", "2.0"]
    (letter,) = _letters(outputs)
    assert _code(letter) == "feature_failed"
    told = (_header(letter, "__connect.errors.exception.message") or b"").decode()
    assert told.startswith(f"feature 'f' (fussy, test_scorer.py:{line - 1}): raised AssertionError: thirteen")
    assert told.endswith(f"(line {line + 2})")
    assert _header(letter, "__connect.errors.exception.class.name") == b"AssertionError"


def test_a_model_that_fails_rejects_and_goes_on() -> None:
    class Fussy(Linear):
        def score(self, features):
            if (features["f"] == 13.0).any():
                raise ValueError("thirteen")
            return super().score(features)

    pipeline = Pipeline(name="p", events=fraud.events, features={"f": field("amount")}, static=Fussy({"f": 1.0}))
    outputs = _scorer(pipeline).step([Record(transaction(amount=amount)) for amount in (1.0, 13.0, 2.0)])
    assert len(_published(outputs)) == 2
    assert [_code(letter) for letter in _letters(outputs)] == ["model_failed"]


def test_a_long_error_is_cut() -> None:
    @feature
    def wordy(amount):
        raise ValueError("é" * 10_000)

    pipeline = Pipeline(name="p", events=fraud.events, features={"f": wordy}, static=Linear({"f": 1.0}))
    (letter,) = _letters(_scorer(pipeline).step([Record(transaction())]))
    assert len((_header(letter, "__connect.errors.exception.message") or b"").decode()) == 4_096


def test_an_error_with_a_lone_surrogate_is_told_all_the_same() -> None:
    @feature
    def odd(amount):
        raise ValueError("\ud800")

    pipeline = Pipeline(name="p", events=fraud.events, features={"f": odd}, static=Linear({"f": 1.0}))
    (letter,) = _letters(_scorer(pipeline).step([Record(transaction())]))
    assert b"ValueError: ?" in (_header(letter, "__connect.errors.exception.message") or b"")


def test_a_key_that_is_a_number_is_published_as_its_digits() -> None:
    class Visit(Event, topic="visits", key="user"):
        id: int
        at: float
        user: int

    pipeline = Pipeline(name="p", events=Visit, features={"f": field("at")}, static=Linear({"f": 0.0}))
    ((_, key, made, _),) = _published(_scorer(pipeline).step([Record(b'{"id":1,"at":2,"user":-30}', key=b"-30")]))
    assert key == "-30"
    assert (made["id"], made["at"], made["user"]) == (1, 2.0, -30)


def test_alerts_go_to_their_topic_under_their_id() -> None:
    class Alarmed(Pipeline):
        def step(self, events, state, wrote=None):
            made = super().step(events, state, wrote)
            alert = Alert(id="drift-7", at=1.5, kind="drift", state=AlertState.RAISED, text="it moved")
            return Effects(made.predictions, made.rejections, [alert])

    pipeline = Alarmed(name="fraud", events=fraud.events, features=fraud.features, static=fraud.static)
    outputs = _scorer(pipeline).step([Record(transaction())])
    (alert,) = outputs.others
    assert (alert.topic, alert.key) == (ALERTS, "drift-7-0"), "what is said of one partition names it"
    assert msgspec.json.decode(alert.value or b"")["state"] == "raised"


RECORDS = st.one_of(
    st.just({"value": transaction()}),
    st.just({"value": transaction(), "key": None}),
    st.just({"value": transaction(id="long" * 100)}),
    st.just({"value": transaction(amount=-2.0)}),
    st.sampled_from([None, b"", b"bad", without("id"), transaction(lat="x"), b"x" * 60_000]).map(
        lambda it: {"value": it}
    ),
    st.binary(max_size=40).map(lambda it: {"value": it}),
)
HEADERS = st.one_of(
    st.none(),
    st.just([]),
    st.lists(st.tuples(st.sampled_from(["traceparent", "Faust-Ag-ReplyTo", "x"]), st.none() | st.binary(max_size=9))),
)


@given(st.lists(st.tuples(RECORDS, HEADERS), max_size=25), st.sampled_from([500, 1_000, 100_000]))
@fixed
def test_each_record_has_exactly_one_output(drawn: list, bytes_max: int) -> None:
    records = []
    for number, (given_record, headers) in enumerate(drawn):
        value = given_record["value"]
        if value and value.startswith(b'{"id":"p1"'):
            value = value.replace(b'{"id":"p1"', b'{"id":"%d"' % number, 1)
        if value and value.startswith(b'{"id":"long'):
            value = value.replace(b'{"id":"', b'{"id":"%d-' % number, 1)
        records.append(Record(value, key=given_record.get("key", b"k"), headers=headers, offset=number))
    scorer = _scorer(bytes_max=bytes_max)
    outputs = scorer.step(records)
    scored = [int(made["id"].split("-")[0]) for _, _, made, _ in _published(outputs)]
    letters = [int(_header(letter, "__connect.errors.offset") or b"") for letter in _letters(outputs)]
    assert scored == sorted(scored)
    assert letters == sorted(letters)
    assert sorted(scored + letters) == list(range(len(records)))
    assert (scorer.scored, scorer.rejected) == (len(scored), len(letters))
    assert {_code(letter) for letter in _letters(outputs)} <= set(Reason)
    assert all(_size(output) <= max(bytes_max, 600) for output in outputs.others), "our own headers always stay"


@given(st.lists(st.tuples(RECORDS, HEADERS), max_size=15), st.integers(0, 15))
@fixed
def test_where_the_records_are_cut_never_shows(drawn: list, cut: int) -> None:
    records = [
        Record(one["value"], key=one.get("key", b"k"), headers=headers, offset=number)
        for number, (one, headers) in enumerate(drawn)
    ]
    whole = _scorer().step(records)
    parts = [_scorer().step(records[:cut]), _scorer().step(records[cut:])]

    def plain(outputs: list[Outputs]) -> list:
        return [(key, made, headers or []) for one in outputs for _, key, made, headers in _published(one)]

    assert plain(parts) == plain([whole])
    assert [letter for part in parts for letter in _letters(part)] == _letters(whole)


def test_the_records_of_a_batch_are_left_alone() -> None:
    headers: Headers = [TRACE, ("Faust-Ag-ReplyTo", b"x")]
    records = [Record(transaction(), headers=headers), Record(b"bad", headers=headers)]
    _scorer().step(records)
    assert headers == [TRACE, ("Faust-Ag-ReplyTo", b"x")]
    assert records[0].value() == transaction()
    assert msgspec.json.decode(transaction()) == GOOD


@pytest.mark.parametrize("count_max", [1, 2, 3, 5, 100])
def test_a_batch_is_cut_into_steps_that_follow_one_another_to_its_end(count_max: int) -> None:
    offsets = [3, 4, 7, 8, 9]  # with the markers of a transaction in between, and two at the end
    messages: Any = [Record(transaction(), offset=offset) for offset in offsets]
    batch = RecordBatch(("t", 0), Taken(messages, 3, 12, 5))
    steps = list(_parts(batch, lambda: count_max))
    assert [record.offset() for records, _ in steps for record in records] == offsets
    assert all(len(records) <= count_max for records, _ in steps)
    ends = [part.next_offset for _, part in steps]
    assert [part.after for _, part in steps] == [3, *ends[:-1]]
    assert ends[-1] == 12
    assert {(part.place, part.epoch) for _, part in steps} == {(("t", 0), 5)}


def test_a_batch_of_no_records_is_one_step_that_carries_its_offset() -> None:
    ((records, part),) = _parts(RecordBatch(("t", 0), Taken([], None, 2, 0)), lambda: 10)
    assert (records, part.after, part.next_offset) == ([], None, 2)
