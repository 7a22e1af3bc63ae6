"""What is printed for a person, and what for a program."""

import os
import sys
from typing import Any, TextIO

import msgspec

PAINTS = {"ok": "32", "warn": "33", "fail": "31", "skip": "2", "bold": "1", "faint": "2"}


def coloured(stream: TextIO | None = None) -> bool:
    """Say whether to colour: on a terminal that can, unless NO_COLOR is set to anything (https://no-color.org)."""
    stream = stream or sys.stdout
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def painted(text: str, paint: str, *, colour: bool) -> str:
    r"""Return the text in a colour, or as it is.

    >>> painted("well", "ok", colour=False), painted("well", "ok", colour=True)
    ('well', '\x1b[32mwell\x1b[0m')
    """
    return f"\x1b[{PAINTS[paint]}m{text}\x1b[0m" if colour else text


def line(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def json_line(value: Any) -> None:
    """Print a value as one line of JSON."""
    line(msgspec.json.encode(value).decode())
