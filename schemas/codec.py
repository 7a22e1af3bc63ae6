"""Bytes to events and back, each codec built once."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.event import Event

encode = msgspec.json.Encoder().encode

OPENING, CLOSING = b"{}"
_MISSING = re.compile(r"missing required field `([^`]+)`(?: - at `(.+)`)?$")


class EventCodec:
    r"""Reads the values of one event class.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    >>> codec = EventCodec(Payment)
    >>> good = b'{"id": "p1", "at": 12.5, "account": "a7", "unknown": 1}'
    >>> codec.decode([good])
    ([Payment(id='p1', at=12.5, account='a7')], [])
    >>> events, rejections = codec.decode([good, b'{"id": "p2", "account": "a7"}', b"", b"\xff"])
    >>> len(events)
    1
    >>> for rejection in rejections:
    ...     print(rejection.at, rejection.reason, rejection.message)
    1 missing_field Object missing required field `at` - at `$.at`
    2 empty_value the record has no value; expected a JSON object
    3 not_json JSON is malformed: invalid character (byte 0)
    """

    def __init__(self, events: type[Event], *, bytes_max: int = 1_048_576) -> None:
        decoder = msgspec.json.Decoder(events)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._bytes_max = bytes_max

    def decode(self, values: Sequence[bytes | None]) -> tuple[list[Any], list[Rejection]]:
        """Return the events in order, and a rejection for each value that is none."""
        try:
            # One pass for the batch that is all well, which is nearly every batch. The size comes first:
            # a huge value must not be parsed to find out that it is huge.
            if max(map(len, values), default=0) <= self._bytes_max:  # type: ignore[arg-type]
                return self._decode_all(cast("Sequence[bytes]", values)), []
        except Exception:  # noqa: BLE001, S110 - some record's; below it is pinned to that one
            pass
        events: list[Any] = []
        rejections: list[Rejection] = []
        for index, value in enumerate(values):
            decoded = self._decode_one(index, value)
            if isinstance(decoded, Rejection):
                rejections.append(decoded)
            else:
                events.append(decoded)
        return events, rejections

    def _decode_all(self, values: Sequence[bytes]) -> list[Any]:
        """Decode values of which each is well, or raise.

        All at once costs a third less than one by one, and is safe where every value begins with ``{`` and
        ends with ``}``. A value that left something open would need a comma or a bracket next, not the line
        break and the ``{`` that follow it; in a string, the line break itself is an error. So each value holds
        whole objects, and with as many objects as values each holds one.
        """
        if all([value[0] == OPENING and value[-1] == CLOSING for value in values]):  # noqa: C419 - a list is faster
            events = self._decode_lines(b"\n".join(values))
            if len(events) == len(values):
                return events
        return list(map(self._decode, values))

    def _decode_one(self, index: int, value: bytes | None) -> Any:
        if not value:
            return Rejection(index, Reason.EMPTY_VALUE, "the record has no value; expected a JSON object")
        if len(value) > self._bytes_max:
            text = f"the value has {len(value)} bytes; allowed are event_bytes_max = {self._bytes_max}"
            return Rejection(index, Reason.EVENT_TOO_LARGE, text)
        try:
            return self._decode(value)
        except Exception as error:  # noqa: BLE001 - the user's own class has a say in __post_init__
            return refused(index, error)


def refused(index: int, error: Exception) -> Rejection:
    """Return what a person is told of a value that msgspec made no event of.

    >>> refused(3, msgspec.ValidationError("Object missing required field `lat` - at `$.place`")).message
    'Object missing required field `lat` - at `$.place.lat`'
    """
    text = str(error)
    match error:
        case msgspec.ValidationError():
            if missing := _MISSING.search(text):
                field, parent = missing.groups()
                text = f"{text.split(' - at ', maxsplit=1)[0]} - at `{parent or '$'}.{field}`"
                return Rejection(index, Reason.MISSING_FIELD, text, "msgspec.ValidationError")
            return Rejection(index, Reason.WRONG_TYPE, text, "msgspec.ValidationError")
        case msgspec.DecodeError():
            return Rejection(index, Reason.NOT_JSON, text, "msgspec.DecodeError")
        case UnicodeDecodeError():  # before msgspec 0.23
            return Rejection(index, Reason.NOT_JSON, text, "UnicodeDecodeError")
        case RecursionError():
            return Rejection(index, Reason.NOT_JSON, "the value is nested too deeply to be read", "RecursionError")
    return Rejection(index, Reason.WRONG_TYPE, f"{type(error).__name__}: {text}", type(error).__name__)


def encode_all(structs: Iterable[msgspec.Struct]) -> list[bytes]:
    """Return each struct as JSON.

    >>> from headrace.schemas.alert import Alert, AlertState
    >>> encode_all([Alert(id="a", at=0.5, kind="drift", state=AlertState.RAISED, text="")])[0][:18]
    b'{"id":"a","at":0.5'
    """
    return list(map(encode, structs))
