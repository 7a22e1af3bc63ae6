"""Spans of time, as people write them."""

import re

DAY = 86_400.0

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
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
