"""Records that cannot be scored, each with the reason that its dead letter has to give."""

from collections.abc import Callable
from typing import NamedTuple

import orjson


class Kind(NamedTuple):
    """One way to be unusable."""

    codes: frozenset[str]  # more than one where two reasons are as good
    make: Callable[[dict], tuple[bytes | None, bytes | None]]


def _json(event: dict, **changes) -> tuple[bytes, bytes]:
    return event["card"].encode(), orjson.dumps(event | changes)


def _raw(event: dict, value: bytes | None) -> tuple[bytes, bytes | None]:
    return event["card"].encode(), value


def _without(event: dict, name: str) -> tuple[bytes, bytes]:
    return event["card"].encode(), orjson.dumps({k: v for k, v in event.items() if k != name})


def _bad_utf8(event: dict) -> tuple[bytes, bytes]:
    return event["card"].encode(), orjson.dumps(event).replace(b'"merchant":"', b'"merchant":"\xff\xfe')


def _number(event: dict, text: bytes) -> tuple[bytes, bytes]:
    return event["card"].encode(), orjson.dumps(event | {"amount": 0.125}).replace(b"0.125", text)


def _kind(*codes: str, make: Callable[[dict], tuple[bytes | None, bytes | None]]) -> Kind:
    return Kind(frozenset(codes), make)


EVENT_BYTES_MAX = 1_048_576

KINDS = {
    "no value": _kind("empty_value", make=lambda e: _raw(e, None)),
    "empty value": _kind("empty_value", make=lambda e: _raw(e, b"")),
    "no key": _kind("key_missing", make=lambda e: (None, orjson.dumps(e))),
    "cut short": _kind("not_json", make=lambda e: _raw(e, orjson.dumps(e)[:-7])),
    "not JSON": _kind("not_json", make=lambda e: _raw(e, b"amount=3;card=7")),
    "bad UTF-8": _kind("not_json", make=_bad_utf8),
    "NaN": _kind("not_json", "not_finite", make=lambda e: _number(e, b"NaN")),
    "a number without end": _kind("not_finite", "wrong_type", "not_json", make=lambda e: _number(e, b"1e999")),
    "amount missing": _kind("missing_field", make=lambda e: _without(e, "amount")),
    "id missing": _kind("missing_field", make=lambda e: _without(e, "id")),
    "amount is text": _kind("wrong_type", make=lambda e: _json(e, amount="12.5")),
    "id is a number": _kind("wrong_type", make=lambda e: _json(e, id=17)),
    "country is null": _kind("wrong_type", make=lambda e: _json(e, country=None)),
    "a list": _kind("wrong_type", make=lambda e: _raw(e, b"[1,2,3]")),
    "null": _kind("wrong_type", "empty_value", make=lambda e: _raw(e, b"null")),
    # log1p of less than minus one is not a number, and a score that is none must not leave.
    "score not a number": _kind("not_finite", make=lambda e: _json(e, amount=-5.0)),
}

# These are a megabyte each or as deep, so only the scenario that is about them sends them.
LARGE_KINDS = {
    "too large": _kind("event_too_large", make=lambda e: _json(e, merchant="m" * (EVENT_BYTES_MAX + 1))),
    "too deep": _kind("not_json", "wrong_type", make=lambda e: _raw(e, b"[" * 100_000)),
}
