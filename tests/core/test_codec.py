"""Bytes to events: what is read, what is refused, and what a person is told about it."""

from importlib.metadata import version

import msgspec
import pytest
from core.records import GOOD, Transaction, raw, transaction, without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event
from headrace.schemas.codec import EventCodec, encode_all
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.prediction import prediction_type

fixed = settings(derandomize=True, deadline=None, max_examples=100)
VALIDATION, DECODE = "msgspec.ValidationError", "msgspec.DecodeError"
CODEC = EventCodec(Transaction)


class Leg(Event):
    """A part of a journey, inside another record."""

    km: float
    stop: str | None = None


class Journey(Event, topic="journeys", key="card"):
    """Whole numbers, truth values, and fields within fields."""

    id: int
    at: float
    card: int
    count: int = 0
    paid: bool = False
    fee: float | None = None
    legs: list[Leg] = msgspec.field(default_factory=list)
    tags: dict[str, float] = msgspec.field(default_factory=dict)


JOURNEYS = EventCodec(Journey)


def _journey(rest: bytes) -> bytes:
    return b'{"id":1,"at":2,"card":3,' + rest + b"}"


def _rejected(value: bytes | None, codec: EventCodec = CODEC) -> tuple[str, str, str]:
    events, rejections = codec.decode([value])
    assert events == []
    (rejection,) = rejections
    assert rejection.at == 0
    return rejection.reason.value, rejection.message, rejection.error


def _event(value: bytes, codec: EventCodec = CODEC) -> Event:
    events, rejections = codec.decode([value])
    assert rejections == []
    return events[0]


REJECTED = "headrace.schemas.errors.Rejected"
NO_VALUE = "the record has no value; expected a JSON object"


# msgspec has an error of its own for it since 0.23.
NOT_UTF8, BAD_TEXT = (
    ("'utf-8' codec can't decode byte 0xff in position 1: invalid start byte", "UnicodeDecodeError")
    if tuple(map(int, version("msgspec").split(".")[:2])) < (0, 23)
    else ("Invalid UTF-8 encoded string", DECODE)
)
TOO_DEEP = "the value is nested too deeply to be read"


