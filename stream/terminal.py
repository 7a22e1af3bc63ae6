"""What is printed for a person, and what for a program."""

import os
import shutil
import sys
import textwrap
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


def fitted(text: str, stream: TextIO | None = None, *, hang: int | None = None) -> str:
    """Return a text whose lines break between words where a terminal would break them anywhere; elsewhere as it is."""
    if not (stream or sys.stdout).isatty():
        return text
    return "\n".join(broken(one, shutil.get_terminal_size().columns, hang=hang) for one in text.split("\n"))


def broken(text: str, width: int, *, hang: int | None = None) -> str:
    """Return a line in pieces that are no wider; those after the first begin at ``hang``, or a little further in.

    >>> print(broken("    amount moved up, by a third of its spread", 26))
        amount moved up, by a
          third of its spread
    """
    if len(text) <= width:
        return text
    into = " " * (len(text) - len(text.lstrip()))
    deeper = f"{into}  " if hang is None else " " * hang
    # No word is broken: an address or the name of a file is there to be copied.
    wrapper = textwrap.TextWrapper(width, into, deeper, break_on_hyphens=False, break_long_words=False)
    return wrapper.fill(text.strip())


def line(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def json_line(value: Any) -> None:
    """Print a value as one line of JSON."""
    line(msgspec.json.encode(value).decode())
