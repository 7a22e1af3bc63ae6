"""Where in a topic something begins or ends, as a person writes it."""

from datetime import UTC, datetime
from typing import NamedTuple

EARLIEST, LATEST, COMMITTED = WORDS = ("earliest", "latest", "committed")
NONE = "none"  # instead of a position: nothing at all


class Position(NamedTuple):
    """A place in every partition of a topic: a word, an offset, or the first record of a time.

    >>> Position.parsed("earliest")
    Position(said='earliest', offset=None, time_ms=None)
    >>> Position.parsed("1041").offset
    1041
    >>> Position.parsed("@2026-01-01T00:00:00Z").time_ms
    1767225600000
    >>> Position.parsed("@yesterday")
    Traceback (most recent call last):
    ValueError: not a time; write it as @2026-01-31T12:00:00Z
    """

    said: str
    offset: int | None = None
    time_ms: int | None = None

    @classmethod
    def parsed(cls, text: str) -> "Position":
        """Return the position that the text names; a time without a zone is UTC.

        >>> Position.parsed("@2026-01-01").time_ms == Position.parsed("@2026-01-01T01:00+01:00").time_ms
        True
        >>> Position.parsed("soon")
        Traceback (most recent call last):
        ValueError: allowed are an offset, a time as in @2026-01-31T12:00:00Z, earliest, latest, committed
        """
        if text in WORDS:
            return cls(text)
        if text.startswith("@"):
            return cls(text, time_ms=_milliseconds(text[1:]))
        if text.isascii() and text.isdigit() and len(text) < 19:  # an offset has 64 bits
            return cls(text, offset=int(text))
        raise ValueError(f"allowed are an offset, a time as in @2026-01-31T12:00:00Z, {', '.join(WORDS)}")


def _milliseconds(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        at = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("not a time; write it as @2026-01-31T12:00:00Z") from None
    if at < 0:
        raise ValueError("no record is of before 1970")
    # Kafka looks for the first record at or after a millisecond.
    return round(at * 1_000)


class Asked(NamedTuple):
    """Which records of a topic are wanted. Without partitions, of all; without a warm-up, from the log's beginning."""

    topic: str
    begin: Position = Position(EARLIEST)
    end: Position = Position(LATEST)
    warm_up: Position | None = Position(EARLIEST)
    partitions: tuple[int, ...] = ()