@pytest.mark.parametrize(
    ("value", "want"),
    {
        "None": (None, ("empty_value", NO_VALUE, REJECTED)),
        "no bytes": (b"", ("empty_value", NO_VALUE, REJECTED)),
        "blanks": (b" \n", ("not_json", "Input data was truncated", DECODE)),
        "null": (b"null", ("wrong_type", "Expected `object`, got `null`", VALIDATION)),
        "an array": (b"[]", ("wrong_type", "Expected `object`, got `array`", VALIDATION)),
        "a number": (b"17", ("wrong_type", "Expected `object`, got `int`", VALIDATION)),
        "a text": (b'"x"', ("wrong_type", "Expected `object`, got `str`", VALIDATION)),
        "Avro's magic byte": (b"\0\0\0\0\1", ("not_json", "JSON is malformed: invalid character (byte 0)", DECODE)),
        "a byte order mark": (
            b"\xef\xbb\xbf{}",
            ("not_json", "JSON is malformed: invalid character (byte 0)", DECODE),
        ),
        "UTF-16": ('{"id":1}'.encode("utf-16"), ("not_json", "JSON is malformed: invalid character (byte 0)", DECODE)),
        "half of it": (b'{"id":"p1"', ("not_json", "Input data was truncated", DECODE)),
        "two of them": (b'{"id":"p1"}{}', ("missing_field", None, VALIDATION)),
        "something behind it": (transaction() + b"!", ("not_json", None, DECODE)),
        "single quotes": (b"{'id': 1}", ("not_json", None, DECODE)),
        "bad UTF-8": (raw("id", b'"x\xff"'), ("not_json", NOT_UTF8, BAD_TEXT)),
        "a surrogate as UTF-8": (raw("id", b'"\xed\xa0\x80"'), ("not_json", None, BAD_TEXT)),
        "an overlong slash": (raw("id", b'"\xc0\xaf"'), ("not_json", None, BAD_TEXT)),
        "a lone high surrogate": (raw("id", rb'"\ud800"'), ("not_json", None, DECODE)),
        "a lone low surrogate": (raw("id", rb'"\udc00"'), ("not_json", None, DECODE)),
        "a high surrogate before a letter": (raw("id", rb'"\ud800\u0041"'), ("not_json", None, DECODE)),
        "an escape that is none": (raw("id", rb'"\x"'), ("not_json", None, DECODE)),
        "a line break in a text": (raw("id", b'"a\nb"'), ("not_json", None, DECODE)),
        "NaN": (raw("amount", b"NaN"), ("not_json", None, DECODE)),
        "Infinity": (raw("amount", b"-Infinity"), ("not_json", None, DECODE)),
        "1e999": (raw("amount", b"1e999"), ("wrong_type", "Number out of range - at `$.amount`", VALIDATION)),
        "-1e999": (raw("lat", b"-1e999"), ("wrong_type", "Number out of range - at `$.lat`", VALIDATION)),
        "5000 digits": (
            raw("amount", b"9" * 5_000),
            ("wrong_type", "Number out of range - at `$.amount`", VALIDATION),
        ),
        "true for a float": (
            raw("amount", b"true"),
            ("wrong_type", "Expected `float`, got `bool` - at `$.amount`", VALIDATION),
        ),
        "null for a float": (
            raw("amount", b"null"),
            ("wrong_type", "Expected `float`, got `null` - at `$.amount`", VALIDATION),
        ),
        "a text for a float": (
            raw("amount", b'"12.5"'),
            ("wrong_type", "Expected `float`, got `str` - at `$.amount`", VALIDATION),
        ),
        "an object for a float": (
            raw("amount", b'{"eur":1}'),
            ("wrong_type", "Expected `float`, got `object` - at `$.amount`", VALIDATION),
        ),
        "a number for a text": (
            raw("country", b"33"),
            ("wrong_type", "Expected `str`, got `int` - at `$.country`", VALIDATION),
        ),
        "arrays without end": (b"[" * 1_000_000, ("wrong_type", "Expected `object`, got `array`", VALIDATION)),
        "objects without end": (b'{"a":' * 200_000, ("not_json", TOO_DEEP, "RecursionError")),
        "a deep field that is unknown": (
            transaction()[:-1] + b',"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
            ("not_json", TOO_DEEP, "RecursionError"),
        ),
        "a second value of a field, and it is wrong": (
            transaction()[:-1] + b',"amount":"x"}',
            ("wrong_type", "Expected `float`, got `str` - at `$.amount`", VALIDATION),
        ),
    }.values(),
    ids=lambda it: repr(it)[:40],
)
def test_value_is_refused(value: bytes | None, want: tuple[str, str | None, str]) -> None:
    reason, text, error = _rejected(value)
    assert (reason, error) == (want[0], want[2])
    assert text
    assert want[1] in (None, text)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_field_is_named_with_its_path(name: str) -> None:
    want = f"Object missing required field `{name}` - at `$.{name}`"
    assert _rejected(without(name)) == ("missing_field", want, VALIDATION)


@pytest.mark.parametrize(
    ("rest", "want"),
    [
        (b'"legs":[{"km":1},{"stop":"x"}]', "Object missing required field `km` - at `$.legs[1].km`"),
        (b'"legs":[{"km":1},{"km":"x"}]', "Expected `float`, got `str` - at `$.legs[1].km`"),
        (b'"legs":[{"km":1,"stop":5}]', "Expected `str | null`, got `int` - at `$.legs[0].stop`"),
        (b'"legs":{"km":1}', "Expected `array`, got `object` - at `$.legs`"),
        (b'"tags":{"a":1,"b":null}', "Expected `float`, got `null` - at `$.tags[...]`"),
        (b'"fee":"x"', "Expected `float | null`, got `str` - at `$.fee`"),
        (b'"paid":1', "Expected `bool`, got `int` - at `$.paid`"),
        (b'"paid":"true"', "Expected `bool`, got `str` - at `$.paid`"),
        (b'"count":true', "Expected `int`, got `bool` - at `$.count`"),
        (b'"count":1.5', "Expected `int`, got `float` - at `$.count`"),
        (b'"count":' + b"9" * 5_000, "Integer value out of range - at `$.count`"),
    ],
    ids=lambda it: repr(it)[:40],
)
def test_a_field_within_a_field_is_named_with_its_path(rest: bytes, want: str) -> None:
    reason = "missing_field" if "missing" in want else "wrong_type"
    assert _rejected(_journey(rest), JOURNEYS) == (reason, want, VALIDATION)


