"""Spans of time, and how often something may happen, as people write them."""

import re

DAY = 86_400.0

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_RATE = re.compile(r"(\d+) per (?:(second|minute|hour|day|week)|(\d.*))")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY, "w": 7 * DAY}


def seconds(span: str) -> float:
    """Return how long a span is.

    >>> seconds("5m"), seconds("1.5h"), seconds("30d")
    (300.0, 5400.0, 2592000.0)
    >>> seconds("5 minutes")
    Traceback (most recent call last):
    ValueError: '5 minutes' is no span of time: write a number and one of s, m, h, d, w, like 5m or 30d
    """
    written = _SPAN.fullmatch(span)
    length = float(written[1]) * _UNITS[written[2]] if written else 0.0
    if not 0 < length < float("inf"):
        text = f"{span!r} is no span of time: write a number and one of s, m, h, d, w, like 5m or 30d"
        raise ValueError(text)
    return length


def rate(said: str) -> tuple[int, float]:
    """Return how often, and in how many seconds.

    >>> rate("1000 per minute"), rate("5 per 10s")
    ((1000, 60.0), (5, 10.0))
    >>> rate("often")
    Traceback (most recent call last):
    ValueError: 'often' says not how often: write like 1000 per minute, 10 per day or 5 per 10s
    """
    written = _RATE.fullmatch(said)
    if not written:
        raise ValueError(f"{said!r} says not how often: write like 1000 per minute, 10 per day or 5 per 10s")
    many, unit, span = written.groups()
    return int(many), seconds(span) if span else _UNITS[unit[0]]
