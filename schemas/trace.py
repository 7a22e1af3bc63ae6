"""Which trace a record belongs to, as its ``traceparent`` header says it: W3C Trace Context."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from headrace.schemas.dead_letter import Header

TRACEPARENT = "traceparent"
EXEMPLARS = "headrace.traces"  # of a slice: the traces of a few events in it
EXEMPLARS_MAX = 4
_SAMPLED = 1
# A later version may say more after a further dash; what it says before is this.
_FORM = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class Traceparent(NamedTuple):
    """A trace, the span in it that a record comes from, and whether somebody keeps it."""

    trace: int
    span: int
    sampled: bool

    def __bytes__(self) -> bytes:
        return f"00-{self.trace:032x}-{self.span:016x}-{int(self.sampled):02x}".encode()


def parsed(value: bytes | None) -> Traceparent | None:
    """Return what a header says; None where it is none, which is then as if it were not there.

    >>> parsed(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled
    True
    >>> [parsed(one) for one in (None, b"", b"00-0af7-b7ad-01", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")]
    [None, None, None, None]
    """
    found = _FORM.fullmatch(value) if value is not None and len(value) <= 512 else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return Traceparent(trace, span, bool(int(found[4], 16) & _SAMPLED)) if trace and span else None


def of(headers: Iterable[Header] | None) -> Traceparent | None:
    """Return what a record's headers say; of several the last counts, as in Java's clients."""
    return parsed(dict(headers or ()).get(TRACEPARENT))


def carrying(headers: Iterable[Header] | None, traceparent: bytes) -> list[Header]:
    """Return these headers with this ``traceparent`` and no other.

    >>> carrying([("traceparent", b"old"), ("tenant", b"a")], b"new")
    [('tenant', b'a'), ('traceparent', b'new')]
    """
    return [*(one for one in headers or () if one[0] != TRACEPARENT), (TRACEPARENT, traceparent)]


def listed(traceparents: Iterable[bytes]) -> bytes:
    """Return a few in one header."""
    return b",".join(traceparents)


def exemplars(headers: Iterable[Header] | None) -> list[Traceparent]:
    """Return those that a slice names, as many as it may.

    >>> one = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    >>> len(exemplars([("headrace.traces", listed([one, b"odd", *[one] * 9]))]))
    3
    """
    named = dict(headers or ()).get(EXEMPLARS) or b""
    some = map(parsed, named.split(b",", EXEMPLARS_MAX)[:EXEMPLARS_MAX])
    return [one for one in some if one is not None]