def test_a_value_is_refused_above_the_size_and_read_at_it() -> None:
    value = transaction()
    assert _event(value, EventCodec(Transaction, bytes_max=len(value))) == Transaction(**GOOD)
    reason, text, error = _rejected(value, EventCodec(Transaction, bytes_max=len(value) - 1))
    assert reason == "event_too_large"
    assert text == f"the value has {len(value)} bytes; allowed are event_bytes_max = {len(value) - 1}"
    assert error == REJECTED


def test_a_value_that_is_too_large_is_not_parsed() -> None:
    assert _rejected(b"{" * 100, EventCodec(Transaction, bytes_max=99))[0] == "event_too_large"


class Fussy(Event, topic="fussy", key="card"):
    """Its author checks more than types."""

    id: str
    at: float
    card: str

    def __post_init__(self) -> None:
        if self.card in RAISED:
            raise RAISED[self.card]


RAISED: dict[str, Exception] = {
    type(error).__name__: error
    for error in (
        ValueError("no such card"),
        TypeError("no such card"),
        KeyError("card"),
        ZeroDivisionError("division by zero"),
        AttributeError("no attribute"),
        AssertionError(),
        OSError(2, "no such file"),
        StopIteration(),
    )
}


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_an_event_raises_about_itself_is_its_own_dead_letter(kind: str) -> None:
    values = [b'{"id":"%d","at":0,"card":"%s"}' % (at, card.encode()) for at, card in enumerate(("a", kind, "b"))]
    events, rejections = EventCodec(Fussy).decode(values)
    assert [event.id for event in events] == ["0", "2"]
    ((at, reason, text, error),) = rejections
    assert (at, reason) == (1, Reason.WRONG_TYPE)
    if kind in {"ValueError", "TypeError"}:  # msgspec makes a complaint of its own of these
        assert (text, error) == ("no such card", VALIDATION)
    else:
        assert (text, error) == (f"{kind}: {RAISED[kind]}", kind)


def test_unknown_fields_are_ignored() -> None:
    assert _event(transaction(colour="red", more={"deep": [1, {"x": None}]})) == Transaction(**GOOD)


def test_a_hundred_thousand_unknown_fields_are_ignored() -> None:
    value = transaction(**{f"field{number}": number for number in range(100_000)})
    assert _event(value, EventCodec(Transaction, bytes_max=10_000_000)) == Transaction(**GOOD)


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    assert _event(transaction()[:-1] + b',"amount":77}').amount == 77.0


def test_the_order_of_fields_and_blanks_do_not_matter() -> None:
    pairs = [b'"%b" : %b' % (name.encode(), raw(name, b"")[:0] + _text(name)) for name in reversed(GOOD)]
    assert _event(b"\n{ " + b" ,\t".join(pairs) + b"} \r\n") == Transaction(**GOOD)


def _text(name: str) -> bytes:
    value = GOOD[name]
    return b'"%b"' % value.encode() if isinstance(value, str) else repr(value).encode()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b"-0.0", "-0.0"),
        (b"-0", "0.0"),
        (b"7", "7.0"),
        (b"1e2", "100.0"),
        (b"1E-400", "0.0"),
        (b"0.1" + b"1" * 5_000, "0.1111111111111111"),
        (b"123456789012345678901234567890", "1.2345678901234568e+29"),
        (b"1.7976931348623157e308", "1.7976931348623157e+308"),
        (b"5e-324", "5e-324"),
    ],
    ids=lambda it: repr(it)[:40],
)
def test_number_is_read_to_the_nearest_float(text: bytes, want: str) -> None:
    assert repr(_event(raw("amount", text)).amount) == want


