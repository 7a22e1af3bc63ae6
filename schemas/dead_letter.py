"""What becomes of a record that cannot be scored: kept as it came, with the reason beside it."""

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

Header = tuple[str, bytes | None]

# Connect's names: the consoles and scripts that people already have look for these.
CONNECT = "__connect.errors."
OURS = "headrace.errors."
RETRIES = "headrace.retries"  # how often somebody had it scored again; not an error's, so it stays with the record


class Reason(StrEnum):
    """Why a record was not scored. The values are stable: alert rules and dashboards count by them."""

    EMPTY_VALUE = "empty_value"
    KEY_MISSING = "key_missing"
    EVENT_TOO_LARGE = "event_too_large"
    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    TIME_AHEAD = "time_ahead"
    WRONG_LABEL = "wrong_label"
    WRONG_LESSON = "wrong_lesson"
    WRONG_SLICE = "wrong_slice"
    FEATURE_FAILED = "feature_failed"
    MODEL_FAILED = "model_failed"
    NOT_FINITE = "not_finite"
    OUTPUT_TOO_LARGE = "output_too_large"

    @property
    def stage(self) -> str:
        """The step that said no."""
        return _STAGES[self]


_STAGES = {
    Reason.EMPTY_VALUE: "decode",
    Reason.KEY_MISSING: "decode",
    Reason.EVENT_TOO_LARGE: "decode",
    Reason.NOT_JSON: "decode",
    Reason.MISSING_FIELD: "decode",
    Reason.WRONG_TYPE: "decode",
    Reason.TIME_AHEAD: "decode",
    Reason.WRONG_LABEL: "learn",
    Reason.WRONG_LESSON: "learn",
    Reason.WRONG_SLICE: "watch",
    Reason.FEATURE_FAILED: "features",
    Reason.MODEL_FAILED: "score",
    Reason.NOT_FINITE: "score",
    Reason.OUTPUT_TOO_LARGE: "publish",
}


class Rejection(NamedTuple):
    """One record of a batch that was not scored: its place in the batch, why, and what a person is told."""

    at: int
    reason: Reason
    message: str
    error: str = "headrace.schemas.errors.Rejected"


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    r"""One row of a file that was not scored, as a line of ``--dead-letters``. Rows are counted from one.

    ``original`` is the row as it came: an object of its cells, or the line, as an object if it is JSON and
    otherwise as text.

    >>> row = RejectedRow(row=3, reason=Reason.NOT_JSON, message="JSON is malformed", original='{"id": ')
    >>> msgspec.json.encode(row)
    b'{"row":3,"reason":"not_json","message":"JSON is malformed","original":"{\\"id\\": "}'
    """

    row: int
    reason: Reason
    message: str
    original: Any


class RejectedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a topic that was not scored, as a line of ``headrace replay --dead-letters``."""

    topic: str
    partition: int
    offset: int
    reason: Reason
    message: str
    original: Any


def together(given: list[Header], ours: list[Header]) -> list[Header]:
    """Return the record's own headers and ours: Connect's names only where they are not taken, our names always.

    >>> together([("__connect.errors.topic", b"first"), ("headrace.errors.code", b"forged")],
    ...          [("__connect.errors.topic", b"payments"), ("headrace.errors.code", b"not_json")])
    [('__connect.errors.topic', b'first'), ('headrace.errors.code', b'not_json')]
    """
    kept = [header for header in given if not header[0].startswith(OURS)]
    taken = {name for name, _ in kept}
    return kept + [header for header in ours if header[0] not in taken]


def headers(
    rejection: Rejection, *, topic: str, partition: int, offset: int, pipeline: str, version: str
) -> list[Header]:
    """Return the headers that a dead letter carries beside those the record came with.

    >>> rejection = Rejection(0, Reason.MISSING_FIELD, "Object missing required field `amount` - at `$.amount`")
    >>> for name, value in headers(
    ...     rejection, topic="payments", partition=2, offset=41, pipeline="fraud", version="1"
    ... )[3:6]:
    ...     print(name, value)
    __connect.errors.stage b'DECODE'
    __connect.errors.class.name b'headrace'
    __connect.errors.exception.class.name b'headrace.schemas.errors.Rejected'
    """
    values = {
        f"{CONNECT}topic": topic,
        f"{CONNECT}partition": str(partition),
        f"{CONNECT}offset": str(offset),
        f"{CONNECT}stage": rejection.reason.stage.upper(),
        f"{CONNECT}class.name": "headrace",
        f"{CONNECT}exception.class.name": rejection.error,
        f"{CONNECT}exception.message": rejection.message[:4_096],
        f"{OURS}code": rejection.reason.value,
        f"{OURS}stage": rejection.reason.stage,
        f"{OURS}pipeline": pipeline,
        f"{OURS}version": version,
    }
    return [(name, value.encode("utf-8", "replace")) for name, value in values.items()]


_ORDER = list(
    dict(headers(Rejection(0, Reason.NOT_JSON, ""), topic="", partition=0, offset=0, pipeline="", version=""))
)


def as_it_came(given: list[Header]) -> list[Header]:
    """Return the headers that a record had before it became a dead letter: ours are at the end, in their order.

    >>> ours = headers(Rejection(0, Reason.NOT_JSON, ""), topic="t", partition=0, offset=7, pipeline="p", version="1")
    >>> as_it_came([("traceparent", b"00-1"), ("headrace.retries", b"1"), *ours])
    [('traceparent', b'00-1'), ('headrace.retries', b'1')]
    """
    end, before = len(given), len(_ORDER)
    while end and (name := given[end - 1][0]) in _ORDER and _ORDER.index(name) < before:
        before, end = _ORDER.index(name), end - 1
    return given[:end]


def retried(given: list[Header]) -> list[Header]:
    """Return the headers with which a dead letter goes to its topic again: as it came, and counted.

    >>> retried([("traceparent", b"00-1")]), retried([("headrace.retries", b"1")])
    ([('traceparent', b'00-1'), ('headrace.retries', b'1')], [('headrace.retries', b'2')])
    """
    came = as_it_came(given)
    kept = [header for header in came if header[0] != RETRIES]
    return [*kept, (RETRIES, str(retries(came) + 1).encode())]


def retries(given: list[Header]) -> int:
    """Return how often a record was scored again on request."""
    told = dict(given).get(RETRIES) or b"0"
    return int(told) if told.isdigit() else 0