def test_a_whole_number_keeps_all_its_digits() -> None:
    assert _event(_journey(b'"count":123456789012345678901234567890'), JOURNEYS).count == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (rb'"\ud83d\ude00"', "😀"),
        ('"😀"'.encode(), "😀"),
        (rb'"\u0000"', "\0"),
        (rb'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
        (b'""', ""),
    ],
)
def test_text_is_read_and_can_be_written_again(text: bytes, want: str) -> None:
    event = _event(raw("id", text))
    assert event.id == want
    made = prediction_type(Transaction, "m", "1")(event.id, event.at, event.card, 0.5)
    assert EventCodec(Transaction).decode([encode_all([made])[0]])[1][0].reason is Reason.MISSING_FIELD  # it is JSON


def test_optional_fields_take_null_and_may_be_left_out() -> None:
    assert _event(_journey(b'"fee":null'), JOURNEYS).fee is None
    assert _event(_journey(b'"fee":2'), JOURNEYS) == Journey(1, 2.0, 3, fee=2.0)


GOODS = [transaction(id=f"good-{number}") for number in range(3)]
BADS = {
    Reason.EMPTY_VALUE: None,
    Reason.NOT_JSON: b"\xff",
    Reason.MISSING_FIELD: without("card"),
    Reason.WRONG_TYPE: transaction(amount="x"),
    Reason.EVENT_TOO_LARGE: b"x" * 2_000,
}


@given(st.lists(st.one_of(st.sampled_from(GOODS), st.sampled_from(list(BADS.values()))), max_size=30))
@fixed
def test_a_bad_value_takes_no_other_with_it(values: list[bytes | None]) -> None:
    events, rejections = EventCodec(Transaction, bytes_max=1_000).decode(values)
    assert [event.id for event in events] == [f"good-{GOODS.index(value)}" for value in values if value in GOODS]
    reasons = {value: reason for reason, value in BADS.items()}
    want = [(at, reasons[value]) for at, value in enumerate(values) if value not in GOODS]
    assert [(one.at, one.reason) for one in rejections] == want


@given(st.binary(max_size=200))
@fixed
def test_no_bytes_break_the_codec(value: bytes) -> None:
    events, rejections = CODEC.decode([GOODS[0], value, GOODS[1]])
    assert len(events) + len(rejections) == 3
    assert all(isinstance(one, Rejection) and one.at == 1 for one in rejections)


@given(st.integers(0, len(GOODS[0]) - 1), st.integers(0, 255))
@fixed
def test_no_flipped_byte_breaks_the_codec(place: int, byte: int) -> None:
    value = bytearray(GOODS[0])
    value[place] = byte
    events, rejections = CODEC.decode([bytes(value)])
    assert len(events) + len(rejections) == 1


@given(st.lists(st.builds(Transaction, st.text(), st.floats(allow_nan=False, allow_infinity=False), *[st.text()] * 2,
                          *[st.floats(allow_nan=False, allow_infinity=False)] * 3, st.text())))  # fmt: skip
@fixed
def test_what_was_encoded_is_decoded_to_the_same(events: list) -> None:
    assert CODEC.decode(encode_all(events)) == (events, [])


# Values that would make one event of two, or two of one, if a batch were read as a single text.
CUNNING = [
    GOODS[0],
    GOODS[0][:-1] + b',"junk":[{}',
    b'{"junk":{"deep":[{}',
    GOODS[0] + GOODS[1],
    GOODS[0] + b" " + GOODS[1],
    GOODS[0] + b"\n" + GOODS[1],
    b'{"junk":"}',
    b'{"}' + GOODS[1],
    b"{}]}",
    b"{},{}",
    b" ",
    b"\n",
    b"",
    GOODS[0].replace(b",", b",\n"),
    GOODS[1] + b"\n",
    b"\n" + GOODS[1],
    None,
]


@given(st.lists(st.sampled_from(CUNNING), max_size=8))
@fixed
def test_a_batch_is_read_as_its_values_are_one_by_one(values: list[bytes | None]) -> None:
    one_by_one = [CODEC.decode([value]) for value in values]
    events, rejections = CODEC.decode(values)
    assert events == [event for events, _ in one_by_one for event in events]
    assert [(one.at, one.reason, one.message) for one in rejections] == [
        (at, one.reason, one.message) for at, (_, rejections) in enumerate(one_by_one) for one in rejections
    ]
